"""The planner: which (config, seed) parts are owed, which of them stand, and in what batches to make the rest.

A Dagster partition is bookkeeping; the unit of execution is a batch. Staleness is read from the parts' own keys,
never from Dagster's log.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from piano_assets.catalogue.comparisons import catalogue
from piano_assets.catalogue.trial import Tabular, Trial
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Part, Store, read_part
from piano_assets.training.data import done, part_names, seeds_of

TRIAL_TABLES = ("predictions", "history", "members", "runs")
SEEDS = tuple(range(5))

QUICKSTART: dict[str, int] = {
    "family.ridge": 5,
    "family.kernel_ridge": 5,
    "family.reference": 5,
    "family.extra_trees": 5,
    "family.gradient_boosting": 5,
    "forest.reference": 5,
    "ast.reference@smoke": 1,
    "literature.reference": 1,
    "literature.percepiano_performer": 1,
    "literature.performer": 1,
    "literature.founding": 1,
}
"""Configs of `make run`, and how many of their seeds."""


@dataclass(frozen=True)
class Task:
    """One partition: a trial with a seed."""

    config: str
    seed: int
    trial: Trial

    @property
    def partition(self) -> str:
        return f"{self.config}|{self.seed}"


def has_cuda() -> bool:
    """Whether this machine has an NVIDIA device; asks the file system, since loading torch takes seconds."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/nvidia0").exists()


def sweepable(trial: Trial, cuda: bool) -> bool:
    """Whether a sweep trains it unasked.

    Networks at `full` take hours on a CPU: without a GPU they are trained only where they are named. Those at `smoke`
    only show that they run.
    """
    network = trial.optimisation is not None
    return not network or (trial.budget == "full" and cuda)


def swept_configs(cuda: bool | None = None) -> list[str]:
    """The configs that the nightly schedule and `piano sweep` train unasked."""
    cuda = has_cuda() if cuda is None else cuda
    return [config for config, trial in catalogue().items() if sweepable(trial, cuda)]


def configs() -> list[str]:
    """Every config of the catalogue: the keys of the dynamic partition."""
    return list(catalogue())


def parse_partition(partition: str) -> tuple[str, int]:
    """(config, seed) of a partition key.

    Raises:
        ValueError: the key is not `<config>|<seed>`.
    """
    config, bar, seed = partition.rpartition("|")
    if not bar or not seed.isdecimal():
        raise ValueError(f"partition {partition!r} must read '<config>|<seed>'")
    return config, int(seed)


def tasks_of(partitions: Iterable[str], trials: Mapping[str, Trial] | None = None) -> list[Task]:
    """The tasks of partition keys.

    Raises:
        ValueError: a config that the catalogue does not have.
    """
    known = trials if trials is not None else catalogue()
    found = []
    for partition in partitions:
        config, seed = parse_partition(partition)
        if config not in known:
            raise ValueError(f"config {config!r} is not in the catalogue; known: {', '.join(sorted(known))}")
        found.append(Task(config, seed, known[config]))
    return found


def owed(store: Store, configs: Iterable[str] | None = None, seeds: int | None = None) -> list[Task]:
    """Every task that the catalogue owes on this corpus: its configs (or those named), each with its seeds.

    A split that the corpus cannot have owes nothing. `seeds` limits the number of seeds.
    """
    known = catalogue()
    repeats = {p.name: _n_repeats(p.name) for p in store.parts("splits")}
    found = []
    for config in configs if configs is not None else known:
        trial = known[config]
        if trial.split in repeats:
            mine = seeds_of(trial, repeats[trial.split])
            found += [Task(config, seed, trial) for seed in mine[: seeds or len(mine)]]
    return found


def _n_repeats(split: str) -> int:
    from piano_assets.corpus.splits import SPLITS

    return SPLITS[split].n_repeats


def quickstart(store: Store) -> list[Task]:
    """The tasks of `make run`."""
    return [t for config, n in QUICKSTART.items() for t in owed(store, [config], n)]


def standing(store: Store, task: Task, device: str = "cpu") -> Part | None:
    """The finished part of a task for a device class, else for another; None when it must be trained.

    Without the parts that it reads, nothing can stand.
    """
    if any(store.part(table, name) is None for table, name in part_names(task.trial)):
        return None
    devices = (device, *(d for d in ("cuda", "cpu") if d != device))
    for precision in ("float32", "bfloat16"):
        for d in devices:
            found = done(task.trial, task.config, task.seed, store, precision, d)
            if found is not None:
                return found
    return None


def missing(store: Store, tasks: Iterable[Task]) -> list[Task]:
    """Those tasks whose parts do not stand, or stand with another key."""
    return [t for t in tasks if standing(store, t) is None]


def plan(tasks: Iterable[Task], size: int = 8) -> list[list[Task]]:
    """Batches of at most `size` tasks, alike in family and shape, cheap families first so that failures show early."""
    groups: dict[tuple, list[Task]] = {}
    for task in tasks:
        tabular = isinstance(task.trial.model, Tabular)
        groups.setdefault((not tabular, task.trial.family, "" if tabular else repr(task.trial.model)), []).append(task)
    ordered = [groups[k] for k in sorted(groups)]
    return [group[i : i + size] for group in ordered for i in range(0, len(group), size)]


def current_parts(store: Store, tasks: Iterable[Task]) -> dict[str, list[Part]]:
    """The parts of all standing tasks, by table: what the warehouse and the scores are made of."""
    found: dict[str, list[Part]] = {table: [] for table in TRIAL_TABLES}
    for task in tasks:
        run = standing(store, task)
        if run is not None:
            for table in TRIAL_TABLES:
                part = store.part(table, run.name, key=run.key)
                if part is not None:
                    found[table].append(part)
    return found


def result_parts(store: Store) -> dict[str, list[Part]]:
    """Every current part by table: of standing tasks, lookups, ensembles, and of all unpartitioned tables."""
    found = {table: list(store.parts(table)) for table in TABLES if table not in TRIAL_TABLES}
    found |= current_parts(store, owed(store))
    found["predictions"] += [p for p in store.parts("predictions") if p.name.startswith(("lookups/", "ensemble."))]
    return found


def read_predictions(store: Store) -> pd.DataFrame:
    """All current predictions, one below the other."""
    parts = result_parts(store)["predictions"]
    if not parts:
        return TABLES["predictions"].empty()
    return pa.concat_tables([read_part(p) for p in parts]).to_pandas(categories=["subject", "dimension", "clip"])
