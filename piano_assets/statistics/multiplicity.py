"""p values corrected for the number of arms in a comparison.

Written out, since statsmodels' `multipletests` collects garbage on every Holm call, which takes .2 s a family in a
process that holds the predictions; the tests compare with it.
"""

from collections.abc import Callable

import numpy as np


def bonferroni(p: np.ndarray) -> np.ndarray:
    """p times the number of tests, at most 1."""
    return np.minimum(p * len(p), 1.0)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down p values (1979, Scand. J. Statist. 6:65). They decide, since they dominate Bonferroni."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def benjamini_hochberg(p: np.ndarray) -> np.ndarray:
    """False discovery rate (Benjamini & Hochberg 1995, JRSS B 57:289)."""
    from scipy.stats import false_discovery_control

    return false_discovery_control(p, method="bh")


CORRECTIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "p_holm": holm,
    "p_bonferroni": bonferroni,
    "p_bh": benjamini_hochberg,
}


def corrected(p: np.ndarray) -> dict[str, np.ndarray]:
    """Every correction of one family of p values, each (n_tests,).

    Raises:
        ValueError: a p value outside [0, 1] or NaN, or an empty family.
    """
    p = np.asarray(p, np.float64)
    if p.ndim != 1 or len(p) == 0 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p must be a non-empty vector of values in [0, 1], got {p}")
    return {column: correct(p) for column, correct in CORRECTIONS.items()}
