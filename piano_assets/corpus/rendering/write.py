"""Write the sound of a whole corpus: real recordings where there are any, renderings elsewhere."""

import hashlib
import os
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.corpus.audio import AudioError, find_recording, read_audio
from piano_assets.corpus.performance import Performance
from piano_assets.corpus.rendering.registry import RENDERERS
from piano_assets.schemas import TABLES

RECORDED = "recorded"
"""Value of the column `rendering` where a real recording was found."""


def render_corpus(
    performances: Mapping[str, Performance],
    folder: Path,
    rendering: str,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 2,
    sample_rate: int = 22050,
    on_bad_recording: Callable[[str, AudioError], None] | None = None,
) -> pd.DataFrame:
    """Write `<folder>/renderings/<rendering>/<clip>.wav` (16-bit PCM, mono) for every clip that has no recording.

    A file is written to a temporary name and renamed, so that no reader sees half a clip. A clip with a recording
    (`audio.find_recording`) is checked, not rendered. Threads share one set of note tables.

    Args:
        performances: clip -> performance.
        folder: the corpus folder; paths in the result are relative to it.
        rendering: key of `RENDERERS`.
        progress: called with (done, total) after each clip.
        on_bad_recording: called with (clip, error) for a recording that cannot be used, whose clip is then rendered;
            without it, the error is raised. So a rendering replaces a recording only where the caller is told.

    Returns:
        Rows of the table `audio` in the order of `performances`.

    Raises:
        ValueError: unknown rendering, or a sample rate out of range.
        AudioError: a recording cannot be used and `on_bad_recording` is not given.
    """
    if rendering not in RENDERERS:
        raise ValueError(f"rendering={rendering!r} must be one of {', '.join(RENDERERS)}")
    (folder / "renderings" / rendering).mkdir(parents=True, exist_ok=True)
    rows: dict[str, dict[str, object]] = {}
    with ThreadPoolExecutor(max_workers=workers) as pool:
        clips = {
            pool.submit(_one, clip, performance, folder, rendering, sample_rate): clip
            for clip, performance in performances.items()
        }
        try:
            for done, future in enumerate(as_completed(clips), start=1):
                clip = clips[future]
                try:
                    rows[clip] = future.result()
                except AudioError as error:
                    if on_bad_recording is None:
                        raise
                    on_bad_recording(clip, error)
                    rows[clip] = _one(clip, performances[clip], folder, rendering, sample_rate, recorded=False)
                if progress:
                    progress(done, len(clips))
        finally:
            for future in clips:
                future.cancel()
    return pd.DataFrame([rows[c] for c in performances], columns=list(TABLES["audio"].columns))


def as_pcm(samples: np.ndarray) -> np.ndarray:
    """Samples in [-1, 1] as the int16 that a file keeps; read again they are that over 32,768."""
    return np.rint(samples * 32767).astype(np.int16)


def write_wav(path: Path, samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Write samples in [-1, 1] as 16-bit PCM, atomically; return the int16 samples that were written."""
    import soundfile

    pcm = as_pcm(samples)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.tmp")
    try:
        soundfile.write(temporary, pcm, sample_rate, subtype="PCM_16", format="WAV")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return pcm


def _one(
    clip: str, performance: Performance, folder: Path, rendering: str, sample_rate: int, recorded: bool = True
) -> dict[str, object]:
    path = find_recording(folder, clip) if recorded else None
    if path:
        rendering, samples = RECORDED, read_audio(path, sample_rate)
    else:
        path = folder / "renderings" / rendering / f"{clip}.wav"
        samples = write_wav(path, RENDERERS[rendering](performance, sample_rate), sample_rate)
    return {
        "clip": clip,
        "rendering": rendering,
        "path": path.relative_to(folder).as_posix(),
        "sample_rate": sample_rate,
        "duration_s": len(samples) / sample_rate,
        "content_hash": hashlib.sha256(samples.tobytes()).hexdigest(),
    }
