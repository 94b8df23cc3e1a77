"""Losses: how far predictions are from ratings. `pred, target`: (n_clips, 19); each returns a scalar."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

HUBER_DELTA = 0.1
"""Where the Huber loss turns linear, on the 0..1 scale: 0.7 rating points, about one standard deviation of labels."""


def mse(pred: Tensor, target: Tensor) -> Tensor:
    """Mean squared error."""
    return F.mse_loss(pred, target)


def huber(pred: Tensor, target: Tensor) -> Tensor:
    """Quadratic below `HUBER_DELTA`, linear above (Huber 1964): an outlying rating pulls with bounded force."""
    return F.huber_loss(pred, target, delta=HUBER_DELTA)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"mse": mse, "huber": huber}
