"""MIDI: hand-made files with known times, an independent reader, every kind of broken file, random bytes."""

import mido
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piano_assets.corpus.midi import MAX_TICKS, MidiError, read_midi
from piano_assets_tests.corpus.files import melody, midi_bytes, note, pedal, raw_midi, tempo

NOTE = bytes([0, 0x90, 60, 64, 100, 0x80, 60, 0])
END = bytes([0, 0xFF, 0x2F, 0])


@pytest.fixture
def read(tmp_path):
    def from_bytes(content: bytes):
        path = tmp_path / "file.mid"
        path.write_bytes(content)
        return read_midi(path)

    return from_bytes


def rows(performance):
    p = performance
    return list(zip(p.onset_s, p.offset_s, p.pitch, p.velocity, strict=True))


def moves(performance):
    p = performance
    return list(zip(p.control_time_s, p.controller, p.control_value, strict=True))


def test_times_run_from_the_first_onset_in_seconds(read):
    got = read(midi_bytes(note(1000, 1500, 60, 50) + note(1250, 2000, 64, 70), end=9000))
    assert rows(got) == [(0, 0.5, 60, 50), (0.25, 1.0, 64, 70)]
    assert got.duration_s == 1.0


def test_tempo_changes_of_another_track_hold(read):
    # 500 ticks at 0.5 s a beat, then 500 at 1 s a beat, at 500 ticks a beat: 0.5 s + 1 s.
    got = read(midi_bytes(tempo(500, 1_000_000), note(0, 1000, 60)))
    assert rows(got) == [(0, 1.5, 60, 64)]


def test_simultaneous_notes_are_sorted_by_pitch(read):
    got = read(midi_bytes(note(0, 100, 72) + note(0, 100, 60) + note(0, 50, 64, channel=3)))
    assert list(got.pitch) == [60, 64, 72]


def test_zero_length_note_is_kept(read):
    assert rows(read(midi_bytes(note(0, 0, 60) + note(0, 500, 62)))) == [(0, 0, 60, 64), (0, 0.5, 62, 64)]


def test_repeated_note_ends_where_it_is_struck_again(read):
    got = read(midi_bytes(note(0, 800, 60, 10) + note(500, 900, 60, 20)))
    assert rows(got) == [(0, 0.5, 60, 10), (0.5, 0.9, 60, 20)]


def test_release_written_after_the_next_strike_at_the_same_tick_is_the_old_notes(read):
    on, off = note(0, 500, 60, 10)
    got = read(midi_bytes([on, note(500, 900, 60, 20)[0], off, note(500, 900, 60, 20)[1]]))
    assert rows(got) == [(0, 0.5, 60, 10), (0.5, 0.9, 60, 20)]


def test_hanging_note_ends_with_the_last_note_event(read):
    got = read(midi_bytes(note(0, 0, 60)[:1] + note(100, 700, 62), end=20_000))
    assert rows(got) == [(0, 0.7, 60, 64), (0.1, 0.7, 62, 64)]


def test_hanging_last_note_ends_with_the_file(read):
    got = read(midi_bytes(note(0, 100, 62) + note(500, 0, 60)[:1], end=900))
    assert rows(got)[-1] == (0.5, 0.9, 60, 64)


def test_stray_release_is_no_note(read):
    assert len(rows(read(midi_bytes(note(0, 500, 60)[1:] + note(500, 900, 62))))) == 1


def test_pedals_are_clipped_to_the_notes_and_begin_with_their_state(read):
    events = pedal(0, 20) + pedal(400, 90) + pedal(1100, 0, 67) + pedal(600, 127) + pedal(5000, 0) + pedal(700, 9, 1)
    got = read(midi_bytes(note(500, 1500, 60) + events))
    assert moves(got) == [(0, 64, 90), (pytest.approx(0.1), 64, 127), (pytest.approx(0.6), 67, 0)]
    assert got.pedal()[1].tolist() == [90, 127]


def test_where_the_music_begins_in_the_file_does_not_change_one_bit(tmp_path):
    early, late = tmp_path / "a.mid", tmp_path / "b.mid"
    early.write_bytes(melody())
    late.write_bytes(melody(shift=12_347))
    a, b = read_midi(early), read_midi(late)
    assert rows(a) == rows(b)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "a file has content"),
        (b"RIFF1234WAVE", "begins with MThd"),
        (melody()[:60], "well-formed"),
        (melody()[:14], "well-formed"),
        (melody()[:10], "well-formed"),
        (raw_midi(END), "at least one note"),
        (raw_midi(bytes([0, 0x80, 60, 64]) + END), "at least one note"),
        (raw_midi(bytes([0, 60, 64]) + END), "well-formed"),
        (raw_midi(bytes([0, 0x90, 200, 64]) + END), "well-formed"),
        (raw_midi(bytes([0, 0xFF, 0x59, 2, 40, 0]) + NOTE + END), "well-formed"),
        (raw_midi(bytes([0, 0xFF, 0x51, 1, 1]) + NOTE + END), "well-formed"),
        (raw_midi(NOTE + END, format=2), "format 0 or 1"),
        (raw_midi(NOTE + END, format=77), "format 0 or 1"),
        (raw_midi(NOTE + END, division=0), "ticks per quarter"),
        (raw_midi(NOTE + END, division=-25 * 256 + 40), "ticks per quarter"),
        (raw_midi(NOTE + END, n_tracks=300), "well-formed"),
        (midi_bytes(tempo(0, 0) + note(0, 100, 60)), "a tempo lies"),
        (midi_bytes(tempo(0, 1) + note(0, 100, 60)), "a tempo lies"),
        (midi_bytes(tempo(0, 16_777_215) + note(0, 100, 60)), "a tempo lies"),
        (midi_bytes(note(0, 4_000_000, 60)), "at most 3600 s"),
        (midi_bytes(note(0, 0, 60)), "over 0 s"),
        (raw_midi(NOTE + bytes([0xFF] * 300 + [0x7F, 0x80, 60, 0]) + END), f"at most {MAX_TICKS} ticks"),
    ],
)
def test_broken_file_is_refused_with_name_rule_and_value(read, content, rule):
    with pytest.raises(MidiError) as error:
        read(content)
    assert rule in error.value.rule
    assert "file.mid" in str(error.value)
    assert error.value.value in str(error.value)


META = (
    bytes([0, 0xFF, 0x54, 5, 0, 0, 0, 0, 0]) + bytes([0, 0xFF, 0x58, 4, 4, 2, 24, 8]) + bytes([0, 0xFF, 0x59, 2, 0, 0])
)
SEEDS = [melody(), raw_midi(META + NOTE + END), midi_bytes(tempo(0, 400_000), note(3, 90, 60), note(50, 99, 64))]
EDITS = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "remove", "insert"]), st.integers(0, 10_000), st.binary(min_size=1, max_size=4)
    ),
    min_size=1,
    max_size=4,
)


def mutated(content: bytes, edits) -> bytes:
    for kind, where, data in edits:
        at = where % max(1, len(content))
        if kind == "flip":
            content = content[:at] + data[:1] + content[at + 1 :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "remove":
            content = content[:at] + content[at + len(data) :]
        else:
            content = content[:at] + data + content[at:]
    return content


@given(st.sampled_from(SEEDS), EDITS)
@settings(max_examples=400, deadline=None)
def test_any_bytes_are_a_performance_or_a_midi_error(tmp_path_factory, content, edits):
    path = tmp_path_factory.getbasetemp() / "mutated.mid"
    path.write_bytes(mutated(content, edits))
    try:
        got = read_midi(path)
    except MidiError:
        return
    assert got.n_notes >= 1
    assert np.all(np.diff(got.onset_s) >= 0)
    assert np.all(got.offset_s >= got.onset_s)
    assert got.onset_s[0] == 0 < got.duration_s <= 3600
    assert got.pitch.min() >= 0
    assert got.pitch.max() <= 127
    assert got.velocity.min() >= 1
    assert np.all((got.control_time_s >= 0) & (got.control_time_s <= got.duration_s))


@pytest.mark.percepiano
def test_real_files_agree_with_midos_own_player(percepiano_dir):
    """mido's player accumulates seconds event by event in floats: equal to a microsecond, not to the bit."""
    files = sorted((percepiano_dir / "virtuoso/data/all_2rounds").iterdir())[::60]
    for path in files:
        now, sounding, want = 0.0, {}, []
        for message in mido.MidiFile(path):
            now += message.time
            if message.type == "note_on" and message.velocity:
                sounding.setdefault(message.note, []).append((now, message.velocity))
            elif message.type in ("note_on", "note_off"):
                onset, velocity = sounding[message.note].pop(0)
                want.append((onset, now, message.note, velocity))
        want = np.array(sorted(want, key=lambda n: (round(n[0], 6), n[2])))
        want[:, :2] -= want[0, 0]
        np.testing.assert_allclose(np.array(rows(read_midi(path)), dtype=float), want, rtol=0, atol=1e-6)
