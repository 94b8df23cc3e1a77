"""What tests are worth, in its short form: some hundred experiments on a structure as uneven as PercePiano's."""

import numpy as np
import pytest

from piano_assets.analysis import secondary, worth
from piano_assets.analysis.planted import SCENARIOS, Scenario, draw, evidence
from piano_assets.analysis.primary import differences
from piano_assets.analysis.worth import family_wise, power, primary, sizes
from piano_assets.statistics import clustered
from piano_assets_tests.analysis.test_planted import BOTH, STRUCTURE


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda s: s.name)
def test_the_primary_test_holds_its_size_and_the_naive_one_does_not(scenario: Scenario):
    found = {s.test: s for s in sizes(STRUCTURE, scenario, 0.0, 100, np.random.default_rng(1), ("two_way_t", "clip_t"))}
    # 100 experiments: 5 % +- 4.4 (two sd); few and uneven groups cost some percent more than PercePiano's.
    assert 0.01 <= found["two_way_t"].rejected <= 0.11
    assert found["two_way_t"].covered == pytest.approx(1 - found["two_way_t"].rejected)
    naive = found["clip_t"].rejected
    assert naive <= 0.09 if scenario.name == "clips alone" else naive >= 0.15


def test_many_arms_at_once_are_tested_as_one_by_one():
    x = draw(STRUCTURE, BOTH, np.random.default_rng(2), n_arms=3)
    estimate, se = primary(x)
    told = evidence(x, np.random.default_rng(0))
    changes = [change[:, -1] for change in differences(told.pairs, "pearson_mean")]
    alone = clustered.two_way_t(told.estimate, changes, told.cluster, told.performer)
    assert (estimate[0], se[0]) == (pytest.approx(alone.estimate, rel=1e-10), pytest.approx(alone.se, rel=1e-8))
    df = clustered.degrees_of_freedom(told.cluster, told.performer)
    assert worth.p_values(estimate, se, df)[0] == pytest.approx(alone.p, rel=1e-8)
    assert len(set(se)) == 3


def test_what_is_announced_is_found():
    found = power(STRUCTURE, BOTH, 120, np.random.default_rng(3))
    # 80 % +- 7.3 (two sd of 120 experiments), and the announcement's own error: a pilot's variance is known to a third.
    assert found.found == pytest.approx(0.8, abs=0.1)
    assert found.single == pytest.approx(0.8, abs=0.05)
    assert found.spread[0] < found.single < found.spread[1]


def test_holm_keeps_the_family():
    # 5 % + 4.4 (two sd of 100 experiments).
    assert family_wise(STRUCTURE, BOTH, 6, 100, np.random.default_rng(4)) <= 0.094


def test_a_family_that_differs_is_rejected(monkeypatch):
    """Arms of another accuracy stand in for a true null: Holm must then see them."""
    monkeypatch.setattr(worth, "draw", lambda *of, n_arms, **_: draw(*of, gain=0.3, n_arms=n_arms))
    assert family_wise(STRUCTURE, BOTH, 3, 10, np.random.default_rng(4)) > 0.9


def test_every_test_of_the_table_says_something(monkeypatch):
    monkeypatch.setattr(secondary, "N_RESAMPLES", 99)
    monkeypatch.setattr(secondary, "N_FLIPS", 99)
    found = list(sizes(STRUCTURE, BOTH, 0.4, 5, np.random.default_rng(5)))
    assert [s.test for s in found] == ["two_way_t", *secondary.SECONDARY, "zou_interval"]
    assert {s.test for s in found if s.covered is None} == {"sign_flip_cluster", "sign_flip_performer"}
    assert all(s.rejected == 1 for s in found), "a difference of .4 is seen by all"


def test_monte_carlo_intervals_are_wilsons():
    """Wilson's interval of 5 of 100: .0215 to .1118 (Newcombe 1998, by his formula)."""
    np.testing.assert_allclose(worth.monte_carlo_interval(0.05, 100), [0.0215, 0.1118], atol=5e-5)
