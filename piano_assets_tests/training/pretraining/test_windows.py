"""Windows are excerpts: what is read of one depends on nothing outside it but how the pedals stood."""

import numpy as np
import pytest

from piano_assets.features.note_events import COLUMNS, note_events
from piano_assets.training.pretraining.windows import (
    ATTRIBUTES,
    GROUP_OF,
    GROUPS,
    N_SCORE,
    SCORE,
    WIDTH,
    cut,
    events,
    excerpt,
    windows,
)
from piano_assets_tests.corpus.playing import play
from piano_assets_tests.training.pretraining.playing import performance

PLAYED = performance(0, 300)


def test_events_are_the_columns_of_note_events_and_the_chord():
    found, every = events(PLAYED), note_events(PLAYED)
    where = [list(COLUMNS).index(name) for name in (*SCORE, *ATTRIBUTES)]
    np.testing.assert_array_equal(found[:, :-1], every[:, where])
    assert found.shape == (PLAYED.n_notes, WIDTH)
    assert set(SCORE) | set(ATTRIBUTES) == set(COLUMNS) - {"onset_s"}
    assert [GROUPS[g] for g in GROUP_OF] == list(ATTRIBUTES.values())
    assert SCORE[:3] == ("pitch", "fifths_cos", "fifths_sin")


def test_windows_have_one_length_and_begin_with_a_chord():
    found = list(cut(PLAYED, 64))
    assert len(found) == PLAYED.n_notes // 64 - (PLAYED.n_notes % 64 < len(found) // 2)
    assert {w.shape for w in found} == {(64, WIDTH)}
    assert all(w[0, -1] == 0 for w in found)
    rank = SCORE.index("chord_rank")
    size = SCORE.index("chord_size")
    # A first chord is whole: where it has two notes, its lowest and highest are both there.
    assert all(set(w[w[:, -1] == 0][:, rank]) == {0.0, 1.0} for w in found if w[0, size] > 1)


def test_a_shorter_performance_gives_no_window():
    assert list(cut(PLAYED, PLAYED.n_notes + 1)) == []
    assert windows([], 64).shape == (0, 64, WIDTH)
    assert windows([PLAYED, PLAYED], 64).shape[0] == 2 * len(list(cut(PLAYED, 64)))


def test_an_excerpt_is_read_the_same_whatever_comes_before_and_after():
    part = excerpt(PLAYED, 100, 164)
    alone = play(
        [
            (PLAYED.onset_s[i], PLAYED.offset_s[i], int(PLAYED.pitch[i]), int(PLAYED.velocity[i]))
            for i in range(100, 164)
        ]
    )
    assert part.onset_s[0] == 0
    np.testing.assert_allclose(part.onset_s, alone.onset_s - alone.onset_s[0], atol=1e-12)
    dry = [i for i, (name, group) in enumerate(ATTRIBUTES.items()) if group != "pedal" and name != "log_sounding"]
    columns = [*range(N_SCORE), *(N_SCORE + i for i in dry)]
    np.testing.assert_allclose(events(part)[:, columns], events(alone)[:, columns], atol=2e-5)


def test_the_pedal_stands_as_it_stood():
    whole, part = events(PLAYED), events(excerpt(PLAYED, 100, 164))
    onset = N_SCORE + list(ATTRIBUTES).index("sustain_at_onset")
    np.testing.assert_array_equal(part[:, onset], whole[100:164, onset])
    assert len(set(part[:, onset])) == 2


@pytest.mark.parametrize("first", [0, 7])
def test_an_excerpt_of_all_is_all(first):
    found = excerpt(PLAYED, first, PLAYED.n_notes)
    assert found.n_notes == PLAYED.n_notes - first
    assert found.duration_s == pytest.approx(PLAYED.duration_s - PLAYED.onset_s[first])
