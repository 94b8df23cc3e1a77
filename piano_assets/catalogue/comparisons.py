"""The catalogue: references, comparisons and their arms, each at its budgets. Adding an arm is one line in a section.

A config is the partition key of one distinct trial: `<reference>` or `<comparison>.<arm>`, with `@<budget>` where the
budget is not `full`. An arm that equals a reference, or an arm of an earlier comparison, goes by that one's config.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from piano_assets.catalogue import architecture, comparison, data, ensembles, features, listener, training
from piano_assets.catalogue.comparison import Comparison
from piano_assets.catalogue.references import REFERENCES
from piano_assets.catalogue.trial import BUDGETS, Trial, differences

COMPARISONS: tuple[Comparison, ...] = (
    *data.COMPARISONS,
    *architecture.COMPARISONS,
    *features.COMPARISONS,
    *training.COMPARISONS,
    *listener.COMPARISONS,
    *ensembles.COMPARISONS,
)
TABULAR_BUDGETS = ("full", "smoke")
"""Budgets that a tabular model knows: it is cheap enough to stand beside reduced networks at `full`."""
SHOWN_BUDGETS = ("full", "reduced")
"""Budgets at which a comparison is one; `smoke` only shows that everything runs."""


@dataclass(frozen=True, eq=False)
class Catalogue:
    """References and comparisons, and the distinct trials that they make.

    Raises:
        IllegalTrial: when asked for trials, an arm that breaks a rule.
    """

    references: Mapping[str, Trial]
    comparisons: tuple[Comparison, ...]

    @cached_property
    def _made(self) -> tuple[dict[str, Trial], dict[str, dict[str, str]]]:
        """(config -> trial at full budget, comparison -> arm -> config)."""
        trials = dict(self.references)
        owner = {trial.key: config for config, trial in trials.items()}
        arms: dict[str, dict[str, str]] = {}
        for one in self.comparisons:
            arms[one.name] = {}
            for arm, trial in comparison.arm_trials(one, trials).items():
                config = owner.setdefault(trial.key, f"{one.name}.{arm}")
                trials.setdefault(config, trial)
                arms[one.name][arm] = config
        return trials, arms

    @property
    def full(self) -> dict[str, Trial]:
        """Every distinct trial at full budget, by config."""
        return self._made[0]

    @cached_property
    def trials(self) -> dict[str, Trial]:
        """Every distinct trial at every budget, by config."""
        return dict(self._at(config, budget) for config in self.full for budget in BUDGETS)

    @cached_property
    def _owner(self) -> dict[str, str]:
        """Trial key -> the first config that has it: without their searches two trials may be one."""
        found: dict[str, str] = {}
        for config, trial in self.full.items():
            for name, at in (at_budget(config, trial, budget) for budget in BUDGETS):
                found.setdefault(at.key, name)
        return found

    def _at(self, config: str, budget: str) -> tuple[str, Trial]:
        """(config, trial) of a config at a budget."""
        _, trial = at_budget(config, self.full[config], budget)
        return self._owner[trial.key], trial

    def arms(self, of: Comparison, budget: str = "full") -> dict[str, tuple[str, Trial]]:
        """(config, trial) of each arm at a budget."""
        return {arm: self._at(config, budget) for arm, config in self._made[1][of.name].items()}

    def reference(self, of: Comparison, budget: str = "full") -> tuple[str, Trial]:
        """(config, trial) of a comparison's reference at a budget."""
        return self._at(of.reference, budget)

    def changed_fields(self, of: Comparison, arm: str) -> dict[str, tuple[Any, Any]]:
        """What an arm really changes, at full budget: dotted field -> (value, reference's value)."""
        return differences(self.full[self._made[1][of.name][arm]], self.full[of.reference])

    def views(self, *budgets: str) -> Iterator[tuple[str, Comparison, str]]:
        """(name, comparison, budget): at `full` by its own name, else `<name>@<budget>`; each budget that an arm knows.

        Budgets are those at which a comparison is one, unless others are named.
        """
        for one in self.comparisons:
            trials = [self.full[one.reference], *(trial for _, trial in self.arms(one).values())]
            neural = any(trial.optimisation is not None for trial in trials)
            for budget in budgets or SHOWN_BUDGETS:
                if neural or budget in TABULAR_BUDGETS:
                    yield one.name if budget == "full" else f"{one.name}@{budget}", one, budget


def at_budget(config: str, trial: Trial, budget: str) -> tuple[str, Trial]:
    """(config, trial) at another training budget, or as it is where it does not know that budget."""
    if budget == trial.budget or (trial.optimisation is None and budget not in TABULAR_BUDGETS):
        return config, trial
    search = trial.search if BUDGETS[budget].searches else ()
    return f"{config}@{budget}", dataclasses.replace(trial, budget=budget, search=search)


@cache
def built_in() -> Catalogue:
    """The catalogue without users' comparisons."""
    return Catalogue(REFERENCES | ensembles.REFERENCES, COMPARISONS)


def catalogue() -> dict[str, Trial]:
    """Every distinct built-in trial by config, at every budget."""
    return built_in().trials


def arm_trials(of: Comparison, known: Mapping[str, Trial] | None = None) -> dict[str, Trial]:
    """Each arm's trial at full budget, by the arm's name; see `comparison.arm_trials`."""
    return comparison.arm_trials(of, built_in().full if known is None else known)
