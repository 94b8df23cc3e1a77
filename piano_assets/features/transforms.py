"""From samples to rows: the transforms that spectrograms are made of.

Mel bands are Slaney's (linear to 1 kHz, logarithmic above; triangles of equal area: librosa's defaults, not HTK's).
Frames are centred and Hann-windowed. Loudness survives: nothing is normalised by clip.
"""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from piano_assets.features.constant_q import constant_q_power
from piano_assets.features.stft import n_frames, stft

if TYPE_CHECKING:
    from piano_assets.features.spectrogram_specs import SpectrogramSpec


def mel(y: np.ndarray, spec: "SpectrogramSpec") -> np.ndarray:
    """Mel bands: powers as `librosa.feature.melspectrogram(...).T`, or their decibels."""
    spectrum = stft(y, spec.n_fft, spec.hop_length)
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    return scaled(power @ _mel_filters(spec), spec)


def cqt(y: np.ndarray, spec: "SpectrogramSpec") -> np.ndarray:
    """Constant-Q bands: powers, 1 being a full-scale sine, or their decibels."""
    power = constant_q_power(y, spec.sample_rate, spec.hop_length, spec.fmin, spec.n_bands, spec.bins_per_octave)
    return scaled(power, spec)


def waveform(y: np.ndarray, spec: "SpectrogramSpec") -> np.ndarray:
    """The samples themselves, `n_bands` = `hop_length` to a row, zeros after the last: as many rows as frames."""
    rows = np.zeros((n_frames(len(y), spec.hop_length), spec.hop_length), np.float32)
    rows.ravel()[: len(y)] = y
    return rows


def side_by_side(y: np.ndarray, spec: "SpectrogramSpec") -> np.ndarray:
    """The parts' bands side by side."""
    return np.concatenate([TRANSFORMS[part.transform](y, part) for part in spec.parts], axis=1)


TRANSFORMS: dict[str, Callable[[np.ndarray, "SpectrogramSpec"], np.ndarray]] = {
    "mel": mel,
    "cqt": cqt,
    "waveform": waveform,
    "side_by_side": side_by_side,
}
"""Transform -> f(float32 samples (n_samples,), spec) -> float32 (1 + n_samples // hop_length, n_bands)."""


def scaled(power: np.ndarray, spec: "SpectrogramSpec") -> np.ndarray:
    """Decibels relative to the spec's reference, in place; the powers themselves where the spec wants no decibels."""
    if not spec.decibel:
        return power
    floor = np.float32(spec.reference * 10 ** (-spec.floor_db / 10))
    decibel = np.log10(np.maximum(power, floor, out=power), out=power)
    decibel *= 10
    decibel -= np.float32(10 * np.log10(spec.reference))
    return decibel


@cache
def _mel_filters(spec: "SpectrogramSpec") -> np.ndarray:
    """(n_bins, n_bands)."""
    import librosa

    filters = librosa.filters.mel(
        sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.n_bands, fmin=spec.fmin, fmax=spec.fmax
    )
    return np.ascontiguousarray(filters.T)
