"""Learning from some works to judge others, whose clips are heard but not rated (unsupervised domain adaptation).

The source is the training clips, the target the test clips without their labels. A method that pretrains on unlabelled
notes needs no code here: its embeddings are a feature set, and `source_only` on them is one line of the registry.
"""

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piano_assets.adaptation.fitting import Extra, fit, fit_joint, predict
from piano_assets.adaptation.fold import Fold
from piano_assets.adaptation.perceptron import Perceptron, perceptron
from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.models.layers import Linear
from piano_assets.models.network import CLIP, initialise

CORAL_WEIGHT = 1.0
"""Weight of the CORAL loss, fixed beforehand: without target labels none can be chosen."""
GAMMA = 10.0
"""How fast the adversary's weight grows (Ganin et al. 2016, sec. 5.2.2)."""
HIDDEN = 32
"""Hidden units of the domain classifier."""

Outcome = dict[str, np.ndarray]


def source_only(fold: Fold) -> Outcome:
    """Joint training on the source works, as if the target were like them."""
    return {"clean": predict(fit_joint(fold), fold, fold.test)}


def standardised_by_work(fold: Fold) -> Outcome:
    """The simple rival: every work's features are standardised by its own clips, then the source is learnt.

    It takes away what differs between works in mean and spread, input by input (as adaptive batch normalisation does
    inside a network, Li et al. 2018, Pattern Recognition 80:109).
    """
    x = torch.empty_like(fold.x)
    for work in np.unique(fold.groups.work):
        rows = np.flatnonzero(fold.groups.work == work)
        mean, std = fold.x[rows].mean(0), fold.x[rows].std(0, correction=0)
        x[rows] = (fold.x[rows] - mean) / torch.where(std > 1e-6, std, 1.0)
    return source_only(replace(fold, x=x.clamp(-CLIP, CLIP)))


def coral(fold: Fold) -> Outcome:
    """Deep CORAL: the embeddings' covariances in source and target are drawn together (Sun & Saenko 2016)."""
    model = _new(fold)
    drawn = _targets(fold)

    def extra(embedding: Tensor, over: float) -> Tensor:
        target = model.encoder(next(drawn)[None], chance)[0]
        return CORAL_WEIGHT * coral_loss(embedding[0], target)

    chance = fold.generator("target dropout")
    return _fitted(model, fold, extra)


def dann(fold: Fold) -> Outcome:
    """Domain-adversarial training: a classifier tells source from target by the embedding, and the encoder learns to
    leave it nothing to tell by (Ganin et al. 2016)."""
    model = _new(fold)
    drawn, chance = _targets(fold), fold.generator("target dropout")
    classifier = nn.Sequential(Linear(1, model.encoder.shape.dim, HIDDEN), nn.GELU(), Linear(1, HIDDEN, 1))
    initialise(classifier, [fold.generator("domain classifier")])

    def extra(embedding: Tensor, over: float) -> Tensor:
        target = model.encoder(next(drawn)[None], chance)
        both = reverse_gradient(torch.cat([embedding, target], 1), adversary_weight(over))
        is_target = torch.cat([torch.zeros(embedding.shape[1]), torch.ones(target.shape[1])])
        return F.binary_cross_entropy_with_logits(classifier(both)[0, :, 0], is_target)

    return _fitted(model, fold, extra, classifier)


def coral_loss(source: Tensor, target: Tensor) -> Tensor:
    """Squared Frobenius distance of two covariances over 4 d^2 (Sun & Saenko 2016, eq. 1-3): (n, d), (m, d) -> scalar.

    Covariances are unbiased, over n - 1.
    """
    d = source.shape[1]
    return (torch.cov(source.T, correction=1) - torch.cov(target.T, correction=1)).square().sum() / (4 * d**2)


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * gradient, None


def reverse_gradient(x: Tensor, weight: float = 1.0) -> Tensor:
    """x as it is; its gradient is turned round and weighed (Ganin et al. 2016, sec. 4.2)."""
    return _Reversal.apply(x, weight)


def adversary_weight(over: float) -> float:
    """The adversary's weight when a share of training is over: 0 at its start, towards 1."""
    return 2 / (1 + math.exp(-GAMMA * over)) - 1


def _new(fold: Fold) -> Perceptron:
    return perceptron(fold.x.shape[1], N_DIMENSIONS, fold.generator("weights"))


def _fitted(model: Perceptron, fold: Fold, extra: Extra, *beside: nn.Module) -> Outcome:
    x, y = fold.x[fold.train], fold.y[fold.train]
    fit(model, x, y, fold.generator("order"), extra=extra, beside=beside)
    return {"clean": predict(model, fold, fold.test)}


def _targets(fold: Fold, size: int = 128) -> Iterator[Tensor]:
    """Batches of the target's features without end: (size, f)."""
    generator = fold.generator("target order")
    while True:
        order = torch.randperm(len(fold.test), generator=generator)
        if len(order) < size:  # a small target is one batch
            yield fold.x[fold.test]
        for rows in order[: len(order) // size * size].view(-1, size):
            yield fold.x[fold.test[rows.numpy()]]
