"""The network of this room: an encoder over the features of a clip, and a linear head on what it makes of them.

Shapes: m members (each an adapted copy of one network), b clips, f features, d the encoder's width.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from piano_assets.models.layers import Linear
from piano_assets.models.network import initialise

Params = dict[str, Tensor]
"""Parameters by name, members first: what adapting changes, without changing the network that they were taken from."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Widths and dropout, chosen by the error on validation performers: inputs are many and correlated."""

    hidden: int = 128
    dim: int = 64
    input_dropout: float = 0.5
    dropout: float = 0.3


class Encoder(nn.Module):
    """Two layers over standardised features: (m, b, f) -> (m, b, d)."""

    def __init__(self, n_features: int, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.expand = Linear(1, n_features, shape.hidden)
        self.contract = Linear(1, shape.hidden, shape.dim)

    def forward(self, x: Tensor, chance: torch.Generator | None = None) -> Tensor:
        hidden = F.gelu(self.expand(drop(x, self.shape.input_dropout, chance)))
        return F.gelu(self.contract(drop(hidden, self.shape.dropout, chance)))


class Perceptron(nn.Module):
    """Encoder and head: (m, b, f) -> (m, b, n_out). Heads of several tasks may share one encoder."""

    def __init__(self, encoder: Encoder, head: Linear) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, x: Tensor, chance: torch.Generator | None = None) -> Tensor:
        return self.top(self.encoder(x, chance), chance)

    def top(self, embedding: Tensor, chance: torch.Generator | None = None) -> Tensor:
        """What the head says of embeddings: (m, b, d) -> (m, b, n_out)."""
        return self.head(drop(embedding, self.encoder.shape.dropout, chance))


def perceptron(n_features: int, n_out: int, generator: torch.Generator, shape: Shape | None = None) -> Perceptron:
    """A network of one member with weights from `generator`; its head starts at zero, the training mean."""
    shape = shape or Shape()
    model = Perceptron(Encoder(n_features, shape), Linear(1, shape.dim, n_out, zero=True))
    initialise(model, [generator])
    return model


def drop(x: Tensor, rate: float, chance: torch.Generator | None) -> Tensor:
    """Dropout (Srivastava et al. 2014) with its own stream; none without one."""
    if chance is None or rate == 0:
        return x
    return x * (torch.rand(x.shape, generator=chance) >= rate) / (1 - rate)


def params_of(model: nn.Module) -> Params:
    return dict(model.named_parameters())


def copies(params: Mapping[str, Tensor], members: int) -> Params:
    """One network's parameters for each of `members`, to be adapted apart; gradients reach the one network."""
    return {name: value.expand(members, *value.shape[1:]) for name, value in params.items()}


def call(model: nn.Module, params: Mapping[str, Tensor], x: Tensor, chance: torch.Generator | None = None) -> Tensor:
    """The model with other parameters: (m, b, f) -> (m, b, n_out)."""
    return functional_call(model, dict(params), (x, chance))


def squared_error(pred: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean squared error of each member over its clips and dimensions: (m, b, n_out) twice -> (m,).

    weight: (m, b), 0 for places that hold no clip; a member without any clip has error 0.
    """
    error = (pred - target).square().mean(-1)
    if weight is None:
        return error.mean(-1)
    return (error * weight).sum(-1) / weight.sum(-1).clamp(min=1)


def inner_loop(
    model: nn.Module,
    params: Params,
    x: Tensor,
    y: Tensor,
    *,
    rate: float,
    steps: int,
    learnt: Sequence[str],
    weight: Tensor | None = None,
    second_order: bool = False,
    chance: torch.Generator | None = None,
) -> Params:
    """Take gradient steps on a few clips, each member on its own (Finn et al. 2017, algorithm 1, line 6).

    Args:
        params: each member's parameters, members first. x, y: (m, k, f), (m, k, n_out): what is learnt from.
        learnt: names of the parameters that move; the others stay.
        weight: (m, k), as in `squared_error`.
        second_order: keep the steps differentiable, so that a gradient through them has its second-order terms;
            else a step counts as a constant (first-order MAML, sec. 5.2).
        chance: stream of dropout; none without one.
    """
    for _ in range(steps):
        loss = squared_error(call(model, params, x, chance), y, weight).sum()
        moving = [params[name] for name in learnt]
        slopes = torch.autograd.grad(loss, moving, create_graph=second_order)
        params = params | {n: p - rate * g for n, p, g in zip(learnt, moving, slopes, strict=True)}
    return params


def names_below(model: nn.Module, prefixes: Iterable[str]) -> tuple[str, ...]:
    """Names of the parameters that lie in one of the parts named, in the model's order."""
    wanted = tuple(f"{p}." for p in prefixes)
    return tuple(name for name, _ in model.named_parameters() if name.startswith(wanted))
