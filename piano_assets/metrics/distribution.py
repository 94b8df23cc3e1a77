"""How far the predictions' distribution lies from the labels', one number per dimension; 0 is a perfect match.

Conventions as in `metrics.regression`. A model that shrinks every prediction towards the mean may correlate well and
still use a tenth of the scale: these say so.
"""

import numpy as np

from piano_assets.metrics.regression import checked


def wasserstein(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Wasserstein-1 distance in units of the rating, (n_dims,): mean gap between the sorted sides (Villani 2009)."""
    p, t, known = checked(pred, target)
    if known.all():
        return abs(np.sort(p, axis=0) - np.sort(t, axis=0)).mean(0)
    pairs = ((np.sort(p[k, d]), np.sort(t[k, d])) for d, k in enumerate(known.T))
    return np.array([abs(a - b).mean() for a, b in pairs])


def ks(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Kolmogorov-Smirnov distance, (n_dims,): largest gap between the two distribution functions, in [0, 1]."""
    p, t, known = checked(pred, target)
    return np.array([_largest_gap(np.sort(p[k, d]), np.sort(t[k, d])) for d, k in enumerate(known.T)])


def _largest_gap(a: np.ndarray, b: np.ndarray) -> float:
    at = np.concatenate([a, b])
    below = [np.searchsorted(side, at, side="right") / len(side) for side in (a, b)]
    return float(abs(below[0] - below[1]).max())
