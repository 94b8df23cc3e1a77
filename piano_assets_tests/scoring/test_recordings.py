"""Files that people bring: what is cut off, what is refused, and with which words."""

from types import SimpleNamespace

import mido
import numpy as np
import pandas as pd
import pytest
import soundfile

from piano_assets.corpus.performance import SUSTAIN
from piano_assets.corpus.rendering.modal import render_modal
from piano_assets.scoring import recordings
from piano_assets.scoring.recordings import RecordingError, music_in, read_recording

RATE = 22050


def write_midi(path, notes, start_tick=0):
    """`notes`: (onset_s, offset_s, pitch, velocity), at 1,000 ticks a second."""
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000, time=start_tick)])
    moves = [(t, p, v) for on, off, p, velocity in notes for t, p, v in ((on, p, velocity), (off, p, 0))]
    now = 0
    for t, p, v in sorted(moves, key=lambda move: (move[0], move[2] > 0)):
        at = round(1000 * t)
        track.append(mido.Message("note_on", note=p, velocity=v, time=at - now))
        now = at
    midi = mido.MidiFile(ticks_per_beat=500)
    midi.tracks.append(track)
    midi.save(path)
    return path


NOTES = [(0.3 * k, 0.3 * k + 0.25, 60 + k % 12, 50 + k) for k in range(24)]


def test_an_absolute_start_changes_nothing(tmp_path):
    early = read_recording(write_midi(tmp_path / "early.mid", NOTES))
    late = read_recording(write_midi(tmp_path / "late.mid", NOTES, start_tick=60_000))
    for name in ("onset_s", "offset_s", "pitch", "velocity"):
        np.testing.assert_allclose(getattr(early.performance, name), getattr(late.performance, name), atol=1e-9)
    assert early.duration_s == late.duration_s
    assert (early.kind, early.samples, early.lead_s) == ("midi", None, 0.0)


@pytest.mark.parametrize(("suffix", "rate"), [("wav", RATE), ("flac", 44100), ("ogg", 48000), ("mp3", 44100)])
def test_sound_is_read_in_every_format_and_silence_before_it_is_cut_off(tmp_path, suffix, rate):
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(5 * rate) / rate) * np.exp(-np.arange(5 * rate) / rate)
    quiet = 1e-4 * np.random.default_rng(0).normal(size=2 * rate)
    path = tmp_path / f"tone.{suffix}"
    soundfile.write(path, np.concatenate([quiet, tone, quiet]), rate)
    found = read_recording(path)
    assert found.lead_s == pytest.approx(2.0, abs=0.05)  # lossy codecs smear an onset
    assert found.duration_s == pytest.approx(5.0, abs=0.1)
    assert len(found.samples) == round(found.duration_s * RATE)


def test_music_is_what_is_within_50_decibels_of_the_loudest():
    sound = np.zeros(RATE)
    sound[4400:8800], sound[8800:13200], sound[13200:17600] = 0.002, 0.5, 0.0008
    assert music_in(sound) == (4400, 13200)  # -48 dB counts, -56 dB does not


def heard(notes, pedal=()):
    rows = [("note", on, off, p, v) for on, off, p, v in notes] + [
        ("sustain", on, off, None, None) for on, off in pedal
    ]
    return pd.DataFrame(rows, columns=["event", "onset_s", "offset_s", "pitch", "velocity"])


def test_heard_notes_set_the_start(tmp_path):
    played = read_recording(write_midi(tmp_path / "a.mid", NOTES)).performance
    path = tmp_path / "a.wav"
    soundfile.write(path, np.concatenate([np.zeros(RATE), render_modal(played)]), RATE)
    found = read_recording(
        path, lambda _: heard([(on + 0.5, off + 0.5, p, v) for on, off, p, v in NOTES], [(1.0, 2.0)]), "ear"
    )
    np.testing.assert_allclose(found.performance.onset_s, played.onset_s, atol=1e-9)
    assert found.performance.pedal(SUSTAIN)[0].tolist() == pytest.approx([0.5, 1.5])
    assert found.lead_s == pytest.approx(1.5, abs=0.02)
    assert found.transcriber == "ear"


def wav(path, samples, rate=RATE):
    soundfile.write(path, samples, rate)
    return path


REFUSED = {
    "empty.mid": (
        lambda p: p.write_bytes(b""),
        r"empty.mid: the file is empty \(0 bytes\)\. Export or copy it again\.",
    ),
    "cut.mid": (lambda p: p.write_bytes(b"MThd\0\0\0\6\0"), r"cut.mid: a file is well-formed MIDI .* Export it again"),
    "one.mid": (lambda p: write_midi(p, NOTES[:1]), r"one.mid: it holds 1 note, under 10\. Bring a phrase"),
    "brief.mid": (
        lambda p: write_midi(p, [(0.05 * k, 0.05 * k + 0.04, 60 + k, 60) for k in range(12)]),
        r"brief.mid: its music lasts 0\.6 s, under 3\. Bring a phrase",
    ),
    "picture.mp3": (
        lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(5000)),
        r"picture.mp3: it is a picture \(PNG\), neither MIDI nor sound that can be read\. Bring MIDI, or sound as wav",
    ),
    "phone.m4a": (
        lambda p: p.write_bytes(b"\0\0\0\x20ftypM4A " + bytes(5000)),
        r"phone.m4a: it is sound or film in an MPEG-4 container \(m4a, mp4\), .* converted with ffmpeg",
    ),
    "letters.wav": (
        lambda p: p.write_text("no sound " * 900),
        r"letters.wav: it is of an unknown kind, neither MIDI nor sound that can be read",
    ),
    "silence.wav": (
        lambda p: wav(p, np.zeros(RATE * 5)),
        r"silence.wav: audio must not be silent.* microphone's level",
    ),
    "click.wav": (
        lambda p: wav(p, np.concatenate([np.zeros(RATE * 5), 0.5 * np.ones(2000), np.zeros(RATE * 5)])),
        r"click.wav: 0\.1 s of sound, under 3\. Bring a phrase",
    ),
    "hours.wav": (
        lambda p: wav(p, np.zeros(10 * 3600 * 100, np.int16), 100),
        r"hours.wav: it lasts 10\.0 h, over 1\. Bring one piece at a time\.",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_holds_no_music_is_refused_with_what_was_found_and_what_to_do(tmp_path, name):
    make, message = REFUSED[name]
    make(tmp_path / name)
    with pytest.raises(RecordingError, match=message):
        read_recording(tmp_path / name)


def test_a_file_of_gigabytes_is_not_opened(tmp_path):
    path = tmp_path / "large.wav"
    with path.open("wb") as file:
        file.truncate(3 * 2**30)  # sparse: it takes no room
    with pytest.raises(RecordingError, match=r"large\.wav: the file has 3\.0 GB, over 2"):
        read_recording(path)


def test_sound_in_which_nobody_plays_is_refused_where_notes_are_heard(tmp_path):
    path = wav(tmp_path / "noise.wav", 0.1 * np.random.default_rng(0).normal(size=RATE * 5))
    with pytest.raises(
        RecordingError, match=r"noise\.wav: no piano note was heard in it\. Bring a recording of a piano"
    ):
        read_recording(path, lambda _: heard([]))
    with pytest.raises(RecordingError, match=r"noise\.wav: it holds 3 notes, under 10"):
        read_recording(path, lambda _: heard(NOTES[:3]))
    assert recordings.FEWEST_NOTES == 10


def test_a_header_that_promises_less_than_there_is_does_not_fill_the_memory(tmp_path, monkeypatch):
    path = wav(tmp_path / "liar.wav", 0.1 * np.random.default_rng(0).normal(size=RATE * 7))
    monkeypatch.setattr(recordings, "MOST_S", 6.0)
    monkeypatch.setattr(soundfile, "info", lambda _: SimpleNamespace(duration=1.0))
    with pytest.raises(RecordingError, match=r"liar\.wav: audio must last at most 6 s .* Bring one piece at a time"):
        read_recording(path)
