"""Shape of the spectrum, frame by frame: centroid, rolloff, bandwidth, and the zero-crossing rate (Peeters 2004)."""

import numba
import numpy as np

from piano_assets.features.stft import n_frames

ROLLOFF = 0.85
"""Share of a frame's magnitude that lies below the rolloff frequency."""


def spectral_moments(magnitude: np.ndarray, bin_hz: float, rolloff: float = ROLLOFF) -> np.ndarray:
    """Centroid, rolloff and bandwidth of every frame in Hz; 0 where nothing sounds.

    Args:
        magnitude: float32 (n_frames, n_bins).
        bin_hz: distance between bins.
    Returns:
        float64 (n_frames, 3), as `librosa.feature.spectral_{centroid,rolloff,bandwidth}` with their defaults.
    """
    return _moments(magnitude, bin_hz, rolloff)


def zero_crossing_rate(y: np.ndarray, frame_length: int, hop_length: int, threshold: float = 1e-10) -> np.ndarray:
    """Sign changes per sample in each centred frame, (n_frames,), as `librosa.feature.zero_crossing_rate` counts them.

    Values within `threshold` of 0 count as positive.
    """
    negative = y < -threshold
    crossings = np.concatenate([[0], np.cumsum(negative[1:] != negative[:-1])])
    start = np.arange(n_frames(len(y), hop_length)) * hop_length - frame_length // 2
    # A frame's first sample has no predecessor in it; beyond both ends the samples repeat and nothing crosses.
    first, last = (np.clip(edge, 0, len(y) - 1) for edge in (start, start + frame_length - 1))
    return (crossings[last] - crossings[first]) / frame_length


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _moments(magnitude: np.ndarray, bin_hz: float, rolloff: float) -> np.ndarray:
    n, m = magnitude.shape
    out = np.zeros((n, 3))
    for i in range(n):
        total, first, second = 0.0, 0.0, 0.0
        for k in range(m):
            v = np.float64(magnitude[i, k])
            total += v
            first += v * k
            second += v * k * k
        if total > 0:
            centroid = first / total
            out[i, 0] = centroid * bin_hz
            out[i, 2] = np.sqrt(max(second / total - centroid * centroid, 0.0)) * bin_hz
            below, k = np.float64(magnitude[i, 0]), 0
            while below < rolloff * total:
                k += 1
                below += magnitude[i, k]
            out[i, 1] = k * bin_hz
    return out
