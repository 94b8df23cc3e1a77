"""The one loop that every method of this room trains with: minibatches, AdamW, a cosine to zero, a fixed budget.

No early stopping: a penalty that grows in the course of training, as an adversary's, would be stopped before it acts.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from piano_assets.adaptation.fold import Fold
from piano_assets.adaptation.perceptron import Perceptron, perceptron, squared_error
from piano_assets.dimensions import N_DIMENSIONS


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a network is trained, chosen by the error on validation performers."""

    epochs: int = 60
    batch_size: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1.0


Extra = Callable[[Tensor, float], Tensor]
"""What is added to the loss: (embeddings of the batch (1, b, d), share of training that is over) -> scalar."""


def fit(
    model: Perceptron,
    x: Tensor,
    y: Tensor,
    generator: torch.Generator,
    settings: Settings | None = None,
    *,
    extra: Extra | None = None,
    beside: Iterable[nn.Module] = (),
) -> None:
    """Train in place on the mean squared error, plus `extra`.

    Args:
        x, y: (n, f), (n, n_out), complete. generator: order and dropout.
        beside: modules whose parameters are trained along, as those that `extra` asks.
    """
    settings = settings or Settings()
    moving = [p for module in (model, *beside) for p in module.parameters()]
    optimiser = torch.optim.AdamW(
        moving, lr=settings.learning_rate, weight_decay=settings.weight_decay, foreach=False, fused=True
    )
    n, size = len(x), min(settings.batch_size, len(x))
    total, step = settings.epochs * (n // size), 0
    for _ in range(settings.epochs):
        for rows in torch.randperm(n, generator=generator)[: n // size * size].view(-1, size):
            rate = settings.learning_rate * 0.5 * (1 + math.cos(math.pi * step / total))
            for group in optimiser.param_groups:
                group["lr"] = rate
            embedding = model.encoder(x[rows][None], generator)
            loss = squared_error(model.top(embedding, generator), y[rows][None]).sum()
            if extra is not None:
                loss = loss + extra(embedding, step / total)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1


def fit_joint(fold: Fold, settings: Settings | None = None) -> Perceptron:
    """One network for everybody: all training clips, all dimensions. The start of every adapted one."""
    model = perceptron(fold.x.shape[1], N_DIMENSIONS, fold.generator("weights"))
    fit(model, fold.x[fold.train], fold.y[fold.train], fold.generator("order"), settings)
    return model


@torch.no_grad()
def predict(model: Perceptron, fold: Fold, rows: np.ndarray) -> np.ndarray:
    """(n_rows, n_out), in the fold's standard units."""
    return model(fold.x[rows][None])[0].double().numpy()
