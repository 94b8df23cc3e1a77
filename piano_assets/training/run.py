"""Run trials: one partition (config, seed) at a time, fold by fold, resumable, published with `runs` last.

A partition whose `runs` part carries its part key is finished and is reused in milliseconds. Everything else is
trained; folds that an earlier, killed run finished are taken from disk.
"""

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pandas as pd

from piano_assets.catalogue.trial import Trial, as_dict
from piano_assets.schemas import TABLES
from piano_assets.store.checkpoints import checkpoint_folder, work_folder
from piano_assets.store.parts import Store
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
from piano_assets.training.folds import FoldResult, fit_network, fit_tabular
from piano_assets.training.resume import copy_checkpoints, keep_fold, kept_fold

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


def run_trial(
    trial: Trial,
    config: str,
    seed: int,
    store: Store,
    device: str = "cpu",
    precision: str = "float32",
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_fold: Callable[[int, FoldResult], None] | None = None,
    data: TrialData | None = None,
) -> RunResult:
    """Make sure that the parts of (config, seed) exist, training what is missing.

    Args:
        seed: of initialisation and data order; it also picks the repeat of the fold assignment.
        device: `cpu`, `cuda` or `cuda:<n>`. precision: `float32` or `bfloat16`, for networks.
        threads: for tabular models, all cores if None; results do not depend on it.
        progress: told (folds done, folds). on_fold: told each newly fitted fold, after it was kept on disk.
        data: the trial's data where the caller has them already.
    Raises:
        IllegalTrial: a name that no registry has. FileNotFoundError: a part that the trial reads is missing.
    """
    check(trial)
    key, name = part_key(trial, seed, store, precision, device), part_name(trial, config, seed, precision, device)
    finished = done(trial, config, seed, store, precision, device)
    if finished is not None:
        kept = finished.record
        return RunResult(config, seed, key, name, kept["status"], kept["seconds"], True, kept["n_params"])
    data = load(trial, store) if data is None else data
    repeat, work = repeat_of(seed, data.n_repeats), work_folder(store.root, key)
    folds = sorted(fold for r, fold in data.roles if r == repeat)
    facts = {
        "part_key": key,
        "config": config,
        "seed": seed,
        "data_version": data_version(trial, store),
        "code_version": code_version(trial),
    }
    saved = {**facts, "trial": as_dict(trial), "feature_names": data.feature_names}
    results: dict[int, FoldResult] = {}
    for fold in folds:
        result = kept_fold(work / f"fold{fold}")
        if result is None:
            result = _fit(trial, data, repeat, fold, seed, device, precision, threads)
            keep_fold(work / f"fold{fold}", result, {**saved, "fold": fold} if seed == CHECKPOINT_SEED else None)
            if on_fold is not None:
                on_fold(fold, result)
        results[fold] = dataclasses.replace(result, model=None)
        if progress is not None:
            progress(len(results), len(folds))

    copy_checkpoints(work, checkpoint_folder(store.root, name))
    for table, frame in _tables(trial, config, seed, repeat, results).items():
        store.write(table, frame, key=key, name=name)
    status = "diverged" if any(r.diverged for r in results.values()) else "finished"
    seconds = sum(r.seconds for r in results.values())
    n_params = results[folds[0]].n_params
    run = {
        "trial": trial.key,
        **facts,
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
    # Last: from here on the partition is finished.
    store.write("runs", pd.DataFrame([run]), key=key, name=name, status=status, seconds=seconds, n_params=n_params)
    # A second process on the same partition may have tidied up already; what stays behind is never read again.
    shutil.rmtree(work, ignore_errors=True)
    return RunResult(config, seed, key, name, status, seconds, False, n_params)


def run_batch(
    items: Iterable[tuple[str, Trial, int]],
    store: Store,
    device: str = "cpu",
    on_done: Callable[[RunResult], None] | None = None,
    precision: str = "float32",
    threads: int | None = None,
) -> list[RunResult]:
    """Run (config, trial, seed) one after the other; each is published before the next starts.

    Data are read once for neighbours in the list that read the same parts.
    """
    results: list[RunResult] = []
    loaded: tuple[Any, TrialData] | None = None
    for config, trial, seed in items:
        data = None
        if done(trial, config, seed, store, precision, device) is None:
            reads = (part_names(trial), trial.inputs)
            if loaded is None or loaded[0] != reads:
                loaded = reads, load(trial, store)
            data = loaded[1]
        results.append(run_trial(trial, config, seed, store, device, precision, threads, data=data))
        if on_done is not None:
            on_done(results[-1])
    return results


def _fit(
    trial: Trial, data: TrialData, repeat: int, fold: int, seed: int, device: str, precision: str, threads: int | None
) -> FoldResult:
    started = time.perf_counter()
    if trial.optimisation is None:
        result = fit_tabular(trial, data, repeat, fold, seed, threads)
    else:
        result = fit_network(trial, data, repeat, fold, seed, device, precision)
    return dataclasses.replace(result, seconds=time.perf_counter() - started)


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
