"""What a night trains: within a budget of device seconds, the most informative first.

What a partition will take is told by what the likes of it took. A first seed of everything comes before a second of
anything, a reference before its arms, and arms whose comparison is undecided before those that have a verdict. Among
equals the cheap come first.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from piano_assets.catalogue.comparisons import Catalogue
from piano_assets.catalogue.trial import Trial
from piano_assets.defs import planner
from piano_assets.defs.planner import Task
from piano_assets.store.parts import Store
from piano_assets.training.data import device_class

UNKNOWN_S = {False: 60.0, True: 1800.0}
"""Of a tabular trial, of a network: where nothing like it was ever trained."""
VERDICTS = ("better", "worse", "equivalent")


@dataclass(frozen=True)
class Night:
    """What is trained, in this order; what has no place in the budget; and the seconds that each should take."""

    chosen: list[Task]
    left: list[Task]
    seconds: dict[str, float]

    @property
    def expected_s(self) -> float:
        return sum(self.seconds[t.partition] for t in self.chosen)


def night(store: Store, todo: Sequence[Task], budget_s: float | None = None, device: str = "cpu") -> Night:
    """Choose among missing tasks: in order of what they tell, each that still has a place in the budget.

    budget_s: device seconds; None: all are chosen. A task that alone is over the budget never has a place.

    Raises:
        ValueError: a budget that is not positive.
    """
    if budget_s is not None and not budget_s > 0:
        raise ValueError(f"budget_s={budget_s} must be > 0")
    catalogue = planner.known(store)
    seconds = expected_seconds(past_runs(store), todo, catalogue.trials, device)
    open_ = undecided(store.read("tests"), catalogue)
    references = {catalogue.reference(of, budget)[0] for _, of, budget in catalogue.views()}

    def rank(task: Task) -> tuple:
        known = task.config not in open_
        return known, task.seed, task.config not in references, seconds[task.partition], task.partition

    chosen: list[Task] = []
    left: list[Task] = []
    spent = 0.0
    for task in sorted(todo, key=rank):
        fits = budget_s is None or spent + seconds[task.partition] <= budget_s
        spent += seconds[task.partition] if fits else 0
        (chosen if fits else left).append(task)
    return Night(chosen, left, seconds)


def seconds_of(text: str) -> float:
    """Seconds of a duration: `2h`, `90m`, `1h30m`, `45s`.

    Raises:
        ValueError: it is none, or not positive.
    """
    try:
        found = pd.Timedelta(text).total_seconds()
    except ValueError as error:
        raise ValueError(f"{text!r} is no duration; write 2h, 90m, 1h30m or 45s") from error
    if text.strip().isdecimal() or not found > 0:
        raise ValueError(f"{text!r} is no duration above 0; write 2h, 90m, 1h30m or 45s")
    return found


def within(tasks: Callable[[], list[Task]], store: Store, budget_s: float, device: str) -> Callable[[], list[Task]]:
    """What a sweep owes, less what has no place in the budget, however often it is asked.

    A sweep that halves owes more after its first rung: that takes what the first has left.
    """
    granted: set[str] = set()
    left_s = budget_s

    def limited() -> list[Task]:
        nonlocal left_s
        owed = tasks()
        lacking = {t.partition for t in planner.missing(store, owed)}
        if left_s > 0:
            found = night(store, [t for t in owed if t.partition in lacking - granted], left_s, device)
            granted.update(t.partition for t in found.chosen)
            left_s -= found.expected_s
        return [t for t in owed if t.partition not in lacking or t.partition in granted]

    return limited


def past_runs(store: Store) -> pd.DataFrame:
    """Config, device and seconds of every finished run that the store has, shipped ones too."""
    columns = ["config", "device", "seconds", "status"]
    stores = [store] if store.shipped is None else [store, Store(store.shipped)]
    runs = pd.concat([s.read("runs", columns=columns)[columns] for s in stores], ignore_index=True)
    return runs[runs["status"] == "finished"]


def expected_seconds(
    runs: pd.DataFrame, tasks: Iterable[Task], trials: Mapping[str, Trial], device: str = "cpu"
) -> dict[str, float]:
    """Partition -> seconds: the median of its config's runs on this device class; where there are none, of its
    family's at the same budget; else `UNKNOWN_S`.

    runs: as `past_runs`; trials: of the configs that ran.
    """
    on_class = runs["device"].astype(str).str.split(":").str[0]
    own = runs.groupby([runs["config"].astype(str), on_class])["seconds"].median().to_dict()
    like: dict[tuple, list[float]] = {}
    for (config, on), value in own.items():
        if config in trials:  # one that was taken out of the catalogue says nothing of a family
            like.setdefault((trials[config].family, trials[config].budget, on), []).append(value)
    found = {}
    for task in tasks:
        on = device_class(task.trial, device)
        others = like.get((task.trial.family, task.trial.budget, on))
        unknown = float(np.median(others)) if others else UNKNOWN_S[task.trial.optimisation is not None]
        found[task.partition] = float(own.get((task.config, on), unknown))
    return found


def undecided(tests: pd.DataFrame, catalogue: Catalogue) -> set[str]:
    """Configs of arms without a verdict, and of their references; a config that is no arm has none to wait for."""
    primary = tests[tests["is_primary"] & tests["verdict"].isin(VERDICTS)]
    decided = set(zip(primary["comparison"], primary["arm"], strict=True))
    found, arms, references = set[str](), set[str](), set[str]()
    for name, of, budget in catalogue.views():
        reference = catalogue.reference(of, budget)[0]
        references.add(reference)
        for arm, (config, _) in catalogue.arms(of, budget).items():
            arms.add(config)
            if config != reference and (name, arm) not in decided:
                found |= {config, reference}
    return found | (set(catalogue.trials) - arms - references)
