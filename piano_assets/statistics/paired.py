"""Secondary comparisons of an arm with its reference, and effect sizes: what the literature reports, for its readers.

None of these knows that clips share music and performers, except through their folds; the table of simulated sizes
(docs/statistics.md) says what each is worth on this corpus.
"""

import math
from typing import NamedTuple

import numpy as np

from piano_assets.statistics import LEVEL


class FoldTest(NamedTuple):
    """A t test over folds: mean difference, its standard error, degrees of freedom, p and interval."""

    estimate: float
    se: float
    df: int
    p: float
    ci_low: float
    ci_high: float


def corrected_resampled_t(differences: np.ndarray, test_share: float, level: float = LEVEL) -> FoldTest:
    """The t test over folds, corrected for shared training clips (Nadeau & Bengio 2003, Mach. Learn. 52:239, sec. 3).

    The variance of the mean of J differences is taken for (1/J + n_test / n_train) s^2: folds of one cross-validation
    share most of their training clips, so the plain 1/J is too small.

    Args:
        differences: (J,) of the metric, one a fold and repeat; test_share: n_test / n_train of a fold.

    Raises:
        ValueError: fewer than 2 differences, one that is not finite, no spread, or a share that is not positive.
    """
    from scipy.stats import t as student

    d = np.asarray(differences, np.float64)
    if d.ndim != 1 or len(d) < 2 or not np.isfinite(d).all():
        raise ValueError(f"a t test over folds needs at least 2 finite differences, got {d}")
    if not test_share > 0:
        raise ValueError(f"test_share={test_share} must be > 0: n_test / n_train")
    variance = float(d.var(ddof=1))
    if variance == 0:
        raise ValueError(f"the {len(d)} differences are all {d[0]}: nothing can be tested")
    se, df = math.sqrt((1 / len(d) + test_share) * variance), len(d) - 1
    half = float(student.ppf((1 + level) / 2, df)) * se
    p = float(2 * student.sf(abs(d.mean()) / se, df))
    return FoldTest(float(d.mean()), se, df, p, float(d.mean()) - half, float(d.mean()) + half)


def zou_interval(
    r_arm: float, r_reference: float, r_between: float, n: int, level: float = LEVEL
) -> tuple[float, float]:
    """Interval of the difference of two correlations with the same labels (Zou 2007, Psych. Methods 12:399, eq. 15).

    Built from the two correlations' own Fisher intervals and the correlation of the two estimates (Olkin & Siotani
    1976). It takes the n clips for independent.

    Args:
        r_arm, r_reference: of each side with the labels; r_between: of the two sides' predictions; n: clips.

    Raises:
        ValueError: a correlation outside (-1, 1), correlations that no three variables can have, or n < 4.
    """
    from scipy.special import ndtri

    a, b, together = _estimates(r_arm, r_reference, r_between, n)
    half = float(ndtri((1 + level) / 2)) / math.sqrt(n - 3)
    (low_a, high_a), (low_b, high_b) = (
        (math.tanh(math.atanh(r) - half), math.tanh(math.atanh(r) + half)) for r in (a, b)
    )
    below = (a - low_a) ** 2 + (high_b - b) ** 2 - 2 * together * (a - low_a) * (high_b - b)
    above = (high_a - a) ** 2 + (b - low_b) ** 2 - 2 * together * (high_a - a) * (b - low_b)
    return a - b - math.sqrt(max(below, 0.0)), a - b + math.sqrt(max(above, 0.0))


def zou_p(r_arm: float, r_reference: float, r_between: float, n: int) -> float:
    """p value of no difference: 1 less the level at which `zou_interval` just reaches 0.

    With h half the width of Fisher's intervals and x = tanh(h), the lower correlation's upper limit lies
    x (1 - b^2) / (1 + b x) above it and the higher one's lower limit x (1 - a^2) / (1 - a x) below: one equation in x,
    of degree 4, without quantiles. Where it has no root in (0, 1), no level's interval holds 0 and p is 0.

    Args, Raises: as `zou_interval`.
    """
    from scipy.optimize import brentq
    from scipy.special import ndtr

    a, b, together = _estimates(r_arm, r_reference, r_between, n)
    if a == b:
        return 1.0
    a, b = max(a, b), min(a, b)

    def beyond(x: float) -> float:
        up, down = x * (1 - b**2) / (1 + b * x), x * (1 - a**2) / (1 - a * x)
        return up**2 + down**2 - 2 * together * up * down - (a - b) ** 2

    if beyond(1.0) <= 0:
        return 0.0
    x = brentq(beyond, 0.0, 1.0, xtol=1e-15)
    return float(2 * ndtr(-math.atanh(x) * math.sqrt(n - 3)))


def _estimates(r_arm: float, r_reference: float, r_between: float, n: int) -> tuple[float, float, float]:
    """(r of the arm, r of the reference, correlation of these two estimates), checked."""
    a, b, c = float(r_arm), float(r_reference), float(r_between)
    if not (max(abs(a), abs(b), abs(c)) < 1 and 1 + 2 * a * b * c - a**2 - b**2 - c**2 >= 0):
        raise ValueError(f"no three variables have the correlations {a}, {b} and {c}, or one of them is perfect")
    if n < 4:
        raise ValueError(f"a Fisher interval needs at least 4 clips, got {n}")
    return a, b, ((c - a * b / 2) * (1 - a**2 - b**2 - c**2) + c**3) / ((1 - a**2) * (1 - b**2))


def cohens_dz(differences: np.ndarray) -> float:
    """Mean difference over the standard deviation of differences (Lakens 2013, Front. Psychol. 4:863, eq. 6)."""
    d = np.asarray(differences, np.float64)
    return float(d.mean() / d.std(ddof=1))


def hedges_gav(a: np.ndarray, b: np.ndarray) -> float:
    """Mean difference over the average standard deviation, less its small-sample bias.

    Lakens (2013), eqs. 4 and 10: d_av times 1 - 3 / (4 (n_a + n_b) - 9). a, b: (n,) paired values.
    """
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or a.ndim != 1 or len(a) < 2:
        raise ValueError(f"paired values must be two vectors of one length >= 2, got {a.shape} and {b.shape}")
    spread = (a.std(ddof=1) + b.std(ddof=1)) / 2
    return float((a.mean() - b.mean()) / spread * (1 - 3 / (4 * 2 * len(a) - 9)))
