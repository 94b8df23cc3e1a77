"""p values corrected for the number of arms in a comparison."""

import numpy as np

METHODS: dict[str, str] = {"p_holm": "holm", "p_bonferroni": "bonferroni", "p_bh": "fdr_bh"}
"""Column -> statsmodels' name. Holm (1979) decides: it dominates Bonferroni at the same guarantee."""


def corrected(p: np.ndarray) -> dict[str, np.ndarray]:
    """Holm, Bonferroni and Benjamini-Hochberg values of one family, each (n_tests,).

    Raises:
        ValueError: a p value outside [0, 1] or NaN, or an empty family.
    """
    from statsmodels.stats.multitest import multipletests

    p = np.asarray(p, np.float64)
    if p.ndim != 1 or len(p) == 0 or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p must be a non-empty vector of values in [0, 1], got {p}")
    return {column: multipletests(p, method=method)[1] for column, method in METHODS.items()}
