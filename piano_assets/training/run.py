"""Run trials: partitions (config, seed), fold by fold or as stacks of networks, each published once it is complete.

A partition whose `runs` part carries its part key is finished and is reused in milliseconds. Everything else is
trained; what an earlier, killed run finished or saved is taken from disk. A batch ends with its mirror, if
one is asked.
"""

import dataclasses
import time
from collections.abc import Callable, Iterable
from typing import Any

from piano_assets.catalogue.trial import Trial, as_dict
from piano_assets.store.parts import Store, digest
from piano_assets.training import provenance
from piano_assets.training.check import check
from piano_assets.training.data import TrialData, done, load, part_names
from piano_assets.training.disk import require_place
from piano_assets.training.folds import FoldResult, fit_tabular
from piano_assets.training.mirror import mirror_if_asked
from piano_assets.training.nested import as_inner, fit_nested, inner_level
from piano_assets.training.partition import Partition, RunResult, claimed
from piano_assets.training.stacks import SAVE_EVERY_S, fit_groups, stack_key

Item = tuple[str, Trial, int]
"""Config, trial, seed."""


def run_trial(
    trial: Trial, config: str, seed: int, store: Store, device: str = "cpu", precision: str = "float32", **more: Any
) -> RunResult:
    """Make sure that the parts of (config, seed) exist, training what is missing; see `run_batch`.

    Raises:
        Exception: whatever kept the partition from being trained.
    """
    (result,) = run_batch([(config, trial, seed)], store, device, precision=precision, **more)
    return result


def run_batch(
    items: Iterable[Item],
    store: Store,
    device: str = "cpu",
    on_done: Callable[[RunResult], None] | None = None,
    precision: str = "float32",
    threads: int | None = None,
    on_fold: Callable[[str, int, int], None] | None = None,
    on_failure: Callable[[str, Exception], None] | None = None,
    members: int | None = None,
    save_every_s: float = SAVE_EVERY_S,
    on_wait: Callable[[str], None] | None = None,
) -> list[RunResult]:
    """Make sure that the parts of each (config, trial, seed) exist; each is published as soon as it is complete.

    Networks whose members have equal shapes train as one stack; data are read once for all that read the same parts.
    What another process is training is left for the end, and then waited for: nothing is trained twice.

    Args:
        device: `cpu`, `cuda` or `cuda:<n>`. precision: `float32` or `bfloat16`, for networks.
        threads: for tabular models, all cores if None; results do not depend on it.
        on_done: told each finished partition. on_fold: told (partition, folds done, folds), a network's inner folds
            among them.
        on_failure: told a partition and what kept it from being trained; the others go on. None: the error is raised.
        members: at most so many members at once, instead of what fits the memory.
        save_every_s: seconds between saved states of networks in training.
        on_wait: told a partition that another process trains, when there is nothing left to do but wait for it.
    Returns:
        what came of each partition that did not fail, in the order of `items`.
    Raises:
        IllegalTrial: a name that no registry has. FileNotFoundError: a part that a trial reads is missing.
        ValueError: an unknown precision. StoreError: the data folder cannot be written, or has too little room.
    """
    if precision not in provenance.PRECISIONS:
        raise ValueError(f"precision={precision!r} must be one of {provenance.PRECISIONS}")
    provenance.git_state()  # now: the checkout may be edited while this runs
    items = list(dict.fromkeys(items))
    results: dict[tuple[str, int], RunResult] = {}

    def finished(result: RunResult) -> None:
        results[result.config, result.seed] = result
        if on_done is not None:
            on_done(result)

    def failed(config: str, seed: int, error: Exception) -> None:
        if on_failure is None:
            raise error
        on_failure(f"{config}|{seed}", error)

    def fold_done(partition: Partition) -> None:
        if on_fold is not None:
            on_fold(f"{partition.config}|{partition.seed}", len(partition.results), len(partition.units))
        if partition.complete:
            finished(partition.publish())

    bundles: dict[str, list[Partition]] = {}
    for config, trial, seed in items:
        try:
            check(trial)
            stands = done(trial, config, seed, store, precision, device)
            if stands is not None:
                finished(RunResult.of(config, seed, stands, reused=True))
            else:
                partition = Partition(config, trial, seed, store, device, precision)
                bundles.setdefault(_bundle(trial), []).append(partition)
        except (ValueError, OSError) as error:
            failed(config, seed, error)
    waiting = [partition for bundle in bundles.values() for partition in bundle]
    if waiting:
        try:
            require_place(store, waiting)
        except (ValueError, OSError) as error:
            for partition in waiting:
                failed(partition.config, partition.seed, error)
            bundles.clear()

    def attempt(step: Callable[[Partition], bool], partition: Partition) -> bool:
        try:
            return step(partition)
        except (ValueError, OSError) as error:
            failed(partition.config, partition.seed, error)
            return False

    def train(bundle: list[Partition], wait: bool = False) -> list[Partition]:
        """Train what nobody else has in hand, networks together; returns the others."""
        loaded: list[tuple[TrialData, TrialData | None]] = []  # once for all, and not before it is needed

        def begin(partition: Partition) -> bool:
            """Whether anything of it is left to train."""
            if (run := partition.stands()) is not None:
                finished(RunResult.of(partition.config, partition.seed, run, reused=True))
                return False
            if not loaded:
                loaded.append(_load(partition.trial, store))
            partition.begin(*loaded[0])
            if partition.complete:  # killed while it was published
                fold_done(partition)
            return not partition.complete

        def fit(partition: Partition) -> bool:
            _train_tabular(partition, *loaded[0], fold_done, threads)
            return True

        is_network = bundle[0].trial.optimisation is not None
        elsewhere: list[Partition] = []
        for together in [bundle] if is_network else [[partition] for partition in bundle]:
            with claimed(together, wait) as mine:
                elsewhere += [p for p in together if p not in mine]
                ready = [p for p in mine if attempt(begin, p)]
                if is_network and ready:
                    _train_networks(ready, *loaded[0], fold_done, failed, members, save_every_s)
                elif ready:
                    attempt(fit, ready[0])
        return elsewhere

    elsewhere = [partition for bundle in bundles.values() for partition in train(bundle)]
    for partition in elsewhere:
        if on_wait is not None:
            on_wait(f"{partition.config}|{partition.seed}")
        train([partition], wait=True)
    trained = [(trial, results[config, seed]) for config, trial, seed in items if (config, seed) in results]
    found = [(trial, store.part("runs", r.part_name, key=r.part_key)) for trial, r in trained if not r.reused]
    mirror_if_asked(store, [(trial, run) for trial, run in found if run is not None])
    return [result for _, result in trained]


def _load(trial: Trial, store: Store) -> tuple[TrialData, TrialData | None]:
    """The data of a trial and of its inner level, if it has one."""
    data = load(trial, store)
    return data, inner_level(trial, data, store)


def _bundle(trial: Trial) -> str:
    """Equal for trials that can be run together: those that read the same, and, for networks, may share a stack."""
    reads = digest([list(name) for name in part_names(trial)], as_dict(trial)["inputs"])
    return reads if trial.optimisation is None else f"{reads} {stack_key(trial)}"


def _train_tabular(
    partition: Partition,
    data: TrialData,
    inner: TrialData | None,
    fold_done: Callable[[Partition], None],
    threads: int | None,
) -> None:
    """Fit the missing folds of a tabular model, each with its inner folds where there are any."""
    for fold in [f for f in partition.folds if f not in partition.results]:
        started = time.perf_counter()
        where = partition.repeat, fold, partition.seed, threads
        if inner is None:
            result = fit_tabular(partition.trial, data, *where)
        else:
            result = fit_nested(partition.trial, data, inner, *where)
        result = dataclasses.replace(result, seconds=time.perf_counter() - started)
        partition.keep(fold, result, data.feature_names)
        fold_done(partition)


def _train_networks(
    partitions: list[Partition],
    data: TrialData,
    inner: TrialData | None,
    fold_done: Callable[[Partition], None],
    failed: Callable[[str, int, Exception], None],
    members: int | None,
    save_every_s: float,
) -> None:
    """Train the missing folds, outer and inner, of networks that may share stacks."""
    from piano_assets.training.members import Group, groups_of

    owner: dict[int, Partition] = {}
    # Folds of a split may differ in how many steps an epoch has; such groups cannot march in step.
    in_step: dict[tuple[int, int, int], list[Group]] = {}
    for partition in partitions:
        try:
            who = partition.trial, partition.config, partition.seed, partition.repeat
            groups = [group for level in (data, inner) if level is not None for group in groups_of(*who, level)]
        except ValueError as error:
            failed(partition.config, partition.seed, error)
            continue
        for group in groups:
            if group.fold not in partition.results:
                owner[id(group)] = partition
                in_step.setdefault((group.steps, group.batch_size, len(group.columns)), []).append(group)

    def on_group(group: Group, result: FoldResult) -> None:
        partition = owner[id(group)]
        if group.fold not in partition.folds:
            result = as_inner(result, group.fold)
        partition.keep(group.fold, result, tuple(data.feature_names[c] for c in group.columns))
        fold_done(partition)

    for groups in in_step.values():
        try:
            fit_groups(
                groups,
                data,
                device=partitions[0].device,
                precision=partitions[0].precision,
                folder_of=lambda g: owner[id(g)].folder(g.fold),
                on_group=on_group,
                members=members,
                save_every_s=save_every_s,
            )
        except (ValueError, OSError, RuntimeError) as error:  # out of memory is a RuntimeError
            for partition in {id(owner[id(g)]): owner[id(g)] for g in groups}.values():
                if not partition.complete:
                    failed(partition.config, partition.seed, error)
