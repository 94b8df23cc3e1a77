"""Secondary tests of an arm against its reference: what readers of other papers look for beside the primary test.

Each is judged by simulation in docs/statistics.md; none decides. A new one is one function and one line.

Every row says which difference the test finds with 80 % power (`mde`), from a standard error of the test's own and the
degrees of freedom that its docstring names.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from piano_assets.analysis.primary import Side
from piano_assets.metrics.regression import pearson
from piano_assets.statistics import LEVEL, clustered
from piano_assets.statistics.paired import corrected_resampled_t, hedges_gav, zou_interval, zou_p
from piano_assets.statistics.resampling import draw_counts, group_sums, percentile_interval, resampled

N_FLIPS = 4999
N_RESAMPLES = 1999


@dataclass(frozen=True, eq=False)
class Evidence:
    """All that a test of mean r may look at.

    estimate: arm less reference, mean over repeats; contributions, cluster, performer: (n_clips,) of scored clips;
    pairs: (arm, reference) of each repeat.
    """

    estimate: float
    contributions: np.ndarray
    cluster: np.ndarray
    performer: np.ndarray
    pairs: Sequence[tuple[Side, Side]]
    rng: np.random.Generator


Row = dict[str, object]


def clip_t(x: Evidence) -> Row:
    """The t test that takes clips for independent; df = clips - 1."""
    found = clustered.clip_t(x.estimate, x.contributions)
    return {
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "p": found.p,
        "n_units": float(found.n_groups),
        "unit": found.unit,
        "mde": clustered.minimal_detectable_effect(found.se, found.df),
    }


def sign_flip_cluster(x: Evidence) -> Row:
    """The permutation test that exchanges arm and reference for whole clusters; df = effective clusters - 1."""
    return _sign_flip(x, "cluster", x.cluster)


def sign_flip_performer(x: Evidence) -> Row:
    """The same for all that a performer plays; df = effective performers - 1."""
    return _sign_flip(x, "performer", x.performer)


def _sign_flip(x: Evidence, unit: str, groups: np.ndarray) -> Row:
    """The minimal detectable effect is that of the null distribution's spread: what flips give without a difference."""
    p = clustered.sign_flip(x.estimate, x.contributions, groups, N_FLIPS, x.rng)
    se = clustered.flip_spread(x.contributions, groups)
    mde = clustered.minimal_detectable_effect(se, clustered.effective_groups(groups) - 1)
    return {"p": p, "n_units": float(len(np.unique(groups))), "unit": unit, "mde": mde}


def corrected_t(x: Evidence) -> Row | None:
    """Nadeau and Bengio's t over the folds of all repeats; df = folds - 1.

    None where a repeat has no two folds to compare.
    """
    arm: list[float] = []
    reference: list[float] = []
    shares = []
    for a, b in x.pairs:
        folds, counts = np.unique(a.view.fold, return_counts=True)
        folds = folds[counts >= 3]
        if len(folds) < 2:
            return None
        for side, into in ((a, arm), (b, reference)):
            rows = (side.view.fold == k for k in folds)
            into += [float(pearson(side.view.pred[r], side.view.target[r]).mean()) for r in rows]
        shares.append(1 / (len(folds) - 1))
    gaps = np.array(arm) - np.array(reference)
    if not np.isfinite(gaps).all() or gaps.std() == 0:
        return None
    found = corrected_resampled_t(gaps, float(np.mean(shares)))
    return {
        "estimate": found.estimate,
        "ci_low": found.ci_low,
        "ci_high": found.ci_high,
        "p": found.p,
        "n_units": float(len(gaps)),
        "unit": "fold",
        "mde": clustered.minimal_detectable_effect(found.se, found.df),
        "effect_size": hedges_gav(np.array(arm), np.array(reference)),
        "effect_name": "Hedges' g_av of folds",
    }


def cluster_bootstrap(x: Evidence) -> Row | None:
    """Percentile interval over resampled clusters, the same draws on both sides and in all repeats.

    The minimal detectable effect is that of the resamples' standard deviation; df = effective clusters - 1. None where
    a resample leaves nothing of a repeat (repeats of few test clips each).
    """
    clusters = np.unique(np.concatenate([a.cluster for a, _ in x.pairs]))
    counts = draw_counts(len(clusters), N_RESAMPLES, x.rng)
    values = np.zeros(N_RESAMPLES)
    for a, b in x.pairs:
        mine = np.searchsorted(clusters, np.unique(a.cluster))
        for side, sign in ((a, 1), (b, -1)):
            sums = group_sums(side.view.pred, side.view.target, side.cluster)
            values += sign * resampled("pearson", sums, counts[:, mine]).mean(1) / len(x.pairs)
    if not np.isfinite(values).all():
        return None
    low, high = percentile_interval(values)
    beyond = min((values <= 0).sum(), (values >= 0).sum())
    p = min(1.0, 2 * (beyond + 1) / (N_RESAMPLES + 1))
    df = clustered.effective_groups(x.cluster) - 1
    return {
        "ci_low": float(low),
        "ci_high": float(high),
        "p": p,
        "n_units": float(len(clusters)),
        "unit": "cluster",
        "mde": clustered.minimal_detectable_effect(float(values.std(ddof=1)), df),
    }


SECONDARY: dict[str, Callable[[Evidence], Row | None]] = {
    "clip_t": clip_t,
    "sign_flip_cluster": sign_flip_cluster,
    "sign_flip_performer": sign_flip_performer,
    "corrected_resampled_t": corrected_t,
    "cluster_bootstrap": cluster_bootstrap,
}
"""Tests of the mean over dimensions."""


def zou(x: Evidence, dimension: int) -> Row | None:
    """Zou's interval of one dimension, correlations averaged over repeats; None where one of them is perfect.

    Its standard error is half its width over the normal quantile; df = clips - 3, as in Fisher's variance.
    """
    from scipy.special import ndtri

    found = []
    for a, b in x.pairs:
        sides = np.stack([a.view.pred[:, dimension], b.view.pred[:, dimension], a.view.target[:, dimension]])
        (_, between, arm), (_, _, reference), _ = np.corrcoef(sides)
        found.append((arm, reference, between))
    arm, reference, between = np.mean(found, axis=0)
    n = len(x.pairs[0][0].view.pred)
    if not max(abs(arm), abs(reference), abs(between)) < 1 - 1e-9:
        return None
    low, high = zou_interval(arm, reference, between, n)
    se = (high - low) / 2 / ndtri((1 + LEVEL) / 2)
    return {
        "ci_low": low,
        "ci_high": high,
        "p": zou_p(arm, reference, between, n),
        "n_units": float(n),
        "unit": "clip",
        "mde": clustered.minimal_detectable_effect(float(se), n - 3),
    }
