"""Named spectrograms, and one memory-mapped file of them per corpus, spectrogram and rendering.

Mel bands are Slaney's (linear to 1 kHz, logarithmic above; triangles of equal area: librosa's defaults, not HTK's).
Frames are 20 ms apart (hop 441 at 22.05 kHz), centred, Hann-windowed.

Loudness survives: nothing is normalised by clip. Decibels are relative to a fixed `reference` and floored a fixed
number of decibels below it: the loudest cells of a rendered clip lie near -20 dB, which leaves them the customary 80.

Files hold float16: decibels to within 0.04 dB, powers to within 0.05 % down to 6e-5, 82 dB below a full-scale sine
(about 1e4), and to within 3e-8 below that.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.corpus.audio import read_audio
from piano_assets.features.ordered import ordered_map
from piano_assets.features.stft import checked, stft
from piano_assets.store.parts import published


@dataclass(frozen=True, kw_only=True)
class SpectrogramSpec:
    """What decides a spectrogram.

    Attributes:
        transform: key of `TRANSFORMS`: how samples become power in bands.
        n_bands: number of bands.
        fmin, fmax: range in Hz.
        decibel: whether powers become decibels relative to `reference`, floored at -`floor_db`.
        reference: power that is 0 dB: a full-scale sine in the narrowest mel bands reaches about 1e4.
    """

    n_bands: int
    fmin: float
    fmax: float
    decibel: bool
    transform: str = "mel"
    sample_rate: int = 22050
    n_fft: int = 2048
    hop_length: int = 441
    reference: float = 1e4
    floor_db: float = 100.0

    def __post_init__(self) -> None:
        if self.transform not in TRANSFORMS:
            raise ValueError(f"transform={self.transform!r} must be one of {', '.join(TRANSFORMS)}")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ValueError(f"fmin={self.fmin}, fmax={self.fmax} must lie in [0, {self.sample_rate / 2}], fmin below")

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length


def mel_power(y: np.ndarray, spec: SpectrogramSpec) -> np.ndarray:
    """Power in mel bands, float32 (n_frames, n_bands), as `librosa.feature.melspectrogram(...).T`."""
    spectrum = stft(y, spec.n_fft, spec.hop_length)
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    return power @ _mel_filters(spec)


TRANSFORMS: dict[str, Callable[[np.ndarray, SpectrogramSpec], np.ndarray]] = {"mel": mel_power}

SPECTROGRAMS: dict[str, SpectrogramSpec] = {
    "mel_128": SpectrogramSpec(n_bands=128, fmin=20, fmax=8000, decibel=False),
    "log_mel_128": SpectrogramSpec(n_bands=128, fmin=20, fmax=11025, decibel=True),
}


def spectrogram(y: np.ndarray, spec: SpectrogramSpec) -> np.ndarray:
    """The spectrogram of samples at `spec.sample_rate`.

    Args:
        y: (n_samples,).
    Returns:
        float32 (1 + n_samples // hop_length, n_bands): powers, or decibels in [-floor_db, ...).

    Raises:
        ValueError: `y` is not one channel, is shorter than one frame, or is not finite.
    """
    power = TRANSFORMS[spec.transform](checked(y, spec.n_fft), spec)
    if not spec.decibel:
        return power
    floor = np.float32(spec.reference * 10 ** (-spec.floor_db / 10))
    decibel = np.log10(np.maximum(power, floor, out=power), out=power)
    decibel *= 10
    decibel -= np.float32(10 * np.log10(spec.reference))
    return decibel


def write_spectrograms(
    paths: Mapping[str, Path],
    folder: Path,
    name: str,
    rendering: str,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 2,
) -> pd.DataFrame:
    """Compute the spectrogram `name` of every clip and publish them as one float16 file.

    Args:
        paths: clip -> sound file, absolute or relative to `folder`.
        progress: called with (clips done, clips in all).
        workers: threads; the costly steps release the interpreter lock.
    Returns:
        the table `spectrograms`: where each clip's frames lie, clips in the order of their names.
    Raises:
        corpus.audio.AudioError: a file that holds no usable sound; nothing is published.
    """
    spec = _spec(name)

    def one(clip: str) -> np.ndarray:
        return half(spectrogram(read_audio(folder / paths[clip], spec.sample_rate), spec))

    clips = sorted(paths)
    lengths = []
    with published(spectrogram_file(folder, name, rendering)) as temporary, temporary.open("wb") as file:
        start = _header(file, 0, spec.n_bands)
        for frames in ordered_map(one, clips, workers, progress):
            lengths.append(len(frames))
            file.write(frames.tobytes())
        # numpy pads its header so that the number of rows can still grow: rewriting it moves no data.
        file.seek(0)
        if _header(file, sum(lengths), spec.n_bands) != start:
            raise RuntimeError(f"numpy's header grew while {temporary.name} was written")
    ends = np.cumsum(lengths, dtype=np.int64)
    return pd.DataFrame(
        {
            "clip": clips,
            "spectrogram": name,
            "rendering": rendering,
            "start": ends - lengths,
            "n_frames": np.array(lengths, np.int32),
        }
    )


def open_spectrograms(folder: Path, name: str, rendering: str) -> np.memmap:
    """Open what `write_spectrograms` wrote, read-only: float16 (frames of all clips, n_bands)."""
    path = spectrogram_file(folder, name, rendering)
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing in {path.parent}: materialize the asset 'spectrograms' first")
    return np.load(path, mmap_mode="r")


def half(values: np.ndarray) -> np.ndarray:
    """float16; what is larger than float16's largest number (65504) becomes that number, not infinity."""
    return np.minimum(values, np.finfo(np.float16).max).astype(np.float16)


def _spec(name: str) -> SpectrogramSpec:
    if name not in SPECTROGRAMS:
        raise ValueError(f"unknown spectrogram {name!r}; known: {', '.join(SPECTROGRAMS)}")
    return SPECTROGRAMS[name]


def spectrogram_file(folder: Path, name: str, rendering: str) -> Path:
    return folder / "spectrograms" / f"{name}.{rendering}.npy"


def _header(file, n_rows: int, n_bands: int) -> int:
    """Write numpy's header and return where the data start."""
    described = {"descr": "<f2", "fortran_order": False, "shape": (n_rows, n_bands)}
    np.lib.format.write_array_header_1_0(file, described)
    return file.tell()


@cache
def _mel_filters(spec: SpectrogramSpec) -> np.ndarray:
    """(n_bins, n_bands)."""
    import librosa

    filters = librosa.filters.mel(
        sr=spec.sample_rate, n_fft=spec.n_fft, n_mels=spec.n_bands, fmin=spec.fmin, fmax=spec.fmax
    )
    return np.ascontiguousarray(filters.T)
