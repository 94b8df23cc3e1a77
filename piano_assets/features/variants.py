"""Clips played faster, slower, higher or lower: notes and pedals are altered and rendered again.

Exact where bending the sound is not: a faster performance keeps its pitch and its decays, a transposed one its tempo.
A clip with a real recording is heard through the renderer in its variants.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.corpus.performance import Performance
from piano_assets.corpus.rendering.registry import RENDERERS
from piano_assets.features import note_events
from piano_assets.features.ordered import ordered_map
from piano_assets.features.spectrograms import spec_of, spectrogram, stored, write_rows

LOWEST, HIGHEST = 21, 108
"""The keys of a piano, as MIDI pitches."""
_TEMPO = re.compile(r"tempo(\d+(?:\.\d+)?)")
_SHIFT = re.compile(r"shift([+-]\d+)")


def variants(time_stretch: float, pitch_shift: int) -> tuple[str, ...]:
    """Names of the variants up to a relative change of tempo and a number of semitones: both extremes and halfway.

    `variants(0.1, 2)`: tempo0.9, tempo0.95, tempo1.05, tempo1.1, shift-2, shift-1, shift+1, shift+2. Half of an odd
    number of semitones is rounded towards 0. The original is not among them, and no variant twice.

    Raises:
        ValueError: `time_stretch` outside [0, 0.9] or a negative `pitch_shift`.
    """
    if not 0 <= time_stretch <= 0.9:
        raise ValueError(f"time_stretch={time_stretch} must lie in [0, 0.9]")
    if pitch_shift < 0:
        raise ValueError(f"pitch_shift={pitch_shift} must be >= 0")
    s, half = time_stretch, pitch_shift // 2
    tempos = [f"tempo{ratio:g}" for ratio in (1 - s, 1 - s / 2, 1 + s / 2, 1 + s)]
    shifts = [f"shift{k:+d}" for k in (-pitch_shift, -half, half, pitch_shift)]
    return tuple(v for v in dict.fromkeys(tempos + shifts) if v not in ("tempo1", "shift+0"))


def altered(performance: Performance, variant: str) -> Performance:
    """The performance at another tempo or pitch; `performance` is untouched.

    tempo<ratio>: all times, the pedals' too, divided by the ratio. shift<semitones>: all pitches moved; a note beyond
    the keyboard sounds in the nearest octave on it, which keeps its pitch class and the number of notes.

    Raises:
        ValueError: no such variant, or a ratio of 0.
    """
    if tempo := _TEMPO.fullmatch(variant):
        ratio = float(tempo[1])
        if ratio == 0:
            raise ValueError(f"variant={variant!r}: the tempo ratio must be > 0")
        return replace(
            performance,
            onset_s=performance.onset_s / ratio,
            offset_s=performance.offset_s / ratio,
            control_time_s=performance.control_time_s / ratio,
        )
    if shift := _SHIFT.fullmatch(variant):
        pitch = _on_keyboard(performance.pitch.astype(np.int64) + int(shift[1]))
        # Notes that changed their octave may have changed places in a chord.
        order = np.lexsort((pitch, performance.onset_s))
        return replace(
            performance,
            onset_s=performance.onset_s[order],
            offset_s=performance.offset_s[order],
            pitch=pitch[order].astype(performance.pitch.dtype),
            velocity=performance.velocity[order],
        )
    raise ValueError(f"variant={variant!r} must be tempo<ratio> or shift<semitones>, such as tempo0.95 or shift+1")


def part_of(spectrogram: str, variant: str, rendering: str) -> str:
    """Name of the part, and stem of the file, of a spectrogram of a variant."""
    return f"{_named(spectrogram, variant)}.{rendering}"


def write_variant(
    performances: Mapping[str, Performance],
    folder: Path,
    spectrogram_name: str,
    variant: str,
    rendering: str,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 2,
) -> pd.DataFrame:
    """Publish a spectrogram of every clip's variant as `spectrograms/<spectrogram>+<variant>.<rendering>.npy`.

    Each altered performance is rendered, heard as its sound file would be read, and forgotten. Note events need no
    sound: they are those of the altered performance, under whatever name `rendering` gives the file.

    Args:
        spectrogram_name: key of `SPECTROGRAMS`, or `note_events`.
        progress: called with (clips done, clips in all).
    Returns:
        the table `spectrograms` under the name `<spectrogram>+<variant>`, clips in the order of their names.
    Raises:
        ValueError: an unknown spectrogram, variant or rendering; nothing is published.
    """
    name = _named(spectrogram_name, variant)
    if spectrogram_name == note_events.NAME:
        played = {clip: altered(performance, variant) for clip, performance in performances.items()}
        return note_events.write_note_events(played, folder, rendering, progress, name)
    spec = spec_of(spectrogram_name)
    if rendering not in RENDERERS:
        raise ValueError(f"rendering={rendering!r} must be one of {', '.join(RENDERERS)}")

    def one(clip: str) -> np.ndarray:
        samples = RENDERERS[rendering](altered(performances[clip], variant), spec.sample_rate)
        return stored(spectrogram(as_read(samples), spec), spec.dtype)

    clips = sorted(performances)
    rows = ordered_map(one, clips, workers, progress)
    return write_rows(rows, clips, folder, name, rendering, spec.n_bands, spec.dtype)


def as_read(samples: np.ndarray) -> np.ndarray:
    """What `read_audio` reads of samples that `write_wav` wrote: rounded to 16 bits, float32 in [-1, 1]."""
    return np.rint(samples * 32767).astype(np.int16) / np.float32(32768)


def _named(spectrogram: str, variant: str) -> str:
    return f"{spectrogram}+{variant}"


def _on_keyboard(pitch: np.ndarray) -> np.ndarray:
    """Pitches moved by as many octaves as bring them onto the keyboard."""
    octaves_up = np.maximum(-((pitch - LOWEST) // 12), 0)
    octaves_down = np.maximum(-((HIGHEST - pitch) // 12), 0)
    return pitch + 12 * (octaves_up - octaves_down)
