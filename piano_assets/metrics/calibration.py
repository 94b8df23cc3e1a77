"""Whether a spread means what it says: coverage, sharpness and proper scores of predictive distributions.

Shapes: pred, std, target (n_clips, n_dims), complete; std > 0 is the spread of a Gaussian around each prediction.
Results are (n_dims,) unless said.
"""

import numpy as np

N_BINS = 10


def coverage(pred: np.ndarray, half_width: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Share of labels within `half_width` of the prediction, ends included."""
    pred, half_width, target = _checked(pred, half_width, target)
    return (abs(target - pred) <= half_width).mean(0)


def gaussian_half_width(std: np.ndarray, level: float) -> np.ndarray:
    """Half the central interval of a Gaussian that holds `level` of it."""
    from scipy.special import ndtri

    return std * ndtri((1 + level) / 2)


def ence(pred: np.ndarray, std: np.ndarray, target: np.ndarray, n_bins: int = N_BINS) -> np.ndarray:
    """Expected normalised calibration error (Levi et al. 2022, Sensors 22:5540, eq. 8); 0 is calibrated.

    Clips are sorted by their spread into bins of equal size; in each, the root mean variance should be the root mean
    squared error: mean over bins of |RMV - RMSE| / RMV.
    """
    pred, std, target = _checked(pred, std, target)
    if not 1 <= n_bins <= len(pred):
        raise ValueError(f"n_bins={n_bins} must lie in 1..{len(pred)}, the number of clips")
    order = np.argsort(std, axis=0, kind="stable")
    error, variance = (np.take_along_axis(x, order, axis=0) for x in ((target - pred) ** 2, std**2))
    found = []
    for rows in np.array_split(np.arange(len(pred)), n_bins):
        rmse, rmv = np.sqrt(error[rows].mean(0)), np.sqrt(variance[rows].mean(0))
        found.append(abs(rmv - rmse) / rmv)
    return np.mean(found, axis=0)


def crps(pred: np.ndarray, std: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Mean continuous ranked probability score of a Gaussian, in units of the rating.

    Gneiting & Raftery (2007), JASA 102:359, sec. 4.2: sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)). With a spread
    of zero it would be the absolute error.
    """
    from scipy.special import ndtr

    pred, std, target = _checked(pred, std, target)
    z = (target - pred) / std
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    return (std * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / np.sqrt(np.pi))).mean(0)


def conformal_quantile(scores: np.ndarray, level: float) -> np.ndarray:
    """The split-conformal quantile of calibration scores: the ceil((n + 1) level)-th smallest, (n_dims,).

    An interval of prediction +- quantile (x spread) then holds a new exchangeable label with probability >= level (Lei
    et al. 2018, JASA 113:1094, theorem 2.2). Infinite where n is too small for the level.

    scores: (n_clips, n_dims), absolute residuals, or these over the spread.
    """
    n = len(scores)
    rank = int(np.ceil((n + 1) * level - 1e-9))
    return np.sort(scores, axis=0)[rank - 1] if rank <= n else np.full(scores.shape[1:], np.inf)


def _checked(pred: np.ndarray, spread: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pred, spread, target = (np.asarray(x, np.float64) for x in (pred, spread, target))
    if pred.ndim != 2 or not pred.shape == spread.shape == target.shape or len(pred) == 0:
        raise ValueError(
            f"pred {pred.shape}, spread {spread.shape} and target {target.shape} must share (n_clips, n_dims)"
        )
    if not (np.isfinite(pred).all() and np.isfinite(target).all()):
        raise ValueError("calibration needs complete predictions and labels; some are not finite")
    if not (spread > 0).all():
        raise ValueError(f"{int((~(spread > 0)).sum())} spreads are not > 0, the first {spread[~(spread > 0)][0]}")
    return pred, spread, target
