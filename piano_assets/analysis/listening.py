"""What a fitted network hears of clips, as tensors: for losses, gradients, copies of it, and inputs to be altered.

`FittedFold.predict` gives predictions alone; here gradients pass, and the members of a stack hear the same. Shapes: m
members, b windows, n frames or notes of a window, w bands or columns, k features.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from piano_assets.catalogue.trial import Encoder
from piano_assets.models.network import Network
from piano_assets.models.packing import load_rows
from piano_assets.training.batches import Clips, first_frames, windows
from piano_assets.training.data import TrialData
from piano_assets.training.fitted import Fitted, FittedFold
from piano_assets.training.lesson import UNKNOWN_ERROR
from piano_assets.training.losses import LOSSES
from piano_assets.training.material import ERROR_FLOOR
from piano_assets.training.members import crop_length
from piano_assets.training.smoothing import smoothed, spread_smoothed, true_variance

WINDOWS = 64
"""Windows of a member that pass through the network at once."""


@dataclass(frozen=True, eq=False)
class Heard:
    """Some clips as one network hears them, standardised: whole, in windows, or one crop of each.

    rows: (n_clips,) of `TrialData`; place: (b,) which of the clips each window is of; first: (b,) its first frame;
    frames: (n_frames, w), all clips' one after the other, or None; at: (b, n) the frames of each window; mask:
    (b, n), True at real frames, or None where all are; features: (n_clips, k) or None; target, error: (n_clips, 19).
    """

    rows: np.ndarray
    place: Tensor
    first: Tensor
    target: Tensor
    error: Tensor
    frames: Tensor | None = None
    at: Tensor | None = None
    mask: Tensor | None = None
    features: Tensor | None = None

    def inputs(self, members: int, some: slice) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Frames (m, b, n, w), mask and features (m, b, k) of some of the windows, the same for every member."""
        frames, mask = None, None if self.mask is None else self.mask[some]
        if self.frames is not None and self.at is not None:
            frames = self.frames[self.at[some]]
            frames = frames if mask is None else torch.where(mask[..., None], frames, 0.0)
        features = None if self.features is None else self.features[self.place[some]]
        frames, mask, features = (None if x is None else x.expand(members, *x.shape) for x in (frames, mask, features))
        return frames, mask, features


def network_of(of: Fitted, fold: int) -> FittedFold:
    """The model of one fold.

    Raises:
        ValueError: there is no such fold, or its model is no network.
    """
    for found in of.folds:
        if found.fold == fold:
            if found.network is None:
                raise ValueError(f"{of.config} must have a network (fold {fold} has none)")
            return found
    raise ValueError(f"fold={fold} must be one of {[f.fold for f in of.folds]}")


def whole(fold: FittedFold, data: TrialData, rows: np.ndarray) -> Heard:
    """Clips in the windows in which `FittedFold.predict` hears them."""
    n_frames = np.ones(len(data.clips), np.int64) if data.sequence is None else data.sequence.n_frames
    ((place, _, first),) = windows(n_frames, [rows], crop_length(fold.trial) or 1, int(n_frames[rows].sum()))
    return _heard(fold, data, rows, torch.from_numpy(place[0]), torch.from_numpy(first[0]))


def crops(fold: FittedFold, data: TrialData, rows: np.ndarray, rng: np.random.Generator) -> Heard:
    """One crop of each clip, anywhere with equal chance, without augmentation; labels as the trial learns them."""
    first = torch.zeros(len(rows), dtype=torch.int64)
    uniforms = torch.from_numpy(rng.random(len(rows)))
    if data.sequence is not None:
        first = first_frames(torch.from_numpy(data.sequence.n_frames[rows]), crop_length(fold.trial), uniforms)
    heard = _heard(fold, data, rows, torch.arange(len(rows)), first)
    return replace(heard, target=learnt(fold, data)[torch.from_numpy(heard.rows)].to(heard.target.device))


def learnt(fold: FittedFold, data: TrialData) -> Tensor:
    """Every clip's labels as the trial learns them, smoothed where its optimisation says so: (n_clips, 19)."""
    how, train = fold.trial.optimisation, torch.from_numpy(fold.train)
    target, error = _labels(data)
    assert how is not None
    mean, plain = target[train].mean(0), target
    if how.label_smoothing:
        target = smoothed(target, mean, how.label_smoothing)
    if how.spread_smoothing:
        target = spread_smoothed(target, error, mean, true_variance(plain[train], error[train]))
    return target


def stack(fold: FittedFold, rows: Tensor) -> Network:
    """The fold's network with as many members as `rows` (m, n_numbers; see `packing.rows`) has, each in its state."""
    assert fold.network is not None
    assert isinstance(fold.trial.model, Encoder)
    network = Network(fold.trial.model, fold.network.shape, len(rows)).to(rows.device)
    load_rows(network, rows)
    return network.eval()


def predict(network: Network, heard: Heard) -> Tensor:
    """Each member's predictions (m, n_clips, 19): the mean over a clip's windows; gradients pass."""
    members = len(network.target_mean)
    total = torch.zeros(members, len(heard.rows), network.target_mean.shape[1], device=heard.place.device)
    for start in range(0, len(heard.place), WINDOWS):
        some = slice(start, start + WINDOWS)
        total = total.index_add(1, heard.place[some], network(*heard.inputs(members, some)))
    return total / heard.place.bincount(minlength=len(heard.rows))[:, None]


def losses(network: Network, heard: Heard, loss: str) -> Tensor:
    """Each member's loss over all clips as one batch, (m,)."""
    pred = predict(network, heard)
    return LOSSES[loss](pred, *(x.expand_as(pred) for x in (heard.target, heard.error)))


def _heard(fold: FittedFold, data: TrialData, rows: np.ndarray, place: Tensor, first: Tensor) -> Heard:
    network = fold.network
    assert network is not None
    device, rows = network.target_mean.device, np.ascontiguousarray(rows)
    target, error = (x[torch.from_numpy(rows)].to(device) for x in _labels(data))
    found = Heard(rows, place.to(device), first.to(device), target, error)
    if data.features is not None:
        raw = torch.from_numpy(data.features[None, rows][..., fold.columns]).float().to(device)
        found = replace(found, features=network.standardise_features(raw)[0])
    if data.sequence is None:
        return found
    clips = Clips.of(data.sequence, "cpu")
    start, n_frames = clips.start[rows], clips.n_frames[rows]
    frames = torch.cat([clips.values[a : a + n] for a, n in zip(start, n_frames, strict=True)]).float().to(device)
    begins = n_frames.cumsum(0) - n_frames
    at = first[:, None] + torch.arange(crop_length(fold.trial))
    mask = at < n_frames[place][:, None]
    at = begins[place][:, None] + at.minimum(n_frames[place][:, None] - 1)
    return replace(
        found,
        frames=network.standardise_frames(frames[None, None], None)[0, 0],
        at=at.to(device),
        mask=None if bool(mask.all()) else mask.to(device),
    )


def _labels(data: TrialData) -> tuple[Tensor, Tensor]:
    """Labels and standard errors as networks are given them, (n_clips, 19) float32 each."""
    errors = np.where(np.isfinite(data.errors), data.errors, UNKNOWN_ERROR)
    target, error = (torch.tensor(x, dtype=torch.float32) for x in (data.targets, np.maximum(errors, ERROR_FLOOR)))
    return target, error
