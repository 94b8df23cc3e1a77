"""A comparison: a hypothesis, the trial it differs from, and named differences, one line an arm."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from piano_assets.catalogue.trial import IllegalTrial, Trial, vary

FULL_OR_REDUCED = "Networks: full budget on a GPU, @reduced on a CPU. Five seeds, each with its repeat of the split."
TABULAR = "Minutes on a CPU: tabular models always run in full. Five seeds, each with its repeat of the split."


@dataclass(frozen=True)
class Comparison:
    """A hypothesis, the config it differs from, and named differences.

    Attributes:
        reference: config of the trial that every arm differs from.
        arms: name -> changed fields, dotted. An empty change is the reference itself.
        budget_note: what it takes, in a sentence.
        claims: arm -> number of parameters that the plan gives it, to stand beside the measured one.
        needs_gpu: arms that a CPU trains only where each is named itself.
        tested: False where the arms have different test sets, so that no significance test applies.
    """

    name: str
    hypothesis: str
    reference: str
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    budget_note: str = FULL_OR_REDUCED
    claims: Mapping[str, int] = field(default_factory=dict)
    needs_gpu: frozenset[str] = frozenset()
    tested: bool = True


def arm_trials(comparison: Comparison, known: Mapping[str, Trial]) -> dict[str, Trial]:
    """Each arm's trial, by the arm's name. `known`: config -> trial, the reference among them.

    Raises:
        IllegalTrial: an unknown reference or field, or an illegal value; comparison and arm are named.
    """
    if comparison.reference not in known:
        raise IllegalTrial(f"{comparison.name}: unknown reference {comparison.reference!r}; known: {list(known)}")
    reference = known[comparison.reference]
    found = {}
    for arm, changes in comparison.arms.items():
        try:
            found[arm] = vary(reference, changes)
        except IllegalTrial as error:
            raise IllegalTrial(f"{comparison.name}.{arm}: {error}") from error
    return found
