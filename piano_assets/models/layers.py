"""Layers with a leading member axis: m networks of equal shape run as one program and share nothing.

Shapes: m members, b clips, n tokens, d width. Every parameter has the members first, so that a matrix product of all
members is one batched product. Chance comes from `Noise`; without it a network is deterministic.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_LEVELS = 2**16
"""Dropout compares 16-bit random integers: probabilities are exact to 1.5e-5, at an eighth of a float draw's cost."""

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed integer
_MIX = ((30, -4658895280553007687), (27, -7723592293110705685))  # 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def scrambled(x: Tensor) -> Tensor:
    """SplitMix64's output function (Steele et al. 2014, figure 17) of every int64 of x, in place.

    Neighbouring numbers give unrelated bits, so that random numbers can be looked up by place instead of drawn in turn.
    """
    for shift, factor in _MIX:
        x.bitwise_xor_(_shifted(x, shift)).mul_(factor)
    return x.bitwise_xor_(_shifted(x, 31))


def _shifted(x: Tensor, by: int) -> Tensor:
    """Logical shift to the right; torch's keeps the sign."""
    return (x >> by).bitwise_and_((1 << (64 - by)) - 1)


@dataclass
class Noise:
    """What chance does to each member while it trains, as a function of its key, its step and the place in the network.

    No state beyond the step is kept, all members are served by the same few operations, and what befalls a member does
    not depend on who shares its stack.

    key: (m,) int64, each member's own; step: (m,) int64, steps taken; dropout, stochastic_depth: a rate a member;
    place: how often this step asked so far, whether or not anything was drawn.
    """

    key: Tensor
    step: Tensor
    dropout: list[float]
    stochastic_depth: list[float]
    place: int = 0
    _made: dict[tuple, tuple[Tensor, Tensor]] = field(default_factory=dict, repr=False)

    def advance(self) -> None:
        """Go on to the next step."""
        self.step += 1
        self.place = 0

    def drop(self, x: Tensor) -> Tensor:
        """Zero each value with its member's dropout and scale the rest by 1 / (1 - p). x: (m, ...)."""
        self.place += 1
        return x * self._kept(x, x.shape[1:], self.dropout) if any(self.dropout) else x

    def drop_path(self, branch: Tensor, depth: float) -> Tensor:
        """Drop a residual branch for whole clips (stochastic depth, Huang et al. 2016, sec. 3).

        branch: (m, b, n, d). depth: share of the way through the network, in (0, 1]: the rate grows linearly with it.
        """
        self.place += 1
        if not any(self.stochastic_depth):
            return branch
        kept = self._kept(branch, branch.shape[1:2], [depth * p for p in self.stochastic_depth])
        return branch * kept[..., None, None]

    def keep(self, members: Sequence[int]) -> "Noise":
        """The noise of some of the members."""
        dropout, depth = ([of[i] for i in members] for of in (self.dropout, self.stochastic_depth))
        return Noise(self.key[list(members)], self.step[list(members)], dropout, depth)

    def _kept(self, like: Tensor, shape: torch.Size, rates: Sequence[float]) -> Tensor:
        """(m, *shape): 0 with probability `rate`, else 1 / (1 - rate)."""
        n = shape.numel()
        start = scrambled(scrambled(self.key + self.step * _GOLDEN) + self.place)
        count = torch.arange(-(-n // 4), device=like.device) * _GOLDEN
        bits = scrambled(start[:, None] + count).view(torch.int16)[:, :n].unflatten(1, shape)
        column = (-1, *([1] * len(shape)))
        least, scale = self._thresholds(tuple(rates), like)
        return (bits >= least.view(column)) * scale.view(column)

    def _thresholds(self, rates: tuple[float, ...], like: Tensor) -> tuple[Tensor, Tensor]:
        """Least 16-bit number that survives and the scale of survivors, (m,) each; made once, as copies stall a GPU."""
        if (rates, like.dtype) not in self._made:
            least = [round(p * _LEVELS) - _LEVELS // 2 for p in rates]
            self._made[rates, like.dtype] = (
                torch.tensor(least, dtype=torch.int16, device=like.device),
                torch.tensor([1 / (1 - p) for p in rates], dtype=like.dtype, device=like.device),
            )
        return self._made[rates, like.dtype]


class Linear(nn.Module):
    """x W + b for every member: (m, ..., n_in) -> (m, ..., n_out).

    `zero` starts at zero. `spectral_norm` divides W by its largest singular value, estimated by one power iteration a
    training step (Miyato et al. 2018, algorithm 1).
    """

    left: Tensor
    right: Tensor

    def __init__(self, members: int, n_in: int, n_out: int, *, zero: bool = False, spectral_norm: bool = False) -> None:
        super().__init__()
        self.zero, self.spectral_norm = zero, spectral_norm
        self.weight = nn.Parameter(torch.zeros(members, n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(members, n_out))
        if spectral_norm:
            self.register_buffer("left", torch.zeros(members, n_in))
            self.register_buffer("right", torch.zeros(members, n_out))

    @torch.no_grad()
    def reset(self, member: int, generator: torch.Generator) -> None:
        """Xavier-uniform weights (Glorot & Bengio 2010), zero biases."""
        if self.zero:
            return
        drawn = nn.init.xavier_uniform_(torch.empty(self.weight.shape[1:]), generator=generator)
        self.weight[member] = drawn.to(self.weight.dtype)
        self.bias[member] = 0
        if self.spectral_norm:
            weight = self.weight[member : member + 1]
            right = F.normalize(torch.randn(1, weight.shape[2], generator=generator).to(weight.dtype), dim=1)
            for _ in range(15):
                left, right = power_iteration(weight, right)
            self.left[member], self.right[member] = left[0], right[0]

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight
        if self.spectral_norm:
            if self.training:
                with torch.no_grad():
                    left, right = power_iteration(weight, self.right)
                    self.left.copy_(left)
                    self.right.copy_(right)
            # Clones: the next step overwrites the buffers while this step's gradient may still need them.
            sigma = torch.einsum("mi,mio,mo->m", self.left.clone(), weight, self.right.clone())
            weight = weight / sigma[:, None, None]
        return torch.baddbmm(self.bias[:, None], x.flatten(1, -2), weight).unflatten(1, x.shape[1:-1])


def power_iteration(weight: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """One step towards the leading singular vectors: (m, n_in, n_out), (m, n_out) -> (m, n_in), (m, n_out)."""
    left = F.normalize(torch.bmm(weight, right[..., None])[..., 0], dim=1)
    return left, F.normalize(torch.bmm(left[:, None], weight)[:, 0], dim=1)


class LayerNorm(nn.Module):
    """Layer normalisation (Ba et al. 2016) with each member's own scale and shift: (m, ..., dim)."""

    def __init__(self, members: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(members, dim))
        self.bias = nn.Parameter(torch.zeros(members, dim))

    def forward(self, x: Tensor) -> Tensor:
        if len(self.weight) == 1:  # one member: torch's fused form
            return F.layer_norm(x, x.shape[-1:], self.weight[0], self.bias[0])
        shape = (len(self.weight), *([1] * (x.dim() - 2)), -1)
        return F.layer_norm(x, x.shape[-1:]) * self.weight.view(shape) + self.bias.view(shape)


def drop(x: Tensor, noise: Noise | None) -> Tensor:
    """Dropout where there is noise."""
    return x if noise is None else noise.drop(x)


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over real tokens: (m, b, n, d), (m, b, n) or None -> (m, b, d)."""
    if mask is None:
        return x.mean(2)
    weights = mask[..., None].to(x.dtype)
    return (x * weights).sum(2) / weights.sum(2)
