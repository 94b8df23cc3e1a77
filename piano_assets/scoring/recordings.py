"""A recording that somebody brings: read, cut to the music, and refused with reasons where it holds none."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.corpus.audio import AudioError, read_audio
from piano_assets.corpus.midi import MidiError, read_midi
from piano_assets.corpus.performance import Performance
from piano_assets.store.parts import file_sha256

SAMPLE_RATE = 22050
MOST_S = 3600.0
"""A recording lasts an hour at most: a concert is brought piece by piece."""
MOST_BYTES = 2 * 2**30
"""Of a file: an hour in stereo at 192 kHz and 24 bits has more, one at 96 kHz less."""
FEWEST_NOTES = 10
"""Of a performance: below, rhythm and harmony are no words for what is there."""
LEAST_S = 3.0
QUIET_DB = 50.0
"""Sound before the first moment within so many decibels of the loudest is no music yet, and none after the last."""
_FRAME = 220
MIDI, AUDIO = "midi", "audio"

Hear = Callable[[np.ndarray], pd.DataFrame]
"""Samples (n,) at 22.05 kHz -> what is heard in them, see `corpus.transcription.transcriber`."""


class RecordingError(ValueError):
    """A file that cannot be scored: the message says what was found in it, and what to do."""

    def __init__(self, name: str, found: str, do: str) -> None:
        super().__init__(f"{name}: {found}. {do}")
        self.name, self.found, self.do = name, found, do


@dataclass(frozen=True, eq=False)
class Recording:
    """One recording, its music beginning at 0.

    performance: its notes, read or heard; None where audio is scored without notes.
    samples: (n,) its sound at 22.05 kHz; None for MIDI, whose sound is rendered.
    lead_s: seconds of the file before the music, which are cut off.
    transcriber: what heard the notes, None where nobody had to or could.
    """

    name: str
    kind: str
    content_hash: str
    duration_s: float
    performance: Performance | None
    samples: np.ndarray | None
    lead_s: float = 0.0
    transcriber: str | None = None


def read_recording(path: Path, hear: Hear | None = None, transcriber: str | None = None) -> Recording:
    """Read a MIDI or sound file.

    Args:
        hear: transcribes sound; without it sound has no notes. transcriber: its name.
    Raises:
        RecordingError: a file that is none of both, holds no music, too little or too much of it.
        OSError: the file cannot be read from the disk.
    """
    n_bytes = path.stat().st_size
    if not n_bytes:
        raise RecordingError(path.name, "the file is empty (0 bytes)", "Export or copy it again.")
    if n_bytes > MOST_BYTES:
        raise RecordingError(path.name, f"the file has {n_bytes / 2**30:.1f} GB, over 2", "Bring one piece at a time.")
    with path.open("rb") as file:
        head = file.read(4)
    return _read_midi(path) if head == b"MThd" else _read_sound(path, hear, transcriber)


def _read_midi(path: Path) -> Recording:
    try:
        performance = read_midi(path)
    except MidiError as error:
        raise RecordingError(path.name, f"{error.rule} (found {error.value})", "Export it again as MIDI.") from error
    _require_music(path.name, performance)
    return Recording(path.name, MIDI, file_sha256(path), performance.duration_s, performance, None)


def _read_sound(path: Path, hear: Hear | None, transcriber: str | None) -> Recording:
    _require_length(path)
    try:
        samples = read_audio(path, SAMPLE_RATE, MOST_S)
    except AudioError as error:
        do = "Bring MIDI, or sound as wav, flac, mp3 or ogg."
        if "at most" in error.rule:
            do = "Bring one piece at a time."
        if "silent" in error.rule:
            do = "Check the microphone's level, and that the right input was recorded."
        raise RecordingError(path.name, f"{error.rule} (found {error.value})", do) from error
    start, end = music_in(samples)
    sound, lead = samples[start:end], start / SAMPLE_RATE
    if len(sound) < LEAST_S * SAMPLE_RATE:
        found = f"{len(sound) / SAMPLE_RATE:.1f} s of sound, under {LEAST_S:g}"
        raise RecordingError(path.name, found, "Bring a phrase of some bars at least.")
    digest, seconds = file_sha256(path), len(sound) / SAMPLE_RATE
    if hear is None:
        return Recording(path.name, AUDIO, digest, seconds, None, sound, lead)
    from piano_assets.corpus.transcription.transcriber import NOTE, performance_of

    heard = hear(sound)
    notes = heard[heard["event"] == NOTE]
    if notes.empty:
        raise RecordingError(path.name, "no piano note was heard in it", "Bring a recording of a piano alone.")
    performance = performance_of(heard)
    _require_music(path.name, performance)
    first = max(0, round(float(notes["onset_s"].min()) * SAMPLE_RATE))
    sound, lead = sound[first:], lead + first / SAMPLE_RATE
    return Recording(path.name, AUDIO, digest, len(sound) / SAMPLE_RATE, performance, sound, lead, transcriber)


def music_in(samples: np.ndarray) -> tuple[int, int]:
    """(start, end) of what is within `QUIET_DB` of the loudest moment, in samples."""
    n = -(-len(samples) // _FRAME)
    padded = np.pad(samples, (0, n * _FRAME - len(samples))).reshape(n, _FRAME)
    power = np.square(padded, dtype=np.float64).mean(1)
    loud = np.flatnonzero(power >= power.max() * 10 ** (-QUIET_DB / 10))
    return int(loud[0]) * _FRAME, min(len(samples), (int(loud[-1]) + 1) * _FRAME)


_SIGNS = {
    b"\x89PNG": "a picture (PNG)",
    b"\xff\xd8\xff": "a picture (JPEG)",
    b"GIF8": "a picture (GIF)",
    b"%PDF": "a document (PDF)",
    b"PK\x03\x04": "an archive or document (ZIP)",
    b"\x1f\x8b": "an archive (gzip)",
    b"<": "a page or score (XML or HTML)",
}


def looks_like(path: Path) -> str:
    """What a file is by its first bytes, in words."""
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] == b"ftyp":
        return "sound or film in an MPEG-4 container (m4a, mp4)"
    return next((words for sign, words in _SIGNS.items() if head.startswith(sign)), "of an unknown kind")


def _require_length(path: Path) -> None:
    """Refuse what lasts too long by its header, before it is decoded."""
    import soundfile

    try:
        seconds = soundfile.info(path).duration
    except (soundfile.SoundFileError, OSError) as error:
        do = "Bring MIDI, or sound as wav, flac, mp3 or ogg; other sound is converted with ffmpeg, say."
        found = f"it is {looks_like(path)}, neither MIDI nor sound that can be read"
        raise RecordingError(path.name, found, do) from error
    if seconds > MOST_S:
        raise RecordingError(path.name, f"it lasts {seconds / 3600:.1f} h, over 1", "Bring one piece at a time.")


def _require_music(name: str, performance: Performance) -> None:
    if performance.n_notes < FEWEST_NOTES:
        noun = "note" if performance.n_notes == 1 else "notes"
        raise RecordingError(name, f"it holds {performance.n_notes} {noun}, under {FEWEST_NOTES}", _PHRASE)
    if performance.duration_s < LEAST_S:
        raise RecordingError(name, f"its music lasts {performance.duration_s:.1f} s, under {LEAST_S:g}", _PHRASE)


_PHRASE = "Bring a phrase of some bars at least."
