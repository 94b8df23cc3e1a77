"""Smoothed labels in their limits, against scikit-learn's Bayes and against simulated raters."""

import numpy as np
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel

from piano_assets.training.smoothing import VARIANCE_FLOOR, smoothed, spread_smoothed, true_variance

N = 400


def rated(seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """True ratings of spread 0.1, labels with noise of 0.02 to 0.2, and the noise's standard errors."""
    g = torch.Generator().manual_seed(seed)
    truth = 0.6 + 0.1 * torch.randn(N, 19, generator=g, dtype=torch.float64)
    error = 0.02 + 0.18 * torch.rand(N, 19, generator=g, dtype=torch.float64)
    return truth, truth + error * torch.randn(N, 19, generator=g, dtype=torch.float64), error


def test_smoothed_by_hand_and_in_its_limits():
    target, mean = torch.tensor([[0.2, 0.9], [0.4, 0.5]]), torch.tensor([0.5, 0.6])
    torch.testing.assert_close(smoothed(target, mean, 0.1), torch.tensor([[0.23, 0.87], [0.41, 0.51]]))
    assert torch.equal(smoothed(target, mean, 0.0), target)
    torch.testing.assert_close(smoothed(target, mean, 1.0), mean.expand(2, 2))


def test_smoothing_keeps_mean_and_order():
    target = rated()[1]
    got = smoothed(target, target.mean(0), 0.3)
    torch.testing.assert_close(got.mean(0), target.mean(0))
    torch.testing.assert_close(got.std(0), 0.7 * target.std(0))
    assert torch.equal(got.argsort(0), target.argsort(0))


def test_labels_without_error_stay_and_those_that_say_nothing_become_the_mean():
    _, target, error = rated()
    mean, variance = target.mean(0), true_variance(target, error)
    torch.testing.assert_close(spread_smoothed(target, 0 * error, mean, variance), target)
    torch.testing.assert_close(spread_smoothed(target, 1e6 + error, mean, variance), mean.expand(N, 19))
    # Half the way where noise and signal are equal.
    half = spread_smoothed(target, variance.sqrt().expand(N, 19), mean, variance)
    torch.testing.assert_close(half, (target + mean) / 2)
    constant = torch.full_like(target, 0.5)
    assert (spread_smoothed(constant, error, constant.mean(0), constant.var(0)) == 0.5).all()


def test_is_the_posterior_mean_of_a_normal_prior():
    prior, mean, label, error = 0.1, 0.6, 0.85, 0.07
    model = GaussianProcessRegressor(ConstantKernel(prior**2), alpha=error**2, optimizer=None)
    want = mean + model.fit([[0.0]], [label - mean]).predict([[0.0]])
    got = spread_smoothed(*(torch.full((1, 1), x, dtype=torch.float64) for x in (label, error)), *priors(mean, prior))
    np.testing.assert_allclose(got[0], want, rtol=1e-9)


def priors(mean: float, deviation: float) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.full((1,), mean, dtype=torch.float64), torch.full((1,), deviation**2, dtype=torch.float64)


def test_true_variance_is_found_and_floored():
    truth, target, error = rated()
    # A variance of 400 labels has a relative standard error of 7 % of the observed 0.025, 18 % of the true 0.01; the
    # mean of 19 a standard error of 4 %: 4 of them.
    assert abs(true_variance(target, error).mean() / truth.var(0).mean() - 1) < 0.16
    observed = target.var(0, correction=0)
    torch.testing.assert_close(true_variance(target, 10 * error), VARIANCE_FLOOR * observed)
    torch.testing.assert_close(true_variance(target, 0 * error), observed)


def test_shrunken_labels_are_nearer_the_truth_than_labels_or_any_equal_shrinkage():
    truth, target, error = rated()
    mean = target.mean(0)
    off = [
        (x - truth).square().mean().item()
        for x in (
            target,
            *(smoothed(target, mean, share) for share in np.arange(0.05, 1, 0.05)),
            spread_smoothed(target, error, mean, true_variance(target, error)),
        )
    ]
    assert off[-1] < 0.95 * min(off[:-1])
    # What Bayes' rule leaves of normal noise at least, to within 4 standard errors and 2 % for the estimated variance.
    least = (0.01 * error**2 / (0.01 + error**2)).mean().item()
    assert abs(off[-1] / least - 1) < 4 * np.sqrt(2 / (19 * N)) + 0.02


def test_members_have_their_own_means():
    _, target, error = rated()
    stack, errors = torch.stack([target, target + 0.1]), torch.stack([error, error / 2])
    means, variances = stack.mean(1), true_variance(stack, errors)
    for i in range(2):
        torch.testing.assert_close(smoothed(stack, means, 0.2)[i], smoothed(stack[i], means[i], 0.2))
        torch.testing.assert_close(
            spread_smoothed(stack, errors, means, variances)[i],
            spread_smoothed(stack[i], errors[i], means[i], true_variance(stack[i], errors[i])),
        )
