"""How much each member of an ensemble counts: pure functions of inner predictions and their labels.

Each takes what the members predicted, (m, n_clips, 19), and the labels, (n_clips, 19) without NaN, and gives weights:
(m,) where dimensions share them, else (m, 19). Adding a rule is one line in `WEIGHTS`.
"""

from collections.abc import Callable

import numpy as np

from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.metrics.regression import pearson

PICKS = 25
"""Picks of greedy selection; Caruana et al. see little gain beyond a few dozen."""

Rule = Callable[[np.ndarray, np.ndarray], np.ndarray]


def by_dimension(weights: np.ndarray) -> np.ndarray:
    """(m, 19) weights, also where dimensions share them (m,)."""
    return weights if weights.ndim == 2 else np.repeat(weights[:, None], N_DIMENSIONS, axis=1)


def stacking(seen: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Non-negative least squares without an intercept, for each dimension by itself: (m, 19).

    Breiman (1996, Machine Learning 24:49, "stacked regressions"); van der Laan et al. (2007) have it as super learner.
    Weights need not add up to 1: what they lack shrinks predictions towards 0.
    """
    from scipy.optimize import nnls

    return np.stack([nnls(seen[:, :, d].T, target[:, d])[0] for d in range(target.shape[1])], axis=1)


def stacking_shared(seen: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The same with one weight a member for all dimensions, whose errors count alike: (m,)."""
    from scipy.optimize import nnls

    return nnls(seen.reshape(len(seen), -1).T, target.ravel())[0]


def greedy(seen: np.ndarray, target: np.ndarray, picks: int = PICKS) -> np.ndarray:
    """Selection with replacement by mean r (Caruana et al. 2004, ICML, section 2.1): (m,), adding up to 1.

    Each pick is the member that raises the mean r of the picks' mean prediction most, the first among equals; the
    picks up to the best mean count. An undefined r (constant predictions) counts as 0.
    """
    chosen: list[int] = []
    best, kept = -np.inf, 1
    total = np.zeros_like(target)
    for size in range(1, picks + 1):
        r = [float(np.nan_to_num(pearson((total + p) / size, target)).mean()) for p in seen]
        pick = int(np.argmax(r))
        chosen.append(pick)
        total = total + seen[pick]
        if r[pick] > best:
            best, kept = r[pick], size
    return np.bincount(chosen[:kept], minlength=len(seen)) / kept


def best_inner_r(seen: np.ndarray, target: np.ndarray) -> np.ndarray:
    """All weight to the member with the highest r, mean over dimensions; the first among equals: (m,).

    An undefined r (constant predictions) counts as 0.
    """
    r = [float(np.nan_to_num(pearson(p, target)).mean()) for p in seen]
    return np.eye(len(seen))[int(np.argmax(r))]


WEIGHTS: dict[str, Rule] = {
    "stacking": stacking,
    "stacking_shared": stacking_shared,
    "greedy": greedy,
    "best_inner_r": best_inner_r,
}
"""Ways to combine that look at inner predictions; beside them `mean`, which looks at nothing."""
