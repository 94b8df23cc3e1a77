"""Losses: how far predictions are from labels, one number for each member of a stack.

Every loss is `loss(pred, target, error)`: predictions, labels and the labels' standard errors (finite, > 0), each
(..., n_clips, 19) on the 0..1 scale; it returns (...). A single member's clips, (n_clips, 19), give a scalar.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

LABEL_SPREAD = 0.1
"""About one standard deviation of labels, 0.7 rating points: the unit in which errors and differences are judged."""

HUBER_DELTA = LABEL_SPREAD
"""Where the Huber loss turns linear."""

FOCAL_BETA, FOCAL_GAMMA = 5.0, 1.0
"""Focal-R: an error of `LABEL_SPREAD` has weight 0.24. (The paper's beta of 0.2 is for ages in years.)"""

RANKING_SCALE = 1 / LABEL_SPREAD
"""Logits per difference of two predictions: those that lie `LABEL_SPREAD` apart are ordered with odds of e to 1."""

COMBINED = {"mse": 1 / LABEL_SPREAD**2, "correlation": 1.0, "ranking": 1.0}
"""Weights of `combined`. Predicting the mean, the parts then come to about 1, 1 and 0.7."""

SPREAD_FLOOR = 1e-3
"""Standard deviations below a hundredth of the labels' count as this: gradients stay finite, r is unchanged above."""

CONSTANT = 1e-6
"""Predictions whose standard deviation is below this are constant but for float32's rounding."""


def mse(pred: Tensor, target: Tensor, error: Tensor) -> Tensor:
    """Mean squared error."""
    return (pred - target).square().mean((-2, -1))


def huber(pred: Tensor, target: Tensor, error: Tensor) -> Tensor:
    """Quadratic below `HUBER_DELTA`, linear above (Huber 1964): an outlying label pulls with bounded force."""
    return F.huber_loss(pred, target, reduction="none", delta=HUBER_DELTA).mean((-2, -1))


def focal_mse(
    pred: Tensor, target: Tensor, error: Tensor, *, beta: float = FOCAL_BETA, gamma: float = FOCAL_GAMMA
) -> Tensor:
    """Focal-R with a sigmoid: squared errors weighted by (2 sigmoid(beta |e|) - 1)^gamma, so that easy clips fade.

    Yang et al. (2021), Delving into Deep Imbalanced Regression, section 4. gamma = 0 or beta to infinity give `mse`.
    """
    e = pred - target
    return (e.square() * (2 * torch.sigmoid(beta * e.abs()) - 1) ** gamma).mean((-2, -1))


def rater_weighted(pred: Tensor, target: Tensor, error: Tensor) -> Tensor:
    """Squared errors averaged with weights inverse to the label's standard error: labels raters agree on count more.

    Weights sum to one over the clips and dimensions of the batch.
    """
    weight = 1 / error
    return (weight * (pred - target).square()).sum((-2, -1)) / weight.sum((-2, -1))


def correlation(pred: Tensor, target: Tensor, error: Tensor) -> Tensor:
    """1 - Pearson's r over the clips of the batch, averaged over dimensions: 0 is best, 2 worst.

    A deviation below `SPREAD_FLOOR` counts as the floor: constant predictions or labels have r = 0, and constant
    predictions a finite gradient towards the labels. r of a small batch is noisy and biased towards 0.
    """
    p, t = _centred(pred), _centred(target)
    return 1 - ((p * t).mean(-2) / (_deviation(p) * _deviation(t))).mean(-1)


def concordance(pred: Tensor, target: Tensor, error: Tensor) -> Tensor:
    """1 - Lin's (1989) concordance coefficient with 1/n moments, averaged over dimensions.

    Unlike `correlation` it punishes wrong means and spreads. Constant predictions have a coefficient of 0.
    """
    p, t = _centred(pred), _centred(target)
    gap = (pred.mean(-2) - target.mean(-2)).square()
    total = p.square().mean(-2) + t.square().mean(-2) + gap
    return 1 - (2 * (p * t).mean(-2) / total.clamp(min=SPREAD_FLOOR**2)).mean(-1)


def ranking(pred: Tensor, target: Tensor, error: Tensor) -> Tensor:
    """RankNet: logistic loss over all pairs of clips of the batch, in every dimension; tied labels make no pair.

    Burges et al. (2005), with logits `RANKING_SCALE` times the difference of predictions. A batch without any pair
    gives 0 and no gradient.
    """
    # At [..., i, j, :] clip i against clip j; each pair once, with the higher label as i.
    logit = RANKING_SCALE * (pred[..., :, None, :] - pred[..., None, :, :])
    higher = (target[..., :, None, :] > target[..., None, :, :]).to(pred.dtype)
    return (F.softplus(-logit) * higher).sum((-3, -2, -1)) / higher.sum((-3, -2, -1)).clamp(min=1)


def combined(pred: Tensor, target: Tensor, error: Tensor) -> Tensor:
    """Error, correlation and order at once, with the fixed weights `COMBINED`."""
    losses = {"mse": mse, "correlation": correlation, "ranking": ranking}
    parts = [weight * losses[name](pred, target, error) for name, weight in COMBINED.items()]
    return torch.stack(parts).sum(0)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "mse": mse,
    "huber": huber,
    "focal_mse": focal_mse,
    "correlation": correlation,
    "concordance": concordance,
    "ranking": ranking,
    "combined": combined,
    "rater_weighted": rater_weighted,
}

SCALE_FREE = frozenset({"correlation", "ranking"})
"""Losses that leave mean and spread of predictions open; `calibration` on validation clips settles them."""


def calibration(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Slope and intercept that bring predictions nearest to the labels, dimension by dimension.

    Args:
        pred, target: (..., n_clips, 19).
    Returns:
        slope, intercept: (..., 19) each, by least squares with slopes of at least 0: calibration sets the scale and
        must not turn an order round. Constant or reversed predictions get slope 0 and the labels' mean.
    """
    p, t = _centred(pred.double()), _centred(target.double())
    variance = p.square().mean(-2)
    slope = (p * t).mean(-2) / variance.clamp(min=CONSTANT**2)
    slope = torch.where(variance > CONSTANT**2, slope, 0.0).clamp(min=0)
    intercept = target.double().mean(-2) - slope * pred.double().mean(-2)
    return slope.to(pred.dtype), intercept.to(pred.dtype)


def _centred(x: Tensor) -> Tensor:
    return x - x.mean(-2, keepdim=True)


def _deviation(centred: Tensor) -> Tensor:
    # The floor lies under the root: a root's gradient at 0 is infinite.
    return centred.square().mean(-2).clamp(min=SPREAD_FLOOR**2).sqrt()
