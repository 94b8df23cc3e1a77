"""Planted truth in its short form: a few hundred experiments on a structure as uneven as PercePiano's."""

import numpy as np
import pytest

from piano_assets.analysis import planted
from piano_assets.analysis.planted import SCENARIOS, Scenario, Structure, detectable, draws, effects, family_wise, sizes

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


def test_the_true_difference_is_the_planted_one():
    found = [x.estimate for _ in range(400) for x in draws(STRUCTURE, BOTH, RNG, (0.1,))]
    # The correlation of few clusters is biased by some thousandths; the mean of 400 errs by .002.
    assert np.mean(found) == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_the_primary_test_holds_its_size_and_the_naive_one_does_not(scenario: Scenario):
    found = {s.test: s for s in sizes(STRUCTURE, scenario, 0.0, 400, np.random.default_rng(1), ("two_way_t", "clip_t"))}
    # 400 experiments: 5 % +- 2.2 (two sd); few and uneven groups cost some percent more than PercePiano's.
    assert 0.01 <= found["two_way_t"].rejected <= 0.11
    assert found["two_way_t"].covered >= 0.89
    naive = found["clip_t"].rejected
    assert naive <= 0.08 if scenario.name == "clips alone" else naive >= 0.15


def test_what_is_announced_is_found():
    gain = detectable(STRUCTURE, BOTH, 100, np.random.default_rng(2))
    (found,) = sizes(STRUCTURE, BOTH, gain, 300, np.random.default_rng(3), ("two_way_t",))
    # 80 % +- 4.6 (two sd of 300 experiments), and as much for the announcement's own simplification.
    assert 0.70 <= found.rejected <= 0.90


def test_holm_keeps_the_family():
    assert family_wise(STRUCTURE, BOTH, 6, 200, np.random.default_rng(4)) <= 0.11


def test_every_test_says_something(monkeypatch):
    monkeypatch.setattr(planted, "N_RESAMPLES", 99)
    found = list(sizes(STRUCTURE, BOTH, 0.6 - planted.REFERENCE_R, 5, np.random.default_rng(5)))
    assert [s.test for s in found] == list(planted.TESTS)
    assert {s.test for s in found if s.covered is None} == {"sign_flip_cluster", "sign_flip_performer"}


def test_monte_carlo_intervals_are_wilsons():
    """Wilson's interval of 5 of 100: .0215 to .1118 (Newcombe 1998, by his formula)."""
    np.testing.assert_allclose(planted.monte_carlo_interval(0.05, 100), [0.0215, 0.1118], atol=5e-5)
