"""A recording heard as levels in bands, key bands and onsets: what all families of sound features share."""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from piano_assets.features.stft import checked, stft

SAMPLE_RATE = 22050
N_FFT, HOP_LENGTH = 2048, 256
"""Frames of 93 ms every 11.6 ms: short enough for onsets, long enough for the lower bands."""
KEY_N_FFT, KEY_HOP = 8192, 1024
"""Frames of 372 ms every 46 ms, which part semitones from 180 Hz on."""
LOWEST_KEY, HIGHEST_KEY = 28, 103
"""MIDI pitches of the key bands: E1 to G7, whose upper edge lies below 4 kHz."""
N_MELS = 32
FLOOR_DB, SOUNDING_DB = -100.0, 60.0
"""Decibels are relative to full scale; a frame sounds while it is less than this below the loudest."""
FRAME_S, KEY_FRAME_S = HOP_LENGTH / SAMPLE_RATE, KEY_HOP / SAMPLE_RATE
REGISTERS = {"low": (0.0, 260.0), "middle": (260.0, 1050.0), "high": (1050.0, 11025.0)}
"""Band edges in Hz: below C4, two octaves above it, and what is mostly partials."""


def decibel(power: np.ndarray) -> np.ndarray:
    """10 log10 with a floor."""
    return 10 * np.log10(np.maximum(power, 10 ** (FLOOR_DB / 10)))


@dataclass(frozen=True, eq=False)
class Hearing:
    """Lazily derived views of one recording, samples (n_samples,) at 22.05 kHz; every array is computed at most once.

    Frames (n_frames) are 11.6 ms apart, key frames (n_key_frames) 46 ms. Both end with the last frame that sounds.
    """

    samples: np.ndarray

    @cached_property
    def _power(self) -> np.ndarray:
        """(n_frames, n_bins) power; a full-scale sine has 1 in its bin."""
        y = checked(self.samples, N_FFT)
        return np.square(np.abs(stft(y, N_FFT, HOP_LENGTH)) * (4 / N_FFT))

    @cached_property
    def n_frames(self) -> int:
        """Frames up to the last one that sounds: what a pedal or a reverberation leaves behind is not played."""
        level = decibel(self._power.sum(axis=1))
        return int(np.flatnonzero(level > level.max() - SOUNDING_DB)[-1]) + 1

    @cached_property
    def power(self) -> np.ndarray:
        return self._power[: self.n_frames]

    @cached_property
    def level(self) -> np.ndarray:
        """(n_frames,) level in dB, no lower than where a frame stops to sound."""
        level = decibel(self.power.sum(axis=1))
        return np.maximum(level, level.max() - SOUNDING_DB)

    @cached_property
    def sounding(self) -> np.ndarray:
        """(n_frames,) True where the level is above that: timbre is asked of these frames."""
        return self.level > self.level.max() - SOUNDING_DB

    @cached_property
    def bands(self) -> np.ndarray:
        """(n_frames, 32) level of mel bands in dB, cut off 60 dB below the loudest."""
        level = decibel(self.power @ _mel())
        return np.maximum(level, level.max() - SOUNDING_DB)

    @cached_property
    def register_level(self) -> dict[str, np.ndarray]:
        """Level of each register in dB, (n_frames,)."""
        hertz = np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE)
        levels = {
            name: decibel(self.power[:, (hertz >= low) & (hertz < high)].sum(axis=1))
            for name, (low, high) in REGISTERS.items()
        }
        floor = self.level.max() - SOUNDING_DB
        return {name: np.maximum(level, floor) for name, level in levels.items()}

    @cached_property
    def centroid(self) -> np.ndarray:
        """(n_frames,) brightness in octaves: power-weighted mean of log2 of the frequency in Hz, from 50 Hz on."""
        hertz = np.fft.rfftfreq(N_FFT, 1 / SAMPLE_RATE)
        use = hertz > 50
        weight = self.power[:, use] + 1e-12
        return (weight @ np.log2(hertz[use])) / weight.sum(axis=1)

    @cached_property
    def keys(self) -> np.ndarray:
        """(n_key_frames, n_keys) power in triangular bands of a semitone, no lower than 60 dB below the loudest."""
        y = checked(np.pad(self.samples, (0, max(0, KEY_N_FFT - len(self.samples)))), KEY_N_FFT)
        power = np.square(np.abs(stft(y, KEY_N_FFT, KEY_HOP)) * (4 / KEY_N_FFT))
        n = max(2, -(-self.n_frames * HOP_LENGTH // KEY_HOP))
        power = power[:n] @ _semitones()
        return np.maximum(power, max(float(power.max()) * 10 ** (-SOUNDING_DB / 10), 10 ** (FLOOR_DB / 10)))

    @cached_property
    def key_level(self) -> np.ndarray:
        """(n_key_frames, n_keys) in dB."""
        return decibel(self.keys)

    @cached_property
    def rise(self) -> np.ndarray:
        """(n_frames, 32) rises of bands in dB over two frames, 0 where a level falls; before the sound is silence."""
        silence = np.full((2, self.bands.shape[1]), self.bands.max() - SOUNDING_DB)
        return np.maximum(self.bands - np.concatenate([silence, self.bands[:-2]]), 0)

    @cached_property
    def envelope(self) -> np.ndarray:
        """(n_frames,) onset strength: mean rise in dB (spectral flux, Bello et al. 2005)."""
        return self.rise.mean(axis=1)

    @cached_property
    def onsets(self) -> np.ndarray:
        """(n_onsets,) frames of onsets; see `peaks`."""
        return peaks(self.envelope)

    @cached_property
    def intervals(self) -> np.ndarray:
        """(n_onsets - 1,) seconds between onsets."""
        return np.diff(self.onsets) * FRAME_S


def peaks(envelope: np.ndarray, threshold: float = 0.5, reach: int = 3, around: int = 35) -> np.ndarray:
    """Frames where the envelope is largest within `reach` frames and `threshold` above the median within `around`.

    With frames of 11.6 ms: onsets 46 ms apart are told apart, medians reach .4 s to each side. On 20 rendered clips
    this finds 90 % of the chords that were played, and 99.5 % of what it finds are chords (within 50 ms).
    """
    from scipy.ndimage import maximum_filter1d, median_filter

    if not envelope.size:
        return np.zeros(0, np.int64)
    largest = maximum_filter1d(envelope, 2 * reach + 1, mode="constant")
    usual = median_filter(envelope, 2 * around + 1, mode="nearest")
    found = np.flatnonzero((envelope == largest) & (envelope > usual + threshold))
    # Equal neighbours are one peak.
    return found[np.concatenate(([True], np.diff(found) > reach))] if found.size else found


@cache
def _mel() -> np.ndarray:
    """(n_bins, 32) mel bands from 30 Hz (Slaney's scale), each with weights that peak at 1."""
    import librosa

    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=N_MELS, fmin=30.0, norm=None).T


@cache
def _semitones() -> np.ndarray:
    """(n_bins, n_keys) triangles over the keys' frequencies; A4 = 440 Hz."""
    hertz = np.fft.rfftfreq(KEY_N_FFT, 1 / SAMPLE_RATE)
    pitch = 69 + 12 * np.log2(np.maximum(hertz, 1) / 440)
    keys = np.arange(LOWEST_KEY, HIGHEST_KEY + 1)
    return np.maximum(0, 1 - np.abs(pitch[:, None] - keys)).astype(np.float32)
