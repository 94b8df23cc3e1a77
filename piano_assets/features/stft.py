"""The short-time Fourier transform that all audio features and spectrograms share.

Spectra lie as (n_frames, n_bins): a frame is contiguous, which is how the transform makes them. librosa's layout is
the transpose; the values agree (Hann window, centred frames, zeros beyond both ends: librosa's defaults).
"""

from functools import cache

import numpy as np

_BLOCK = 64
"""Frames transformed at a time: input and output of a block stay in the second-level cache."""


def checked(y: np.ndarray, n_fft: int) -> np.ndarray:
    """`y` as contiguous float32 samples.

    Raises:
        ValueError: `y` is not one-dimensional, is shorter than one frame of `n_fft` samples, or is not finite.
    """
    if y.ndim != 1:
        raise ValueError(f"audio must be one channel of samples, shape (n_samples,) (found shape {y.shape})")
    if len(y) < n_fft:
        raise ValueError(f"audio must last at least one frame of {n_fft} samples (found {len(y)})")
    if not np.isfinite(y).all():
        raise ValueError(f"audio must be finite (found {(~np.isfinite(y)).sum()} NaN or infinite samples)")
    return np.ascontiguousarray(y, np.float32)


def n_frames(n_samples: int, hop_length: int) -> int:
    """Number of centred frames."""
    return 1 + n_samples // hop_length


def stft(y: np.ndarray, n_fft: int = 2048, hop_length: int = 512) -> np.ndarray:
    """Complex spectrum of float32 `y`, equal to `librosa.stft(y, n_fft=..., hop_length=...).T`.

    Returns:
        complex64 (1 + n_samples // hop_length, 1 + n_fft // 2).
    """
    from scipy.fft import rfft

    padded = np.pad(y, n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, n_fft)[::hop_length]
    window = _hann(n_fft)
    out = np.empty((len(frames), 1 + n_fft // 2), np.complex64)
    for start in range(0, len(frames), _BLOCK):
        block = slice(start, start + _BLOCK)
        out[block] = rfft(frames[block] * window, overwrite_x=True)
    return out


def istft(spectrum: np.ndarray, n_samples: int, n_fft: int = 2048, hop_length: int = 512) -> np.ndarray:
    """Samples whose `stft` is nearest to `spectrum` (Griffin & Lim 1984), equal to `librosa.istft(spectrum.T, ...)`.

    Args:
        spectrum: complex64 (n_frames, 1 + n_fft // 2); `hop_length` divides `n_fft`.
    Returns:
        float32 (n_samples,).
    """
    from scipy.fft import irfft

    overlap = n_fft // hop_length
    window = _hann(n_fft)
    total = np.zeros((len(spectrum) + overlap - 1, hop_length), np.float32)
    weight = np.zeros_like(total)
    squared = np.square(window).reshape(overlap, hop_length)
    for start in range(0, len(spectrum), _BLOCK):
        frames = irfft(spectrum[start : start + _BLOCK], n_fft)
        frames *= window
        parts = frames.reshape(-1, overlap, hop_length)
        for k in range(overlap):
            rows = slice(start + k, start + k + len(parts))
            total[rows] += parts[:, k]
            weight[rows] += squared[k]
    inside = slice(n_fft // 2, n_fft // 2 + n_samples)
    return total.ravel()[inside] / weight.ravel()[inside]


@cache
def _hann(n: int) -> np.ndarray:
    """Periodic Hann window, the one of spectral analysis."""
    return np.hanning(n + 1)[:-1].astype(np.float32)
