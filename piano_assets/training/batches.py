"""Sequences of many clips on one device, and the crops and windows that networks see of them."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from piano_assets.training.data import Frames


@dataclass(frozen=True)
class Clips:
    """Clips as stretches of one long table of frames.

    values: (n_all_frames, width), as stored; start, n_frames: (n_clips,) int64. All on one device.
    """

    values: Tensor
    start: Tensor
    n_frames: Tensor

    @classmethod
    def of(cls, frames: Frames, device: str) -> "Clips":
        """The stored frames. On the CPU they stay memory-mapped; another device gets a copy."""
        with warnings.catch_warnings():
            # The map is read-only and nothing here writes to it.
            warnings.filterwarnings("ignore", message=".*not writable")
            values = torch.from_numpy(np.asarray(frames.values))
        rest = torch.from_numpy(frames.start), torch.from_numpy(frames.n_frames)
        return cls(values.to(device), *(x.to(device) for x in rest))

    def __len__(self) -> int:
        return len(self.start)

    @property
    def width(self) -> int:
        return self.values.shape[1]

    def cut(self, clip: Tensor, first: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """Cut `length` frames of clips from their frame `first` on: ((..., length, width) float32, (..., length) mask).

        clip, first: (...,). Frames before a clip's start or past its end are its first or last one, masked False.
        """
        at = first[..., None] + torch.arange(length, device=first.device)
        n = self.n_frames[clip][..., None]
        inside = at.clamp(min=0).minimum(n - 1)
        return self.values[self.start[clip][..., None] + inside].float(), (at >= 0) & (at < n)

    def sums(self) -> tuple[Tensor, Tensor]:
        """Each clip's sum of frames and of squared frames: (n_clips, width) float64 each."""
        found = torch.zeros(2, len(self), self.width, dtype=torch.float64, device=self.values.device)
        for i, (start, n) in enumerate(zip(self.start.tolist(), self.n_frames.tolist(), strict=True)):
            x = self.values[start : start + n].double()
            found[0, i], found[1, i] = x.sum(0), x.square().sum(0)
        return found[0], found[1]


def moments(clips: Clips, sums: tuple[Tensor, Tensor], rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each band over all frames of the clips at `rows`, (width,) float32 each.

    `sums` are `clips.sums()`. A band that never varies gets a deviation of 1.
    """
    n = clips.n_frames[rows].sum()
    mean, square = (s[rows].sum(0) / n for s in sums)
    std = (square - mean**2).clamp(min=0).sqrt()
    return mean.float(), torch.where(std > 1e-6 * mean.abs().clamp(min=1e-12), std, 1.0).float()


def first_frames(n_frames: Tensor, length: Tensor | int, u: Tensor) -> Tensor:
    """First frame of a random crop of `length` frames, anywhere with equal chance. u: uniforms in [0, 1)."""
    room = (n_frames - length).clamp(min=0) + 1
    return (u.to(torch.float64) * room).long().minimum(room - 1)


def window_starts(n_frames: int, length: int) -> list[int]:
    """First frames of the fewest equally spaced windows of `length` that cover every frame of a clip."""
    last = max(0, n_frames - length)
    n = max(1, -(-n_frames // length))
    return [round(i * last / max(1, n - 1)) for i in range(n)]


def windows(
    n_frames: np.ndarray, rows: Sequence[np.ndarray], length: int, batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Batches of the windows that cover every frame of every member's clips, members side by side.

    Args:
        n_frames: (n_clips,). rows: each member's clips. length: of a window. batch_size: windows of a member at once.
    Yields:
        (place, clip, first), (m, b) each: place in the member's `rows` (len(rows) where a member has no window left),
        clip and first frame.
    """
    starts = [[(i, clip, window_starts(int(n_frames[clip]), length)) for i, clip in enumerate(mine)] for mine in rows]
    lists = [[(place, clip, first) for place, clip, of in mine for first in of] for mine in starts]
    longest = max(map(len, lists))
    full = np.array([of + [(len(mine), 0, 0)] * (longest - len(of)) for of, mine in zip(lists, rows, strict=True)])
    for at in range(0, longest, batch_size):
        place, clip, first = np.moveaxis(full[:, at : at + batch_size], 2, 0)
        yield place, clip, first
