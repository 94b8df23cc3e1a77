"""The 65 traditional audio features of a recording, all from one Fourier transform.

Each equals the mean, spread or correlation of what librosa's function of that name returns with its defaults
(22.05 kHz, n_fft 2048, hop 512; chroma with tuning=0), which the tests compute function by function.
"""

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.features.harmony import harmonic_features
from piano_assets.features.recorded import recorded_table
from piano_assets.features.stft import checked, istft, stft
from piano_assets.features.tempo import temporal_features

SAMPLE_RATE = 22050
N_FFT, HOP_LENGTH, N_MELS, N_MFCC = 2048, 512, 128, 13
DELTA_WIDTH = 9
"""Frames of the Savitzky-Golay filter behind the derivatives; shorter recordings have none."""

MFCC = tuple(f"mfcc_{i:02d}" for i in range(N_MFCC))
MFCC_DERIVATIVES = tuple(f"mfcc_{order}_{i:02d}" for order in ("delta", "delta2") for i in range(N_MFCC))
SPECTRAL = tuple(
    f"{name}_{statistic}"
    for name in ("spectral_centroid", "spectral_rolloff", "spectral_bandwidth", "zero_crossing_rate")
    for statistic in ("mean", "std")
)
HARMONIC = (
    *(f"tonnetz_{i}" for i in range(6)),
    *("chroma_entropy", "chroma_flux", "key_strength", "harmonic_energy", "percussive_energy", "harmonic_ratio"),
)
TEMPORAL = ("tempo", "tempo_spread", "onset_rate", "onset_interval_spread", "beat_consistency", "beat_strength")
TRADITIONAL: tuple[str, ...] = (*MFCC, *MFCC_DERIVATIVES, *SPECTRAL, *HARMONIC, *TEMPORAL)


def traditional_features(y: np.ndarray, sample_rate: int = SAMPLE_RATE) -> dict[str, float]:
    """The features named in `TRADITIONAL`, in that order; NaN where one is undefined, never infinite.

    MFCCs are means over time (HTK's liftering is not applied), their derivatives mean absolute values. Harmonic and
    percussive energy are root mean squares of the two parts into which `librosa.effects.hpss` separates the samples;
    their ratio is the harmonic share of the two powers. The others: `harmony.harmonic_features`,
    `tempo.temporal_features`.

    Args:
        y: (n_samples,) in [-1, 1].
    Raises:
        ValueError: wrong rate or shape, shorter than one frame, or not finite.
    """
    import librosa

    if sample_rate != SAMPLE_RATE:
        raise ValueError(f"audio features need {SAMPLE_RATE} Hz (found {sample_rate} Hz): resample first")
    y = checked(y, N_FFT)
    spectrum = stft(y, N_FFT, HOP_LENGTH)
    magnitude = np.abs(spectrum)
    bands = np.square(magnitude) @ _filters()
    decibel = librosa.power_to_db(bands[:, :N_MELS].T)
    chroma = librosa.util.normalize(bands[:, N_MELS:].T, norm=np.inf, axis=0)
    found = {
        **_cepstral(decibel),
        **_spectral(y, magnitude),
        **harmonic_features(chroma),
        **_energies(y, spectrum, magnitude),
        **temporal_features(
            librosa.onset.onset_strength(S=decibel, sr=SAMPLE_RATE), len(y) / SAMPLE_RATE, SAMPLE_RATE, HOP_LENGTH
        ),
    }
    return {name: found[name] for name in TRADITIONAL}


def traditional_table(
    paths: Mapping[str, Path],
    folder: Path,
    rendering: str,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 2,
) -> pd.DataFrame:
    """The table `features` of recordings.

    Args:
        paths: clip -> sound file, absolute or relative to `folder`.
        progress: called with (clips done, clips in all).
        workers: threads; the costly steps release the interpreter lock.
    Raises:
        corpus.audio.AudioError: a file that holds no usable sound.
    """
    compile_once()
    measured = traditional_features, TRADITIONAL, "audio", SAMPLE_RATE
    return recorded_table(*measured, paths, folder, rendering, progress, workers)


@cache
def compile_once() -> None:
    """Compile everything that the features call, or load it from the cache, one process at a time.

    Two processes that write numba's cache at the same moment leave files that do not fit together, and every process
    that loads them later crashes.
    """
    import tempfile

    import filelock

    clicks = np.zeros(2 * SAMPLE_RATE, np.float32)
    clicks[:: SAMPLE_RATE // 4] = 0.5
    with filelock.FileLock(Path(tempfile.gettempdir()) / f"piano_assets.{os.getuid()}.lock"):
        traditional_features(clicks)


@cache
def _filters() -> np.ndarray:
    """(n_bins, 128 + 12): mel bands (Slaney's scale and normalisation) beside pitch classes."""
    import librosa

    mel = librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS)
    chroma = librosa.filters.chroma(sr=SAMPLE_RATE, n_fft=N_FFT, tuning=0.0)
    return np.ascontiguousarray(np.concatenate([mel, chroma]).T)


def _cepstral(decibel: np.ndarray) -> dict[str, float]:
    """MFCC means and mean absolute derivatives from a log-mel spectrogram (n_mels, n_frames) in dB."""
    import librosa

    mfcc = librosa.feature.mfcc(S=decibel, n_mfcc=N_MFCC)
    if mfcc.shape[1] >= DELTA_WIDTH:
        derivatives = [np.abs(librosa.feature.delta(mfcc, order=k, width=DELTA_WIDTH)).mean(axis=1) for k in (1, 2)]
    else:
        derivatives = [np.full(N_MFCC, np.nan)] * 2
    values = np.concatenate([mfcc.mean(axis=1, dtype=np.float64), *derivatives])
    return dict(zip((*MFCC, *MFCC_DERIVATIVES), values.tolist(), strict=True))


def _spectral(y: np.ndarray, magnitude: np.ndarray) -> dict[str, float]:
    from piano_assets.features.spectral import spectral_moments, zero_crossing_rate

    moments = spectral_moments(magnitude, SAMPLE_RATE / N_FFT)
    series = [*moments.T, zero_crossing_rate(y, N_FFT, HOP_LENGTH)]
    return dict(zip(SPECTRAL, [float(f(s)) for s in series for f in (np.mean, np.std)], strict=True))


def _energies(y: np.ndarray, spectrum: np.ndarray, magnitude: np.ndarray) -> dict[str, float]:
    """Root mean squares of the harmonic and the percussive samples, and the harmonic share of their powers.

    The two masks add up to 1 and the transform is linear and invertible, so the percussive samples are what the
    harmonic ones leave: one inverse transform serves both.
    """
    from piano_assets.features.hpss import harmonic_mask

    harmonic = istft(spectrum * harmonic_mask(magnitude), len(y), N_FFT, HOP_LENGTH)
    powers = [float(np.mean(np.square(part, dtype=np.float64))) for part in (harmonic, y - harmonic)]
    return {
        "harmonic_energy": powers[0] ** 0.5,
        "percussive_energy": powers[1] ** 0.5,
        "harmonic_ratio": powers[0] / sum(powers) if sum(powers) > 0 else np.nan,
    }
