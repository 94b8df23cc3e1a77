"""Small summaries of a series that answer NaN, without a warning, where they are undefined."""

import math

import numpy as np

NAN = float("nan")
# A spread this small beside the values is rounding, not variation; correlations with it are undefined.
_FLAT = 1e-9


def mean(x: np.ndarray) -> float:
    """Arithmetic mean; NaN without values."""
    return float(x.sum() / x.size) if x.size else NAN


def sd(x: np.ndarray) -> float:
    """Standard deviation with 1/n; NaN with fewer than two values."""
    if x.size < 2:
        return NAN
    d = x - x.sum() / x.size
    return math.sqrt(float(d @ d) / x.size)


def rms(x: np.ndarray) -> float:
    """Root mean square; NaN without values."""
    return math.sqrt(float(x @ x) / x.size) if x.size else NAN


def share(condition: np.ndarray) -> float:
    """Share of True; NaN without values."""
    return float(np.count_nonzero(condition) / condition.size) if condition.size else NAN


def quantiles(x: np.ndarray, *levels: float) -> list[float]:
    """Quantiles with linear interpolation (Hyndman and Fan's type 7, numpy's default); NaN without values."""
    if not x.size:
        return [NAN] * len(levels)
    ordered = np.sort(x)
    found = []
    for level in levels:
        at = level * (x.size - 1)
        low = int(at)
        high = min(low + 1, x.size - 1)
        found.append(float(ordered[low] + (at - low) * (ordered[high] - ordered[low])))
    return found


def median(x: np.ndarray) -> float:
    return quantiles(x, 0.5)[0]


def skewness(x: np.ndarray) -> float:
    """Third standardised moment; NaN with fewer than three values or no spread."""
    spread = sd(x)
    if x.size < 3 or not spread > _FLAT * (1 + abs(mean(x))):
        return NAN
    return mean(((x - mean(x)) / spread) ** 3)


def ratio(a: float, b: float) -> float:
    """a / b; NaN where b is 0 or either is NaN."""
    return a / b if b else NAN


def log_ratio(a: float, b: float) -> float:
    """ln(a / b); NaN unless both are positive."""
    return math.log(a / b) if a > 0 and b > 0 else NAN


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson r; NaN with fewer than three pairs or a constant side."""
    if x.size < 3:
        return NAN
    sx, sy = sd(x), sd(y)
    if not (sx > _FLAT * (1 + abs(mean(x))) and sy > _FLAT * (1 + abs(mean(y)))):
        return NAN
    return float((x - mean(x)) @ (y - mean(y)) / (x.size * sx * sy))


def autocorrelation(x: np.ndarray, lag: int) -> float:
    """Pearson r of a series with itself `lag` steps later; NaN with fewer than three pairs or no spread."""
    return correlation(x[:-lag], x[lag:])


def slope(position: np.ndarray, x: np.ndarray) -> float:
    """Least-squares slope of x over position; NaN with fewer than three points or one position."""
    if x.size < 3:
        return NAN
    p = position - mean(position)
    variance = float(p @ p)
    return float(p @ (x - mean(x))) / variance if variance > 0 else NAN


def arch(position: np.ndarray, x: np.ndarray) -> float:
    """Quadratic coefficient of x over position: negative for a rise and fall; NaN with fewer than five points."""
    if x.size < 5:
        return NAN
    p = position - mean(position)
    if not p @ p > 0:
        return NAN
    linear = p * (p @ (p * p) / (p @ p))
    square = p * p - mean(p * p) - linear
    variance = float(square @ square)
    return float(square @ x) / variance if variance > 1e-12 else NAN


def entropy(weights: np.ndarray) -> float:
    """Shannon entropy in bits of non-negative weights, normalised here; NaN where they sum to 0."""
    total = float(weights.sum())
    if not total > 0:
        return NAN
    p = weights[weights > 0] / total
    # max() turns the -0.0 of a single category into 0.
    return max(0.0, -float(p @ np.log2(p)))


def moving_mean(x: np.ndarray, width: int) -> np.ndarray:
    """Centred moving mean of odd `width`, windows cut at the ends; (n,) -> (n,)."""
    half = width // 2
    total = np.concatenate(([0.0], np.cumsum(x)))
    index = np.arange(x.size)
    low, high = np.maximum(index - half, 0), np.minimum(index + half + 1, x.size)
    return (total[high] - total[low]) / (high - low)
