"""True notes as a transcriber would have heard them."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from piano_assets.corpus.performance import SOFT, SOSTENUTO, SUSTAIN, Performance
from piano_assets.corpus.transcription.likeness import DOWN_FROM, as_heard
from piano_assets_tests.corpus.playing import play


def test_by_hand():
    """C is let go under the pedal and lasts until it comes up; E before the pedal goes down; G is struck again."""
    notes = [(0.0, 1.0, 60, 50), (0.1, 0.4, 64, 60), (0.5, 0.7, 67, 70), (2.0, 2.5, 67, 80), (4.0, 5.0, 48, 40)]
    pedal = [(0.5, SUSTAIN, 20), (0.6, SUSTAIN, 64), (0.9, SUSTAIN, 110), (3.0, SUSTAIN, 63), (3.5, SUSTAIN, 0)]
    found = as_heard(play(notes, pedal))
    np.testing.assert_allclose(found.offset_s, [3.0, 0.4, 2.0, 3.0, 5.0])
    assert found.pedal()[0].tolist() == [0.6, 3.0], "deeper and shallower movements are not heard"
    assert found.pedal()[1].tolist() == [127, 0]
    assert found.velocity.tolist() == [50, 60, 70, 80, 40]


def test_a_pedal_that_stays_down_holds_to_the_end_of_the_music_and_others_hold_nothing():
    notes = [(0.0, 0.5, 60, 50), (1.0, 3.0, 64, 50)]
    found = as_heard(play(notes, [(0.0, SUSTAIN, 100), (0.2, SOSTENUTO, 127), (0.3, SOFT, 90)]))
    np.testing.assert_allclose(found.offset_s, [3.0, 3.0])
    assert found.controller.tolist() == [SUSTAIN, SOFT], "nobody hears the sostenuto pedal"
    np.testing.assert_allclose(as_heard(play(notes, [(0.3, SOFT, 90)])).offset_s, [0.5, 3.0])


NOTES = st.lists(
    st.tuples(st.floats(0, 20), st.floats(0.01, 3), st.integers(58, 64), st.integers(1, 127)), min_size=1, max_size=25
)
MOVES = st.lists(st.tuples(st.floats(0, 20), st.sampled_from([SUSTAIN, SOFT]), st.integers(0, 127)), max_size=25)


def performance_of(notes: list, moves: list) -> Performance:
    """A performance as a file would give it: a key that is struck again was let go before."""
    free: dict[int, float] = {}
    kept = []
    for onset, lasts, pitch, velocity in sorted(notes):
        if onset > free.get(pitch, -1):
            kept.append((onset, onset + lasts, pitch, velocity))
            free[pitch] = onset + lasts
    return play(kept, sorted(m for m in moves if m[0] <= max(n[1] for n in kept)))


def brute_force(performance: Performance, note: int) -> float:
    """When a note stops, moment by moment: at every event after its onset somebody looks whether anything holds it."""
    time, value = performance.pedal()
    end, pitch = performance.offset_s[note], performance.pitch[note]
    moments = np.unique(np.concatenate([time, performance.onset_s, performance.offset_s]))
    for now in moments[moments >= end]:
        before = value[time <= now]
        again = (performance.pitch == pitch) & (performance.onset_s > performance.onset_s[note])
        if not len(before) or before[-1] < DOWN_FROM or (performance.onset_s[again] <= now).any():
            return float(now)
    return performance.duration_s


@given(NOTES, MOVES)
def test_notes_last_as_long_as_anything_holds_them(notes, moves):
    played = performance_of(notes, moves)
    found = as_heard(played)
    want = [brute_force(played, k) for k in range(played.n_notes)]
    np.testing.assert_allclose(found.offset_s, want)
    assert found.duration_s == played.duration_s


@given(NOTES, MOVES)
def test_what_is_heard_sounds_the_same_to_whom_hears_no_half_pedal(notes, moves):
    """Heard twice is heard once: of pedals that are down or up, and notes that are held, nothing is left to lose."""
    once = as_heard(performance_of(notes, moves))
    twice = as_heard(once)
    for name in ("onset_s", "offset_s", "pitch", "velocity", "control_time_s", "controller", "control_value"):
        np.testing.assert_array_equal(getattr(once, name), getattr(twice, name))


def test_the_performance_itself_is_untouched():
    played = play([(0.0, 0.5, 60, 50), (1.0, 2.0, 62, 50)], [(0.2, SUSTAIN, 80)])
    offset = played.offset_s.copy()
    as_heard(played)
    assert played.offset_s.tolist() == offset.tolist()
    assert played.control_value.tolist() == [80]
