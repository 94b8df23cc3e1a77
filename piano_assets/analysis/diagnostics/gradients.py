"""Gradients of a trained network: how strongly each layer is pulled, and how noisy a batch's pull is.

The simple noise scale B = tr(Sigma) / |G|^2 (McCandlish et al. 2018, eq. 2.9) is the batch size, in clips, at which a
batch's gradient is as much noise as signal; batches well below it average noise, batches well above it are wasted.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from piano_assets.analysis import listening
from piano_assets.analysis.diagnostics.rows import row, table
from piano_assets.analysis.listening import Heard
from piano_assets.models import packing
from piano_assets.models.network import Network
from piano_assets.training.data import TrialData
from piano_assets.training.fitted import Fitted, FittedFold
from piano_assets.training.losses import LOSSES

NETWORK = "network"
"""Condition of the rows about all layers together."""

MEMBERS = 4
"""Batches whose gradients are taken as one stack."""


@dataclass(frozen=True)
class NoiseScale:
    """tr(Sigma) of one clip's gradient, |G|^2 of the expected one, their ratio in clips, and its interval."""

    trace: float
    square: float
    scale: float
    ci_low: float
    ci_high: float


def gradients(
    of: Fitted, rng: np.random.Generator, *, fold: int = 0, draws: int = 32, batch_size: int | None = None
) -> pd.DataFrame:
    """Gradient of the trial's own loss at the kept state, layer by layer from the input to the head.

    Each draw is a batch of the trial's size: clips with replacement, a crop of each, without dropout or augmentation,
    so that what is measured is the noise of choosing clips and crops. Whatever the loss, its gradient is that of
    batches of this size. Memory: draws x parameters x 4 bytes.

    Returns:
        rows with a layer as condition and its number as step, and those of the whole `network`, whose step is NULL:
        `gradient_norm` of the mean of all draws, `weight_norm`, `relative_gradient` (their ratio; NULL for zero
        weights) and `noise_scale` in clips with its interval (NULL at an end that is unbounded; value and all NULL
        where the gradient cannot be told from noise: its estimated square is not positive).
    Raises:
        ValueError: fewer than 3 draws, or the model is no network.
    """
    if draws < 3:
        raise ValueError(f"draws={draws} must be at least 3: an interval needs a spread")
    model = listening.network_of(of, fold)
    assert model.network is not None
    size = batch_size or batch_size_of(model)
    each = batch_gradients(model, of.data, rng, draws, size)
    weight, found = _flat(model.network), []
    total, total_weight = np.zeros((draws, draws)), 0.0
    for step, (name, columns) in enumerate(layers_of(model.network).items()):
        mine, own = each[:, columns].double(), weight[columns].double()
        gram, square = (mine @ mine.T).cpu().numpy(), own.square().sum().item()
        found += _rows(name, float(step), gram, square, size)
        total, total_weight = total + gram, total_weight + square
    found += _rows(NETWORK, None, total, total_weight, size)
    return table(found)


def _rows(layer: str, step: float | None, gram: np.ndarray, weight: float, batch_size: int) -> list[dict[str, object]]:
    """Rows of a layer from inner products of its gradients, (draws, draws), and its squared weights' sum."""
    norm, own, noise = float(np.sqrt(gram.mean())), float(np.sqrt(weight)), noise_scale(gram, batch_size)
    return [
        row(layer, step, "gradient_norm", norm),
        row(layer, step, "weight_norm", own),
        row(layer, step, "relative_gradient", norm / own if own else np.nan),
        row(layer, step, "noise_scale", noise.scale, (noise.ci_low, noise.ci_high)),
    ]


def batch_size_of(model: FittedFold) -> int:
    """The size of the batches that a fold was trained with (a small fold has smaller ones than its trial says)."""
    assert model.trial.optimisation is not None
    return min(model.trial.optimisation.batch_size, len(model.train))


def layers_of(network: nn.Module) -> dict[str, Tensor]:
    """Layer -> the places of its parameters in a flat gradient, (n,); in the order of `parameters()`."""
    places: dict[str, list[Tensor]] = {}
    at = 0
    for name, value in network.named_parameters():
        layer, _, last = name.rpartition(".")
        n = value[0].numel()
        # What belongs to no layer of its own (positions of bands, a share) is one by its own name.
        places.setdefault(layer if last in ("weight", "bias") else name, []).append(torch.arange(at, at + n))
        at += n
    return {name: torch.cat(found) for name, found in places.items()}


def batch_gradients(
    model: FittedFold, data: TrialData, rng: np.random.Generator, draws: int, batch_size: int
) -> Tensor:
    """The gradient of each of several batches, (draws, n_params): a member of a stack for each batch."""
    assert model.network is not None
    here, found = packing.rows(model.network), []
    for start in range(0, draws, MEMBERS):
        members = min(MEMBERS, draws - start)
        rows = rng.choice(model.train, members * batch_size, replace=True)
        network = listening.stack(model, here.expand(members, -1))
        found.append(member_gradients(network, model, listening.crops(model, data, rows, rng)))
    return torch.cat(found)


def member_gradients(network: Network, model: FittedFold, heard: Heard) -> Tensor:
    """Each member's gradient of the trial's loss on its own share of the crops, (m, n_params)."""
    assert model.trial.optimisation is not None
    members = len(network.target_mean)
    frames, mask, features = heard.inputs(1, slice(None))
    own = (None if x is None else x.unflatten(1, (members, -1))[0] for x in (frames, mask, features))
    target, error = (x.unflatten(0, (members, -1)) for x in (heard.target, heard.error))
    loss = LOSSES[model.trial.optimisation.loss](network(*own), target, error)
    parameters = list(network.parameters())
    gradient = torch.autograd.grad(loss.sum(), parameters, allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten(1) for g in gradient], 1)


def noise_scale(gram: np.ndarray, batch_size: int, level: float = 0.95) -> NoiseScale:
    """The simple noise scale from the inner products of the gradients of independent batches.

    Args:
        gram: (draws, draws). batch_size: clips in each batch.

    Unbiased estimates of tr(Sigma) and |G|^2 from a small and a large batch (appendix A.1, eq. A.2 and A.3): the small
    ones are the draws, the large one is all of them together. The interval is Fieller's (1954) for a ratio, with the
    covariance of both estimates by the jackknife over draws: unbounded above where |G|^2 is not clearly above 0.
    """
    trace, square = two_batch_estimates(gram, batch_size)
    draws = len(gram)
    left_out = np.array([two_batch_estimates(gram[np.ix_(kept, kept)], batch_size) for kept in _without_each(draws)])
    pseudo = draws * np.array([trace, square]) - (draws - 1) * left_out
    covariance = np.cov(pseudo.T) / draws
    if square <= 0:
        return NoiseScale(trace, square, np.nan, np.nan, np.nan)
    low, high = fieller(np.array([trace, square]), covariance, stats.t.ppf((1 + level) / 2, draws - 1))
    return NoiseScale(trace, square, trace / square, low, high)


def two_batch_estimates(gram: np.ndarray, batch_size: int) -> tuple[float, float]:
    """(tr(Sigma), |G|^2) from batches of one size and from all of them as one: McCandlish et al. 2018, eq. A.2, A.3."""
    small, large = batch_size, batch_size * len(gram)
    of_small, of_large = np.trace(gram) / len(gram), gram.mean()
    square = (large * of_large - small * of_small) / (large - small)
    trace = (of_small - of_large) / (1 / small - 1 / large)
    return float(trace), float(square)


def fieller(estimate: np.ndarray, covariance: np.ndarray, t: float) -> tuple[float, float]:
    """Fieller's (1954) interval for estimate[0] / estimate[1], both positive: the ratios that a test does not refuse.

    Where the denominator may be 0 the interval has no upper end (infinity); a lower end below 0 is 0, since neither
    number can be negative.
    """
    (a, b), (aa, ab, bb) = estimate, (covariance[0, 0], covariance[0, 1], covariance[1, 1])
    # (a - r b)^2 <= t^2 (aa - 2 r ab + r^2 bb), a quadratic in r
    square, middle, rest = b**2 - t**2 * bb, a * b - t**2 * ab, a**2 - t**2 * aa
    inside = middle**2 - square * rest
    if square > 0:
        root = np.sqrt(max(inside, 0.0))
        return max((middle - root) / square, 0.0), (middle + root) / square
    # The ratios outside two ends stay; those above the upper end go with a positive denominator.
    return (max((middle + s * np.sqrt(inside)) / square for s in (1, -1)) if rest > 0 else 0.0), np.inf


def _without_each(n: int) -> list[np.ndarray]:
    return [np.delete(np.arange(n), i) for i in range(n)]


def _flat(network: nn.Module) -> Tensor:
    return torch.cat([p[0].detach().flatten() for p in network.parameters()])
