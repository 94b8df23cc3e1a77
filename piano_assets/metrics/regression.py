"""How well predictions agree with labels, one number per dimension.

Conventions: `pred, target` in that order, both (n_clips, n_dims) float64. A NaN in `target` is a clip without a label
on that dimension: it is left out there. A NaN in `pred` is an error. What is undefined is NaN, never 0: a correlation
with constant predictions, an R2 over constant labels. Means over dimensions are plain means (no Fisher z).
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# A spread below this share of the largest value is rounding, not variation.
_NEGLIGIBLE = 1e-12


class _Moments(NamedTuple):
    """1/n moments per dimension, each (n_dims,)."""

    n: np.ndarray
    mean_pred: np.ndarray
    mean_target: np.ndarray
    var_pred: np.ndarray
    var_target: np.ndarray
    covariance: np.ndarray


def checked(pred: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (pred, target, known) with unknown cells set to 0 in both."""
    pred, target = np.asarray(pred, np.float64), np.asarray(target, np.float64)
    if pred.ndim != 2 or pred.shape != target.shape:
        raise ValueError(f"pred {pred.shape} and target {target.shape} must have one shape (n_clips, n_dims)")
    if not np.isfinite(pred).all():
        raise ValueError(f"pred holds {int((~np.isfinite(pred)).sum())} values that are not finite")
    known = ~np.isnan(target)
    if known.shape[1] == 0 or known.sum(0).min() < 2:
        raise ValueError(f"each dimension needs at least 2 labelled clips, fewest: {known.sum(0).min(initial=0)}")
    return np.where(known, pred, 0.0), np.where(known, target, 0.0), known


def _moments(pred: np.ndarray, target: np.ndarray) -> _Moments:
    p, t, known = checked(pred, target)
    n = known.sum(0)
    mp, mt = p.sum(0) / n, t.sum(0) / n
    dp, dt = (p - mp) * known, (t - mt) * known
    vp, vt = (dp**2).sum(0) / n, (dt**2).sum(0) / n
    vp[np.sqrt(vp) <= _NEGLIGIBLE * abs(p).max(0)] = 0.0
    vt[np.sqrt(vt) <= _NEGLIGIBLE * abs(t).max(0)] = 0.0
    return _Moments(n, mp, mt, vp, vt, (dp * dt).sum(0) / n)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def pearson(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Pearson's r, (n_dims,); NaN where either side is constant."""
    m = _moments(pred, target)
    return np.clip(_ratio(m.covariance, np.sqrt(m.var_pred * m.var_target)), -1, 1)


def spearman(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Spearman's rho, (n_dims,): Pearson's r of mid-ranks; NaN where either side is constant."""
    from scipy.stats import rankdata

    p, t, known = checked(pred, target)
    if known.all():
        return pearson(*(rankdata(np.ascontiguousarray(x.T), axis=1).T for x in (p, t)))
    return np.array(
        [pearson(*(rankdata(x[k, d])[:, None] for x in (p, t)))[0] for d, k in enumerate(known.T)], np.float64
    )


def mse(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean squared error, (n_dims,)."""
    p, t, known = checked(pred, target)
    return ((p - t) ** 2).sum(0) / known.sum(0)


def mae(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean absolute error, (n_dims,)."""
    p, t, known = checked(pred, target)
    return abs(p - t).sum(0) / known.sum(0)


def r2(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Coefficient of determination around the mean of `target`, (n_dims,); NaN where `target` is constant."""
    m = _moments(pred, target)
    return 1 - _ratio(mse(pred, target), m.var_target)


def ccc(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Lin's concordance correlation coefficient with 1/n moments, (n_dims,), in [-1, 1].

    0 for constant predictions and varying labels; NaN where both are constant and equal. Lin (1989), Biometrics
    45:255, eq. 2 with the sample moments of his section 3.
    """
    m = _moments(pred, target)
    return _ratio(2 * m.covariance, m.var_pred + m.var_target + (m.mean_pred - m.mean_target) ** 2)


METRICS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "pearson": pearson,
    "spearman": spearman,
    "mse": mse,
    "mae": mae,
    "r2": r2,
    "ccc": ccc,
}


def pearson_flat_raw(pred: np.ndarray, target: np.ndarray) -> float:
    """Pearson's r of all (clip, dimension) pairs as they are. It rewards knowing the dimensions' means: no target."""
    p, t, known = checked(pred, target)
    return float(pearson(p[known][:, None], t[known][:, None])[0])


def pearson_flat_z(pred: np.ndarray, target: np.ndarray) -> float:
    """Pearson's r of all (clip, dimension) pairs after z-scoring each dimension; the founding documents' figure.

    Both sides are shifted and scaled by the mean and standard deviation (1/n) of `target`, as a model trained on
    z-scored labels is judged; a prediction's own bias and spread are thus kept. NaN where a dimension's labels are
    constant.
    """
    m = _moments(pred, target)
    if not (m.var_target > 0).all():
        return float("nan")
    scale = np.sqrt(m.var_target)
    return pearson_flat_raw((pred - m.mean_target) / scale, (target - m.mean_target) / scale)


FLAT_METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "pearson_flat_z": pearson_flat_z,
    "pearson_flat_raw": pearson_flat_raw,
}


def r2_fold_mean(pred: np.ndarray, target: np.ndarray, fold: np.ndarray) -> np.ndarray:
    """R2 inside each fold around that fold's own mean, averaged over folds, (n_dims,); the literature's figure.

    It lies .02 to .05 below the pooled R2 of the same predictions, since a fold's labels vary less around their own
    mean. Folds with fewer than 2 labelled clips are left out.
    """
    kept = [k for k in np.unique(fold) if (~np.isnan(target[fold == k])).sum(0).min() >= 2]
    if not kept:
        raise ValueError("no fold has 2 labelled clips on every dimension")
    return np.mean([r2(pred[fold == k], target[fold == k]) for k in kept], axis=0)
