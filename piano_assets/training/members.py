"""Members of a stack: which networks a trial's fold asks for, what each may see, and what each has lived through.

A group is one fold of one trial and seed with all points of its search; its members may halve one another, so they
always train together. All chance comes from streams of (seed, fold, purpose) alone: arms with one seed start from the
same weights where shapes allow it and see the same clips in the same order.
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from piano_assets.catalogue.trial import BUDGETS, MOST_SEEDS, Budget, Encoder, Optimisation, Trial, vary
from piano_assets.store.parts import digest
from piano_assets.training.data import TrialData

FIXED, TUNED = "fixed", "tuned"


def random_seed(seed: int, fold: int, purpose: str) -> int:
    """A seed of its own for each purpose, so that no two streams are shared: 0 <= value < 2**31."""
    return int(digest(seed, fold, purpose), 16) % 2**31


def generator(seed: int, fold: int, purpose: str) -> torch.Generator:
    """A stream on the CPU, so that every device draws the same."""
    return torch.Generator().manual_seed(random_seed(seed, fold, purpose))


def start_of(trial: Trial, seed: int) -> int:
    """The seed of all streams that a replicate has of its own: initial weights, order of the data, noise."""
    return seed + MOST_SEEDS * trial.replicate


def resampled(trial: Trial, rows: np.ndarray, seed: int, fold: int) -> np.ndarray:
    """As many rows drawn with replacement, where the trial is of a resample; else `rows` as they are."""
    if not trial.resample:
        return rows
    stream = generator(seed, fold, f"resample {trial.resample}")
    return rows[torch.randint(len(rows), (len(rows),), generator=stream).sort().values.numpy()]


def cycle_epochs(trial: Trial) -> int:
    """Epochs of a cycle of a trial with snapshots; 0 for one without."""
    n = _optimisation(trial).snapshots
    return math.ceil(BUDGETS[trial.budget].epochs / n) if n else 0


def search_points(trial: Trial) -> dict[str, Trial]:
    """The grid of a trial's search: label -> trial; empty where nothing is to be searched."""
    if not trial.search or not BUDGETS[trial.budget].searches:
        return {}
    fields, values = zip(*trial.search, strict=True)
    points = (dict(zip(fields, point, strict=True)) for point in itertools.product(*values))
    return {",".join(f"{f}={v}" for f, v in point.items()): vary(trial, point) for point in points}


@dataclass(frozen=True)
class Group:
    """One fold of one trial and seed: the points of its search, and the rows of `TrialData` that it may see.

    seed: of its streams, see `start_of`; points: label -> trial; own: label of the trial's own values; train, valid:
    labelled clips, those of a resample several times; test: all test clips; columns: features it reads; steps,
    batch_size: of an epoch.
    """

    config: str
    trial: Trial
    seed: int
    fold: int
    points: dict[str, Trial]
    own: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    columns: np.ndarray
    steps: int
    batch_size: int

    @property
    def budget(self) -> Budget:
        return BUDGETS[self.trial.budget]

    @property
    def encoder(self) -> Encoder:
        assert isinstance(self.trial.model, Encoder)
        return self.trial.model

    @property
    def crop(self) -> int:
        """Frames or notes in a crop or window."""
        return crop_length(self.trial)


def crop_length(trial: Trial) -> int:
    """Frames of a spectrogram, or notes, in a trial's crops and windows."""
    from piano_assets.features.spectrogram_specs import SPECTROGRAMS

    budget = BUDGETS[trial.budget]
    if trial.inputs.notes:
        return budget.crop_notes
    return round(budget.crop_s * SPECTROGRAMS[str(trial.inputs.spectrogram)].frame_rate) if trial.inputs.sequence else 0


def groups_of(trial: Trial, config: str, seed: int, repeat: int, data: TrialData) -> list[Group]:
    """The groups of all folds of a network's trial.

    Raises:
        ValueError: a fold without two labelled clips to train on or to stop by; split, fold and role are named.
    """
    optimisation = _optimisation(trial)
    points = search_points(trial)
    own = next((label for label, point in points.items() if point == trial), FIXED)
    folds = sorted(fold for r, fold in data.roles if r == repeat)
    found = []
    for fold in folds:
        train, valid = (rows_of(trial, data, repeat, fold, role, seed) for role in ("train", "valid"))
        require_rows(trial, fold, train, valid)
        test = data.rows(repeat, fold, "test", labelled=False)
        columns = _columns(trial, data, train, random_seed(seed, fold, "selection"))
        train, start = resampled(trial, train, seed, fold), start_of(trial, seed)
        found.append(
            Group(config, trial, start, fold, points or {FIXED: trial}, own, train, valid, test, columns, 0, 0)
        )
        if own not in found[-1].points:
            found[-1] = replace(found[-1], points={**points, FIXED: trial})
    # Equal for all folds of a trial, so that they can train as one stack.
    sizes = [len(g.train) for g in found]
    batch_size = min(optimisation.batch_size, *sizes)
    passes = trial.augmentation.factor if trial.augmentation.longer else 1
    steps = math.ceil(max(sizes) * passes / batch_size)
    return [replace(g, steps=steps, batch_size=batch_size) for g in found]


def require_rows(trial: Trial, fold: int, train: np.ndarray, valid: np.ndarray) -> None:
    """Refuse a fold in which nothing can be learned or judged."""
    for role, rows in (("train", train), ("valid", valid)):
        if len(rows) < 2:
            raise ValueError(
                f"split {trial.split!r}, fold {fold}: at least 2 clips labelled {trial.label_rule!r} must have role "
                f"{role!r}, found {len(rows)}"
            )


def rows_of(trial: Trial, data: TrialData, repeat: int, fold: int, role: str, seed: int) -> np.ndarray:
    """Labelled clips of a role that the trial's budget lets it see: rows of `TrialData`."""
    rows, n = data.rows(repeat, fold, role), BUDGETS[trial.budget].n_clips
    if n is None:
        return rows
    order = torch.randperm(len(rows), generator=generator(seed, fold, f"{role} clips"))
    return rows[order[:n].sort().values.numpy()]


def _columns(trial: Trial, data: TrialData, train: np.ndarray, seed: int) -> np.ndarray:
    if data.features is None:
        return np.empty(0, np.int64)
    if not trial.inputs.top_k:
        return np.arange(data.features.shape[1])
    from piano_assets.models.selection import top_features

    return top_features(data.features[train], data.targets[train], trial.inputs.top_k, seed)


def _optimisation(trial: Trial) -> Optimisation:
    assert trial.optimisation is not None
    return trial.optimisation


@dataclass
class Track:
    """What one member has lived through: its streams, its curve, its best state, and how it ended (None: it goes on).

    best: a row of `packing.rows`; snapshots: such rows, of the end of each cycle; order: stream of data order, crops
    and augmentation.
    """

    group: Group
    label: str
    order: torch.Generator
    history: list[dict[str, Any]] = field(default_factory=list)
    best: Tensor | None = None
    best_r: float = -math.inf
    best_epoch: int | None = None
    status: str | None = None
    reason: str | None = None
    snapshots: list[Tensor] = field(default_factory=list)

    @classmethod
    def begin(cls, group: Group, label: str) -> "Track":
        return cls(group, label, generator(group.seed, group.fold, "order"))

    @property
    def trial(self) -> Trial:
        return self.group.points[self.label]

    @property
    def optimisation(self) -> Optimisation:
        return _optimisation(self.trial)

    @property
    def epoch(self) -> int:
        """Epochs done."""
        return len(self.history)

    def end(self, status: str, reason: str | None = None) -> None:
        self.status, self.reason = status, reason


def judge(track: Track, row: dict[str, Any], state: Tensor) -> None:
    """Note an epoch; keep the state if validation r rose; end the member where its curve or its budget does.

    row: the epoch's history. state: the member's row of numbers, copied only if it is kept. A loss that is not finite
    ends the member as `diverged` with the best state before.
    """
    if not (math.isfinite(row["train_loss"]) and math.isfinite(row["valid_loss"])):
        which = "train_loss" if not math.isfinite(row["train_loss"]) else "valid_loss"
        return track.end("diverged", f"{which} is {row[which]} in epoch {track.epoch}")
    track.history.append({"epoch": track.epoch, **row})
    if row["valid_r"] > track.best_r:
        track.best_r, track.best_epoch, track.best = row["valid_r"], track.epoch - 1, state.clone()
    budget, cycle = track.group.budget, cycle_epochs(track.trial)
    last = track.epoch >= budget.epochs
    if cycle and (last or track.epoch % cycle == 0):
        track.snapshots.append(state.clone())
    if last:
        return track.end("finished")
    if not cycle and track.epoch - 1 - (track.best_epoch or 0) >= budget.patience:
        return track.end("stopped_early", f"no better validation r in {budget.patience} epochs")
    return None


def halve(tracks: Iterable[Track]) -> None:
    """Successive halving within one group: after a rung the worse half of the search's points stops.

    Points are ranked by their best validation r so far, ended ones among them; the trial's own values always go on,
    since their result is reported. After Jamieson & Talwalkar (2016), with rungs declared in the budget.
    """
    tracks = list(tracks)
    running = [t for t in tracks if t.status is None]
    if not running or running[0].epoch not in running[0].group.budget.rungs:
        return
    alive = sorted((t for t in tracks if t.status != "halved"), key=lambda t: -t.best_r)
    n = math.ceil(len(alive) / 2)
    for track in alive[n:]:
        if track.status is None and track.label != track.group.own:
            track.end(
                "halved", f"validation r {track.best_r:.4f} after {track.epoch} epochs, {n} of {len(alive)} go on"
            )
