"""Edits: by hand, the first step is the original, and nothing else of a performance changes."""

import numpy as np
import pytest

from piano_assets.corpus.performance import SOFT, SUSTAIN
from piano_assets.dimensions import NAMES
from piano_assets.scoring.edits import EDITS, STEPS, deeper_pedal, earlier_pedal, longer_pedal, louder, slower
from piano_assets_tests.features.notes import line, performance

NOTES = line([60, 62, 64, 65, 67, 69, 71, 72, 74, 76], ioi=1.0, duration=1.0, velocity=[50, 126, *[60] * 8])
MOVES = [(0.0, SUSTAIN, 0), (0.0, SOFT, 127), (2.0, SUSTAIN, 127), (5.0, SUSTAIN, 20)]


def share_down(p):
    time, value = p.pedal(SUSTAIN)
    edges = np.concatenate([[0.0], time, [p.duration_s]])
    return float(np.diff(edges) @ np.concatenate([[False], value >= 64])) / p.duration_s


def test_the_first_step_is_what_was_played():
    played = performance(NOTES, MOVES)
    for edit, dimension in EDITS.values():
        assert dimension in NAMES
        for name in ("onset_s", "offset_s", "pitch", "velocity", "control_time_s", "controller", "control_value"):
            np.testing.assert_array_equal(getattr(edit(played, 0), name), getattr(played, name))


def test_slower_and_louder_by_hand():
    played = performance(NOTES, MOVES)
    assert slower(played, 4).duration_s == pytest.approx(10 / 0.6)
    assert slower(played, 4).control_time_s.tolist() == pytest.approx([0, 0, 2 / 0.6, 5 / 0.6])
    assert louder(played, 3).velocity.tolist() == [68, 127, *[78] * 8]
    assert louder(played, 3).onset_s is played.onset_s


def test_the_pedal_goes_down_in_the_last_part_of_each_moment_with_it_up():
    played = performance(NOTES, MOVES)
    assert share_down(played) == pytest.approx(0.3)
    for step in range(STEPS):
        edited = earlier_pedal(played, step)
        assert share_down(edited) == pytest.approx(0.3 + 0.7 * step / STEPS)
        assert edited.pedal(SOFT)[1].tolist() == [127]
        assert np.all(np.diff(edited.control_time_s) >= 0)
    moves = list(zip(*(x.tolist() for x in earlier_pedal(played, 1).pedal()), strict=True))
    assert moves == [(0.0, 0), (pytest.approx(1.6), 127), (2.0, 127), (5.0, 20), (pytest.approx(9.0), 127)]


def test_without_a_pedal_it_comes_at_the_end():
    assert [share_down(earlier_pedal(performance(NOTES), step)) for step in range(STEPS)] == pytest.approx(
        [0, 0.2, 0.4, 0.6, 0.8]
    )


def depth(p, t):
    """The pedal's depth at times (n,), read from its movements one by one."""
    time, value = p.pedal()
    return np.array([([0] + [v for at, v in zip(time, value, strict=True) if at <= x])[-1] for x in t])


def test_the_pedal_comes_up_later_and_is_nowhere_higher():
    played = performance(NOTES, MOVES)
    moves = list(zip(*(x.tolist() for x in longer_pedal(played, 4).pedal()), strict=True))
    assert moves == [(0.0, 0), (2.0, 127), (pytest.approx(5.2), 20)]
    rng = np.random.default_rng(0)
    random = [
        (t, SUSTAIN, int(v)) for t, v in zip(np.sort(rng.uniform(0, 9.5, 60)), rng.integers(0, 128, 60), strict=True)
    ]
    played = performance(NOTES, random)
    for step in range(1, STEPS):
        edited, at = longer_pedal(played, step), rng.uniform(0, 9.9, 50)
        seen = np.stack([depth(played, np.maximum(at - back, 0)) for back in np.linspace(0, 0.05 * step, 400)])
        # By brute force on a grid of an eighth of a millisecond a step, which misses at most a movement in passing.
        assert np.mean(depth(edited, at) == seen.max(0)) >= 0.98
        assert np.all(depth(edited, at) >= seen.max(0))
    assert longer_pedal(performance(NOTES), 3).pedal()[1].tolist() == [0]


def test_the_foot_is_lower_wherever_it_is():
    edited = deeper_pedal(performance(NOTES, MOVES), 2)
    assert edited.pedal()[1].tolist() == [51, 127, 63]
    assert edited.pedal(SOFT)[1].tolist() == [127]
    assert list(zip(*(x.tolist() for x in deeper_pedal(performance(NOTES), 4).pedal()), strict=True)) == [(0.0, 102)]
    assert deeper_pedal(performance(NOTES, MOVES[2:]), 1).pedal()[1].tolist() == [25, 127, 41]
