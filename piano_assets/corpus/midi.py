"""Read a MIDI file into a `Performance`, or say what is wrong with it."""

import io
from collections.abc import Callable
from operator import itemgetter
from pathlib import Path

import mido
import numpy as np
from mido.midifiles.meta import KeySignatureError

from piano_assets.corpus.performance import SOFT, SOSTENUTO, SUSTAIN, Performance

MAX_BYTES = 16 * 2**20
MAX_TICKS = 2**31
MAX_DURATION_S = 3600.0
MIN_TEMPO_US, MAX_TEMPO_US = 60_000, 15_000_000
"""Legal microseconds per quarter note: 1,000 down to 4 beats a minute."""

# What mido raises on malformed bytes, found by mutating files at random: EOFError (a chunk or message ends early),
# OSError (no header, a data byte over 127, an overlong or undefined message), and ValueError, IndexError, KeyError,
# KeySignatureError (meta messages whose data are too short, too long or outside their tables).
_MALFORMED = (EOFError, OSError, ValueError, IndexError, KeyError, KeySignatureError)

_Seconds = Callable[[np.ndarray], np.ndarray]


class MidiError(ValueError):
    """A file that holds no usable performance. `rule` and `value` go to the quarantine table."""

    def __init__(self, path: Path, rule: str, value: object) -> None:
        super().__init__(f"{path.name}: {rule} (found {value})")
        self.rule, self.value = rule, str(value)


def read_midi(path: Path, refuse: Callable[[Path, mido.MidiFile], None] | None = None) -> Performance:
    """Read notes and pedal movements, in seconds from the first onset.

    Events of all tracks and channels are merged. Repairs: zero-length notes are kept; releases belong to the oldest
    sounding note of their key; a note whose key is struck again while it sounds ends there; one that is never
    released ends with the last note event of its file (files run on for 20 s past it), or, where it began with
    that event, with the last event. Equal ticks at equal tempo give bit-equal times, wherever they lie in the file.

    Args:
        refuse: raises `MidiError` for a file that is sound, but not wanted.

    Raises:
        MidiError: the bytes are no MIDI file or break off; format 2 or SMPTE time; no note; a tempo outside
            `MIN_TEMPO_US`..`MAX_TEMPO_US`; a file over `MAX_BYTES` or `MAX_TICKS`; a performance of no length, or one
            over `MAX_DURATION_S`.
        OSError: the file cannot be read from the disk.
    """
    midi = _parse(path)
    notes, controls, tempos, last_tick = _events(midi)
    if not notes:
        raise MidiError(path, "a performance has at least one note", 0)
    if refuse is not None:
        refuse(path, midi)
    if last_tick > MAX_TICKS:
        raise MidiError(path, f"a file lasts at most {MAX_TICKS} ticks", last_tick)
    for _, tempo in tempos:
        if not MIN_TEMPO_US <= tempo <= MAX_TEMPO_US:
            rule = f"a tempo lies between {MIN_TEMPO_US} and {MAX_TEMPO_US} microseconds per quarter note"
            raise MidiError(path, rule, tempo)
    table = np.array(_paired(notes, last_tick), dtype=np.int64)
    table = table[np.lexsort((table[:, 2], table[:, 0]))]
    seconds = _clock(tempos, midi.ticks_per_beat, start=int(table[0, 0]))
    onset_s, offset_s = seconds(table[:, 0]), seconds(table[:, 1])
    duration_s = float(offset_s.max())
    if not 0 < duration_s <= MAX_DURATION_S:
        rule = f"first onset to last note-off takes over 0 s and at most {MAX_DURATION_S:g} s"
        raise MidiError(path, rule, duration_s)
    moves = _moves(controls, start=int(table[0, 0]), end=int(table[:, 1].max()))
    return Performance(
        onset_s=onset_s,
        offset_s=offset_s,
        pitch=table[:, 2].astype(np.int16),
        velocity=table[:, 3].astype(np.int16),
        control_time_s=seconds(moves[:, 0]),
        controller=moves[:, 1].astype(np.int16),
        control_value=moves[:, 2].astype(np.int16),
    )


def _parse(path: Path) -> mido.MidiFile:
    data = path.read_bytes()
    if not data:
        raise MidiError(path, "a file has content", "0 bytes")
    if len(data) > MAX_BYTES:
        raise MidiError(path, f"a file has at most {MAX_BYTES} bytes", len(data))
    if data[:4] != b"MThd":
        raise MidiError(path, "a MIDI file begins with MThd", data[:4])
    try:
        midi = mido.MidiFile(file=io.BytesIO(data))
    except _MALFORMED as error:
        raise MidiError(path, "a file is well-formed MIDI", f"{type(error).__name__} {error}".strip()) from error
    if midi.type not in (0, 1):
        raise MidiError(path, "a file has MIDI format 0 or 1", midi.type)
    if midi.ticks_per_beat <= 0:  # negative: SMPTE frames, which no piano recorder of the corpus writes
        raise MidiError(path, "time counts in ticks per quarter note", midi.ticks_per_beat)
    return midi


_Note = tuple[int, int, int, int]  # tick, channel, pitch, velocity (0 = release)
_Move = tuple[int, int, int]  # tick, controller, value


def _events(midi: mido.MidiFile) -> tuple[list[_Note], list[_Move], list[tuple[int, int]], int]:
    """Notes, pedal movements, tempo changes (tick, microseconds per quarter note), each by tick, and the last tick."""
    notes: list[_Note] = []
    controls: list[_Move] = []
    tempos: list[tuple[int, int]] = []
    last_tick = 0
    for track in midi.tracks:
        tick = 0
        for message in track:
            tick += message.time
            kind = message.type
            if kind == "note_on":
                notes.append((tick, message.channel, message.note, message.velocity))
            elif kind == "note_off":
                notes.append((tick, message.channel, message.note, 0))
            elif kind == "control_change" and message.control in (SUSTAIN, SOSTENUTO, SOFT):
                controls.append((tick, message.control, message.value))
            elif kind == "set_tempo":
                tempos.append((tick, message.tempo))
        last_tick = max(last_tick, tick)
    for events in (notes, controls, tempos):
        events.sort(key=itemgetter(0))  # stable: file order within a tick
    struck = any(velocity for *_, velocity in notes)
    return notes if struck else [], controls, tempos, last_tick


def _paired(notes: list[_Note], last_tick: int) -> list[tuple[int, int, int, int]]:
    """Join strikes and releases into (onset, offset, pitch, velocity), in ticks."""
    sounding: dict[tuple[int, int], list[list[int]]] = {}
    paired: list[list[int]] = []
    for tick, channel, pitch, velocity in notes:
        key = sounding.setdefault((channel, pitch), [])
        if velocity:
            for held in key:
                held[1] = min(held[1], tick)
            note = [tick, MAX_TICKS, pitch, velocity]
            key.append(note)
            paired.append(note)
        elif key:
            # The oldest first: where a release is written after the next strike at the same tick, it is the old note's.
            held = key.pop(0)
            held[1] = min(held[1], tick)
    last_note_event = notes[-1][0]
    for note in paired:
        if note[1] == MAX_TICKS:
            note[1] = last_note_event if last_note_event > note[0] else last_tick
    return [(n[0], n[1], n[2], n[3]) for n in paired]


def _clock(tempos: list[tuple[int, int]], ticks_per_beat: int, start: int) -> _Seconds:
    """A function from ticks to seconds after `start`, exact up to one division."""
    changes = np.array([(0, 500_000), *tempos], dtype=np.int64)
    units = np.concatenate([[0], np.cumsum(np.diff(changes[:, 0]) * changes[:-1, 1])])  # microseconds * ticks_per_beat

    def elapsed(tick: np.ndarray) -> np.ndarray:
        at = np.searchsorted(changes[:, 0], tick, side="right") - 1
        return units[at] + (tick - changes[at, 0]) * changes[at, 1]

    zero = elapsed(np.array([start]))[0]
    return lambda tick: (elapsed(tick) - zero) / (1e6 * ticks_per_beat)


def _moves(controls: list[_Move], start: int, end: int) -> np.ndarray:
    """Pedal movements (tick, controller, value) from `start`, where the state before it stands, to `end`; (n, 3)."""
    state = {c: (start, c, v) for t, c, v in controls if t <= start}
    kept = [*state.values(), *(move for move in controls if start < move[0] <= end)]
    return np.array(kept, dtype=np.int64).reshape(-1, 3)
