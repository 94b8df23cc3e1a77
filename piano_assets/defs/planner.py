"""The planner: which (config, seed) parts are owed, which of them stand, and in what batches to make the rest.

A Dagster partition is bookkeeping; the unit of execution is a batch. Staleness is read from the parts' own keys,
never from Dagster's log.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from piano_assets.catalogue.comparisons import Catalogue, built_in
from piano_assets.catalogue.trial import Encoder, Trial
from piano_assets.catalogue.user import Problem, read_comparisons
from piano_assets.defs.derived import BY_NAME as DERIVED
from piano_assets.store.parts import Part, Store
from piano_assets.training import data
from piano_assets.training.data import seeds_of
from piano_assets.training.stacks import stack_key

SEEDS = tuple(range(5))
COMPARISONS_FOLDER = "comparisons"
"""Beside the corpora in the data folder: users' comparisons, `*.toml`."""

QUICKSTART = (
    "family.ridge",
    "family.kernel_ridge",
    "family.reference",
    "family.extra_trees",
    "family.gradient_boosting",
    "forest.reference",
    "ast.reference@smoke",
    "literature.reference",
    "literature.percepiano_performer",
    "literature.performer",
    "literature.founding",
)
"""Configs of `make run`, one seed each: with its search a forest takes a minute."""


@dataclass(frozen=True)
class Task:
    """One partition: a trial with a seed."""

    config: str
    seed: int
    trial: Trial

    @property
    def partition(self) -> str:
        return f"{self.config}|{self.seed}"


def user_folder(store: Store) -> Path:
    """Where users' comparisons lie: one folder for all corpora of a data folder."""
    return store.root.parent / COMPARISONS_FOLDER


def known(store: Store) -> Catalogue:
    """The catalogue with the users' comparisons; broken files are left out (see `problems`)."""
    return _read(store)[0]


def problems(store: Store) -> list[Problem]:
    """What is wrong with users' files."""
    return _read(store)[1]


def _read(store: Store) -> tuple[Catalogue, list[Problem]]:
    files = sorted(user_folder(store).glob("*.toml"))
    if not files:
        return built_in(), []
    # Checking names loads torch: once for each state of the files.
    return _read_state(user_folder(store), tuple((p.name, p.lstat().st_mtime_ns, p.lstat().st_size) for p in files))


@lru_cache(maxsize=4)
def _read_state(folder: Path, state: tuple[tuple[str, int, int], ...]) -> tuple[Catalogue, list[Problem]]:
    from piano_assets.training.check import check

    return read_comparisons(folder, built_in(), check)


def has_cuda() -> bool:
    """Whether networks are trained on an NVIDIA device: as `PIANO_DEVICE` says (cuda, cpu), else where there is one.

    It asks the file system, since loading torch takes seconds.

    Raises:
        ValueError: another `PIANO_DEVICE`.
    """
    said = os.environ.get("PIANO_DEVICE")
    if said not in (None, "", "cuda", "cpu"):
        raise ValueError(f"PIANO_DEVICE={said!r} must be cuda or cpu")
    if said:
        return said == "cuda"
    return Path("/dev/nvidiactl").exists() or Path("/dev/nvidia0").exists()


def device() -> str:
    """The device class that networks are trained on here."""
    return "cuda" if has_cuda() else "cpu"


def sweepable(trial: Trial, cuda: bool) -> bool:
    """Whether a sweep trains it unasked.

    Networks at `full` take hours on a CPU: without a GPU they are trained only where they are named. Those at
    `reduced` stand in for them where they are asked for; what is at `smoke` only shows that it runs.
    """
    return trial.budget == "full" and (cuda or trial.optimisation is None)


def swept_configs(store: Store | None = None, cuda: bool | None = None) -> list[str]:
    """The configs that the nightly schedule and `piano sweep` train unasked."""
    cuda = has_cuda() if cuda is None else cuda
    return [config for config, trial in _catalogue(store).trials.items() if sweepable(trial, cuda)]


def chosen_configs(catalogue: Catalogue, names: Iterable[str], cuda: bool | None = None) -> tuple[list[str], list[str]]:
    """(configs that the names ask for, configs of named comparisons that wait for a GPU).

    A name is a config, a comparison, or `<comparison>@<budget>`; a comparison brings its reference along, one of what
    is made from trials all that these are made of.

    Raises:
        ValueError: a name that is neither.
    """
    cuda = has_cuda() if cuda is None else cuda
    views = {name: (of, budget) for name, of, budget in catalogue.views("full", "reduced", "smoke")}
    chosen: list[str] = []
    waiting: list[str] = []
    for name in names:
        if name in views:
            of, budget = views[name]
            arms = catalogue.arms(of, budget)
            heavy = {arms[arm][0] for arm in of.needs_gpu}
            for config, trial in (catalogue.reference(of, budget), *arms.values()):
                asked = sweepable(trial, cuda) or (trial.budget != "full" and (cuda or config not in heavy))
                (chosen if asked else waiting).append(config)
        elif name in DERIVED:
            held = frozenset() if cuda else DERIVED[name].needs_gpu
            for config in DERIVED[name].configs:
                (waiting if config in held else chosen).append(config)
        elif name in catalogue.trials:
            chosen.append(name)
        else:
            said = ", ".join((*(of.name for of in catalogue.comparisons), *DERIVED))
            raise ValueError(f"{name!r} is neither a comparison ({said}; each also @reduced) nor a config")
    return list(dict.fromkeys(chosen)), list(dict.fromkeys(c for c in waiting if c not in chosen))


def users_configs(store: Store) -> list[str]:
    """The configs of users' comparisons, their references among them."""
    catalogue, own = known(store), {c.name for c in built_in().comparisons}
    return [
        config
        for of in catalogue.comparisons
        if of.name not in own
        for config, _ in (catalogue.reference(of), *catalogue.arms(of).values())
    ]


def configs(store: Store | None = None) -> list[str]:
    """Every config: the keys of the dynamic partition."""
    return list(_catalogue(store).trials)


def _catalogue(store: Store | None) -> Catalogue:
    return built_in() if store is None else known(store)


def parse_partition(partition: str) -> tuple[str, int]:
    """(config, seed) of a partition key.

    Raises:
        ValueError: the key is not `<config>|<seed>`.
    """
    config, bar, seed = partition.rpartition("|")
    if not bar or not seed.isdecimal():
        raise ValueError(f"partition {partition!r} must read '<config>|<seed>'")
    return config, int(seed)


def tasks_of(partitions: Iterable[str], store: Store | None = None) -> list[Task]:
    """The tasks of partition keys; with a store, users' configs are known too.

    Raises:
        ValueError: a config that the catalogue does not have.
    """
    trials = _catalogue(store).trials
    found = []
    for partition in partitions:
        config, seed = parse_partition(partition)
        if config not in trials:
            raise ValueError(f"config {config!r} is not in the catalogue; known: {', '.join(sorted(trials))}")
        found.append(Task(config, seed, trials[config]))
    return found


def owed(
    store: Store,
    configs: Iterable[str] | None = None,
    seeds: int | None = None,
    catalogue: Catalogue | None = None,
) -> list[Task]:
    """Every task that the catalogue owes on this corpus: its configs (or those named), each with its seeds.

    A split that the corpus cannot have owes nothing. `seeds` limits the number of seeds; `catalogue` stands in for
    the store's.
    """
    trials = (catalogue or known(store)).trials
    repeats = {p.name: _n_repeats(p.name) for p in store.parts("splits")}
    found = []
    for config in configs if configs is not None else trials:
        trial = trials[config]
        if trial.split in repeats:
            mine = seeds_of(trial, repeats[trial.split])
            found += [Task(config, seed, trial) for seed in mine[: seeds or len(mine)]]
    return found


def _n_repeats(split: str) -> int:
    from piano_assets.corpus.splits import SPLITS

    return SPLITS[split].n_repeats


def quickstart(store: Store) -> list[Task]:
    """The tasks of `make run`."""
    return owed(store, QUICKSTART, seeds=1)


def standing(store: Store, task: Task, device: str = "cpu") -> Part | None:
    """The finished part of a task for a device class, else for another; None when it must be trained."""
    return next(iter(data.standing(task.trial, task.config, task.seed, store, device)), None)


def missing(store: Store, tasks: Iterable[Task]) -> list[Task]:
    """Those tasks whose parts do not stand, or stand with another key."""
    return [t for t in tasks if standing(store, t) is None]


def plan(tasks: Iterable[Task], tabular: int = 8, networks: int = 64) -> list[list[Task]]:
    """Batches of at most so many tasks, cheap ones first so that failures show early.

    Tabular tasks of a batch share their family; networks share a stack, so that they train as one program. What has a
    small budget takes less than a run costs: it shares batches with all else that has one.
    """
    groups: dict[tuple, list[Task]] = {}
    for task in tasks:
        model, family = task.trial.model, task.trial.family
        if isinstance(model, Encoder):
            groups.setdefault((1, model.depth * model.dim**2, family, stack_key(task.trial)), []).append(task)
        else:
            groups.setdefault((0, task.trial.budget == "full", family, ""), []).append(task)
    batches: list[list[Task]] = []
    for key in sorted(groups):
        group = groups[key]
        size = networks if key[0] or _small(group) else tabular
        for chunk in (group[i : i + size] for i in range(0, len(group), size)):
            if batches and _small(batches[-1]) and _small(chunk) and len(batches[-1]) + len(chunk) <= size:
                batches[-1] += chunk
            else:
                batches.append(list(chunk))
    return batches


def _small(batch: list[Task]) -> bool:
    return all(t.trial.budget != "full" for t in batch)
