"""Invented pieces and performances of them, with wrong notes, ornaments and spread chords, for the tests of reading."""

from pathlib import Path

import numpy as np

from piano_assets.corpus.performance import Performance
from piano_assets_tests.corpus.files import Event, midi_bytes, note, pedal
from piano_assets_tests.corpus.playing import play

STEP_MS = 200


def piece(seed: int, n_chords: int = 100) -> list[tuple[int, ...]]:
    """Chords of a tune over a bass, in the scale of C: so that pieces share figures, as music does."""
    rng = np.random.default_rng(seed)
    scale = np.array([0, 2, 4, 5, 7, 9, 11])
    degree = 7 + np.abs(
        (np.cumsum(rng.integers(-3, 4, n_chords)) + rng.integers(36)) % 36 - 18
    )  # reflected at 7 and 25
    chords = []
    for i, d in enumerate(degree):
        top = int(60 + 12 * (d // 7 - 2) + scale[d % 7])
        chords.append((int(36 + scale[rng.integers(7)]), top) if i % 2 == 0 else (top,))
    return chords


def pitches(chords: list[tuple[int, ...]]) -> list[int]:
    return [p for chord in chords for p in sorted(chord)]


def with_wrong_notes(chords: list[tuple[int, ...]], share: float, seed: int) -> list[tuple[int, ...]]:
    """Every note is moved with this probability, by up to two semitones."""
    rng = np.random.default_rng(seed)

    def struck(p: int) -> int:
        return p + int(rng.choice([-2, -1, 1, 2])) if rng.random() < share else p

    return [tuple(struck(p) for p in chord) for chord in chords]


def played(chords: list[tuple[int, ...]], seed: int = 0, spread_s: float = 0.02, transpose: int = 0) -> Performance:
    """A performance: uneven time, and chords spread in any order over up to `spread_s`."""
    rng = np.random.default_rng(seed)
    time = np.cumsum(rng.uniform(0.12, 0.3, len(chords)))
    notes = [
        (t + s, t + s + 0.15, p + transpose, int(rng.integers(40, 90)))
        for t, chord in zip(time, chords, strict=True)
        for p, s in zip(chord, rng.uniform(0, spread_s, len(chord)), strict=True)
    ]
    found = play(notes)
    start = found.onset_s[0]
    return play([(a - start, b - start, p, v) for a, b, p, v in notes])


def events(chords: list[tuple[int, ...]], seed: int = 0, channel: int = 0) -> list[Event]:
    """The same as MIDI events, one tick a millisecond."""
    rng = np.random.default_rng(seed)
    found: list[Event] = pedal(0, 100)
    for i, chord in enumerate(chords):
        for p in chord:
            at = STEP_MS * i + int(rng.integers(0, 20))
            found += note(at, at + 150, p, int(rng.integers(40, 90)), channel)
    return found


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def midi(chords: list[tuple[int, ...]], seed: int = 0) -> bytes:
    return midi_bytes(events(chords, seed))
