"""Tests for clips that share music and performers.

Two clips of one cluster share the music, two of one performer the player, so clips are not independent and a test that
treats them so rejects half of true nulls (docs/statistics.md). The two-way clustered variance of Cameron, Gelbach &
Miller (2011, JBES 29:238, eq. 2.11) allows any dependence inside either grouping: V = V_cluster + V_performer - V_both.
Each of the three is a delete-one-group jackknife, and a group's size counts in the degrees of freedom.

The primary test takes the exact change of an estimate without each group (`jackknife.changes`). Everything else takes
*contributions*: influence values divided by the number of clips (averaged over repeats where there are several), so
that an estimate's sampling error is, to first order, the sum of its contributions.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from piano_assets.statistics import ALPHA, LEVEL, POWER
from piano_assets.statistics.jackknife import first_order, groupings, variance
from piano_assets.statistics.paired import cohens_dz
from piano_assets.statistics.resampling import summed


@dataclass(frozen=True)
class Clustered:
    """An estimate with its clustered t test and interval.

    `n_groups` is the number of groups of the grouping that is effectively the smaller (df = `effective_groups` - 1) and
    `unit` its name; `variance_of` tells which variance was used.
    """

    estimate: float
    se: float
    df: float
    t: float
    p: float
    ci_low: float
    ci_high: float
    n_clips: int
    n_groups: int
    unit: str
    variance_of: str


def clustered_variance(contributions: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """One-way clustered variance of the estimates to first order, (n_estimates,).

    (G - 1) / G * sum over groups of (s_g / (1 - w_g))^2, with s_g the group's summed contributions and w_g its share of
    the clips: of a mean, exactly the delete-one-group jackknife. With equal groups it is the usual G / (G - 1) * sum
    of s_g^2.

    contributions: (n_clips, n_estimates); groups: (n_clips,).

    Raises:
        ValueError: fewer than 2 groups.
    """
    return variance(first_order(contributions, groups).change)


def effective_groups(groups: np.ndarray) -> float:
    """How many groups of equal size are worth these: (sum n)^2 / sum n^2, their number where they are equal.

    The effective number of clusters of a mean whose errors are alike within clusters (Carter, Schnepel & Steigerwald
    2017, Rev. Econ. Stat. 99:698, sec. II). PercePiano's 46 clusters are worth 21.
    """
    sizes = np.unique(groups, return_counts=True)[1].astype(float)
    return float(sizes.sum() ** 2 / (sizes**2).sum())


def degrees_of_freedom(cluster: np.ndarray, performer: np.ndarray) -> float:
    """Of the two-way clustered t: fewest effective groups - 1. cluster, performer: (n_clips,)."""
    return min(effective_groups(cluster), effective_groups(performer)) - 1


def two_way_variances(contributions: np.ndarray, cluster: np.ndarray, performer: np.ndarray) -> np.ndarray:
    """(3, n_estimates) to first order: by cluster, by performer, and two-way, which can be negative."""
    v1, v2, v12 = (clustered_variance(contributions, codes) for codes in groupings(cluster, performer))
    return np.stack([v1, v2, v1 + v2 - v12])


def two_way_se(contributions: np.ndarray, cluster: np.ndarray, performer: np.ndarray) -> tuple[np.ndarray, float]:
    """Standard errors to first order, (n_estimates,), and df = fewest effective groups - 1.

    From the largest of the three variances, since to first order each is too small by up to a fifth.

    contributions: (n_clips, n_estimates); cluster, performer: (n_clips,) integer codes.
    """
    variances = two_way_variances(contributions, cluster, performer)
    return np.sqrt(variances.max(0)), degrees_of_freedom(cluster, performer)


def two_way_variance(changes: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The primary test's variance from what is lost without each cluster, performer and pair of both.

    V_cluster + V_performer - V_both, never less than the smaller of the first two: where clips share nothing, V_both
    may by chance be so large that little or nothing is left.

    Args:
        changes: by cluster, performer and both, (G, n_estimates) each (`jackknife.changes`).

    Returns:
        (variance, which one it is: 0 that of clusters, 1 of performers, 2 two-way), (n_estimates,) each.

    Raises:
        ValueError: fewer than 2 groups.
    """
    v1, v2, v12 = (variance(change) for change in changes)
    choices = np.stack([v1, v2, v1 + v2 - v12])
    which = np.where(choices[2] >= np.minimum(v1, v2), 2, (v2 < v1).astype(int))
    return np.take_along_axis(choices, which[None], axis=0)[0], which


def interval(estimate, se, df: float, level: float = LEVEL):
    """Student's interval (low, high) around an estimate or an array of them."""
    from scipy.stats import t

    half = t.ppf((1 + level) / 2, df) * se
    return estimate - half, estimate + half


def two_way_t(estimate: float, changes: Sequence[np.ndarray], cluster: np.ndarray, performer: np.ndarray) -> Clustered:
    """Test `estimate` against 0 by the two-way clustered t: the project's primary test.

    Args:
        changes: what the estimate loses without each cluster, performer and pair of both, (G,) each
            (`jackknife.changes`); cluster, performer: (n_clips,), scored clips only.

    Raises:
        ValueError: fewer than 2 clusters or performers, values that are not finite, or no spread.
    """
    if not (math.isfinite(estimate) and all(np.isfinite(change).all() for change in changes)):
        raise ValueError("the estimate, or what it is without one of its groups, is not finite")
    (used,), (which,) = two_way_variance([change[:, None] for change in changes])
    groups = {"cluster": cluster, "performer": performer}
    worth = {name: effective_groups(of) for name, of in groups.items()}
    unit = min(worth, key=lambda k: worth[k])
    n_groups = len(np.unique(groups[unit]))
    name = ("cluster", "performer", "two_way")[which]
    return _result(estimate, math.sqrt(used), worth[unit] - 1, len(cluster), n_groups, unit, name)


def clip_t(estimate: float, contributions: np.ndarray) -> Clustered:
    """The naive test that takes clips for independent. Secondary: where they share anything it rejects half the nulls.

    Raises:
        ValueError: as `two_way_t`.
    """
    n = len(contributions)
    if n < 2:
        raise ValueError(f"a t test needs at least 2 clips, got {n}")
    se = math.sqrt(n / (n - 1) * float((np.asarray(contributions) ** 2).sum()))
    return _result(estimate, se, n - 1, n, n, "clip", "clip")


def _result(estimate: float, se: float, df: float, n: int, groups: int, unit: str, which: str) -> Clustered:
    from scipy.stats import t as student

    if not se > 0:
        raise ValueError(f"the estimate {estimate} has no spread (standard error {se}): nothing can be tested")
    t = estimate / se
    low, high = interval(estimate, se, df)
    p = float(2 * student.sf(abs(t), df))
    return Clustered(estimate, se, df, t, p, float(low), float(high), n, groups, unit, which)


def tost(result: Clustered, margin: float) -> float:
    """p value of equivalence within +-margin: the larger of two one-sided t tests (Schuirmann 1987).

    Raises:
        ValueError: margin <= 0.
    """
    from scipy.stats import t as student

    if margin <= 0:
        raise ValueError(f"margin={margin} must be > 0")
    return float(student.sf((margin - abs(result.estimate)) / result.se, result.df))


def minimal_detectable_effect(se: float, df: float, alpha: float = ALPHA, power: float = POWER) -> float:
    """The smallest true effect that a two-sided test at `alpha` finds with probability `power`, in the estimate's unit.

    Noncentral t, since with 30 performers the normal approximation is 3 % too optimistic.
    """
    return se * _detectable_noncentrality(df, alpha, power)


@cache
def _detectable_noncentrality(df: float, alpha: float, power: float) -> float:
    from scipy.optimize import brentq
    from scipy.stats import nct
    from scipy.stats import t as student

    critical = student.ppf(1 - alpha / 2, df)
    return float(brentq(lambda nc: nct.sf(critical, df, nc) - power, 0.0, 10 * critical))


def pseudovalue_d(estimate: float, contributions: np.ndarray) -> float:
    """Cohen's d_z of the clips' jackknife pseudo-values, estimate + influence, in the place of paired differences."""
    return cohens_dz(estimate + np.asarray(contributions) * len(contributions))


def sign_flip(
    estimate: float, contributions: np.ndarray, groups: np.ndarray, m: int, rng: np.random.Generator
) -> float:
    """p value by flipping the signs of whole groups' summed pseudo-values, m times.

    p = (b + 1) / (m + 1) with b the flips at least as extreme (Phipson & Smyth 2010, Stat. Appl. Genet. Mol. Biol.
    9:39). Groups of unequal size and the other grouping are not accounted for (docs/statistics.md).
    """
    _, sums, size = summed(np.asarray(contributions)[:, None], groups)
    sums = sums[:, 0] + estimate * size / len(contributions)
    # A flip of the signs is twice the sum of the groups that keep theirs, less the sum of all.
    flips = 2 * (rng.integers(0, 2, (m, len(size)), dtype=np.int8).astype(np.float64) @ sums) - sums.sum()
    # Rounding must not turn the unflipped assignment itself into a less extreme one.
    b = int((abs(flips) >= abs(estimate) * (1 - 1e-12)).sum())
    return (b + 1) / (m + 1)


def flip_spread(contributions: np.ndarray, groups: np.ndarray) -> float:
    """Standard deviation of the flipped estimates of `sign_flip` where there is no difference.

    The root of the groups' summed squares, about the estimate: a difference that is there widens the flips as well,
    but says nothing of how well one can be found.
    """
    return float(np.sqrt((summed(np.asarray(contributions)[:, None], groups)[1] ** 2).sum()))
