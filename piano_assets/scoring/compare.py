"""Two recordings of one piece: how far apart listeners would rate them, how sure that is, and what makes it so.

Errors of two performances of the same music are alike, since much of what a model gets wrong is the music: so the
interval of a difference is not wider by the square root of two, but comes from differences of errors themselves.
"""

from dataclasses import dataclass

import numpy as np

from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.ensembles.champion_files import Learnt
from piano_assets.features.symbolic.alignment import align
from piano_assets.features.symbolic.reading import Reading
from piano_assets.scoring.score import Scores

SAME_PIECE = 0.5
"""Share of the shorter recording's notes that must be found in the other: half, as takes begin and end elsewhere."""


class CompareError(ValueError):
    """Two recordings whose scores cannot be set side by side."""


@dataclass(frozen=True, eq=False)
class Difference:
    """What the second recording's scores are less the first's.

    value, low, high: (19,). moved: (n_aspects, 19), adding up to `value`. matched: share of the shorter recording's
    notes that the other has too, None where notes of one are not known.
    """

    first: Scores
    second: Scores
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    moved: np.ndarray
    matched: float | None

    @property
    def same_piece(self) -> bool | None:
        return None if self.matched is None else self.matched >= SAME_PIECE

    @property
    def told_apart(self) -> np.ndarray:
        """(19,) True where the interval leaves out 0."""
        return (self.low > 0) | (self.high < 0)


def compare(first: Scores, second: Scores, holder: Learnt) -> Difference:
    """Set two recordings side by side, scored by one champion.

    Raises:
        CompareError: they were scored by different champions.
    """
    keys = [s.champion["part_key"] for s in (first, second)]
    if keys != [holder.record["part_key"]] * 2:
        titles = [s.champion["champion"] for s in (first, second)]
        raise CompareError(
            f"{first.recording.name} and {second.recording.name} were scored by different champions ({titles}): "
            "bring both as MIDI or both as sound"
        )
    value, half = second.value - first.value, difference_half_widths(holder, float(holder.record["level"]))
    a, b = first.recording.performance, second.recording.performance
    matched = None if a is None or b is None else share_in_common(Reading(a), Reading(b))
    return Difference(first, second, value, value - half, value + half, second.moved - first.moved, matched)


def difference_half_widths(holder: Learnt, level: float) -> np.ndarray:
    """(19,) half widths of intervals for the difference between two people's performances of the same excerpt.

    Quantiles of absolute differences of out-of-fold residuals over all pairs within excerpts, each excerpt counting the
    same, however many played it.

    Raises:
        CompareError: no excerpt that two people played.
    """
    residual = holder.out_of_fold - holder.target
    gaps, weights = [], []
    for excerpt in np.unique(holder.excerpts):
        mine = residual[(holder.excerpts == excerpt) & holder.human]
        a, b = np.triu_indices(len(mine), k=1)
        if len(a):
            gaps.append(np.abs(mine[a] - mine[b]))
            weights.append(np.full(len(a), 1 / len(a)))
    if not gaps:
        raise CompareError("the champion learnt from no excerpt that two people played: differences have no interval")
    pooled, weight = np.concatenate(gaps), np.concatenate(weights)
    found = np.empty(N_DIMENSIONS)
    for k in range(N_DIMENSIONS):
        order = np.argsort(pooled[:, k])
        share = np.cumsum(weight[order]) / weight.sum()
        found[k] = pooled[order[min(len(order) - 1, int(np.searchsorted(share, level)))], k]
    return found


def share_in_common(first: Reading, second: Reading) -> float:
    """Share of the shorter performance's notes that are matched, by pitch and order, to notes of the other."""
    return len(align(first, second)[0]) / max(1, min(first.n, second.n))
