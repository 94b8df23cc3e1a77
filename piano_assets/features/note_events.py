"""Note events: a performance as a sequence of notes with their timing, touch and pedal, one row per note.

They are stored as spectrograms are, notes in the place of frames, in the order of their onsets. Columns keep their
natural units; whoever learns from them standardises them by the clips it learns from.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.corpus.performance import SOFT, SUSTAIN, Performance
from piano_assets.corpus.rendering.pedals import value_at
from piano_assets.features.spectrograms import write_rows
from piano_assets.features.symbolic.reading import Reading

NAME = "note_events"
FLOOR_S = 0.01
"""Shorter times count as this long before a logarithm is taken."""

Column = Callable[[Reading], np.ndarray]


def _log(seconds: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(seconds, FLOOR_S))


def _fifths(reading: Reading) -> np.ndarray:
    """Angle on the circle of fifths: a fifth up is a twelfth of a turn, so that related harmonies lie close."""
    return 2 * np.pi * (7 * reading.pitch % 12) / 12


def _intervals(reading: Reading) -> np.ndarray:
    """(n_chords + 1,) seconds before each chord and after the last; the outer ones repeat their neighbours.

    A single chord has 1 s on either side: its logarithm is 0.
    """
    return np.pad(reading.ioi, 1, mode="edge") if len(reading.ioi) else np.ones(2)


def _wait(reading: Reading) -> np.ndarray:
    """Seconds from each onset to the next chord; in the last chord, the interval before it."""
    following = np.append(reading.chord_onset[1:], np.nan)[reading.chord] - reading.onset
    return np.where(np.isnan(following), _intervals(reading)[-1], following)


def _rank(reading: Reading) -> np.ndarray:
    """Place within the chord: 0 the lowest note, 1 the highest, and 1 where a note is alone."""
    order = np.lexsort((reading.pitch, reading.chord))
    place = np.empty(reading.n)
    place[order] = np.arange(reading.n) - reading.chord_start[reading.chord]
    size = reading.chord_size[reading.chord]
    return np.where(size > 1, place / np.maximum(size - 1, 1), 1.0)


def _pedal(controller: int, when: str) -> Column:
    return lambda reading: value_at(reading.performance, controller, getattr(reading.performance, when))


COLUMNS: dict[str, Column] = {
    "pitch": lambda r: r.pitch,
    "fifths_cos": lambda r: np.cos(_fifths(r)),
    "fifths_sin": lambda r: np.sin(_fifths(r)),
    "velocity": lambda r: r.velocity,
    "log_ioi": lambda r: _log(_intervals(r)[:-1])[r.chord],
    "asynchrony_s": lambda r: r.onset - r.chord_onset[r.chord],
    "log_duration": lambda r: _log(r.duration),
    "log_articulation": lambda r: _log(r.duration) - _log(_wait(r)),
    "log_sounding": lambda r: _log(r.silent - r.onset),
    "sustain_at_onset": _pedal(SUSTAIN, "onset_s"),
    "sustain_at_offset": _pedal(SUSTAIN, "offset_s"),
    "soft_at_onset": _pedal(SOFT, "onset_s"),
    "chord_size": lambda r: r.chord_size[r.chord],
    "chord_rank": _rank,
    "melody": lambda r: r.melody,
    "bass": lambda r: r.bass,
    "onset_s": lambda r: r.onset,
}
"""Column -> its values, (n_notes,).

pitch: MIDI number; fifths: place of the pitch class on the circle of fifths; velocity: 1..127.
log_ioi: ln of the seconds since the chord before (a chord: onsets within 35 ms of the next; a note alone is one);
asynchrony_s: onset after the chord's mean onset; log_duration: ln of the key-down time in seconds;
log_articulation: ln of key-down time over the time to the next chord, 0 = legato; log_sounding: ln of the seconds until
the note is damped, pedal counted; pedals: 0..127 when the key goes down or up; chord_rank: 0 lowest to 1 highest;
melody: 1 where no higher key is held; bass: 1 where a higher one is held but no lower one; onset_s: seconds from the
clip's first onset.
"""


@dataclass(frozen=True, kw_only=True)
class NoteEventSpec:
    """What decides note events: their columns, and how they are stored."""

    columns: tuple[str, ...]
    dtype: str = "float32"

    @property
    def n_bands(self) -> int:
        """Numbers in a row."""
        return len(self.columns)


NOTE_EVENTS = NoteEventSpec(columns=tuple(COLUMNS))


def note_events(performance: Performance) -> np.ndarray:
    """The notes of a performance, in its order: float32 (n_notes, NOTE_EVENTS.n_bands)."""
    reading = Reading(performance)
    return np.stack([column(reading) for column in COLUMNS.values()], axis=1).astype(np.float32)


def write_note_events(
    performances: Mapping[str, Performance],
    folder: Path,
    rendering: str = "midi",
    progress: Callable[[int, int], None] | None = None,
    name: str = NAME,
) -> pd.DataFrame:
    """Publish the note events of every clip as one file, `spectrograms/<name>.<rendering>.npy`.

    Args:
        progress: called with (clips done, clips in all).
    Returns:
        the table `spectrograms`, clips in the order of their names; n_frames is the number of notes.
    Raises:
        ValueError: a performance without notes; nothing is published.
    """
    clips = sorted(performances)

    def rows():
        for done, clip in enumerate(clips, start=1):
            if not performances[clip].n_notes:
                raise ValueError(f"note events: clip {clip!r} must have at least one note (has none)")
            yield note_events(performances[clip])
            if progress is not None:
                progress(done, len(clips))

    return write_rows(rows(), clips, folder, name, rendering, NOTE_EVENTS.n_bands, NOTE_EVENTS.dtype)
