"""One partition in training: what identifies it, the folds that are done, and publishing it with `runs` last."""

import dataclasses
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import filelock
import numpy as np
import pandas as pd

from piano_assets.catalogue.trial import Trial, as_dict
from piano_assets.schemas import TABLES
from piano_assets.store.checkpoints import checkpoint_folder, refuse_links, work_folder
from piano_assets.store.parts import Part, Store, digest
from piano_assets.training import provenance
from piano_assets.training.data import (
    TrialData,
    code_version,
    data_version,
    device_class,
    finished,
    part_key,
    part_name,
    precision_of,
    repeat_of,
)
from piano_assets.training.folds import FoldResult
from piano_assets.training.resume import copy_checkpoints, drop_state, keep_fold, kept_fold

CHECKPOINT_SEED = 0
"""The one seed whose models are kept; predictions are kept of every seed."""


@dataclass(frozen=True)
class RunResult:
    """What came of a partition: its parts share `part_name` in `predictions`, `history`, `members` and `runs`."""

    config: str
    seed: int
    part_key: str
    part_name: str
    status: str
    seconds: float
    reused: bool
    n_params: int | None

    @classmethod
    def of(cls, config: str, seed: int, run: Part, reused: bool) -> "RunResult":
        """From a part of the table `runs`."""
        kept = run.record
        return cls(config, seed, run.key, run.name, kept["status"], kept["seconds"], reused, kept["n_params"])


@dataclass
class Partition:
    """A partition (config, seed) that must be trained.

    It is refused (ValueError) where a link would lead its checkpoints or its work elsewhere.

    folds: outer folds. units: what is fitted, kept and resumed by itself: the folds, and of a network also the inner
    folds by their numbers (`nested.unit_of`); a tabular model is fitted on its inner folds with the outer one.
    """

    config: str
    trial: Trial
    seed: int
    store: Store
    device: str
    precision: str
    repeat: int = 0
    folds: list[int] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    results: dict[int, FoldResult] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.key = part_key(self.trial, self.seed, self.store, self.precision, self.device)
        self.name = part_name(self.trial, self.config, self.seed, self.precision, self.device)
        # Two configs may hold one trial, as a user's comparison can: each has a folder of its own.
        work = digest(self.key, self.name)
        refuse_links(self.store.root, self.name, work)
        self.work = work_folder(self.store.root, work)
        self.lock = filelock.FileLock(self.work.with_suffix(".lock"), is_singleton=False)
        self.facts = {
            "part_key": self.key,
            "config": self.config,
            "seed": self.seed,
            "data_version": data_version(self.trial, self.store),
            "code_version": code_version(self.trial),
        }

    def claim(self, wait: bool = False) -> bool:
        """Take the partition in hand; False where another process has it. The lock of a killed process is free.

        wait: until the other process is through with it.
        """
        self.work.parent.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire(timeout=-1 if wait else 0)
        except filelock.Timeout:
            return False
        return True

    def release(self) -> None:
        """Let another process have it."""
        if self.lock.is_locked:
            if self.stands() is not None:
                # Whoever waits for this file, or makes it anew, finds the partition finished.
                Path(self.lock.lock_file).unlink(missing_ok=True)
            self.lock.release()

    def stands(self) -> Part | None:
        """The part that says that it is finished."""
        return finished(self.store, self.name, self.key)

    @property
    def keeps_models(self) -> bool:
        return self.seed == CHECKPOINT_SEED

    @property
    def complete(self) -> bool:
        return len(self.results) == len(self.units)

    def folder(self, unit: int) -> Path:
        """Where a finished unit waits for the others."""
        return self.work / f"fold{unit}"

    def begin(self, data: TrialData, inner: TrialData | None = None) -> None:
        """Find the folds, and what an earlier, killed run finished of them. inner: see `nested.inner_level`.

        Raises:
            ValueError: the split has no repeat for this seed.
        """
        self.repeat = repeat_of(self.seed, data.n_repeats)
        self.folds = sorted(fold for r, fold in data.roles if r == self.repeat)
        self.units = list(self.folds)
        if inner is not None and self.trial.optimisation is not None:
            self.units += sorted(unit for r, unit in inner.roles if r == self.repeat)
        found = {unit: kept_fold(self.folder(unit)) for unit in self.units}
        self.results = {unit: result for unit, result in found.items() if result is not None}

    def keep(self, unit: int, result: FoldResult, feature_names: tuple[str, ...]) -> None:
        """Keep a newly fitted unit on disk; models of inner folds are let go."""
        about = {"trial_key": self.trial.key, "trial": as_dict(self.trial), "fold": unit, "shape": result.shape}
        if result.weights:
            about["weights"] = list(result.weights)
        record = {**self.facts, **about, "feature_names": feature_names}
        with_model = self.keeps_models and unit in self.folds
        keep_fold(self.folder(unit), result, record if with_model else None)
        drop_state(self.folder(unit))
        self.results[unit] = dataclasses.replace(result, model=None)

    def publish(self) -> RunResult:
        """Write the parts of a complete partition, `runs` last: from then on it is finished.

        Where another process has published it meanwhile, that stands.

        Raises:
            RuntimeError: the models of some folds are gone.
        """
        stands = self.stands()
        if stands is not None:
            return RunResult.of(self.config, self.seed, stands, reused=True)
        results = {unit: self.results[unit] for unit in self.units}
        kept = copy_checkpoints(self.work, checkpoint_folder(self.store.root, self.name), self.folds)
        if self.keeps_models and kept != len(self.folds):
            raise RuntimeError(f"{self.name}: the models of {len(self.folds) - kept} folds are gone from {self.work}")
        for table, frame in _tables(self.trial, self.config, self.seed, self.repeat, results).items():
            self.store.write(table, frame, key=self.key, name=self.name)
        status = "diverged" if any(r.diverged for r in results.values()) else "finished"
        seconds = sum(r.seconds for r in results.values())
        run = {
            "trial": self.trial.key,
            **self.facts,
            "seconds": seconds,
            "device": device_class(self.trial, self.device),
            "precision": precision_of(self.trial, self.precision),
            "peak_memory_mb": provenance.peak_memory_mb(),
            "environment": provenance.environment(),
            "hardware": provenance.hardware(device_class(self.trial, self.device)),
            **dict(zip(("git_commit", "git_dirty"), provenance.git_state(), strict=True)),
            "finished_at": datetime.now(UTC),
            "status": status,
        }
        record = {"status": status, "seconds": seconds, "n_params": results[self.folds[0]].n_params}
        part = self.store.write("runs", pd.DataFrame([run]), key=self.key, name=self.name, **record)
        # Whoever works without locks may have tidied up already; what stays behind is never read again.
        shutil.rmtree(self.work, ignore_errors=True)
        return RunResult.of(self.config, self.seed, part, reused=False)


@contextmanager
def claimed(partitions: Sequence[Partition], wait: bool = False) -> Iterator[list[Partition]]:
    """Those that no other process has in hand; no other takes them until the end of the block."""
    mine: list[Partition] = []
    try:
        for partition in partitions:
            if partition.claim(wait):
                mine.append(partition)
        yield mine
    finally:
        for partition in mine:
            partition.release()


def _tables(
    trial: Trial, config: str, seed: int, repeat: int, results: Mapping[int, FoldResult]
) -> dict[str, pd.DataFrame]:
    """The partition's tables but `runs`, in their declared columns."""
    predictions = pd.concat([r.predictions for r in results.values()], ignore_index=True).assign(
        subject=f"{config}|{seed}",
        split=trial.split,
        repeat=np.int32(repeat),
        inner_fold=lambda rows: rows.get("inner_fold"),
        condition="clean",
        std=lambda rows: rows["std"] if "std" in rows else np.float32("nan"),
    )
    keys = {"trial": trial.key, "seed": seed}
    members = [keys | row for r in results.values() for row in r.members]
    history = [keys | row for r in results.values() for row in r.history]
    return {
        "predictions": predictions,
        "history": pd.DataFrame(history, columns=list(TABLES["history"].columns)),
        "members": pd.DataFrame(members, columns=list(TABLES["members"].columns)),
    }
