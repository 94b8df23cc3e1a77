"""Spectrograms of a corpus: one memory-mapped file of rows per spectrogram and rendering.

Decibels are relative to a fixed reference and floored a fixed number of decibels below it: the loudest cells of a
rendered clip lie near -20 dB, which leaves them the customary 80.

Files hold float16: decibels to within 0.04 dB, powers to within 0.05 % down to 6e-5, 82 dB below a full-scale sine
(about 1e4), and to within 3e-8 below that. Samples are int16, as in the sound files of renderings.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.corpus.audio import read_audio
from piano_assets.features.ordered import ordered_map
from piano_assets.features.spectrogram_specs import SPECTROGRAMS, SpectrogramSpec
from piano_assets.features.stft import checked
from piano_assets.features.transforms import TRANSFORMS
from piano_assets.store.parts import published

__all__ = [
    "SPECTROGRAMS",
    "SpectrogramSpec",
    "half",
    "open_spectrograms",
    "pcm",
    "spec_of",
    "spectrogram",
    "spectrogram_file",
    "stored",
    "write_rows",
    "write_spectrograms",
]

FULL_SCALE = 32768
"""int16 samples divided by this lie in [-1, 1)."""


def spectrogram(y: np.ndarray, spec: SpectrogramSpec) -> np.ndarray:
    """The spectrogram of samples at `spec.sample_rate`.

    Args:
        y: (n_samples,).
    Returns:
        float32 (1 + n_samples // hop_length, n_bands): powers, decibels in [-floor_db, ...), or samples.

    Raises:
        ValueError: `y` is not one channel, is shorter than one frame, or is not finite.
    """
    return TRANSFORMS[spec.transform](checked(y, spec.n_fft), spec)


def write_spectrograms(
    paths: Mapping[str, Path],
    folder: Path,
    name: str,
    rendering: str,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 2,
) -> pd.DataFrame:
    """Compute the spectrogram `name` of every clip and publish them as one file.

    Args:
        paths: clip -> sound file, absolute or relative to `folder`.
        progress: called with (clips done, clips in all).
        workers: threads; the costly steps release the interpreter lock.
    Returns:
        the table `spectrograms`: where each clip's frames lie, clips in the order of their names.
    Raises:
        corpus.audio.AudioError: a file that holds no usable sound; nothing is published.
        ValueError: an unknown name.
    """
    spec = spec_of(name)

    def one(clip: str) -> np.ndarray:
        return stored(spectrogram(read_audio(folder / paths[clip], spec.sample_rate), spec), spec.dtype)

    clips = sorted(paths)
    rows = ordered_map(one, clips, workers, progress)
    return write_rows(rows, clips, folder, name, rendering, spec.n_bands, spec.dtype)


def write_rows(
    rows: Iterable[np.ndarray],
    clips: Sequence[str],
    folder: Path,
    name: str,
    rendering: str,
    n_bands: int,
    dtype: str,
) -> pd.DataFrame:
    """Publish the rows of `clips`, one array (n_rows, n_bands) of `dtype` for each, one after the other in one file.

    Returns:
        the table `spectrograms`, in the order of `clips`.
    """
    lengths = []
    with published(spectrogram_file(folder, name, rendering)) as temporary, temporary.open("wb") as file:
        start = _header(file, 0, n_bands, dtype)
        for array in rows:
            if array.shape[1:] != (n_bands,) or array.dtype != dtype:
                raise ValueError(f"{name}: rows must be {dtype} with {n_bands} columns ({array.dtype}, {array.shape})")
            lengths.append(len(array))
            file.write(array.tobytes())
        # numpy pads its header so that the number of rows can still grow: rewriting it moves no data.
        file.seek(0)
        if _header(file, sum(lengths), n_bands, dtype) != start:
            raise RuntimeError(f"numpy's header grew while {temporary.name} was written")
    ends = np.cumsum(lengths, dtype=np.int64)
    return pd.DataFrame(
        {
            "clip": list(clips),
            "spectrogram": name,
            "rendering": rendering,
            "start": ends - lengths,
            "n_frames": np.array(lengths, np.int32),
        }
    )


def open_spectrograms(folder: Path, name: str, rendering: str) -> np.memmap:
    """Open what `write_rows` wrote, read-only: (rows of all clips, n_bands)."""
    path = spectrogram_file(folder, name, rendering)
    if not path.is_file():
        raise FileNotFoundError(f"{path.name} is missing in {path.parent}: materialize the asset 'spectrograms' first")
    return np.load(path, mmap_mode="r")


def stored(values: np.ndarray, dtype: str) -> np.ndarray:
    """`values` as they are stored."""
    return {"float16": half, "int16": pcm}[dtype](values)


def half(values: np.ndarray) -> np.ndarray:
    """float16; what is larger than float16's largest number (65504) becomes that number, not infinity."""
    return np.minimum(values, np.finfo(np.float16).max).astype(np.float16)


def pcm(samples: np.ndarray) -> np.ndarray:
    """int16, `FULL_SCALE` being 1: exact for what was read from a 16-bit file."""
    return np.clip(np.rint(samples * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def spec_of(name: str) -> SpectrogramSpec:
    """The spectrogram of that name.

    Raises:
        ValueError: an unknown name; the message lists the known ones.
    """
    if name not in SPECTROGRAMS:
        raise ValueError(f"unknown spectrogram {name!r}; known: {', '.join(SPECTROGRAMS)}")
    return SPECTROGRAMS[name]


def spectrogram_file(folder: Path, name: str, rendering: str) -> Path:
    return folder / "spectrograms" / f"{name}.{rendering}.npy"


def _header(file, n_rows: int, n_bands: int, dtype: str) -> int:
    """Write numpy's header and return where the data start."""
    described = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (n_rows, n_bands)}
    np.lib.format.write_array_header_1_0(file, described)
    return file.tell()
