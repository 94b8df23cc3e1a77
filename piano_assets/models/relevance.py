"""Kernel ridge regression that listens more to features that matter, each rating with a kernel of its own.

A kernel over hundreds of features drowns the few that a rating depends on: two clips that differ in mode alone are
close to it, and are heard as bright and dark. So each feature's distance is weighted by how strongly the feature goes
with the rating among the training clips, as automatic relevance determination would weight it (MacKay 1994, Neal 1996,
sec. 1.2.5), but by one formula in place of an optimisation with as many parameters as features.
"""

import functools

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.base import BaseEstimator, RegressorMixin

_BLOCK = 2**18
"""Differences that are held at a time: 1 MB, so that they stay in a core's cache."""


def relevance(x: np.ndarray, y: np.ndarray, power: float) -> np.ndarray:
    """Weights of features for each target: |Pearson r| to the power given, summing to 1 over the features.

    Args:
        x: (n, d); a constant feature weighs nothing. y: (n, m).
    Returns:
        (m, d). A target that no feature goes with weighs all alike.
    """
    x, y = x - x.mean(0), y - y.mean(0)
    norm = np.sqrt((y**2).sum(0))[:, None] * np.sqrt((x**2).sum(0))
    r = np.divide(np.abs(y.T @ x), norm, out=np.zeros(norm.shape), where=norm > 1e-12)
    weight = r**power
    total = weight.sum(1, keepdims=True)
    return np.where(total > 0, weight / np.where(total > 0, total, 1), 1 / x.shape[1])


class RelevanceKernelRidge(RegressorMixin, BaseEstimator):
    """Ridge regression under k(a, b) = exp(-gamma sum_f w_f |a_f - b_f|), with weights w of its own for each target.

    The kernel is Laplacian with a width for each feature: a product of positive definite kernels, so itself one.
    `power` 0 weighs all features alike, which is the plain Laplacian kernel ridge with gamma / d. Targets must be
    centred: there is no intercept.
    """

    def __init__(self, alpha: float = 0.3, gamma: float = 1.0, power: float = 2.0) -> None:
        self.alpha, self.gamma, self.power = alpha, gamma, power

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> "RelevanceKernelRidge":
        """X: (n, d), standardised, without NaN; y: (n, m), centred; sample_weight: (n,), of the squared errors."""
        self.clips_ = np.asarray(X, np.float32)
        self.weights_ = relevance(np.asarray(X, np.float64), y, self.power)
        gram = self._kernel(X)
        gram[:, np.arange(len(X)), np.arange(len(X))] += self.alpha / (1.0 if sample_weight is None else sample_weight)
        self.dual_ = np.stack([cho_solve(cho_factor(k, overwrite_a=True), t) for k, t in zip(gram, y.T, strict=True)])
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        return np.einsum("mab,mb->am", self._kernel(X), self.dual_)

    def _kernel(self, x: np.ndarray) -> np.ndarray:
        """(m, n_x, n_clips)."""
        arrays = (np.asarray(v, np.float32).tobytes() for v in (x, self.clips_, self.weights_))
        kernel = _distances(*arrays, self.clips_.shape[1]).astype(np.float64)
        kernel *= -self.gamma
        return np.exp(kernel, out=kernel)


@functools.lru_cache(maxsize=2)
def _distances(a: bytes, b: bytes, weights: bytes, n_features: int) -> np.ndarray:
    """`weighted_distances`, kept for the next point of a search: alpha and gamma do not enter them."""
    found = weighted_distances(*(np.frombuffer(v, np.float32).reshape(-1, n_features) for v in (a, b, weights)))
    found.flags.writeable = False
    return found


def weighted_distances(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """sum_f w_mf |a_if - b_jf| for every row of weights: float32 (m, n_a, n_b).

    The differences are made once for all weights, and summed by a matrix product: eight times as fast as a distance
    matrix for each of 19 weights. Single precision is enough for what an exponential function is taken of.

    Args:
        a: (n_a, d), b: (n_b, d), weights: (m, d); float32.
    """
    found = np.empty((len(weights), len(a), len(b)), np.float32)
    products = np.ascontiguousarray(weights.T, np.float32)
    rows = max(1, _BLOCK // a.shape[1])
    for i, clip in enumerate(a):  # one by one, so that a clip's distances do not depend on who else is asked for
        for j in range(0, len(b), rows):
            found[:, i, j : j + rows] = (np.abs(clip - b[j : j + rows]) @ products).T
    return found
