"""Small corpora in PercePiano's layout, sound and broken, for the tests of reading."""

import csv
import io
import struct
from collections.abc import Iterable
from pathlib import Path

import mido

from piano_assets.corpus.source import PERFORMANCES, RATINGS_FILE, SCORES
from piano_assets.dimensions import COLUMNS

HEADER = ("user", "dataID", "filename", *COLUMNS, "Question_9_2_1", "message")

Event = tuple[int, mido.Message | mido.MetaMessage]


def note(on: int, off: int, pitch: int, velocity: int = 64, channel: int = 0) -> list[Event]:
    """Strike and release, at these ticks."""
    return [
        (on, mido.Message("note_on", note=pitch, velocity=velocity, channel=channel)),
        (off, mido.Message("note_on", note=pitch, velocity=0, channel=channel)),
    ]


def pedal(tick: int, value: int, controller: int = 64) -> list[Event]:
    return [(tick, mido.Message("control_change", control=controller, value=value))]


def tempo(tick: int, microseconds: int) -> list[Event]:
    return [(tick, mido.MetaMessage("set_tempo", tempo=microseconds))]


def midi_bytes(*tracks: Iterable[Event], ticks_per_beat: int = 500, end: int | None = None) -> bytes:
    """A MIDI file of these events. At the default 500 ticks a beat and 500,000 us, a tick is a millisecond."""
    file = mido.MidiFile(type=1 if len(tracks) > 1 else 0, ticks_per_beat=ticks_per_beat)
    for events in tracks:
        track, now = mido.MidiTrack(), 0
        for tick, message in sorted(events, key=lambda e: e[0]):
            track.append(message.copy(time=tick - now))
            now = tick
        track.append(mido.MetaMessage("end_of_track", time=0 if end is None else end - now))
        file.tracks.append(track)
    buffer = io.BytesIO()
    file.save(file=buffer)
    return buffer.getvalue()


def melody(shift: int = 0, velocity: int = 64) -> bytes:
    """Five notes and a pedal, beginning at `shift` ms."""
    notes = [e for i in range(5) for e in note(shift + 200 * i, shift + 200 * i + 150, 60 + i, velocity + i)]
    return midi_bytes(notes + pedal(shift + 50, 100) + pedal(shift + 600, 0))


def raw_midi(track: bytes, *, format: int = 0, division: int = 480, n_tracks: int = 1) -> bytes:
    """A header and one track chunk of these very bytes."""
    header = struct.pack(">4sLhhh", b"MThd", 6, format, n_tracks, division)
    return header + struct.pack(">4sL", b"MTrk", len(track)) + track


def write_corpus(folder: Path, performances: dict[str, bytes], ratings: str = "") -> Path:
    """Write file name -> content in PercePiano's layout; also one score."""
    for part in (PERFORMANCES, SCORES, Path(RATINGS_FILE).parent):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, content in performances.items():
        (folder / PERFORMANCES / name).write_bytes(content)
    (folder / SCORES / "Schubert_D960_mv3_8bars_Score_01.mid").write_bytes(melody())
    (folder / RATINGS_FILE).write_text(ratings, encoding="utf-8")
    return folder


def rating(
    user: str = "201",
    rating_id: str = "1",
    clip: str = "Schubert_D960_mv3_8bars_1_01.wav",
    answers: Iterable[object] = (4.0,) * len(COLUMNS),
    message: str = "",
) -> list[str]:
    """One row of the ratings file."""
    return [user, rating_id, clip, *map(str, answers), "", message]


def ratings_text(rows: Iterable[list[str]], header: Iterable[str] = HEADER) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([list(header), *rows])
    return buffer.getvalue()
