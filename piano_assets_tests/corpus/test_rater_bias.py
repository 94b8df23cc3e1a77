"""Biases of listeners: the ridge solution, its limits, and that nothing of other clips is looked at."""

import numpy as np
import pandas as pd
import pytest

from piano_assets.corpus.labels import labels
from piano_assets.corpus.rater_bias import Votes, unbiased_labels
from piano_assets.dimensions import N_DIMENSIONS, NAMES


def planted(n_clips=30, n_raters=12, each=5, bias_sd=0.1, noise_sd=0.05, seed=0):
    """Votes of `each` of the raters on every clip and dimension, and the worths behind them (n_clips, 19)."""
    rng = np.random.default_rng(seed)
    worth = 0.5 + 0.1 * rng.standard_normal((n_clips, N_DIMENSIONS))
    bias = bias_sd * rng.standard_normal((n_raters, N_DIMENSIONS))
    rows = [
        (clip, dimension, rater, worth[clip, dimension] + bias[rater, dimension] + noise_sd * rng.standard_normal())
        for clip in range(n_clips)
        for rater in rng.choice(n_raters, each, replace=False)
        for dimension in range(N_DIMENSIONS)
    ]
    return Votes(*(np.array(column) for column in zip(*rows, strict=True))), worth


def test_it_is_the_ridge_solution():
    votes, _ = planted(n_clips=8, n_raters=5, each=3)
    found = unbiased_labels(votes, np.arange(8), shrinkage=2.0)
    for dimension in range(3):
        mine = votes.dimension == dimension
        design = np.zeros((mine.sum(), 8 + 5))
        design[np.arange(mine.sum()), votes.clip[mine]] = 1
        design[np.arange(mine.sum()), 8 + votes.rater[mine]] = 1
        penalty = np.diag([0.0] * 8 + [2.0] * 5)
        want = np.linalg.solve(design.T @ design + penalty, design.T @ votes.value[mine])[:8]
        np.testing.assert_allclose(found[:, dimension], want, atol=1e-4)


def test_without_biases_it_is_the_mean_vote():
    votes, _ = planted(n_clips=6)
    means = pd.DataFrame({"c": votes.clip, "d": votes.dimension, "v": votes.value}).groupby(["c", "d"])["v"].mean()
    found = unbiased_labels(votes, np.arange(6), shrinkage=1e12)
    np.testing.assert_allclose(found, means.to_numpy().reshape(6, N_DIMENSIONS), atol=1e-9)


def test_it_comes_closer_to_the_truth_than_the_mean():
    votes, worth = planted(n_clips=200)
    # What all listeners have in common cannot be told from the clips' worth.
    wrong = (unbiased_labels(votes, np.arange(200), shrinkage) - worth for shrinkage in (0.25, 1e12))
    errors = [(w - w.mean(0)).std() for w in wrong]
    # Five votes: biases of .1 and noise of .05 leave .05 in a mean, noise alone .022.
    assert errors[0] < 0.6 * errors[1]


def test_votes_on_other_clips_change_nothing():
    votes, _ = planted()
    rows = np.arange(0, 30, 2)
    others = ~np.isin(votes.clip, rows)
    changed = Votes(votes.clip, votes.dimension, votes.rater, np.where(others, 0.0, votes.value))
    np.testing.assert_array_equal(unbiased_labels(changed, rows), unbiased_labels(votes, rows))


def test_rows_come_in_the_order_asked_for():
    votes, _ = planted(n_clips=6)
    np.testing.assert_allclose(
        unbiased_labels(votes, np.array([4, 1, 5])), unbiased_labels(votes, np.array([1, 4, 5]))[[1, 0, 2]], atol=1e-9
    )


def test_a_clip_without_a_vote_is_refused():
    votes, _ = planted(n_clips=3)
    kept = ~((votes.clip == 1) & (votes.dimension == 4))
    less = Votes(*(of[kept] for of in (votes.clip, votes.dimension, votes.rater, votes.value)))
    with pytest.raises(ValueError, match=f"clip 1 has no vote on '{NAMES[4]}'"):
        unbiased_labels(less, np.arange(3))


def test_votes_are_those_of_the_clean_labels():
    rng = np.random.default_rng(1)
    rows = [
        (clip, rater, dimension, value, duplicate)
        for clip in ("a", "b", "c")
        for rater, duplicate in (("x", False), ("x", True), ("x", False), ("y", False))
        for dimension in NAMES
        for value in [float(rng.integers(1, 8)) if rng.random() < 0.9 or rater == "y" else np.nan]
    ]
    ratings = pd.DataFrame(rows, columns=["clip", "rater", "dimension", "value", "duplicate"])
    votes = Votes.of(ratings, np.array(["c", "b", "z"]))
    found = pd.Series(votes.value).groupby([votes.clip, votes.dimension]).mean().to_numpy().reshape(2, N_DIMENSIONS)
    table = labels(ratings, "clean").pivot(index="clip", columns="dimension", values="value")
    np.testing.assert_allclose(found, table.loc[["c", "b"], list(NAMES)], rtol=1e-6)
    assert votes.rater.max() == 1
