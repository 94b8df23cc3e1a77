import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piano_assets.features.note_events import COLUMNS, FLOOR_S, NOTE_EVENTS, note_events, write_note_events
from piano_assets.features.spectrograms import open_spectrograms
from piano_assets.schemas import TABLES
from piano_assets_tests.features.notes import line, performance, played


def column(events: np.ndarray, name: str) -> np.ndarray:
    return events[:, NOTE_EVENTS.columns.index(name)]


def columns(notes, controls=()) -> dict[str, np.ndarray]:
    events = note_events(performance(notes, controls))
    return {name: column(events, name) for name in COLUMNS}


def test_a_line_by_hand():
    got = columns(line([60, 67, 61], ioi=[0.5, 0.25], duration=[0.5, 0.2, 1.0], velocity=[10, 64, 127]))
    by_hand = {
        "pitch": [60, 67, 61],
        # A fifth up is a twelfth of a turn, a semitone up seven.
        "fifths_cos": [1, np.cos(np.pi / 6), np.cos(7 * np.pi / 6)],
        "fifths_sin": [0, np.sin(np.pi / 6), np.sin(7 * np.pi / 6)],
        "velocity": [10, 64, 127],
        "log_ioi": np.log([0.5, 0.5, 0.25]),
        "asynchrony_s": [0, 0, 0],
        "log_duration": np.log([0.5, 0.2, 1.0]),
        "log_articulation": np.log([1, 0.8, 4]),
        "log_sounding": np.log([0.5, 0.2, 1.0]),
        "sustain_at_onset": [0, 0, 0],
        "sustain_at_offset": [0, 0, 0],
        "soft_at_onset": [0, 0, 0],
        "chord_size": [1, 1, 1],
        "chord_rank": [1, 1, 1],
        "melody": [1, 1, 1],
        "bass": [0, 0, 0],
        "onset_s": [0, 0.5, 0.75],
    }
    assert list(by_hand) == list(got)
    for name, want in by_hand.items():
        np.testing.assert_allclose(got[name], want, atol=1e-6, err_msg=name)


def test_chords_by_hand():
    # A chord of three spread over 30 ms, top note first, then one of two, struck at once.
    got = columns([(0, 1, 72, 80), (0.01, 1, 48, 60), (0.03, 1, 60, 50), (1, 2, 50, 60), (1, 2, 74, 70)])
    np.testing.assert_array_equal(got["chord_size"], [3, 3, 3, 2, 2])
    np.testing.assert_array_equal(got["chord_rank"], [1, 0, 0.5, 0, 1])
    np.testing.assert_allclose(got["asynchrony_s"], np.array([-40, -10, 50, 0, 0]) / 3000, atol=1e-6)
    np.testing.assert_array_equal(got["melody"], [1, 0, 0, 0, 1])
    np.testing.assert_array_equal(got["bass"], [0, 1, 0, 1, 0])
    interval = 1 - 0.04 / 3
    np.testing.assert_allclose(got["log_ioi"], np.log(interval), atol=1e-6)
    # Held until the next chord: legato whatever the spread; the last chord waits as long as the one before it did.
    np.testing.assert_allclose(got["log_articulation"], [0, 0, 0, *[-np.log(interval)] * 2], atol=1e-6)


def test_pedals_are_read_when_the_key_moves():
    moves = [(0, 67, 20), (0.2, 64, 90), (0.45, 64, 10), (0.6, 67, 100), (0.7, 64, 127)]
    got = columns(line([60, 62, 64], ioi=0.5, duration=0.3), moves)
    np.testing.assert_array_equal(got["sustain_at_onset"], [0, 10, 127])
    np.testing.assert_array_equal(got["sustain_at_offset"], [90, 127, 127])
    np.testing.assert_array_equal(got["soft_at_onset"], [20, 20, 100])
    # The first note sounds until the pedal is up at 0.45 s, the second until the end of the clip, at 1.3 s.
    np.testing.assert_allclose(got["log_sounding"], np.log([0.45, 0.8, 0.3]), atol=1e-6)


def test_a_single_note_and_one_without_length():
    got = columns([(0, 0, 69, 64)])
    assert got["log_ioi"] == 0
    assert got["log_duration"] == got["log_articulation"] == got["log_sounding"] == pytest.approx(np.log(FLOOR_S))


def moved(p, by):
    return type(p)(
        p.onset_s + by, p.offset_s + by, p.pitch, p.velocity, p.control_time_s + by, p.controller, p.control_value
    )


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), by=st.floats(0, 100))
def test_events_are_finite_and_do_not_know_when_the_clip_began(seed, by):
    _, human, controls = played(np.random.default_rng(seed))
    p = performance(human, controls)
    events = note_events(p)
    assert events.shape == (p.n_notes, NOTE_EVENTS.n_bands) == (len(human), len(COLUMNS))
    assert events.dtype == NOTE_EVENTS.dtype
    assert np.isfinite(events).all()
    np.testing.assert_allclose(note_events(moved(p, by)), events, atol=1e-4)


def test_a_slower_performance_differs_by_the_logarithm_of_the_ratio_and_in_nothing_else():
    notes = line([60, 62, 64, 65], ioi=[0.4, 0.6, 0.5], duration=[0.3, 0.7, 0.2, 0.5])
    slow = columns([(2 * a, 2 * b, p, v) for a, b, p, v in notes])
    for name, values in columns(notes).items():
        more = np.log(2) if name in ("log_ioi", "log_duration", "log_sounding") else 0
        factor = 2 if name == "onset_s" else 1
        np.testing.assert_allclose(slow[name], factor * values + more, atol=1e-6, err_msg=name)


def test_one_file_holds_every_clip(tmp_path):
    clips = {"b": performance(line([60, 62, 64])), "a": performance(line([50])), "c": performance(line([70, 71]))}
    seen = []
    table = write_note_events(clips, tmp_path, progress=lambda done, total: seen.append((done, total)))
    TABLES["spectrograms"].conform(table)
    assert table.to_dict("list") == {
        "clip": ["a", "b", "c"],
        "spectrogram": ["note_events"] * 3,
        "rendering": ["midi"] * 3,
        "start": [0, 1, 4],
        "n_frames": [1, 3, 2],
    }
    assert seen == [(1, 3), (2, 3), (3, 3)]
    rows = open_spectrograms(tmp_path, "note_events", "midi")
    np.testing.assert_array_equal(rows, np.concatenate([note_events(clips[c]) for c in "abc"]))


def test_a_clip_without_notes_is_refused_and_nothing_published(tmp_path):
    with pytest.raises(ValueError, match="clip 'b' must have at least one note"):
        write_note_events({"a": performance(line([60])), "b": performance([])}, tmp_path)
    assert not list((tmp_path / "spectrograms").glob("*"))


# Produced by this code: when it changes, bump the code version that guards the file.
GOLDEN = [63.34920, -0.04975, -0.10629, 66.33334, -0.94260, 0, -1.20053, -0.21047, -0.30199, 103.01588, 107.61905]


def test_golden_values():
    _, human, controls = played(np.random.default_rng(0))
    np.testing.assert_allclose(note_events(performance(human, controls)).mean(axis=0)[:11], GOLDEN, atol=1e-4)
