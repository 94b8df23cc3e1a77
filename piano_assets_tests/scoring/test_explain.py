"""Shapley values and single effects: closed forms, sums, and brute force over orders."""

import itertools

import numpy as np
import pytest

from piano_assets.scoring.explain import effects, shapley

GROUPS = [np.array([0, 3]), np.array([1]), np.array([2, 4])]


def bent(x):
    """(n, 5) -> (n, 2), with interactions within and between groups."""
    return np.stack([x[:, 0] * x[:, 1] + np.sin(x[:, 2]) * x[:, 3], np.tanh(x.sum(1))], axis=1)


def test_a_linear_models_groups_bring_their_terms():
    rng = np.random.default_rng(0)
    w, x, reference = rng.normal(size=(5, 2)), rng.normal(size=5), rng.normal(size=5)
    found = shapley(lambda rows: rows @ w, x, reference, GROUPS)
    terms = (x - reference)[:, None] * w
    np.testing.assert_allclose(found, [terms[g].sum(0) for g in GROUPS], atol=1e-12)
    np.testing.assert_allclose(effects(lambda rows: rows @ w, x, reference), terms, atol=1e-12)


def test_they_are_the_mean_over_all_orders_and_sum_to_the_difference():
    rng = np.random.default_rng(1)
    x, reference = rng.normal(size=5), rng.normal(size=5)
    by_order = np.zeros((3, 2))
    for order in itertools.permutations(range(3)):
        row = reference.copy()
        for k in order:
            before = bent(row[None])[0]
            row[GROUPS[k]] = x[GROUPS[k]]
            by_order[k] += (bent(row[None])[0] - before) / 6
    found = shapley(bent, x, reference, GROUPS)
    np.testing.assert_allclose(found, by_order, atol=1e-12)
    np.testing.assert_allclose(found.sum(0), bent(x[None])[0] - bent(reference[None])[0], atol=1e-12)


def test_what_is_as_in_the_reference_moves_nothing_and_groups_must_hold_all():
    x = np.array([1.0, np.nan, 3.0, 4.0, 5.0])
    reference = np.array([1.0, 2.0, 2.0, 4.0, np.nan])
    found = effects(lambda rows: np.nan_to_num(rows)[:, :3], x, reference)
    np.testing.assert_array_equal(found, [[0, 0, 0], [0, 0, 0], [0, 0, 1], [0, 0, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match=r"groups must hold each of 5 columns once \(hold 4\)"):
        shapley(bent, x, reference, [np.array([0, 3]), np.array([1, 2])])
