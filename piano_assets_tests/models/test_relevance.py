"""Kernel ridge with relevance weights: its formula, its limits and what it is for."""

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.kernel_ridge import KernelRidge

from piano_assets.models.relevance import RelevanceKernelRidge, relevance, weighted_distances


def test_relevance_is_the_correlation_to_a_power():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 6)), rng.normal(size=(50, 3))
    x[:, 2] = 4.0
    found = relevance(x, y, 2.0)
    r = np.array([[0 if f == 2 else np.corrcoef(x[:, f], t)[0, 1] ** 2 for f in range(6)] for t in y.T])
    np.testing.assert_allclose(found, r / r.sum(1, keepdims=True), rtol=1e-9)


def test_a_target_that_nothing_goes_with_weighs_all_alike():
    x = np.random.default_rng(1).normal(size=(20, 4))
    np.testing.assert_array_equal(relevance(x, np.zeros((20, 1)), 2.0), np.full((1, 4), 0.25))


def test_distances_are_scipys(monkeypatch):
    rng = np.random.default_rng(2)
    a, b, w = rng.normal(size=(7, 5)), rng.normal(size=(9, 5)), rng.random((3, 5))
    monkeypatch.setattr("piano_assets.models.relevance._BLOCK", 4 * 5)  # blocks of 4 clips, the last one short
    found = weighted_distances(*(v.astype(np.float32) for v in (a, b, w)))
    want = np.stack([cdist(a, b, "cityblock", w=row) for row in w])
    np.testing.assert_allclose(found, want, rtol=1e-5)  # single precision


def test_without_relevance_it_is_laplacian_kernel_ridge():
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(60, 8)), rng.normal(size=(60, 2))
    y -= y.mean(0)
    ours = RelevanceKernelRidge(alpha=0.5, gamma=2.0, power=0.0).fit(x[:40], y[:40]).predict(x[40:])
    theirs = KernelRidge(alpha=0.5, kernel="laplacian", gamma=2.0 / 8).fit(x[:40], y[:40]).predict(x[40:])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)  # distances are in single precision


def test_each_target_has_a_kernel_of_its_own():
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(60, 8)), rng.normal(size=(60, 2))
    both = RelevanceKernelRidge().fit(x, y).predict(x[:5])
    alone = [RelevanceKernelRidge().fit(x, y[:, [k]]).predict(x[:5])[:, 0] for k in range(2)]
    np.testing.assert_allclose(both.T, alone, atol=1e-6)


def test_it_finds_two_features_among_many():
    rng = np.random.default_rng(5)
    x = rng.normal(size=(300, 200))
    y = np.sin(x[:, [0]]) + x[:, [1]]
    weighted, plain = (RelevanceKernelRidge(power=power).fit(x[:200], y[:200]).predict(x[200:]) for power in (2.0, 0.0))
    r = [np.corrcoef(p[:, 0], y[200:, 0])[0, 1] for p in (weighted, plain)]
    assert r[0] > r[1] + 0.2
