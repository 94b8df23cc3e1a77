"""Spectrogram frames of many clips, and the crops and windows that a network sees of them."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from piano_assets.training.data import TrialData


@dataclass(frozen=True)
class Spectra:
    """Clips as stretches of one long frame table, so that a subset costs no copy.

    frames: (n_all_frames, n_mels); start, n_frames: (n_clips,) int64, first frame and length of each clip;
    targets: (n_clips, 19) float32. All on one device.
    """

    frames: Tensor
    start: Tensor
    n_frames: Tensor
    targets: Tensor

    @classmethod
    def of(cls, data: TrialData, device: str) -> "Spectra":
        """The clips of a trial. On the CPU the frames stay memory-mapped; another device gets a copy."""
        assert data.frames is not None
        with warnings.catch_warnings():
            # The map is read-only and nothing here writes to it.
            warnings.filterwarnings("ignore", message=".*not writable")
            frames = torch.from_numpy(np.asarray(data.frames))
        rest = torch.from_numpy(data.start), torch.from_numpy(data.n_frames), torch.from_numpy(data.targets).float()
        return cls(frames.to(device), *(x.to(device) for x in rest))

    def __len__(self) -> int:
        return len(self.start)

    def subset(self, index: Tensor) -> "Spectra":
        """The clips at `index`, in that order."""
        index = index.to(self.start.device)
        return replace(self, start=self.start[index], n_frames=self.n_frames[index], targets=self.targets[index])

    def cut(self, clip: Tensor, offset: Tensor, length: int) -> tuple[Tensor, Tensor | None]:
        """Cut stretches of `length` frames: ((b, length, n_mels), (b, length) mask or None if none is padded).

        clip, offset: (b,), which clip and its first frame. Frames past a clip's end are zeros.
        """
        step = torch.arange(length, device=self.start.device)
        position = offset[:, None] + step
        real = position < self.n_frames[clip][:, None]
        rows = self.start[clip][:, None] + torch.minimum(position, self.n_frames[clip][:, None] - 1)
        frames = self.frames[rows].float()
        if bool(real.all()):
            return frames, None
        return torch.where(real[..., None], frames, 0.0), real

    def moments(self, chunk: int = 64) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each mel band over all frames of these clips, (n_mels,) float32 each.

        A band that never varies gets a deviation of 1.
        """
        total = torch.zeros(2, self.frames.shape[1], dtype=torch.float64, device=self.frames.device)
        for first in range(0, len(self), chunk):
            some = slice(first, first + chunk)
            stretches = zip(self.start[some].tolist(), self.n_frames[some].tolist(), strict=True)
            x = torch.cat([self.frames[s : s + n] for s, n in stretches]).double()
            total += torch.stack([x.sum(0), (x**2).sum(0)])
        mean, square = total / self.n_frames.sum()
        std = (square - mean**2).clamp(min=0).sqrt()
        return mean.float(), torch.where(std > 1e-6 * mean.abs().clamp(min=1e-12), std, 1.0).float()


def random_crops(
    spectra: Spectra, index: Tensor, length: int, generator: torch.Generator
) -> tuple[Tensor, Tensor | None]:
    """One crop of `length` frames of each clip at `index`, starting anywhere with equal chance.

    `generator` lives on the CPU, so that CPU and CUDA draw the same crops. A batch is no longer than its longest clip.
    """
    room = (spectra.n_frames[index] - length).clamp(min=0) + 1
    offset = (torch.rand(len(index), generator=generator, dtype=torch.float64).to(room.device) * room).long()
    longest = int(spectra.n_frames[index].max())
    return spectra.cut(index, offset, min(length, longest))


def window_starts(n_frames: int, length: int) -> list[int]:
    """First frames of the fewest equally spaced windows of `length` that cover every frame of a clip."""
    last = max(0, n_frames - length)
    n = max(1, -(-n_frames // length))
    return [round(i * last / max(1, n - 1)) for i in range(n)]


def windows(spectra: Spectra, length: int, batch_size: int) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
    """Batches (clip index (b,), frames (b, <= length, n_mels), mask) that cover every frame of every clip.

    Clips go by length, so that little is padded.
    """
    lengths = spectra.n_frames.tolist()
    order = sorted(range(len(lengths)), key=lambda i: (min(lengths[i], length), i))
    pairs = torch.tensor([(i, s) for i in order for s in window_starts(lengths[i], length)], dtype=torch.long)
    for batch in pairs.to(spectra.start.device).split(batch_size):
        clip, offset = batch.unbind(1)
        yield clip, *spectra.cut(clip, offset, min(length, int(spectra.n_frames[clip].max())))
