"""Harmonic-percussive separation by median filtering (Fitzgerald 2010, DAFx; soft masks: Mueller & Ewert 2011).

The median filters are the cost. Here they are exact and vectorised: one sorted window per column is kept for many
neighbouring columns at once, and a step replaces the value that leaves by the one that enters with comparisons only,
so that the compiler turns every step into vector instructions. No window is ever sorted again.
"""

import numba
import numpy as np

WIDTH = 31
"""Length of both median filters in frames and bins, as in librosa."""
_LANES = 128
"""Columns filtered together: their sorted windows (34 kB) fill the first-level cache."""
_TINY = np.float32(np.finfo(np.float32).tiny)


def median_time(x: np.ndarray, width: int = WIDTH) -> np.ndarray:
    """Sliding median of odd `width` along the first axis, the ends mirrored.

    Args:
        x: float32 (n_frames, n_bins), finite.
    Returns:
        float32 of the same shape, equal to `scipy.ndimage.median_filter(x, size=(width, 1), mode="reflect")`.
    """
    if width % 2 == 0 or width < 3:
        raise ValueError(f"width={width} must be odd and at least 3")
    return _median(np.ascontiguousarray(x, np.float32), width, _LANES)


def median_frequency(x: np.ndarray, width: int = WIDTH) -> np.ndarray:
    """Sliding median of odd `width` along the second axis, the ends mirrored. Shapes as in `median_time`."""
    out = np.empty(x.shape, np.float32)
    for start in range(0, len(x), _LANES):
        rows = slice(start, start + _LANES)
        out[rows] = median_time(x[rows].T, width).T
    return out


def harmonic_mask(magnitude: np.ndarray, width: int = WIDTH) -> np.ndarray:
    """Share of each cell that belongs to the harmonic part: h^2 / (h^2 + p^2).

    h and p are the medians along time and along frequency. The percussive mask is 1 minus this one. Where both are
    zero the cell is split evenly. Equal to `librosa.decompose.hpss(magnitude.T, mask=True)[0].T`.

    Args:
        magnitude: float32 (n_frames, n_bins), not negative.
    Returns:
        float32 of the same shape, in [0, 1].
    """
    return _soft_mask(median_time(magnitude, width), median_frequency(magnitude, width))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _mirrored(i: int, n: int) -> int:
    r = i % (2 * n)
    return r if r < n else 2 * n - 1 - r


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _slide(window: np.ndarray, leaving: np.ndarray, entering: np.ndarray, out: np.ndarray) -> None:
    """Write into `out` the sorted columns of `window` less `leaving` plus `entering`.

    Rows 0 and -1 are the guards -inf and +inf. Row k without the leaving value is row k below it and row k + 1 from
    it on; the entering value then pushes itself into place: the larger of the row below and min(this row, entering).
    """
    for k in range(1, window.shape[0] - 1):
        for j in range(window.shape[1]):
            below, here, above = window[k - 1, j], window[k, j], window[k + 1, j]
            lower = below if below < leaving[j] else here
            kept = here if here < leaving[j] else above
            pushed = kept if kept < entering[j] else entering[j]
            out[k, j] = pushed if pushed > lower else lower


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _median(x: np.ndarray, width: int, lanes: int) -> np.ndarray:
    n, m = x.shape
    half = width // 2
    out = np.empty_like(x)
    window = np.empty((width + 2, lanes), np.float32)
    spare = np.empty_like(window)
    leaving = np.zeros(lanes, np.float32)
    entering = np.zeros(lanes, np.float32)
    for first in range(0, m, lanes):
        w = min(lanes, m - first)
        last = first + w
        window[:] = np.inf
        window[0] = -np.inf
        spare[:] = np.inf
        spare[0] = -np.inf
        for d in range(-half, half + 1):
            entering[:w] = x[_mirrored(d, n), first:last]
            for k in range(1, width + 1):
                for j in range(w):
                    v, here = entering[j], window[k, j]
                    window[k, j] = v if v < here else here
                    entering[j] = here if v < here else v
        out[0, first:last] = window[half + 1, :w]
        for i in range(1, n):
            leaving[:w] = x[_mirrored(i - 1 - half, n), first:last]
            entering[:w] = x[_mirrored(i + half, n), first:last]
            _slide(window, leaving, entering, spare)
            window, spare = spare, window
            out[i, first:last] = window[half + 1, :w]
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _soft_mask(harmonic: np.ndarray, percussive: np.ndarray) -> np.ndarray:
    out = np.empty_like(harmonic)
    half, one = np.float32(0.5), np.float32(1)
    for i in range(harmonic.shape[0]):
        for j in range(harmonic.shape[1]):
            h, p = harmonic[i, j], percussive[i, j]
            larger = h if h > p else p
            scale = larger if larger >= _TINY else one
            # Scaled by the larger of both, so that squares neither overflow nor vanish.
            a, b = (h / scale) ** 2, (p / scale) ** 2
            out[i, j] = a / (a + b) if larger >= _TINY else half
    return out
