"""Read a recording as mono samples at one rate, or say what is wrong with it."""

from fractions import Fraction
from pathlib import Path

import numpy as np

FRAME = 2048
"""Samples of the shortest recording that audio features can read: one analysis frame."""
SILENCE = 1e-4
"""A recording whose peak stays below this (-80 dBFS) is silent."""
SUFFIXES = (".wav", ".flac")


class AudioError(ValueError):
    """A file that holds no usable sound. `rule` and `value` go to the quarantine table."""

    def __init__(self, path: Path, rule: str, value: object) -> None:
        super().__init__(f"{path.name}: {rule} (found {value})")
        self.rule, self.value = rule, str(value)


def find_recording(folder: Path, clip: str) -> Path | None:
    """The real recording of a clip, `<folder>/audio/<clip>.wav` or `.flac`, or None."""
    candidates = (folder / "audio" / f"{clip}{suffix}" for suffix in SUFFIXES)
    return next((path for path in candidates if path.is_file()), None)


def read_audio(path: Path, sample_rate: int = 22050, most_s: float | None = None) -> np.ndarray:
    """Read a sound file as mono samples at `sample_rate` (Hz).

    Channels are averaged; another rate is converted by a polyphase filter (`scipy.signal.resample_poly`, Kaiser 5.0),
    clipped to [-1, 1] where the filter overshoots.

    Args:
        most_s: longest sound that is decoded, whatever the header promises; None: all of it.
    Returns:
        float32 (n_samples,) in [-1, 1].

    Raises:
        AudioError: the file is unreadable, empty or shorter than a frame, silent, longer than `most_s`, or holds a NaN
            or infinity.
    """
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            rate = file.samplerate
            most = -1 if most_s is None else int(most_s * rate)
            samples = file.read(most, dtype="float32", always_2d=True)
            if most_s is not None and len(file.read(1)):
                raise AudioError(path, f"audio must last at most {most_s:g} s", "more")
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(path, "audio must be readable", error) from error
    finite = np.isfinite(samples)
    if not finite.all():
        raise AudioError(path, "audio must be finite", f"{finite.size - finite.sum()} samples that are NaN or infinite")
    mono = samples.mean(axis=1)
    if len(mono) * sample_rate < FRAME * rate:
        raise AudioError(path, f"audio must last {FRAME} samples at {sample_rate} Hz", f"{len(mono)} at {rate} Hz")
    if rate != sample_rate:
        mono = _resample(mono, rate, sample_rate)
    peak = float(np.abs(mono).max())
    if peak < SILENCE:
        raise AudioError(path, f"audio must not be silent: peak at least {SILENCE:g}", f"{peak:.2g}")
    return np.clip(mono, -1, 1)


def _resample(mono: np.ndarray, rate: int, sample_rate: int) -> np.ndarray:
    from scipy.signal import resample_poly

    ratio = Fraction(sample_rate, rate)
    return resample_poly(mono, ratio.numerator, ratio.denominator).astype(np.float32)
