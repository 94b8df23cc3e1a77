"""Crops and windows: what is cut is what the clip holds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from piano_assets.training.batches import Clips, first_frames, moments, window_starts, windows
from piano_assets.training.data import Frames

LENGTHS = (5, 17, 3, 40)


def clips() -> Clips:
    """Frame k of clip c holds 100 c + k in band 0, and its negative in band 1."""
    rows = np.concatenate([100 * c + np.arange(n) for c, n in enumerate(LENGTHS)])
    start = np.cumsum((0, *LENGTHS[:-1]))
    return Clips.of(Frames(np.stack([rows, -rows], 1).astype(np.float16), start, np.array(LENGTHS)), "cpu")


def test_cut_returns_the_clips_own_frames():
    frames, mask = clips().cut(torch.tensor([[1], [3]]), torch.tensor([[2], [30]]), 10)
    assert mask.all()
    assert frames[0, 0, :, 0].tolist() == list(range(102, 112))
    assert frames[1, 0, :, 1].tolist() == [-float(k) for k in range(330, 340)]


def test_short_clips_end_where_they_end():
    frames, mask = clips().cut(torch.tensor([0, 2]), torch.tensor([0, 1]), 6)
    assert mask.tolist() == [[True] * 5 + [False], [True] * 2 + [False] * 4]
    assert frames[0, :5, 0].tolist() == [0, 1, 2, 3, 4]
    assert set(frames[1, :, 0].tolist()) == {201, 202}, "nothing of the next clip"


def test_frames_before_a_clip_are_masked():
    frames, mask = clips().cut(torch.tensor([1]), torch.tensor([-2]), 4)
    assert mask.tolist() == [[False, False, True, True]]
    assert frames[0, 2:, 0].tolist() == [100, 101]


def test_crops_start_anywhere_with_equal_chance():
    u = torch.rand(6400, generator=torch.Generator().manual_seed(0))
    first, counts = np.unique(first_frames(torch.full((6400,), 17), 10, u).numpy(), return_counts=True)
    assert first.tolist() == list(range(8))
    # 800 expected each, standard deviation 26: six of them fail once in 6e7.
    assert (abs(counts - 800) < 160).all()


def test_a_clip_shorter_than_the_crop_starts_at_its_start():
    assert first_frames(torch.tensor([3, 10]), 10, torch.tensor([0.999, 0.999])).tolist() == [0, 0]


def test_a_uniform_that_rounds_to_one_stays_inside():
    assert first_frames(torch.tensor([17]), 10, torch.tensor([1.0])).tolist() == [7]


@given(st.integers(1, 3000), st.integers(1, 600))
def test_windows_cover_every_frame_and_none_outside(n_frames, length):
    covered = np.zeros(n_frames, int)
    starts = window_starts(n_frames, length)
    for start in starts:
        assert start + min(length, n_frames) <= n_frames
        covered[start : start + length] += 1
    assert covered.min() >= 1
    assert len(starts) == -(-n_frames // length)


def test_windows_of_several_members():
    rows = [np.array([3, 0]), np.array([1])]
    seen = [{c: set() for c in mine.tolist()} for mine in rows]
    for place, clip, first in windows(np.array(LENGTHS), rows, 8, batch_size=3):
        frames, mask = clips().cut(torch.from_numpy(clip), torch.from_numpy(first), 8)
        for member, mine in enumerate(rows):
            for at in range(place.shape[1]):
                if place[member, at] < len(mine):
                    assert clip[member, at] == mine[place[member, at]]
                    seen[member][int(clip[member, at])] |= set(frames[member, at, mask[member, at], 0].tolist())
    whole = {c: {100.0 * c + k for k in range(n)} for c, n in enumerate(LENGTHS)}
    assert seen == [{3: whole[3], 0: whole[0]}, {1: whole[1]}]


def test_moments_agree_with_numpy_over_the_chosen_clips():
    data = clips()
    mean, std = moments(data, data.sums(), torch.tensor([3, 0]))
    rows = np.concatenate([300 + np.arange(40), np.arange(5)])
    assert mean.tolist() == pytest.approx([rows.mean(), -rows.mean()], rel=1e-6)
    assert std.tolist() == pytest.approx([rows.std()] * 2, rel=1e-6)


def test_a_silent_band_has_deviation_one():
    still = Clips(torch.full((6, 1), -100.0), torch.tensor([0]), torch.tensor([6]))
    assert moments(still, still.sums(), torch.tensor([0]))[1].tolist() == [1.0]
