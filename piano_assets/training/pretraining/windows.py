"""What a network is pretrained on: windows of note events, cut from long performances as PercePiano's excerpts are.

A window is read as a performance of its own, so that its ends look like a clip's ends.
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from piano_assets.corpus.performance import Performance
from piano_assets.features.note_events import COLUMNS
from piano_assets.features.symbolic.reading import CHORD_GAP_S, Reading

LENGTH = 256
"""Notes of a window; nine in ten of PercePiano's clips have fewer."""

SCORE = ("pitch", "fifths_cos", "fifths_sin", "chord_size", "chord_rank", "melody", "bass")
"""What is played: columns that are always seen."""

ATTRIBUTES: Mapping[str, str] = {
    "velocity": "dynamics",
    "log_ioi": "timing",
    "asynchrony_s": "timing",
    "log_duration": "articulation",
    "log_articulation": "articulation",
    "log_sounding": "articulation",
    "sustain_at_onset": "pedal",
    "sustain_at_offset": "pedal",
    "soft_at_onset": "pedal",
}
"""What a performer decides -> the group that it is hidden with."""

GROUPS = tuple(dict.fromkeys(ATTRIBUTES.values()))
GROUP_OF = tuple(GROUPS.index(group) for group in ATTRIBUTES.values())
N_SCORE = len(SCORE)
WIDTH = N_SCORE + len(ATTRIBUTES) + 1
"""Columns of a window: score, attributes, and the number of the note's chord."""


def events(performance: Performance) -> np.ndarray:
    """(n_notes, WIDTH) float32 of a performance."""
    reading = Reading(performance)
    columns = [COLUMNS[name](reading) for name in (*SCORE, *ATTRIBUTES)]
    return np.stack([*columns, reading.chord], axis=1).astype(np.float32)


def cut(performance: Performance, length: int = LENGTH) -> Iterator[np.ndarray]:
    """Windows of `length` notes, one after the other, (length, WIDTH) each; each begins with a chord.

    What remains at the end is left out, and so is a performance that is shorter.
    """
    onset = performance.onset_s
    first = 0
    while first + length <= len(onset):
        yield events(excerpt(performance, first, first + length))
        first += length
        while first < len(onset) and onset[first] - onset[first - 1] <= CHORD_GAP_S:
            first += 1


def excerpt(performance: Performance, first: int, end: int) -> Performance:
    """Notes `first` to `end` (exclusive) as a performance of their own, with the pedals as they stood and moved."""
    p, chosen = performance, slice(first, end)
    start, last = p.onset_s[first], p.offset_s[chosen].max()
    before = p.control_time_s <= start
    state = {int(c): i for i, c in enumerate(p.controller) if before[i]}
    rows = [*sorted(state.values()), *np.flatnonzero(~before & (p.control_time_s <= last))]
    return Performance(
        onset_s=p.onset_s[chosen] - start,
        offset_s=p.offset_s[chosen] - start,
        pitch=p.pitch[chosen],
        velocity=p.velocity[chosen],
        control_time_s=np.maximum(p.control_time_s[rows] - start, 0.0),
        controller=p.controller[rows],
        control_value=p.control_value[rows],
    )


def windows(performances: Iterable[Performance], length: int = LENGTH) -> np.ndarray:
    """All windows of all performances, (n_windows, length, WIDTH) float32."""
    found = [window for performance in performances for window in cut(performance, length)]
    return np.stack(found) if found else np.zeros((0, length, WIDTH), np.float32)
