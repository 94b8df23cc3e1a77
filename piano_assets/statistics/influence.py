"""Influence values: how much each clip moves a metric.

An influence value is the derivative of the metric with respect to the clip's weight, times the number of clips: the
infinitesimal jackknife (Efron 1982, The Jackknife, the Bootstrap and Other Resampling Plans, ch. 6). They sum to zero,
and a metric's sampling error is, to first order, their mean over the sample. So tests on correlated clips become
tests on sums of influence values by cluster (`clustered`).

All functions take complete `pred, target`, (n_clips, n_dims), and return (n_clips, n_dims) (flat correlations:
(n_clips,)). A column is NaN where the metric is undefined. Centring both sides within groups beforehand (the level
`within_excerpt`) needs no other formula: the derivative of a within-group moment with respect to a clip's weight is
the product of the clip's own centred values.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

_NEGLIGIBLE = 1e-12


def _centred(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(deviations, variance with 1/n); variances that are rounding error become NaN."""
    deviation = x - x.mean(0)
    variance = (deviation**2).mean(0)
    return deviation, np.where(np.sqrt(variance) > _NEGLIGIBLE * abs(x).max(0), variance, np.nan)


def _checked(pred: np.ndarray, target: np.ndarray) -> None:
    if pred.ndim != 2 or pred.shape != target.shape or len(pred) < 2:
        raise ValueError(f"pred {pred.shape} and target {target.shape} must share a shape (n_clips >= 2, n_dims)")
    if not (np.isfinite(pred).all() and np.isfinite(target).all()):
        raise ValueError("influence values need complete predictions and labels; some are not finite")


def pearson(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Of Pearson's r: z_p z_t - r (z_p^2 + z_t^2) / 2 (Devlin et al. 1975, Biometrika 62:531, eq. 2.2)."""
    _checked(pred, target)
    (p, vp), (t, vt) = _centred(pred), _centred(target)
    zp, zt = p / np.sqrt(vp), t / np.sqrt(vt)
    return zp * zt - (zp * zt).mean(0) * (zp**2 + zt**2) / 2


def r2(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Of R2 = 1 - mse / var(target)."""
    _checked(pred, target)
    t, vt = _centred(target)
    error = (pred - target) ** 2
    return -error / vt + error.mean(0) / vt**2 * t**2


def mse(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Of the mean squared error."""
    _checked(pred, target)
    error = (pred - target) ** 2
    return error - error.mean(0)


def mae(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Of the mean absolute error."""
    _checked(pred, target)
    error = abs(pred - target)
    return error - error.mean(0)


def ccc(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Of Lin's concordance 2 cov / (var + var + gap^2), by the quotient rule."""
    _checked(pred, target)
    p, t = pred - pred.mean(0), target - target.mean(0)
    vp, vt, cov = (p**2).mean(0), (t**2).mean(0), (p * t).mean(0)
    gap = pred.mean(0) - target.mean(0)
    below = vp + vt + gap**2
    below = np.where(np.sqrt(below) > _NEGLIGIBLE * abs(target).max(0), below, np.nan)
    change = p**2 - vp + t**2 - vt + 2 * gap * (p - t)
    return (2 * (p * t - cov) - 2 * cov / below * change) / below


def spearman(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Of Spearman's rho: Pearson's r of F(pred) and G(target), with F and G estimated from the same clips.

    A clip moves rho by its own F G, and by lifting F and G of all clips above it. Without ties that is -3 rho - 9 +
    12 (F G + E[G(T); P > p] + E[F(P); T > t]) (Croux & Dehon 2010, Stat. Methods Appl. 19:497), where F and G
    are uniform; with ties their variances move as well. F is the mid-distribution function, P(X < x) + P(X = x) / 2.

    Not for sides that were centred within groups: a clip then moves its group's mean, and with it all ranks there.
    """
    _checked(pred, target)
    return spearman_of(grades(pred), grades(target))


@dataclass(frozen=True, eq=False)
class Grades:
    """Where the values of a sample stand in it: grade (n, d), the mid-distribution function of each value.

    order, first, after: (d, n) of the sorted values: the row of each, and where its ties begin and have ended.
    """

    grade: np.ndarray
    order: np.ndarray
    first: np.ndarray
    after: np.ndarray

    def above(self, weight: np.ndarray) -> np.ndarray:
        """Mean over the sample of the weights (n, d) that lie above each value, ties counted half: (n, d)."""
        d, n = self.order.shape
        total = np.zeros((d, n + 1))
        np.cumsum(np.take_along_axis(weight.T, self.order, axis=1), axis=1, out=total[:, 1:])
        below = np.take_along_axis(total, self.first, axis=1) + np.take_along_axis(total, self.after, axis=1)
        return _unsorted((total[:, -1:] - below / 2) / n, self.order)


def grades(x: np.ndarray) -> Grades:
    """Grades of each column of x (n, d): (mid-rank - 1/2) / n."""
    columns = np.ascontiguousarray(x.T)
    n, order = len(x), np.argsort(columns, axis=1)
    ordered = np.take_along_axis(columns, order, axis=1)
    place, begins = np.arange(n), np.ones(ordered.shape, bool)
    begins[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    ends = np.concatenate([begins[:, 1:], np.ones((len(columns), 1), bool)], axis=1)
    first = np.maximum.accumulate(np.where(begins, place, 0), axis=1)
    after = np.minimum.accumulate(np.where(ends, place, n)[:, ::-1], axis=1)[:, ::-1] + 1
    return Grades(_unsorted((first + after) / (2 * n), order), order, first, after)


def _unsorted(values: np.ndarray, order: np.ndarray) -> np.ndarray:
    found = np.empty(values.shape)
    np.put_along_axis(found, order, values, axis=1)
    return found.T


def spearman_of(pred: Grades, target: Grades) -> np.ndarray:
    """Influence values of Spearman's rho from the grades of both sides (see `spearman`)."""
    f, g = pred.grade, target.grade
    product, vf, vg = (f * g).mean(0), ((f - 0.5) ** 2).mean(0), ((g - 0.5) ** 2).mean(0)
    vf, vg = (np.where(v > 0, v, np.nan) for v in (vf, vg))
    change = f * g + pred.above(g) + target.above(f) - 3 * product
    change_f = f**2 + 2 * pred.above(f) - 3 * (vf + 0.25)
    change_g = g**2 + 2 * target.above(g) - 3 * (vg + 0.25)
    root = np.sqrt(vf * vg)
    return change / root - (product - 0.25) / root * (change_f / vf + change_g / vg) / 2


INFLUENCE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "pearson": pearson,
    "spearman": spearman,
    "r2": r2,
    "mse": mse,
    "mae": mae,
    "ccc": ccc,
}


def pearson_flat_raw(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Of the flattened correlation, (n_clips,): a clip carries all its dimensions."""
    _checked(pred, target)
    return pearson(pred.reshape(-1, 1), target.reshape(-1, 1)).reshape(pred.shape).mean(1)


def pearson_flat_z(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Of the flattened correlation after z-scoring by the labels' mean and spread, (n_clips,).

    The standardisation is estimated from the same clips, and its own influence is included. With the labels' mean m
    and variance v per dimension, r = mean_d(a) / sqrt(mean_d(q) - mean_d(b)^2) where a = cov / v,
    q = mean (p - m)^2 / v and b = (mean(p) - m) / sqrt(v).
    """
    _checked(pred, target)
    t, vt = _centred(target)
    p, shift = pred - pred.mean(0), pred - target.mean(0)
    drift = t**2 - vt  # influence of the labels' variance
    a, q, b = (p * t).mean(0) / vt, (shift**2).mean(0) / vt, shift.mean(0) / np.sqrt(vt)
    psi_a = (p * t - a * t**2) / vt
    psi_q = (shift**2 - 2 * shift.mean(0) * t - q * t**2) / vt
    psi_b = (p - t) / np.sqrt(vt) - b * drift / (2 * vt)
    spread = np.sqrt(q.mean() - b.mean() ** 2)
    r = a.mean() / spread
    return psi_a.mean(1) / spread - r / (2 * spread**2) * (psi_q.mean(1) - 2 * b.mean() * psi_b.mean(1))


FLAT_INFLUENCE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "pearson_flat_z": pearson_flat_z,
    "pearson_flat_raw": pearson_flat_raw,
}
