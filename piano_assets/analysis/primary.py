"""What intervals of scores and the primary test rest on: scores without each cluster, performer, and pair of both."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from piano_assets.analysis.measures import MEASURES, View
from piano_assets.statistics import jackknife
from piano_assets.statistics.jackknife import Left

MOMENTS: dict[str, str] = {name: measure.moment for name, measure in MEASURES.items() if measure.moment}
"""Measures that are functions of moments (`statistics.resampling.MOMENTS`), and which."""


@dataclass(frozen=True, eq=False)
class Side:
    """What a subject is scored on in one repeat: its rows, and the cluster and performer of each."""

    view: View
    cluster: np.ndarray
    performer: np.ndarray

    @cached_property
    def left(self) -> dict[str, tuple[Left, ...]]:
        """Measure -> what its dimensions and their mean, (G, d + 1), lose without each group."""
        v = self.view
        found = jackknife.changes(MOMENTS.values(), v.pred, v.target, self.cluster, self.performer)
        return {measure: tuple(map(_with_mean, found[metric])) for measure, metric in MOMENTS.items()}


def differences(pairs: Sequence[tuple[Side, Side]], measure: str) -> list[np.ndarray]:
    """What arm less reference loses without each cluster, performer and pair of both: (G, d + 1) each.

    pairs: (arm, reference) of each repeat, over which the difference is averaged.
    """
    parts = [jackknife.less(arm.left[measure], reference.left[measure]) for arm, reference in pairs]
    return [left.change for left in jackknife.average(parts)]


def _with_mean(left: Left) -> Left:
    return Left(left.groups, np.concatenate([left.change, left.change.mean(1, keepdims=True)], axis=1))
