"""AdamW for a stack: all parameters of all members are one buffer, each member has its own rate, decay and momentum."""

import torch
from torch import Tensor

BETA2, EPSILON = 0.999, 1e-8

LEAST_RATE = 1e-20
"""A rate of 0 would divide by 0 below; this one moves no float32 either."""

_BLOCK = 2**18
"""Numbers worked on at a time on the CPU, where a block's passes then stay in the cache."""


class AdamW:
    """AdamW (Loshchilov & Hutter 2019, algorithm 2) with torch's conventions, for m members at once.

    `flat` is changed in place. Each member moves as under a `torch.optim.AdamW` of its own.
    """

    def __init__(self, flat: Tensor) -> None:
        """flat: (m, n_params)."""
        self.flat = flat
        self.mean, self.square = torch.zeros_like(flat), torch.zeros_like(flat)
        self.count = torch.zeros(len(flat), dtype=torch.int64, device=flat.device)

    @torch.no_grad()
    def step(self, gradient: Tensor, rate: Tensor, weight_decay: Tensor, beta1: Tensor) -> None:
        """Take one step. gradient: (m, n_params); rate, weight_decay, beta1: (m,)."""
        self.count += 1
        rate, weight_decay, beta1 = (x.double() for x in (rate, weight_decay, beta1))
        # As torch does, the correction for the zeros at the start takes the momentum of this step for that of all.
        size = (rate / (1 - beta1**self.count)).clamp(min=LEAST_RATE)
        root = (1 - BETA2 ** self.count.double()).sqrt()
        # rate * mean / (sqrt(square) / root + epsilon), with the rate inside the denominator: two passes fewer.
        columns = (1 - beta1, 1 / (root * size), EPSILON / size, 1 - rate * weight_decay)
        new, scale, shift, rest = (x.to(self.flat.dtype)[:, None] for x in columns)
        m, n = self.flat.shape
        block = max(1, _BLOCK // m) if self.flat.device.type == "cpu" else n
        for at in range(0, n, block):
            x, g, mean, square = (t[:, at : at + block] for t in (self.flat, gradient, self.mean, self.square))
            mean.lerp_(g, new)
            square.mul_(BETA2).addcmul_(g, g, value=1 - BETA2)
            x.mul_(rest).addcdiv_(mean, square.sqrt().mul_(scale).add_(shift), value=-1)

    def keep(self, flat: Tensor, rows: Tensor) -> None:
        """Go on with the members at `rows` alone; `flat` (len(rows), n_params) holds their parameters from now on."""
        self.flat = flat
        self.mean, self.square, self.count = self.mean[rows], self.square[rows], self.count[rows]

    def state(self) -> dict[str, Tensor]:
        """A copy of what a resumed run needs, member by member: mean, square (m, n_params) and count (m,)."""
        return {"mean": self.mean.clone(), "square": self.square.clone(), "count": self.count.clone()}

    def load(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self.mean.copy_(state["mean"])
        self.square.copy_(state["square"])
        self.count.copy_(state["count"])
