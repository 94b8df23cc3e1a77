"""The constant-Q transform: bands spaced like notes, each heard through a window of the same number of periods.

Brown (1991), JASA 89:425: the inner product of the samples around each frame with windowed complex sinusoids. Q is
librosa's, which makes neighbouring bands meet at half the window's bandwidth; a low A lasts 1.3 s.

Low bands need few samples a second: they are computed from the sound decimated by 7 and by 49, which divide the hop
of 441 = 9 x 49, so that every frame still falls on a sample. (librosa's recursion halves the rate at every octave,
which needs a hop that is a multiple of 256.) A frame is then a product of some 600 samples with the kernels of a third
of the bands, which takes less time than one transform long enough for all of them (Brown & Puckette 1992).
"""

from functools import cache

import numpy as np

DECIMATIONS = (49, 7, 1)
_PASS = 0.75
"""Share of a decimated sound's range that is used; the filter's transition band lies above it."""
_FILTER_PERIODS, _KAISER = 16, 9.0
"""Half-length of the decimating filter in samples of its output, and its window: what folds back is below -90 dB."""
_HANN_BANDWIDTH = 1.5


def frequencies(fmin: float, n_bands: int, bins_per_octave: int) -> np.ndarray:
    """Centre frequencies in Hz, (n_bands,)."""
    return fmin * 2.0 ** (np.arange(n_bands) / bins_per_octave)


def quality(bins_per_octave: int) -> float:
    """Centre frequency over bandwidth."""
    return float(1 / np.tanh(np.log(2) / bins_per_octave))


def constant_q_power(
    y: np.ndarray, sample_rate: int, hop_length: int, fmin: float, n_bands: int, bins_per_octave: int
) -> np.ndarray:
    """Power in constant-Q bands: 1 for a full-scale sine in the middle of a band, whatever the band.

    Args:
        y: float32 (n_samples,); zeros are assumed beyond both ends.
    Returns:
        float32 (1 + n_samples // hop_length, n_bands); frame t is centred at sample t * hop_length.

    Raises:
        ValueError: the highest band would reach beyond half the sample rate.
    """
    from scipy.signal import resample_poly

    stages = _stages(sample_rate, hop_length, fmin, n_bands, bins_per_octave)
    n_frames = 1 + len(y) // hop_length
    # Whole hops, so that frames stay on samples, and room for the longest kernel and the filters' ringing.
    margin = hop_length * (1 + max(len(kernel) * step for step, _, kernel in stages) // hop_length)
    sound, decimated = np.pad(y, margin), 1
    out = np.empty((n_frames, n_bands), np.float32)
    for decimation, bands, kernel in stages:
        if decimation > decimated:
            sound = resample_poly(sound, 1, decimation // decimated, window=_lowpass(decimation // decimated))
            decimated = decimation
        first = margin // decimation - len(kernel) // 2
        frames = np.lib.stride_tricks.sliding_window_view(sound[first:], len(kernel))
        parts = frames[:: hop_length // decimation][:n_frames] @ kernel
        np.square(parts, out=parts)
        out[:, bands] = parts[:, 0::2] + parts[:, 1::2]
    return out


@cache
def _stages(
    sample_rate: int, hop_length: int, fmin: float, n_bands: int, bins_per_octave: int
) -> list[tuple[int, slice, np.ndarray]]:
    """(decimation, bands, kernels), highest bands first; kernels: see `_kernels`."""
    f, q = frequencies(fmin, n_bands, bins_per_octave), quality(bins_per_octave)
    highest = f[-1] * (1 + _HANN_BANDWIDTH / 2 / q)
    if highest > sample_rate / 2:
        raise ValueError(f"n_bands={n_bands} from fmin={fmin} reach {highest:.0f} Hz: must be <= {sample_rate / 2:.0f}")
    stages, done = [], 0
    for decimation in (d for d in DECIMATIONS if hop_length % d == 0):
        rate = sample_rate / decimation
        end = n_bands if decimation == 1 else int(np.searchsorted(f, _PASS * rate / 2, side="right"))
        if end > done:
            stages.append((decimation, slice(done, end), _kernels(f[done:end], q, rate)))
            done = end
    return stages[::-1]


def _kernels(f: np.ndarray, q: float, rate: float) -> np.ndarray:
    """Hann windows of q periods around the middle sample, times cosine and sine: float32 (n_samples, 2 x bands).

    Each window sums to 2: a full-scale sine has half its amplitude at its positive frequency.
    """
    length = q * rate / f
    half = int(length[0] / 2)
    t = np.arange(-half, half + 1)[:, None]
    window = np.where(np.abs(t) < length / 2, 0.5 + 0.5 * np.cos(2 * np.pi * t / length), 0.0)
    window *= 2 / window.sum(axis=0)
    phase = 2 * np.pi * f / rate * t
    kernels = np.stack([window * np.cos(phase), window * np.sin(phase)], axis=2)
    return kernels.reshape(len(t), -1).astype(np.float32)


@cache
def _lowpass(decimation: int) -> np.ndarray:
    from scipy.signal import firwin

    return firwin(2 * _FILTER_PERIODS * decimation + 1, 1 / decimation, window=("kaiser", _KAISER)).astype(np.float32)
