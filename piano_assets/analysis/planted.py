"""Planted truth: labels and predictions whose difference is known, on the corpus's own structure.

Which clip has which music, player and fold is the corpus's; errors share music, players, both or neither.

A label is a mixture of effects of music, player and clip with variance 1; a prediction of accuracy r is
r label + sqrt(1 - r^2) error, its error again such a mixture, half of it shared with the reference. The correlation of
label and prediction is then r in every dimension, and the true difference of two sides is known. A difference is
planted around `R`, half of it on each side, so that the errors' variances stay what they are without it.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from piano_assets.analysis.measures import View
from piano_assets.analysis.primary import Side
from piano_assets.analysis.secondary import Evidence
from piano_assets.statistics import influence

N_DIMENSIONS = 5
"""Independent ones: as many signals as the 19 dimensions have."""

SHARED = 0.5
"""Share of an arm's error that is the reference's too."""

LABEL = (0.4, 0.2)
"""Shares of the labels' variance between clusters and between performers."""

R = 0.7
"""Accuracy in the middle between arm and reference."""


@dataclass(frozen=True, eq=False)
class Structure:
    """Which clip has which music, player and fold: integer codes, (n_clips,) each."""

    cluster: np.ndarray
    performer: np.ndarray
    fold: np.ndarray


def structure_of(clips: pd.DataFrame, labels: pd.DataFrame, splits: pd.DataFrame, rule: str = "clean") -> Structure:
    """The structure of the labelled clips, with the folds of the cluster split's first repeat."""
    labelled = clips[clips["clip"].isin(labels["clip"][labels["rule"] == rule])]
    tested = splits[(splits["split"] == "cluster") & (splits["repeat"] == 0) & (splits["role"] == "test")]
    fold = tested[tested["inner_fold"].isna()].set_index("clip")["fold"].reindex(labelled["clip"])
    cluster, performer = (pd.factorize(labelled[c])[0] for c in ("cluster", "performer"))
    return Structure(cluster, performer, fold.to_numpy(int))


@dataclass(frozen=True)
class Scenario:
    """Shares of the errors' variance between clusters and between performers."""

    name: str
    cluster: float
    performer: float


SCENARIOS = (
    Scenario("clips alone", 0.0, 0.0),
    Scenario("cluster", 0.4, 0.0),
    Scenario("performer", 0.0, 0.4),
    Scenario("both", 0.25, 0.25),
)


@dataclass(frozen=True, eq=False)
class Draw:
    """One drawn experiment. target, reference: (n_clips, d); arms: (n_arms, n_clips, d); gain: true difference in r."""

    structure: Structure
    target: np.ndarray
    reference: np.ndarray
    arms: np.ndarray
    gain: float


def effects(structure: Structure, shares: tuple[float, float], d: int, rng: np.random.Generator) -> np.ndarray:
    """A mixture of effects of music, player and clip with variance 1, (n_clips, d)."""
    own = 1 - sum(shares)
    parts = [np.sqrt(own) * rng.standard_normal((len(structure.cluster), d))]
    for share, groups in zip(shares, (structure.cluster, structure.performer), strict=True):
        if share:
            parts.append(np.sqrt(share) * rng.standard_normal((groups.max() + 1, d))[groups])
    return np.sum(parts, axis=0)


def draw(
    structure: Structure,
    scenario: Scenario,
    rng: np.random.Generator,
    gain: float = 0.0,
    n_arms: int = 1,
    d: int = N_DIMENSIONS,
) -> Draw:
    """One experiment: arms of accuracy `R` + gain / 2, all against one reference of accuracy `R` - gain / 2."""
    shares = scenario.cluster, scenario.performer
    target = effects(structure, LABEL, d, rng)
    common = effects(structure, shares, d, rng)

    def side(r: float) -> np.ndarray:
        error = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * effects(structure, shares, d, rng)
        return r * target + np.sqrt(1 - r**2) * error

    reference = side(R - gain / 2)
    return Draw(structure, target, reference, np.stack([side(R + gain / 2) for _ in range(n_arms)]), gain)


def evidence(x: Draw, rng: np.random.Generator) -> Evidence:
    """What the tests are told of the first arm and the reference."""
    of, n = x.structure, len(x.target)
    moved = [influence.pearson(pred, x.target).mean(1) / n for pred in (x.arms[0], x.reference)]
    arm, reference = (
        Side(View(pred, x.target, of.fold, of.cluster), of.cluster, of.performer) for pred in (x.arms[0], x.reference)
    )
    estimate = float(mean_r(x.arms[0], x.target) - mean_r(x.reference, x.target))
    return Evidence(estimate, moved[0] - moved[1], of.cluster, of.performer, [(arm, reference)], rng)


def mean_r(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean r over dimensions, (..., n_clips, d) -> (...)."""
    p, t = ((x - x.mean(-2, keepdims=True)) / x.std(-2, keepdims=True) for x in (pred, target))
    return (p * t).mean((-2, -1))
