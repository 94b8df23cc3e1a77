"""Adapting between works: the CORAL loss, the reversed gradient, and what each method may look at."""

import math

import numpy as np
import pytest
import torch

from piano_assets.adaptation import between_works
from piano_assets.adaptation.between_works import adversary_weight, coral_loss, reverse_gradient
from piano_assets_tests.adaptation.world import one_fold

RNG = np.random.default_rng(1)


def test_the_coral_loss_is_zero_for_equal_covariances_whatever_the_means():
    x = torch.from_numpy(RNG.normal(size=(20, 4)))
    turned = torch.cat([x, -x]) + 3  # the same covariance about another mean
    torch.testing.assert_close(coral_loss(x, x + 7), torch.tensor(0.0, dtype=torch.float64), atol=1e-25, rtol=0)
    both = torch.cat([x, -x])
    assert float(coral_loss(both, turned)) < 1e-25


def test_the_coral_loss_by_hand():
    """Covariances [[2, 0], [0, 0]] and [[2, 2], [2, 2]]: squared differences 0 + 4 + 4 + 4, over 4 * 2^2."""
    source = torch.tensor([[-1.0, 5.0], [1.0, 5.0]])
    target = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    assert float(coral_loss(source, target)) == pytest.approx(12 / 16)


def test_the_coral_loss_agrees_with_numpy_on_sides_of_unequal_size():
    a, b = RNG.normal(size=(30, 6)), RNG.normal(size=(11, 6)) * 2
    want = np.square(np.cov(a.T) - np.cov(b.T)).sum() / (4 * 36)
    assert float(coral_loss(torch.from_numpy(a), torch.from_numpy(b))) == pytest.approx(want, rel=1e-10)


def test_reversal_leaves_the_forward_pass_alone_and_turns_the_gradient_round():
    x = torch.from_numpy(RNG.normal(size=(3, 2))).requires_grad_()
    weight = torch.from_numpy(RNG.normal(size=(3, 2)))
    assert torch.equal(reverse_gradient(x, 0.7), x)
    (reversed_,) = torch.autograd.grad((reverse_gradient(x, 0.7).square() * weight).sum(), x)
    (plain,) = torch.autograd.grad((x.square() * weight).sum(), x)
    assert torch.equal(reversed_, -0.7 * plain)
    (once,) = torch.autograd.grad((reverse_gradient(x).square() * weight).sum(), x)
    assert torch.equal(once, -plain)


def test_the_adversary_starts_at_nothing_and_grows_to_one():
    assert adversary_weight(0) == 0
    assert adversary_weight(1) == pytest.approx(math.tanh(5))
    assert np.all(np.diff([adversary_weight(t) for t in np.linspace(0, 1, 11)]) > 0)


def test_an_alignment_that_weighs_nothing_is_source_only(monkeypatch):
    fold = one_fold(support=0)
    monkeypatch.setattr(between_works, "CORAL_WEIGHT", 0.0)
    np.testing.assert_allclose(
        between_works.coral(fold)["clean"], between_works.source_only(fold)["clean"], rtol=1e-4, atol=1e-5
    )


def test_coral_draws_the_covariances_together_on_a_target_of_another_spread(monkeypatch):
    fold = one_fold(support=0)
    fold.x[fold.test] *= torch.tensor([3.0, 1.0, 1.0, 0.2, 1.0])
    kept = {}

    def keep(model, *_):
        kept["model"] = model
        return np.zeros((len(fold.test), 19))

    monkeypatch.setattr(between_works, "predict", keep)
    gaps = []
    for weight in (0.0, 100.0):
        monkeypatch.setattr(between_works, "CORAL_WEIGHT", weight)
        between_works.coral(fold)
        with torch.no_grad():
            source, target = (kept["model"].encoder(fold.x[rows][None])[0] for rows in (fold.train, fold.test))
            gaps.append(float(coral_loss(source, target)))
    assert gaps[1] < 0.5 * gaps[0]


def test_features_standardised_by_work_have_the_moments_of_each(monkeypatch):
    fold = one_fold(support=0)
    fold.x[fold.groups.work == 1] = fold.x[fold.groups.work == 1] * 0.5 + 1
    seen = {}
    monkeypatch.setattr(between_works, "source_only", lambda of: seen.setdefault("x", of.x))
    between_works.standardised_by_work(fold)
    for work in (0, 1):
        x = seen["x"][torch.from_numpy(fold.groups.work == work)]
        torch.testing.assert_close(x.mean(0), torch.zeros(5), atol=1e-5, rtol=0)
        torch.testing.assert_close(x.std(0, correction=0), torch.ones(5), atol=1e-5, rtol=0)


def test_a_small_target_is_one_batch_and_a_large_one_is_seen_whole():
    fold = one_fold(support=0)
    drawn = between_works._targets(fold, size=10**6)
    assert len(next(drawn)) == len(fold.test)
    batches = between_works._targets(fold, size=12)
    seen = torch.cat([next(batches) for _ in range(len(fold.test) // 12)])
    assert len(torch.unique(seen, dim=0)) == len(fold.test)
