"""Label smoothing for ratings: labels moved towards the training mean. Regression has no canonical form of it."""

from torch import Tensor

VARIANCE_FLOOR = 0.1
"""Least share of the labels' variance that is taken for real, however noisy the raters seem."""


def smoothed(target: Tensor, mean: Tensor, share: float) -> Tensor:
    """Move every label by `share` of its distance to the training mean, after Szegedy et al. (2016), section 7.

    Order and correlations of labels stay as they are: what changes is the pull of outlying ones.

    Args:
        target: (..., n_clips, 19). mean: (..., 19), of the training labels. share: in [0, 1].
    """
    return target + share * (_rows(mean) - target)


def true_variance(target: Tensor, error: Tensor) -> Tensor:
    """Variance of labels without rater noise, (..., 19): theirs less the mean squared standard error.

    Args:
        target, error: (..., n_clips, 19), of the training clips.

    Observed labels are true ones plus noise that does not depend on them, so that variances add. Where this leaves
    less than `VARIANCE_FLOOR` of the variance, that share is returned.
    """
    observed = target.var(-2, correction=0)
    return (observed - error.square().mean(-2)).maximum(VARIANCE_FLOOR * observed)


def spread_smoothed(target: Tensor, error: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Move every label towards the training mean by the share of its variance that is rater noise.

    What remains of a label's distance to the mean is variance / (variance + error^2): the posterior mean of a true
    rating under normal noise and a normal prior (empirical Bayes: Efron & Morris 1973; Kelley's 1927 formula, with the
    reliability of each single label). Labels without error stay; labels that say nothing become the mean.

    Args:
        target, error: (..., n_clips, 19). mean, variance: (..., 19), of the training labels; see `true_variance`.
    """
    # Where labels do not vary at all the mean is all there is to know.
    kept = _rows(variance).clamp(min=1e-12)
    return _rows(mean) + (target - _rows(mean)) * kept / (kept + error.square())


def _rows(per_dimension: Tensor) -> Tensor:
    return per_dimension[..., None, :]
