"""Weights against scipy, scikit-learn and brute force."""

import itertools

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import lsq_linear, nnls
from sklearn.ensemble import StackingRegressor
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import KFold, cross_val_predict

from piano_assets.ensembles.weights import WEIGHTS, greedy, stacking, stacking_shared

RNG = np.random.default_rng(11)
TARGET = RNG.random((60, 19))
SEEN = np.stack([TARGET + RNG.normal(0, s, TARGET.shape) for s in (0.1, 0.2, 0.3)] + [RNG.random(TARGET.shape)])


def mean_r(pred: np.ndarray) -> float:
    return float(np.mean([stats.pearsonr(pred[:, d], TARGET[:, d])[0] for d in range(19)]))


def test_stacking_is_bounded_least_squares_in_each_dimension():
    weights = stacking(SEEN, TARGET)
    assert weights.shape == (4, 19)
    for d in (0, 7, 18):
        want = lsq_linear(SEEN[:, :, d].T, TARGET[:, d], (0, np.inf), method="bvls", tol=1e-14).x
        np.testing.assert_allclose(weights[:, d], want, rtol=1e-8, atol=1e-10)


def test_stacking_is_scikit_learns_with_non_negative_weights():
    """One dimension, whose members are ridges and whose inner predictions are scikit-learn's own."""
    x = RNG.normal(size=(60, 6))
    y = x @ RNG.normal(size=6) + RNG.normal(size=60) + 3
    members, folds = [("a", Ridge(alpha=1)), ("b", Ridge(alpha=50)), ("c", Ridge(alpha=1000))], KFold(4)
    final = LinearRegression(positive=True, fit_intercept=False)
    peer = StackingRegressor(members, final_estimator=final, cv=folds).fit(x, y)
    seen = np.stack([cross_val_predict(model, x, y, cv=folds) for _, model in members])
    weights = stacking(seen[..., None], y[:, None])[:, 0]
    np.testing.assert_allclose(weights, peer.final_estimator_.coef_, rtol=1e-8, atol=1e-12)
    tested = np.stack([model.fit(x, y).predict(x) for _, model in members])
    np.testing.assert_allclose(weights @ tested, peer.predict(x), rtol=1e-8)


def test_shared_weights_are_those_of_all_dimensions_below_one_another():
    long = np.concatenate([SEEN[:, :, d] for d in range(19)], axis=1)
    want = nnls(long.T, np.concatenate([TARGET[:, d] for d in range(19)]))[0]
    np.testing.assert_allclose(stacking_shared(SEEN, TARGET), want, rtol=1e-9, atol=1e-12)


def test_a_perfect_member_has_all_the_weight():
    seen = np.concatenate([SEEN[1:], TARGET[None]])
    np.testing.assert_allclose(stacking(seen, TARGET), np.eye(4)[3][:, None] * np.ones(19), atol=1e-8)
    np.testing.assert_allclose(stacking_shared(seen, TARGET), np.eye(4)[3], atol=1e-8)
    np.testing.assert_allclose(greedy(seen, TARGET), np.eye(4)[3])


def test_greedy_selection_is_the_brute_force_of_its_definition():
    """Every multiset of each size that extends the last one, scored by scipy."""
    chosen: list[int] = []
    path = []
    for _ in range(6):
        options = {k: mean_r(np.mean(SEEN[[*chosen, k]], axis=0)) for k in range(4)}
        pick = max(options, key=options.get)
        chosen.append(pick)
        path.append(options[pick])
    best = int(np.argmax(path)) + 1
    want = np.bincount(chosen[:best], minlength=4) / best
    np.testing.assert_allclose(greedy(SEEN, TARGET, picks=6), want)
    assert best > 1, "more than one pick counts here"


def test_greedy_selection_of_two_members_is_the_best_of_all_mixtures_of_that_many_picks():
    """With two members it can reach every mixture in sixths but the order of picks: compared with all of them."""
    two = SEEN[[0, 1]]
    found = mean_r(np.tensordot(greedy(two, TARGET, picks=6), two, 1))
    every = [mean_r(np.mean(two[list(m)], axis=0)) for n in range(1, 7) for m in itertools.product((0, 1), repeat=n)]
    assert found == pytest.approx(max(every), abs=1e-9)


@pytest.mark.parametrize("rule", WEIGHTS)
def test_weights_are_finite_and_not_negative_even_for_constant_members(rule):
    weights = WEIGHTS[rule](np.concatenate([SEEN, np.full((1, *TARGET.shape), 0.5)]), TARGET)
    assert weights.shape in ((5,), (5, 19))
    assert np.isfinite(weights).all()
    assert (weights >= 0).all()
    assert (weights.sum(0) > 0.5).all()
