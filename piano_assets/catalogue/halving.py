"""Successive halving over the arms of a comparison: a rule that is declared before the run, and looks at no test clip.

After Jamieson & Talwalkar (2016), with seeds as the resource: an arm that is among the worse half after its first seed
gets no further ones.
"""

from collections.abc import Mapping
from dataclasses import dataclass

RUNGS = (1,)
"""After so many seeds arms are judged."""

RULE = (
    "after one seed the worse half of the arms, by mean best r on inner validation clips, gets no further seeds; "
    "the reference stays, ties stay, of an odd number the larger half stays"
)


@dataclass(frozen=True)
class Stopped:
    """An arm that goes no further, and the number of the worst one that does."""

    arm: str
    valid_r: float
    kept_valid_r: float


def worse_half(valid_r: Mapping[str, float], references: frozenset[str] = frozenset()) -> list[Stopped]:
    """The arms that stop, worst first.

    Args:
        valid_r: arm -> mean over folds of its best r on inner validation clips.
        references: arms that are the reference: they always stay, and take nobody's place.
    """
    ranked = sorted((r, arm) for arm, r in valid_r.items() if arm not in references)
    if not ranked:
        return []
    # Of n arms n // 2 stop, so the one at that place is the worst that stays.
    bar = ranked[len(ranked) // 2][0]
    return [Stopped(arm, r, bar) for r, arm in ranked if r < bar]
