"""Who plays an excerpt best? Agreement of rankings among the performances of the same excerpt."""

import numpy as np

K = 3
MIN_GROUP = 5
"""Performances that an excerpt must have to be ranked."""


def top_k_accuracy(pred: np.ndarray, target: np.ndarray, group: np.ndarray, k: int = K) -> np.ndarray:
    """Share of the k highest rated performances of an excerpt that are among the k highest predicted, (n_dims,).

    Mean over excerpts of at least `MIN_GROUP` performances. Ties count as the expected value when they are broken at
    random, so that equal predictions score chance, k / n, and not the order of the file.

    Args:
        pred, target: (n_clips, n_dims), complete; group: (n_clips,), the excerpt.

    Raises:
        ValueError: shapes that do not fit, values that are not finite, k < 1, or no excerpt that is large enough.
    """
    pred, target = np.asarray(pred, np.float64), np.asarray(target, np.float64)
    if pred.ndim != 2 or pred.shape != target.shape or len(group) != len(pred):
        raise ValueError(f"pred {pred.shape}, target {target.shape} and group ({len(group)},) do not fit")
    if not (np.isfinite(pred).all() and np.isfinite(target).all()):
        raise ValueError("rankings need complete predictions and labels; some are not finite")
    if not 1 <= k < MIN_GROUP:
        raise ValueError(f"k={k} must lie in 1..{MIN_GROUP - 1}: excerpts of {MIN_GROUP} performances are ranked")
    _, code, size = np.unique(group, return_inverse=True, return_counts=True)
    kept = np.flatnonzero(size[code] >= MIN_GROUP)
    if len(kept) == 0:
        raise ValueError(f"no excerpt has {MIN_GROUP} performances")
    order = kept[np.argsort(code[kept], kind="stable")]
    start = np.flatnonzero(np.diff(code[order], prepend=-1))
    both = _chosen(pred[order], start, k) * _chosen(target[order], start, k)
    return np.mean(np.add.reduceat(both, start) / k, axis=0)


def _chosen(values: np.ndarray, start: np.ndarray, k: int) -> np.ndarray:
    """Probability that each row is among its group's k highest when ties are broken at random, (n, n_dims).

    Groups lie one after the other, from each row of `start` on, k rows or more each.
    """
    size = np.diff(start, append=len(values))
    group = np.repeat(np.arange(len(start)), size)
    table = np.full((len(start), size.max(), values.shape[1]), np.inf)
    table[group, np.arange(len(values)) - start[group]] = -values
    least = -np.partition(table, k - 1, axis=1)[:, k - 1][group]
    above, tied = (values > least).astype(float), (values == least).astype(float)
    n_above, n_tied = (np.add.reduceat(x, start)[group] for x in (above, tied))
    return above + tied * (k - n_above) / n_tied
