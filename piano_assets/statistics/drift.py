"""Whether what comes in is still like what was learnt from: one quantity at a time, over two samples."""

import numpy as np

BINS = 10


def psi(expected: np.ndarray, observed: np.ndarray, bins: int = BINS) -> float:
    """Population stability index between two samples (n,), (m,), by the deciles of the expected one.

    The sum over bins of (p - q) ln(p / q), a symmetric Kullback-Leibler divergence; half a case is added to each bin,
    so that an empty one does not make it infinite. By custom below .1 is stable and above .25 is a shift (Siddiqi 2006,
    Credit Risk Scorecards); of two samples of one distribution it is (1/n + 1/m) times a chi-square of bins - 1
    degrees of freedom (Yurdakul & Naranjo 2020, J. Risk Model Validation 14:89), so .9 of 20 against many by chance.

    Raises:
        ValueError: an empty sample, or one with NaN.
    """
    for name, values in (("expected", expected), ("observed", observed)):
        if not len(values) or np.isnan(values).any():
            raise ValueError(f"{name} must hold values, none of them NaN (has {len(values)})")
    inner = np.quantile(expected, np.linspace(0, 1, bins + 1)[1:-1])
    p, q = (_shares(np.searchsorted(inner, values, side="right"), bins) for values in (expected, observed))
    return float(np.sum((p - q) * np.log(p / q)))


def _shares(bin_of: np.ndarray, bins: int) -> np.ndarray:
    counts = np.bincount(bin_of, minlength=bins) + 0.5
    return counts / counts.sum()


def chance_psi(n: int, m: int, bins: int = BINS) -> float:
    """The index that two samples of one distribution exceed once in twenty times (Yurdakul & Naranjo 2020, sec. 3)."""
    from scipy.stats import chi2

    return float((1 / n + 1 / m) * chi2.ppf(0.95, bins - 1))


def kolmogorov_smirnov(expected: np.ndarray, observed: np.ndarray) -> tuple[float, float]:
    """(largest distance between the two distribution functions, its p value), of two samples without NaN."""
    from scipy.stats import ks_2samp

    found = ks_2samp(expected, observed)
    return float(found.statistic), float(found.pvalue)
