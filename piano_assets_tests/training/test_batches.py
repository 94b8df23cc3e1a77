"""Crops and windows: what is cut is what the clip holds."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from piano_assets.training.batches import Spectra, random_crops, window_starts, windows

LENGTHS = (5, 17, 3, 40)


def spectra() -> Spectra:
    """Frame k of clip c holds 100 c + k in band 0, and its negative in band 1."""
    rows = np.concatenate([100 * c + np.arange(n) for c, n in enumerate(LENGTHS)])
    start = np.cumsum((0, *LENGTHS[:-1]))
    return Spectra(
        torch.from_numpy(np.stack([rows, -rows], 1).astype(np.float16)),
        torch.from_numpy(start),
        torch.tensor(LENGTHS),
        torch.zeros(4, 19),
    )


def test_cut_returns_the_clips_own_frames():
    frames, mask = spectra().cut(torch.tensor([1, 3]), torch.tensor([2, 30]), 10)
    assert mask is None
    assert frames[0, :, 0].tolist() == list(range(102, 112))
    assert frames[1, :, 1].tolist() == [-float(k) for k in range(330, 340)]


def test_short_clips_are_padded_not_continued_into_the_next():
    frames, mask = spectra().cut(torch.tensor([0, 2]), torch.tensor([0, 1]), 6)
    assert mask.tolist() == [[True] * 5 + [False], [True] * 2 + [False] * 4]
    assert frames[0, :, 0].tolist() == [0, 1, 2, 3, 4, 0]
    assert frames[1, :, 0].tolist() == [201, 202, 0, 0, 0, 0]


def test_random_crops_start_anywhere_with_equal_chance():
    data, generator = spectra(), torch.Generator().manual_seed(0)
    index = torch.full((6400,), 1)
    frames, _ = random_crops(data, index, 10, generator)
    first, counts = np.unique(frames[:, 0, 0].numpy() - 100, return_counts=True)
    assert first.tolist() == list(range(8))
    # 800 expected each, standard deviation 26: six of them fail once in 6e7.
    assert (abs(counts - 800) < 160).all()


def test_a_batch_is_no_longer_than_its_longest_clip():
    frames, mask = random_crops(spectra(), torch.tensor([0, 2]), 30, torch.Generator())
    assert frames.shape == (2, 5, 2)
    assert mask.sum(1).tolist() == [5, 3]


@given(st.integers(1, 3000), st.integers(1, 600))
def test_windows_cover_every_frame_and_none_outside(n_frames, length):
    covered = np.zeros(n_frames, int)
    starts = window_starts(n_frames, length)
    for start in starts:
        assert start + min(length, n_frames) <= n_frames
        covered[start : start + length] += 1
    assert covered.min() >= 1
    assert len(starts) == -(-n_frames // length)


def test_windows_of_all_clips():
    seen = {c: set() for c in range(4)}
    for clip, frames, mask in windows(spectra(), 8, batch_size=3):
        for i, c in enumerate(clip.tolist()):
            real = frames[i, :, 0] if mask is None else frames[i, mask[i], 0]
            seen[c] |= set(real.tolist())
    assert seen == {c: {100.0 * c + k for k in range(n)} for c, n in enumerate(LENGTHS)}


def test_moments_agree_with_numpy_over_the_chosen_clips():
    data = spectra()
    mean, std = data.subset(torch.tensor([3, 0])).moments(chunk=1)
    rows = np.concatenate([300 + np.arange(40), np.arange(5)])
    assert mean.tolist() == pytest.approx([rows.mean(), -rows.mean()], rel=1e-6)
    assert std.tolist() == pytest.approx([rows.std()] * 2, rel=1e-6)


def test_a_silent_band_has_deviation_one():
    still = Spectra(torch.full((6, 1), -100.0), torch.tensor([0]), torch.tensor([6]), torch.zeros(1, 19))
    assert still.moments()[1].tolist() == [1.0]
