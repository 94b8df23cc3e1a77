"""The cluster bootstrap, by moments: whole clusters are drawn with replacement, and a metric costs one matrix product.

Pearson's r, R2, MSE, MAE and Lin's concordance are functions of seven sums over clips. A resample counts how often
each cluster was drawn, so its sums are these counts times the clusters' own sums: exact, and independent of the number
of clips. Resampling by index, as `scipy.stats.bootstrap` does, gives the same numbers from the same draws, and is there
for what is no function of moments (`resampled_by_index`).

Shapes: B resamples, G clusters, d estimates (dimensions, or subjects x dimensions). A cluster bootstrap is a secondary
method here: with about 21 effective clusters its percentile interval is too short.
"""

from collections.abc import Callable

import numpy as np

from piano_assets.statistics import LEVEL

_NEGLIGIBLE = 1e-12
N, P, T, PP, TT, PT, ABS = range(7)
"""The sums: of 1, pred, target, their squares, their product, and the absolute error."""


def group_sums(pred: np.ndarray, target: np.ndarray, groups: np.ndarray, at_least: int = 2) -> np.ndarray:
    """Each cluster's seven sums, (G, 7, d), clusters in the order of `np.unique`.

    Both sides are counted from the labels' mean, which leaves every metric as it is and spares large sums that cancel.

    Args:
        pred, target: (n_clips, d), complete; groups: (n_clips,); at_least: clusters that there must be.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, or fewer than `at_least` clusters.
    """
    pred, target = np.asarray(pred, np.float64), np.asarray(target, np.float64)
    if pred.ndim != 2 or pred.shape != target.shape or len(groups) != len(pred):
        raise ValueError(
            f"pred {pred.shape}, target {target.shape} and groups ({len(groups)},) must be (n_clips, d) and (n_clips,)"
        )
    bad = int((~np.isfinite(pred)).sum() + (~np.isfinite(target)).sum())
    if bad:
        raise ValueError(f"a bootstrap needs complete predictions and labels; {bad} values are not finite")
    origin = target.mean(0)
    p, t = pred - origin, target - origin
    rows = np.stack([np.ones_like(p), p, t, p * p, t * t, p * t, abs(p - t)], axis=1)
    names, sums, _ = summed(rows.reshape(len(rows), -1), groups)
    if len(names) < at_least:
        raise ValueError(f"a cluster bootstrap needs at least {at_least} clusters, got {len(names)}")
    return sums.reshape(len(names), *rows.shape[1:])


def summed(values: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(names (G,), sums (G, k), sizes (G,)) of values (n_clips, k) by group."""
    from scipy.sparse import csr_array

    names, code, size = np.unique(groups, return_inverse=True, return_counts=True)
    n, start = len(code), np.concatenate([[0], np.cumsum(size)])
    member = csr_array((np.ones(n), np.argsort(code.ravel(), kind="stable"), start), shape=(len(names), n))
    return names, member @ values, size


def draw_counts(n_groups: int, n_resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each cluster is drawn in each resample, (B, G): G draws with replacement."""
    drawn = rng.integers(0, n_groups, (n_resamples, n_groups))
    return counts_of(drawn, n_groups)


def counts_of(drawn: np.ndarray, n_groups: int) -> np.ndarray:
    """Counts (B, G) of indices (B, n)."""
    flat = drawn + n_groups * np.arange(len(drawn))[:, None]
    return np.bincount(flat.ravel(), minlength=len(drawn) * n_groups).reshape(len(drawn), n_groups).astype(np.float64)


def resampled(metric: str, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """A metric of `MOMENTS` in every resample: sums (G, 7, d), counts (B, G) -> (B, d); NaN where undefined.

    Raises:
        ValueError: a metric that is no function of moments.
    """
    columns, formula = _moments(metric)
    totals = (counts @ sums[:, columns].reshape(len(sums), -1)).reshape(len(counts), len(columns), -1)
    return _of(formula, totals)


def of_sums(metric: str, totals: np.ndarray) -> np.ndarray:
    """A metric of `MOMENTS` from sums over clips, (B, 7, d) -> (B, d); NaN where undefined.

    Raises:
        ValueError: a metric that is no function of moments.
    """
    columns, formula = _moments(metric)
    return _of(formula, totals[:, columns])


def _moments(metric: str) -> tuple[tuple[int, ...], Callable[..., np.ndarray]]:
    if metric not in MOMENTS:
        raise ValueError(f"metric={metric!r} must be one of {tuple(MOMENTS)}")
    return MOMENTS[metric]


def _of(formula: Callable[..., np.ndarray], totals: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):  # a resample without a clip is undefined, not an accident
        return formula(*np.moveaxis(totals, 1, 0))


def resampled_by_index(
    statistic: Callable[[np.ndarray, np.ndarray], np.ndarray], groups: np.ndarray, drawn: np.ndarray
) -> np.ndarray:
    """Any statistic in every resample of whole clusters, by gathering the rows of the clusters drawn.

    For ranks and distributions, which are no functions of moments; costs one call of the statistic a resample.

    Args:
        statistic: (rows, copy) -> value, () or (d,). rows: positions of clips, (m,), those of a cluster drawn twice
            standing there twice; copy: (m,), the draw (0..n_drawn - 1) that a row came with, so that two copies of one
            excerpt can be told apart.
        groups: (n_clips,); drawn: (B, n_drawn) positions of clusters in the order of `np.unique`: the same draws as
            `counts_of` counts for `resampled`.

    Returns:
        (B,) or (B, d).

    Raises:
        ValueError: a drawn position that is no cluster's, or no resample.
    """
    names, code = np.unique(groups, return_inverse=True)
    drawn = np.asarray(drawn)
    if drawn.ndim != 2 or drawn.size == 0 or drawn.min() < 0 or drawn.max() >= len(names):
        raise ValueError(
            f"drawn must be (B, n_drawn) positions in 0..{len(names) - 1}, got shape {drawn.shape}: {drawn}"
        )
    order, size = np.argsort(code.ravel(), kind="stable"), np.bincount(code.ravel())
    start = np.cumsum(size) - size
    values = []
    for one in drawn:
        copy = np.repeat(np.arange(len(one)), size[one])
        within = np.arange(len(copy)) - (np.cumsum(size[one]) - size[one])[copy]
        values.append(statistic(order[start[one][copy] + within], copy))
    return np.asarray(values, np.float64)


def percentile_interval(values: np.ndarray, level: float = LEVEL) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of resampled estimates, (B, ...) -> (...) each (Efron 1982, ch. 10); NaN where one is undefined."""
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail], axis=0)
    return low, high


def bca_interval(
    estimate: np.ndarray, values: np.ndarray, left_out: np.ndarray, level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Bias-corrected and accelerated interval (Efron 1987, JASA 82:171, sec. 3 and 6).

    Args:
        estimate: (d,); values: (B, d) resampled; left_out: (G, d), the metric without each cluster.

    Returns:
        (low, high), (d,) each; NaN where no resample, or every one, lies below the estimate.
    """
    from scipy.special import ndtr, ndtri

    share = ((values < estimate).mean(0) + (values <= estimate).mean(0)) / 2
    bias = ndtri(share)
    gap = left_out.mean(0) - left_out
    spread = (gap**2).sum(0)
    acceleration = np.divide((gap**3).sum(0), 6 * spread**1.5, out=np.zeros_like(spread), where=spread > 0)
    found = []
    for z in ndtri([(1 - level) / 2, (1 + level) / 2]):
        with np.errstate(invalid="ignore"):  # an infinite bias: no resample on one side, and NaN by the next line
            at = ndtr(bias + (bias + z) / (1 - acceleration * (bias + z)))
        known = np.isfinite(at) & np.isfinite(values).all(0)
        ends = [np.quantile(values[:, i], at[i]) if ok else np.nan for i, ok in enumerate(known)]
        found.append(np.array(ends))
    return found[0], found[1]


def without_each(metric: str, sums: np.ndarray) -> np.ndarray:
    """The metric without one cluster after the other, (G, d): the jackknife that `bca_interval` asks for."""
    return of_sums(metric, sums.sum(0) - sums)


def _variance(n: np.ndarray, total: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """Of 1/n; 0 where it is rounding error."""
    mean_square = squares / n
    variance = mean_square - (total / n) ** 2
    return np.where(variance > _NEGLIGIBLE * mean_square, variance, 0.0)


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below > 0)


def _pearson(n, p, t, pp, tt, pt):
    both = _variance(n, p, pp) * _variance(n, t, tt)
    return np.clip(_ratio(pt / n - p * t / n**2, np.sqrt(both)), -1, 1)


def _r2(n, t, pp, tt, pt):
    return 1 - _ratio((pp - 2 * pt + tt) / n, _variance(n, t, tt))


def _mse(n, pp, tt, pt):
    return np.maximum(pp - 2 * pt + tt, 0) / n


def _mae(n, error):
    return error / n


def _ccc(n, p, t, pp, tt, pt):
    gap = (p - t) / n
    below = _variance(n, p, pp) + _variance(n, t, tt) + gap**2
    return _ratio(2 * (pt / n - p * t / n**2), below)


MOMENTS: dict[str, tuple[tuple[int, ...], Callable[..., np.ndarray]]] = {
    "pearson": ((N, P, T, PP, TT, PT), _pearson),
    "r2": ((N, T, PP, TT, PT), _r2),
    "mse": ((N, PP, TT, PT), _mse),
    "mae": ((N, ABS), _mae),
    "ccc": ((N, P, T, PP, TT, PT), _ccc),
}
"""Metric -> (the sums that it reads, its formula)."""
