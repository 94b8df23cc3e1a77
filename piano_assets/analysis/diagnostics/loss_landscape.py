"""The loss around a trained network: along one random direction, and over the plane of two (Li et al. 2018, section 4).

Directions are filter-normalised, so that landscapes of networks with other scales of weights can be compared: a step of
1 is as long, filter by filter, as the weights themselves. Distances are then relative, and a network whose weights are
scaled without changing what it computes has the same landscape.
"""

import itertools

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from piano_assets.analysis import listening
from piano_assets.analysis.diagnostics.rows import row, table
from piano_assets.analysis.listening import Heard
from piano_assets.models import packing
from piano_assets.models.layers import LayerNorm, Linear
from piano_assets.training.fitted import Fitted, FittedFold

CURVE = "direction"
"""Condition of the rows along the first direction; those of the plane say where they lie along the second."""

MEMBERS = 8
"""Points that are judged as one stack."""


def loss_landscape(
    of: Fitted,
    rng: np.random.Generator,
    *,
    fold: int = 0,
    points: int = 25,
    span: float = 1.0,
    grid: int = 9,
    n_train: int = 48,
    n_valid: int = 12,
) -> pd.DataFrame:
    """The trial's own loss on a sample of training crops and of validation clips, step by step away from the network.

    Nothing is drawn but sample and directions: no dropout, no augmentation. Predictions are in float32.

    Args:
        points: along the first direction, from -span to span; grid: points along either side of the plane; both odd,
            so that the network itself is among them. n_train: crops; n_valid: whole clips.
    Returns:
        rows with metric `train_loss` and `valid_loss`, step the way along the first direction, and as condition
        `direction` or, in the plane, `beta=` with the way along the second.
    Raises:
        ValueError: points or grid are even or below 3, or the model is no network.
    """
    for name, value in (("points", points), ("grid", grid)):
        if value < 3 or value % 2 == 0:
            raise ValueError(f"{name}={value} must be odd and at least 3, so that the network itself is among them")
    model = listening.network_of(of, fold)
    assert model.network is not None
    samples = _samples(of, model, rng, n_train, n_valid)
    here = packing.rows(model.network)[0]
    directions = torch.stack([filter_normalised(model.network, rng).to(here) for _ in range(2)])
    line, side = (span * (np.arange(n) - n // 2) / (n // 2) for n in (points, grid))
    places = [(CURVE, a, 0.0) for a in line]
    places += [(f"beta={b:.4g}", a, b) for b, a in itertools.product(side, side)]
    found = []
    for at in range(0, len(places), MEMBERS):
        some = places[at : at + MEMBERS]
        steps = torch.tensor([[a, b] for _, a, b in some]).to(here)
        network = listening.stack(model, here + steps @ directions)
        for metric, sample in samples.items():
            with torch.no_grad():
                now = listening.losses(network, sample, _loss(model)).tolist()
            found += [row(c, a, metric, v) for (c, a, _), v in zip(some, now, strict=True)]
    return table(found).sort_values(["metric", "condition", "step"], ignore_index=True)


def filter_normalised(network: nn.Module, rng: np.random.Generator) -> Tensor:
    """A Gaussian direction with each filter as long as the network's own, in the order of `packing.rows`: (n_numbers,).

    A filter is what leads to one output: a column of a linear layer; elsewhere a vector along the last axis (a band's
    position, a mixture of keys). Biases and the gains of norms stay where they are, as in the authors' code
    (`ignore='biasbn'`), as do buffers. Only the first member of `network` is looked at. The two directions of a plane
    are drawn independently and are all but orthogonal by themselves, as there.
    """
    still = {
        id(value)
        for module in network.modules()
        for name, value in module.named_parameters(recurse=False)
        if isinstance(module, LayerNorm) or (isinstance(module, Linear) and name == "bias")
    }
    along = {id(m.weight): 0 for m in network.modules() if isinstance(m, Linear)}
    trained = dict(network.named_parameters())
    found = []
    for name, value in network.state_dict().items():
        own = value[0].detach().double().cpu()
        parameter = trained.get(name)
        if parameter is None or id(parameter) in still:
            found.append(torch.zeros(own.numel()))
            continue
        drawn = torch.from_numpy(rng.standard_normal(own.shape))
        axis = along.get(id(parameter), -1)
        length, wanted = (x.norm(dim=axis, keepdim=True) for x in (drawn, own))
        found.append((drawn * wanted / length).flatten().float())
    return torch.cat(found)


def _samples(of: Fitted, model: FittedFold, rng: np.random.Generator, n_train: int, n_valid: int) -> dict[str, Heard]:
    """Metric -> what is heard for it."""
    train, valid = (
        np.sort(rng.choice(rows, min(n, len(rows)), replace=False))
        for rows, n in ((model.train, n_train), (model.valid, n_valid))
    )
    return {
        "train_loss": listening.crops(model, of.data, train, rng),
        "valid_loss": listening.whole(model, of.data, valid),
    }


def _loss(model: FittedFold) -> str:
    assert model.trial.optimisation is not None
    return model.trial.optimisation.loss
