"""Label smoothing for regression, which has no canonical form: labels move towards the training mean."""

import torch
from torch import Tensor

VARIANCE_FLOOR = 1e-4
"""Least variance of true ratings, a tenth of the labels' spread squared: noise never explains a dimension wholly."""


def smoothed(target: Tensor, mean: Tensor, share: float) -> Tensor:
    """Every label moved by `share` of its way to the training mean: (n, 19), (19,) -> (n, 19).

    As label smoothing of classes moves towards the uniform distribution (Szegedy et al. 2016, sec. 7). Correlations of
    labels are unchanged.
    """
    return torch.lerp(target, mean.expand_as(target), share)


def spread_smoothed(target: Tensor, error: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Every label moved to the training mean by the share of its variance that is rater noise.

    The best guess of the true rating, given the label, when both are normal (empirical Bayes, Efron & Morris 1975).

    Args:
        target, error: (n, 19), labels and their standard errors. mean: (19,).
        variance: (19,), of true ratings: that of labels less the mean squared error; floored at `VARIANCE_FLOOR`.
    """
    true = variance.clamp(min=VARIANCE_FLOOR)
    return mean + (target - mean) * true / (true + error.square())
