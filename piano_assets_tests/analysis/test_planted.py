"""Planted truth: what is drawn has the shares, the accuracy and the difference that it is said to have."""

import numpy as np
import pytest
from scipy import stats

from piano_assets.analysis.planted import SCENARIOS, R, Structure, draw, effects, evidence, mean_r

RNG = np.random.default_rng(31)
# 18 clusters of 1 to 4 excerpts, each excerpt played by 12 of 16 players, some much more often than others.
EXCERPT = np.repeat(np.arange(36), 12)
CLUSTER = np.minimum(EXCERPT // np.array([1, 2, 3, 4])[EXCERPT % 4], 17)
WEIGHT = np.r_[np.full(8, 3.0), np.full(8, 1.0)] / 32
PERFORMER = np.concatenate([RNG.choice(16, 12, replace=False, p=WEIGHT) for _ in range(36)])
STRUCTURE = Structure(CLUSTER, PERFORMER, CLUSTER % 5)
BOTH = next(s for s in SCENARIOS if s.name == "both")


def test_effects_have_the_declared_shares():
    many = effects(STRUCTURE, (0.3, 0.2), 4000, np.random.default_rng(0))
    covariance = np.cov(many)
    same = [groups[:, None] == groups for groups in (CLUSTER, PERFORMER)]
    other = ~np.eye(len(CLUSTER), dtype=bool)
    # Correlations over 4,000 draws err by .016 each, and thousands are averaged.
    assert covariance.diagonal().mean() == pytest.approx(1, abs=0.01)
    assert covariance[same[0] & ~same[1] & other].mean() == pytest.approx(0.3, abs=0.01)
    assert covariance[same[1] & ~same[0] & other].mean() == pytest.approx(0.2, abs=0.01)
    assert covariance[~same[0] & ~same[1]].mean() == pytest.approx(0, abs=0.01)


def test_the_difference_is_planted_half_on_each_side():
    found = []
    for _ in range(200):
        x = draw(STRUCTURE, BOTH, RNG, 0.1, n_arms=2)
        found.append([*mean_r(x.arms, x.target), mean_r(x.reference, x.target)])
    # The correlation of few clusters is biased by some thousandths; a mean of 200 errs by .004, differences by .003.
    np.testing.assert_allclose(np.mean(found, axis=0), [R + 0.05, R + 0.05, R - 0.05], atol=0.015)
    assert np.diff(np.mean(found, axis=0))[-1] == pytest.approx(-0.1, abs=0.01)


def test_the_tests_are_told_the_first_arm_and_the_reference():
    x = draw(STRUCTURE, BOTH, np.random.default_rng(1), 0.1, n_arms=2)
    told = evidence(x, RNG)
    sides = (x.arms[0], x.reference)
    r = [np.mean([stats.pearsonr(s[:, d], x.target[:, d]).statistic for d in range(5)]) for s in sides]
    assert told.estimate == pytest.approx(r[0] - r[1], rel=1e-10)
    ((arm, reference),) = told.pairs
    np.testing.assert_array_equal(arm.view.pred, x.arms[0])
    np.testing.assert_array_equal(reference.view.pred, x.reference)
    # Influence values sum to zero, and their spread is that of a jackknife over clips (first order in 1/432).
    assert told.contributions.sum() == pytest.approx(0, abs=1e-12)
    kept = [np.delete(np.arange(432), i) for i in range(0, 432, 9)]
    rest = np.array([[mean_r(side[k], x.target[k]) for side in sides] for k in kept])
    gone = told.estimate - (rest[:, 0] - rest[:, 1])
    np.testing.assert_allclose(told.contributions[::9], gone, atol=0.02 * abs(gone).max())
