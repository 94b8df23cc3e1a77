"""Run trials: partitions (config, seed), fold by fold or as stacks of networks, each published with `runs` last.

A partition whose `runs` part carries its part key is finished and is reused in milliseconds. Everything else is
trained; what an earlier, killed run finished or saved is taken from disk.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from piano_assets.catalogue.trial import Trial, as_dict
from piano_assets.schemas import TABLES
from piano_assets.store.checkpoints import checkpoint_folder, work_folder
from piano_assets.store.parts import Store, digest
from piano_assets.training import provenance
from piano_assets.training.check import check
from piano_assets.training.data import (
    TrialData,
    code_version,
    data_version,
    device_class,
    done,
    load,
    part_key,
    part_name,
    part_names,
    precision_of,
    repeat_of,
)
from piano_assets.training.folds import FoldResult, fit_tabular
from piano_assets.training.resume import copy_checkpoints, drop_state, keep_fold, kept_fold
from piano_assets.training.stacks import SAVE_EVERY_S, fit_groups, stack_key

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


@dataclass
class _Partition:
    """A partition that must be trained: what identifies it, and the folds that are done."""

    config: str
    trial: Trial
    seed: int
    key: str
    name: str
    work: Path
    data_version: str
    repeat: int
    folds: list[int]
    results: dict[int, FoldResult] = dataclasses.field(default_factory=dict)

    def folder(self, fold: int) -> Path:
        return self.work / f"fold{fold}"

    def facts(self) -> dict[str, Any]:
        """What every record of the partition says."""
        return {
            "part_key": self.key,
            "config": self.config,
            "seed": self.seed,
            "data_version": self.data_version,
            "code_version": code_version(self.trial),
        }

    def keep(self, fold: int, result: FoldResult, feature_names: tuple[str, ...]) -> None:
        """Keep a newly fitted fold on disk."""
        about = {"trial_key": self.trial.key, "trial": as_dict(self.trial), "fold": fold, "shape": result.shape}
        record = {**self.facts(), **about, "feature_names": feature_names}
        keep_fold(self.folder(fold), result, record if self.seed == CHECKPOINT_SEED else None)
        drop_state(self.folder(fold))
        self.results[fold] = dataclasses.replace(result, model=None)


def run_trial(
    trial: Trial, config: str, seed: int, store: Store, device: str = "cpu", precision: str = "float32", **more: Any
) -> RunResult:
    """Make sure that the parts of (config, seed) exist, training what is missing; see `run_batch`.

    Raises:
        Exception: whatever kept the partition from being trained.
    """

    def fail(_: str, error: Exception) -> None:
        raise error

    (result,) = run_batch([(config, trial, seed)], store, device, precision=precision, on_failure=fail, **more)
    return result


def run_batch(
    items: Iterable[tuple[str, Trial, int]],
    store: Store,
    device: str = "cpu",
    on_done: Callable[[RunResult], None] | None = None,
    precision: str = "float32",
    threads: int | None = None,
    on_fold: Callable[[str, int, int], None] | None = None,
    on_failure: Callable[[str, Exception], None] | None = None,
    members: int | None = None,
    save_every_s: float = SAVE_EVERY_S,
) -> list[RunResult]:
    """Make sure that the parts of each (config, trial, seed) exist; each is published as soon as it is complete.

    Networks whose members have equal shapes train as one stack; data are read once for all that read the same parts.

    Args:
        device: `cpu`, `cuda` or `cuda:<n>`. precision: `float32` or `bfloat16`, for networks.
        threads: for tabular models, all cores if None; results do not depend on it.
        on_done: told each finished partition. on_fold: told (partition, folds done, folds).
        on_failure: told a partition and what kept it from being trained; the others go on. None: the error is raised.
        members: at most so many members at once, instead of what fits the memory.
        save_every_s: seconds between saved states of networks in training.
    Returns:
        what came of each partition that did not fail, in the order of `items`.
    Raises:
        IllegalTrial: a name that no registry has. FileNotFoundError: a part that a trial reads is missing.
    """
    items = list(items)
    results: dict[int, RunResult] = {}
    bundles: dict[str, list[tuple[int, _Partition]]] = {}

    def finished(i: int, result: RunResult) -> None:
        results[i] = result
        if on_done is not None:
            on_done(result)

    def failed(i: int, error: Exception) -> None:
        config, _, seed = items[i]
        if on_failure is None:
            raise error
        on_failure(f"{config}|{seed}", error)

    for i, (config, trial, seed) in enumerate(items):
        try:
            check(trial)
            key = part_key(trial, seed, store, precision, device)
            name = part_name(trial, config, seed, precision, device)
            stands = done(trial, config, seed, store, precision, device)
        except (ValueError, OSError) as error:
            failed(i, error)
            continue
        if stands is not None:
            kept = stands.record
            finished(i, RunResult(config, seed, key, name, kept["status"], kept["seconds"], True, kept["n_params"]))
        else:
            work = work_folder(store.root, key)
            found = _Partition(config, trial, seed, key, name, work, data_version(trial, store), 0, [])
            bundles.setdefault(_bundle(trial), []).append((i, found))

    for bundle in bundles.values():
        try:
            data = load(bundle[0][1].trial, store)
        except (ValueError, OSError) as error:
            for i, _ in bundle:
                failed(i, error)
            continue
        ready = []
        for i, partition in bundle:
            try:
                partition.repeat = repeat_of(partition.seed, data.n_repeats)
                partition.folds = sorted(fold for r, fold in data.roles if r == partition.repeat)
                for fold in partition.folds:
                    kept_result = kept_fold(partition.folder(fold))
                    if kept_result is not None:
                        partition.results[fold] = kept_result
                ready.append((i, partition))
            except ValueError as error:
                failed(i, error)

        def completed(i: int, partition: _Partition) -> None:
            if on_fold is not None:
                on_fold(f"{partition.config}|{partition.seed}", len(partition.results), len(partition.folds))
            if len(partition.results) == len(partition.folds):
                finished(i, _publish(partition, store, device, precision))

        if bundle[0][1].trial.optimisation is not None:
            _train_networks(ready, data, device, precision, completed, failed, members, save_every_s)
            continue
        for i, partition in ready:
            try:
                for fold in [f for f in partition.folds if f not in partition.results]:
                    started = time.perf_counter()
                    result = fit_tabular(partition.trial, data, partition.repeat, fold, partition.seed, threads)
                    result = dataclasses.replace(result, seconds=time.perf_counter() - started)
                    partition.keep(fold, result, data.feature_names)
                    if len(partition.results) < len(partition.folds):
                        completed(i, partition)
                completed(i, partition)
            except (ValueError, OSError) as error:
                failed(i, error)
    return [results[i] for i in sorted(results)]


def _bundle(trial: Trial) -> str:
    """Equal for trials that can be run together: those that read the same, and, for networks, may share a stack."""
    reads = digest([list(name) for name in part_names(trial)], as_dict(trial)["inputs"])
    return reads if trial.optimisation is None else f"{reads} {stack_key(trial)}"


def _train_networks(
    partitions: list[tuple[int, _Partition]],
    data: TrialData,
    device: str,
    precision: str,
    completed: Callable[[int, _Partition], None],
    failed: Callable[[int, Exception], None],
    members: int | None,
    save_every_s: float,
) -> None:
    """Train the missing folds of networks that may share stacks."""
    from piano_assets.training.members import Group, groups_of

    owner: dict[int, tuple[int, _Partition]] = {}
    todo: list[Group] = []
    for i, partition in partitions:
        try:
            groups = groups_of(partition.trial, partition.config, partition.seed, partition.repeat, data)
        except ValueError as error:
            failed(i, error)
            continue
        missing = [g for g in groups if g.fold not in partition.results]
        owner |= {id(g): (i, partition) for g in missing}
        todo += missing
        if not missing:
            completed(i, partition)

    def on_group(group: Group, result: FoldResult) -> None:
        i, partition = owner[id(group)]
        names = tuple(data.feature_names[c] for c in group.columns)
        partition.keep(group.fold, result, names)
        completed(i, partition)

    # Folds of a split may differ in how many steps an epoch has; such groups cannot march in step.
    by_shape: dict[tuple[int, int, int], list[Group]] = {}
    for group in todo:
        by_shape.setdefault((group.steps, group.batch_size, len(group.columns)), []).append(group)
    for groups in by_shape.values():
        fit_groups(
            groups,
            data,
            device=device,
            precision=precision,
            folder_of=lambda g: owner[id(g)][1].folder(g.fold),
            on_group=on_group,
            members=members,
            save_every_s=save_every_s,
        )


def _publish(partition: _Partition, store: Store, device: str, precision: str) -> RunResult:
    """Write a complete partition's parts, `runs` last: from then on it is finished."""
    config, trial, seed, key, name = (getattr(partition, n) for n in ("config", "trial", "seed", "key", "name"))
    results = {fold: partition.results[fold] for fold in partition.folds}
    copy_checkpoints(partition.work, checkpoint_folder(store.root, name))
    for table, frame in _tables(trial, config, seed, partition.repeat, results).items():
        store.write(table, frame, key=key, name=name)
    status = "diverged" if any(r.diverged for r in results.values()) else "finished"
    seconds = sum(r.seconds for r in results.values())
    n_params = results[partition.folds[0]].n_params
    run = {
        "trial": trial.key,
        **partition.facts(),
        "seconds": seconds,
        "device": device_class(trial, device),
        "precision": precision_of(trial, precision),
        "peak_memory_mb": provenance.peak_memory_mb(),
        "environment": provenance.environment(),
        "hardware": provenance.hardware(device_class(trial, device)),
        **dict(zip(("git_commit", "git_dirty"), provenance.git_state(), strict=True)),
        "finished_at": datetime.now(UTC),
        "status": status,
    }
    store.write("runs", pd.DataFrame([run]), key=key, name=name, status=status, seconds=seconds, n_params=n_params)
    # A second process on the same partition may have tidied up already; what stays behind is never read again.
    shutil.rmtree(partition.work, ignore_errors=True)
    return RunResult(config, seed, key, name, status, seconds, False, n_params)


def _tables(
    trial: Trial, config: str, seed: int, repeat: int, results: dict[int, FoldResult]
) -> dict[str, pd.DataFrame]:
    """The partition's tables but `runs`, in their declared columns."""
    predictions = pd.concat([r.predictions for r in results.values()], ignore_index=True).assign(
        subject=f"{config}|{seed}",
        split=trial.split,
        repeat=np.int32(repeat),
        inner_fold=None,
        condition="clean",
        std=np.float32("nan"),
    )
    keys = {"trial": trial.key, "seed": seed}
    members = [keys | row for r in results.values() for row in r.members]
    history = [keys | row for r in results.values() for row in r.history]
    return {
        "predictions": predictions,
        "history": pd.DataFrame(history, columns=list(TABLES["history"].columns)),
        "members": pd.DataFrame(members, columns=list(TABLES["members"].columns)),
    }
