"""Where recordings are cut: against brute force, and nothing of the music is lost."""

import itertools

import numpy as np
import pytest

from piano_assets.corpus.performance import SOFT, SUSTAIN
from piano_assets.features.symbolic.pedal import pedal
from piano_assets.features.symbolic.reading import Reading
from piano_assets.scoring.windows import Lengths, cut_points, gaps_of_notes, gaps_of_sound, part_of, without
from piano_assets_tests.features.notes import line, performance

LENGTHS = Lengths(4.0, 8.0, 16.0)


def price(cuts, places, gaps, lengths):
    """What the docstring says, written down anew."""
    rank = {p: list(np.sort(gaps)).index(g) / max(1, len(gaps) - 1) for p, g in zip(places, gaps, strict=True)}
    total = sum(0.5 * (1 - rank[c]) for c in cuts[1:-1])
    for a, b in itertools.pairwise(cuts):
        total += np.log((b - a) / lengths.best) ** 2
        beyond = max(lengths.least / (b - a), (b - a) / lengths.most, 1.0)
        total += 10 * np.log(beyond) ** 2
    return total


@pytest.mark.parametrize("seed", range(8))
def test_no_other_cuts_are_better(seed):
    rng = np.random.default_rng(seed)
    places, gaps, end = np.sort(rng.uniform(1, 39, 9)), rng.permutation(9) + 0.5, 40.0
    found = cut_points(places, gaps, end, LENGTHS)
    every = (
        [0.0, *chosen, end] for n in range(len(places) + 1) for chosen in itertools.combinations(places.tolist(), n)
    )
    least = min(price(cuts, places.tolist(), gaps.tolist(), LENGTHS) for cuts in every)
    assert price(found.tolist(), places.tolist(), gaps.tolist(), LENGTHS) == pytest.approx(least)


def test_a_short_recording_is_one_window_and_a_held_chord_is_not_cut():
    assert cut_points(np.arange(1.0, 16.0), np.ones(15), 16.0, LENGTHS).tolist() == [0.0, 16.0]
    assert cut_points(np.zeros(0), np.zeros(0), 300.0, LENGTHS).tolist() == [0.0, 300.0]


def test_an_hour_is_cut_into_windows_of_the_length_of_clips():
    onset = np.cumsum(np.random.default_rng(0).exponential(0.2, 15000))
    cuts = cut_points(onset[1:], np.diff(onset), onset[-1] + 1, LENGTHS)
    lengths = np.diff(cuts)
    assert lengths.min() >= 4
    assert lengths.max() <= 16
    assert np.exp(np.log(lengths).mean()) == pytest.approx(8, rel=0.15)
    # They lie at longer gaps than onsets do on average.
    inner = np.isin(onset[1:], cuts[1:-1])
    assert np.diff(onset)[inner].mean() > 2 * np.diff(onset).mean()


def test_lengths_are_the_clips():
    found = Lengths.of_clips(np.exp(np.linspace(0, 2, 101)))
    assert found.best == pytest.approx(np.e)
    assert (found.least, found.most) == pytest.approx((np.exp(0.1), np.exp(1.9)), rel=1e-3)


def test_gaps_are_where_nothing_begins_and_where_it_is_soft():
    places, gaps = gaps_of_notes(performance([(0, 1, 60, 60), (0, 1, 64, 60), (1, 2, 60, 60), (4, 5, 62, 60)]))
    assert places.tolist() == [1.0, 4.0]
    assert gaps.tolist() == [1.0, 3.0]
    sound = np.concatenate([np.ones(4000), np.full(2000, 0.01), np.ones(4000)])
    places, gaps = gaps_of_sound(sound, 4000)
    assert places[gaps == gaps.max()].tolist() == [1.0, 1.25, 1.5]


def test_parts_hold_each_note_once_from_zero_on():
    rng = np.random.default_rng(1)
    whole = performance(line(rng.integers(40, 80, 60), ioi=rng.uniform(0.1, 1, 59)))
    cuts = cut_points(*gaps_of_notes(whole), whole.duration_s, LENGTHS)
    parts = [part_of(whole, a, b) for a, b in itertools.pairwise(cuts)]
    assert len(parts) > 2
    assert np.concatenate([p.pitch for p in parts]).tolist() == whole.pitch.tolist()
    assert all(p.onset_s[0] == 0 for p in parts)
    lengths = np.concatenate([p.offset_s - p.onset_s for p in parts])
    np.testing.assert_allclose(lengths, whole.offset_s - whole.onset_s, atol=1e-9)


def test_a_pedal_that_is_down_at_the_cut_is_down_in_the_part():
    notes = line([60, 62, 64, 65, 67, 69, 71, 72], ioi=1.0, duration=0.5)
    moves = [(0.0, SUSTAIN, 0), (0.0, SOFT, 127), (1.5, SUSTAIN, 90), (2.5, SUSTAIN, 127), (6.2, SUSTAIN, 0)]
    part = part_of(performance(notes, moves), 4.0, 8.0)
    assert list(zip(part.control_time_s, part.controller, part.control_value, strict=True)) == [
        (0.0, SOFT, 127),
        (0.0, SUSTAIN, 127),
        (pytest.approx(2.2), SUSTAIN, 0),
    ]
    # As if it had been played so: the pedal's features are those of the same notes with the pedal down from the start.
    again = performance(
        line([67, 69, 71, 72], ioi=1.0, duration=0.5), [(0.0, SOFT, 127), (0.0, SUSTAIN, 127), (2.2, SUSTAIN, 0)]
    )
    assert pedal(Reading(part)) == pytest.approx(pedal(Reading(again)), nan_ok=True)
    with pytest.raises(ValueError, match=r"no note begins between 4\.1 and 4\.9 s"):
        part_of(performance(notes, moves), 4.1, 4.9)


def test_without_a_passage_what_follows_comes_earlier():
    played = performance(
        line([60, 62, 64, 65, 67], ioi=1.0, duration=1.5),
        [(0.0, SUSTAIN, 0), (1.2, SUSTAIN, 100), (2.5, SUSTAIN, 40), (2.6, SOFT, 127), (4.2, SUSTAIN, 0)],
    )
    rest = without(played, 1.0, 3.0)
    assert rest.onset_s.tolist() == [0, 1, 2]
    assert rest.pitch.tolist() == [60, 65, 67]
    assert rest.offset_s.tolist() == [1.5, 2.5, 3.5]
    moves = list(zip(rest.control_time_s.tolist(), rest.controller.tolist(), rest.control_value.tolist(), strict=True))
    assert moves == [(0, SUSTAIN, 0), (1, SUSTAIN, 40), (1, SOFT, 127), (pytest.approx(2.2), SUSTAIN, 0)]
    first = without(played, 0.0, 2.0)
    assert first.onset_s.tolist() == [0, 1, 2]
    assert first.pedal()[1].tolist() == [100, 40, 0]
    assert first.pedal()[0].tolist() == pytest.approx([0, 0.5, 2.2])
    last = without(played, 3.0, 6.0)
    assert last.pitch.tolist() == [60, 62, 64]
    assert last.control_time_s.max() <= last.duration_s
    with pytest.raises(ValueError, match="all notes begin between 0 and 9 s"):
        without(played, 0.0, 9.0)
