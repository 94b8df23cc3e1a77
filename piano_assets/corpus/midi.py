"""Read a MIDI file into a `Performance`, or say what is wrong with it."""

from pathlib import Path

import mido
import numpy as np

from piano_assets.corpus.performance import SOFT, SOSTENUTO, SUSTAIN, Performance

MAX_DURATION_S = 3600.0


class MidiError(ValueError):
    """A file that holds no usable performance. `rule` and `value` go to the quarantine table."""

    def __init__(self, path: Path, rule: str, value: object) -> None:
        super().__init__(f"{path.name}: {rule} (found {value})")
        self.rule, self.value = rule, str(value)


def read_midi(path: Path) -> Performance:
    """Read notes and pedal movements, in seconds from the first onset.

    Zero-length notes are kept. A note that is struck again while it sounds ends there; one that is never released
    ends with the last event of its file.
    """
    midi = mido.MidiFile(path, clip=True)
    time = 0.0
    sounding: dict[tuple[int, int], list[tuple[float, int]]] = {}
    notes: list[tuple[float, float, int, int]] = []
    controls: list[tuple[float, int, int]] = []
    for message in midi:
        time += message.time
        if message.type == "note_on" and message.velocity > 0:
            sounding.setdefault((message.channel, message.note), []).append((time, message.velocity))
        elif message.type in ("note_off", "note_on"):
            started = sounding.get((message.channel, message.note))
            if started:
                onset, velocity = started.pop(0)
                notes.append((onset, time, message.note, velocity))
        elif message.type == "control_change" and message.control in (SUSTAIN, SOSTENUTO, SOFT):
            controls.append((time, message.control, message.value))
    if not notes:
        raise MidiError(path, "a clip needs at least one note", 0)
    table = np.array(sorted(notes, key=lambda n: (n[0], n[2])), dtype=np.float64)
    start, end = table[0, 0], table[:, 1].max()
    state = {c: (0.0, c, v) for t, c, v in controls if t <= start}
    moves = [*state.values(), *((t - start, c, v) for t, c, v in controls if start < t <= end)]
    moving = np.array(sorted(moves, key=lambda m: m[0]), dtype=np.float64).reshape(-1, 3)
    return Performance(
        onset_s=table[:, 0] - start,
        offset_s=table[:, 1] - start,
        pitch=table[:, 2].astype(np.int16),
        velocity=table[:, 3].astype(np.int16),
        control_time_s=moving[:, 0],
        controller=moving[:, 1].astype(np.int16),
        control_value=moving[:, 2].astype(np.int16),
    )
