"""Estimates without one group after the other, against computing them anew from the clips that are left."""

import numpy as np
import pytest

from piano_assets.metrics.regression import METRICS
from piano_assets.statistics import jackknife
from piano_assets.statistics.jackknife import Left
from piano_assets.statistics.resampling import MOMENTS

RNG = np.random.default_rng(12)
N, D = 150, 3
CLUSTER = RNG.choice(9, N, p=np.arange(1, 10) / 45)
PERFORMER = RNG.integers(0, 6, N) + 3  # codes need not begin with 0
TARGET = 0.5 + 0.1 * RNG.normal(size=(N, D))
PRED = 0.4 * TARGET + 0.3 + 0.05 * RNG.normal(size=(N, D))
GROUPINGS = jackknife.groupings(CLUSTER, PERFORMER)


@pytest.mark.parametrize("metric", MOMENTS)
def test_the_change_is_that_of_the_clips_that_are_left(metric):
    got = jackknife.changes([metric], PRED, TARGET, CLUSTER, PERFORMER)[metric]
    for codes, left in zip(GROUPINGS, got, strict=True):
        assert left.groups.tolist() == np.unique(codes).tolist()
        rest = [METRICS[metric](PRED[codes != g], TARGET[codes != g]) for g in left.groups]
        # Differences of values below 1 that sums of 150 clips give to 1e-13.
        np.testing.assert_allclose(left.change, METRICS[metric](PRED, TARGET) - rest, rtol=1e-8, atol=1e-12)


def test_pairs_are_the_clips_of_one_performer_in_one_cluster():
    both = GROUPINGS[2]
    same = (CLUSTER[:, None] == CLUSTER) & (PERFORMER[:, None] == PERFORMER)
    np.testing.assert_array_equal(both[:, None] == both, same)


def test_first_order_is_exact_for_a_mean():
    values = RNG.normal(size=(N, 2))
    for codes in GROUPINGS:
        left = jackknife.first_order((values - values.mean(0)) / N, codes)
        want = values.mean(0) - np.array([values[codes != g].mean(0) for g in left.groups])
        np.testing.assert_allclose(left.change, want, rtol=1e-10, atol=1e-15)


def test_first_order_is_the_limit_of_small_groups():
    """Each clip alone among 4,000: what is left out beyond the first order is of the order 1 / n of it."""
    from piano_assets.statistics import influence

    target = RNG.normal(size=(4000, 1))
    pred = target + RNG.normal(size=(4000, 1))
    alone = np.arange(4000)
    exact = jackknife.changes(["pearson"], pred, target, alone, alone)["pearson"][0].change
    first = jackknife.first_order(influence.pearson(pred, target) / 4000, alone).change
    assert abs(exact - first).max() < 0.01 * abs(first).max()
    np.testing.assert_allclose(jackknife.variance(exact), jackknife.variance(first), rtol=0.01)


def test_single_clips_give_the_variance_of_a_mean():
    values = RNG.normal(size=(40, 1))
    left = jackknife.first_order((values - values.mean()) / 40, np.arange(40))
    np.testing.assert_allclose(jackknife.variance(left.change), values.var(ddof=1) / 40, rtol=1e-12)


def test_a_mean_over_repeats_loses_its_group_in_each():
    """The second repeat does not have the first cluster: there nothing is lost."""
    rows = [np.arange(N), np.flatnonzero(CLUSTER != 0)]
    parts = [
        jackknife.changes(["mse"], PRED[r], TARGET[r] + 0.01 * i, CLUSTER[r], PERFORMER[r])["mse"]
        for i, r in enumerate(rows)
    ]

    def mean(kept: np.ndarray) -> np.ndarray:
        chosen = [r[kept[r]] for r in rows]
        return np.mean([METRICS["mse"](PRED[r], TARGET[r] + 0.01 * i) for i, r in enumerate(chosen)], axis=0)

    for codes, left in zip(GROUPINGS, jackknife.average(parts), strict=True):
        assert left.groups.tolist() == np.unique(codes).tolist()
        want = [mean(np.full(N, True)) - mean(codes != g) for g in left.groups]
        np.testing.assert_allclose(left.change, want, rtol=1e-8, atol=1e-14)


def test_differences_are_of_the_same_groups():
    one, other = (Left(np.array(groups), np.full((len(groups), 1), 0.5)) for groups in ([1, 2], [1, 3]))
    assert (jackknife.less((one,), (one,))[0].change == 0).all()
    with pytest.raises(ValueError, match="same groups"):
        jackknife.less((one,), (other,))


def test_what_nothing_is_left_of_is_undefined():
    alone = np.zeros(N, int)
    by_cluster, by_performer, _ = jackknife.changes(["pearson"], PRED, TARGET, alone, PERFORMER)["pearson"]
    assert np.isnan(by_cluster.change).all()
    assert np.isfinite(by_performer.change).all()
    lone = jackknife.changes(["pearson"], PRED, TARGET, alone, alone)["pearson"]
    assert all(np.isnan(left.change).all() for left in lone)


@pytest.mark.parametrize("codes", [np.array(["a"] * N), np.full(N, -1), np.full(N, 2**31), np.full(N, 0.5)])
def test_codes_are_integers(codes):
    with pytest.raises(ValueError, match=r"performer must be integer codes in 0\.\.2\^31 - 1"):
        jackknife.groupings(CLUSTER, codes)


def test_one_group_has_no_variance():
    with pytest.raises(ValueError, match="at least 2 groups, got 1"):
        jackknife.variance(np.ones((1, 2)))
    with pytest.raises(ValueError, match="at least 2 groups, got 1"):
        jackknife.first_order(np.ones((3, 1)), np.zeros(3))
