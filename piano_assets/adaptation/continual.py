"""The 19 dimensions learnt in four groups, one after another: what is forgotten, and what keeps it.

All groups share one encoder; each has a head of its own, which is not trained after its group. What a group loses later
is therefore what the encoder loses for it. After every stage all groups learnt so far are predicted, so that forgetting
can be computed from stored predictions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from piano_assets.adaptation.conditions import GROUPS, of_stage
from piano_assets.adaptation.fitting import Extra, Settings, fit, fit_joint, predict
from piano_assets.adaptation.fold import Fold
from piano_assets.adaptation.perceptron import Encoder, Perceptron, Shape, squared_error
from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.models.layers import Linear
from piano_assets.models.network import initialise

STAGE = Settings(epochs=20)
"""How each group is learnt."""
MEMORY = 0.1
"""Share of the training clips that replay keeps of a group."""
CHUNK = 32
"""Clips whose Jacobians are held at once."""

Outcome = dict[str, np.ndarray]


@dataclass
class Learnt:
    """What stands after some groups: the shared encoder and a head of each group."""

    encoder: Encoder
    heads: dict[str, Linear]

    def model(self, group: str) -> Perceptron:
        return Perceptron(self.encoder, self.heads[group])

    def predict(self, fold: Fold, rows: np.ndarray) -> np.ndarray:
        """(n_rows, 19), NaN where a dimension's group was not learnt yet."""
        found = np.full((len(rows), N_DIMENSIONS), np.nan)
        for group in self.heads:
            found[:, GROUPS[group]] = predict(self.model(group), fold, rows)
        return found


Keeper = Callable[[Learnt, Fold], tuple[Extra, tuple[nn.Module, ...]]]
"""What keeps the groups learnt so far: (the loss to add, modules to train along)."""


def in_sequence(fold: Fold, keeper: Keeper | None = None, *, freeze: bool = False) -> tuple[Learnt, Outcome]:
    """Learn group after group; (what stands, predictions of the test clips after each).

    Args:
        keeper: what is added to the loss from the second group on; None is plain fine-tuning.
        freeze: the encoder is trained on the first group only, later groups are linear heads on it.
    """
    generator = fold.generator("weights")
    encoder = Encoder(fold.x.shape[1], Shape())
    initialise(encoder, [generator])
    learnt, outcome = Learnt(encoder, {}), {}
    for n, (group, columns) in enumerate(GROUPS.items(), start=1):
        extra, beside = (None, ()) if keeper is None or n == 1 else keeper(learnt, fold)
        learnt.heads[group] = Linear(1, encoder.shape.dim, len(columns), zero=True)
        encoder.requires_grad_(not (freeze and n > 1))
        x, y = fold.x[fold.train], fold.y[fold.train][:, columns]
        fit(learnt.model(group), x, y, fold.generator(f"order {group}"), STAGE, extra=extra, beside=beside)
        outcome[of_stage(n)] = learnt.predict(fold, fold.test)
    return learnt, outcome


def sequential(fold: Fold) -> Outcome:
    """Plain fine-tuning, group after group."""
    return in_sequence(fold)[1]


def frozen(fold: Fold) -> Outcome:
    """The encoder of the first group, and a linear head for each later one: nothing can be forgotten."""
    return in_sequence(fold, freeze=True)[1]


def together(fold: Fold) -> Outcome:
    """All groups at once, which is what continual learning does without."""
    return {"clean": predict(fit_joint(fold), fold, fold.test)}


def replay(fold: Fold) -> Outcome:
    """A few clips of every earlier group are kept and learnt along (Chaudhry et al. 2019, arXiv:1902.10486)."""
    return in_sequence(fold, rehearsal)[1]


def rehearsal(learnt: Learnt, fold: Fold) -> tuple[Extra, tuple[nn.Module, ...]]:
    """The mean error of the groups learnt so far on their memories, heads trained along."""
    kept = {}
    for group in learnt.heads:
        rows = fold.rng(f"memory {group}").permutation(fold.train)[: max(1, round(MEMORY * len(fold.train)))]
        kept[group] = fold.x[rows][None], fold.y[rows][:, GROUPS[group]][None]

    def extra(_: Tensor, over: float) -> Tensor:
        lost = [squared_error(learnt.model(group)(x, chance), y).sum() for group, (x, y) in kept.items()]
        return torch.stack(lost).sum()

    chance = fold.generator(f"memory dropout {len(kept)}")
    return extra, tuple(learnt.heads.values())


def ewc(fold: Fold, *, strengths: Sequence[float]) -> Outcome:
    """Elastic weight consolidation (Kirkpatrick et al. 2017, eq. 3) with the strength that keeps validation error low.

    The error is the mean over all dimensions after the last group.
    """
    found = []
    for strength in strengths:
        learnt, outcome = in_sequence(fold, Consolidation(strength))
        gap = learnt.predict(fold, fold.valid) - fold.y[fold.valid].numpy()
        found.append((float(np.square(gap).mean()), outcome))
    return min(found, key=lambda pair: pair[0])[1]


class Consolidation:
    """The keeper of EWC: each learnt group adds strength / 2 * sum of F (theta - theta*)^2 over the encoder."""

    def __init__(self, strength: float) -> None:
        self.strength = strength
        self.anchors: list[tuple[dict[str, Tensor], dict[str, Tensor]]] = []

    def __call__(self, learnt: Learnt, fold: Fold) -> tuple[Extra, tuple[nn.Module, ...]]:
        newest = learnt.model(list(learnt.heads)[-1])
        fisher = fisher_diagonal(newest, fold.x[fold.train], "encoder.")
        self.anchors.append(({n: p.detach().clone() for n, p in newest.named_parameters() if n in fisher}, fisher))
        moving = dict(newest.named_parameters())

        def extra(_: Tensor, over: float) -> Tensor:
            return self.strength * torch.stack([quadratic(moving, *anchor) for anchor in self.anchors]).sum()

        return extra, ()


def quadratic(moving: Mapping[str, Tensor], at: Mapping[str, Tensor], fisher: Mapping[str, Tensor]) -> Tensor:
    """Half the sum of F (theta - theta*)^2."""
    return 0.5 * torch.stack([(fisher[n] * (moving[n] - at[n]).square()).sum() for n in fisher]).sum()


def fisher_diagonal(model: nn.Module, x: Tensor, prefix: str = "") -> dict[str, Tensor]:
    """Diagonal of the Fisher information of a Gaussian likelihood with unit variance, mean over clips.

    With predictions f(x, theta) of unit variance it is the mean over clips of the sum over outputs of (df/dtheta)^2;
    no label enters. (Kirkpatrick et al. 2017; Martens 2020, JMLR 21:146, sec. 5, on true and empirical Fisher.)

    Args:
        model: (1, b, f) -> (1, b, n_out). x: (n, f). prefix: of the parameters that are asked for.
    Returns:
        Name -> tensor of the parameter's shape.
    """
    params = {n: p.detach() for n, p in model.named_parameters()}
    asked = {n: p for n, p in params.items() if n.startswith(prefix)}

    def outputs(moved: dict[str, Tensor], row: Tensor) -> Tensor:
        return functional_call(model, params | moved, (row[None, None],))[0, 0]

    total = {n: torch.zeros_like(p) for n, p in asked.items()}
    for chunk in x.split(CHUNK):
        for n, jacobian in vmap(jacrev(outputs), (None, 0))(asked, chunk).items():
            total[n] += jacobian.square().sum((0, 1))
    return {n: t / len(x) for n, t in total.items()}
