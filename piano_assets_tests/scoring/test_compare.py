"""Two recordings side by side: sums, intervals of differences against planted errors, and which music is the same."""

from dataclasses import replace

import numpy as np
import pytest

from piano_assets.features.symbolic.reading import Reading
from piano_assets.scoring.compare import CompareError, compare, difference_half_widths, share_in_common
from piano_assets.scoring.recordings import read_recording
from piano_assets.scoring.score import score
from piano_assets_tests.features.notes import line, performance


@pytest.fixture(scope="module")
def two(midi_files, scorer):
    return [score(read_recording(path), scorer) for path in midi_files[:2]]


def test_differences_add_up(two, scorer):
    found = compare(*two, scorer.holder)
    np.testing.assert_allclose(found.value, two[1].value - two[0].value)
    np.testing.assert_allclose(found.moved.sum(0), found.value, atol=1e-9)
    np.testing.assert_allclose(found.high - found.value, difference_half_widths(scorer.holder, 0.9))
    np.testing.assert_array_equal(found.told_apart, (found.low > 0) | (found.high < 0))
    back = compare(*two[::-1], scorer.holder)
    np.testing.assert_allclose(back.value, -found.value)
    np.testing.assert_allclose(back.low, -found.high)
    assert back.matched == found.matched
    itself = compare(two[0], two[0], scorer.holder)
    assert itself.matched == 1.0
    assert itself.same_piece
    assert not itself.told_apart.any()


def holder_with(scorer, residual, excerpts, human):
    zeros = np.zeros_like(residual)
    return replace(scorer.holder, out_of_fold=residual, target=zeros, excerpts=excerpts, human=human)


def test_what_is_wrong_with_the_music_does_not_widen_a_difference(scorer):
    """Planted: errors of excerpts with a spread of 1, of performances with .1; differences have .1 x sqrt(2)."""
    rng = np.random.default_rng(0)
    excerpts = np.repeat([f"e{k}" for k in range(60)], 12)
    residual = np.repeat(rng.normal(size=(60, 19)), 12, axis=0) + 0.1 * rng.normal(size=(720, 19))
    width = difference_half_widths(holder_with(scorer, residual, excerpts, np.ones(720, bool)), 0.9)
    np.testing.assert_allclose(width, 1.645 * 0.1 * np.sqrt(2), rtol=0.1)
    fresh = 0.1 * (rng.normal(size=(4000, 19)) - rng.normal(size=(4000, 19)))
    # 76,000 fresh differences; the quantile itself moves by some 2 % of its width, .004 of coverage.
    assert np.mean(np.abs(fresh) <= width) == pytest.approx(0.9, abs=0.01)


def test_excerpts_count_the_same_and_deadpan_renditions_do_not(scorer):
    excerpts = np.array(["a"] * 20 + ["b"] * 2 + ["c"])
    residual = np.zeros((23, 19))
    residual[21] = 5.0  # the one pair of b
    residual[0] = 100.0  # a deadpan rendition of a
    human = np.arange(23) > 0
    width = difference_half_widths(holder_with(scorer, residual, excerpts, human), 0.9)
    np.testing.assert_array_equal(width, 5.0)  # half of the weight
    assert difference_half_widths(holder_with(scorer, residual, excerpts, human), 0.49).tolist() == [0.0] * 19
    with pytest.raises(CompareError, match="no excerpt that two people played"):
        difference_half_widths(holder_with(scorer, residual, np.arange(23).astype(str), human), 0.9)


def test_scores_of_different_champions_are_not_compared(two, scorer):
    other = replace(two[1], champion=two[1].champion | {"part_key": "k9", "champion": "sound"})
    with pytest.raises(CompareError, match=r"different champions .*: bring both as MIDI or both as sound"):
        compare(two[0], other, scorer.holder)


def test_the_same_music_is_known_by_its_notes():
    piece = line([60, 64, 67, 72, 71, 67, 65, 62, 59, 60], ioi=0.5)
    slower = performance(line([60, 64, 67, 72, 71, 67, 65, 62, 59, 60], ioi=0.8, velocity=90))
    assert share_in_common(Reading(performance(piece)), Reading(slower)) == 1.0
    other = performance(line([41, 46, 50, 53, 55, 58, 61, 63, 66, 70], ioi=0.5))
    assert share_in_common(Reading(performance(piece)), Reading(other)) < 0.5
