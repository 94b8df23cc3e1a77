"""The branch that reads features, and how it meets the branch that reads a sequence.

Shapes: m members, b clips; both branches give (m, b, dim), every fusion gives (m, b, 19).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.models.layers import LayerNorm, Linear, Noise, drop


class FeatureBranch(nn.Module):
    """A two-layer perceptron over standardised features: (m, b, n_features) -> (m, b, dim)."""

    def __init__(self, members: int, n_features: int, dim: int) -> None:
        super().__init__()
        self.expand = Linear(members, n_features, dim)
        self.contract = Linear(members, dim, dim)
        self.norm = LayerNorm(members, dim)

    def forward(self, features: Tensor, noise: Noise | None) -> Tensor:
        return self.norm(self.contract(drop(F.gelu(self.expand(features)), noise)))


class Concat(nn.Module):
    """One head over both vectors side by side."""

    def __init__(self, members: int, dim: int) -> None:
        super().__init__()
        self.head = Linear(members, 2 * dim, N_DIMENSIONS, zero=True)

    def forward(self, sequence: Tensor, features: Tensor) -> Tensor:
        return self.head(torch.cat([sequence, features], -1))


class Gated(nn.Module):
    """A gate, seeing both, mixes the vectors coordinate by coordinate (Arevalo et al. 2017, gated multimodal unit)."""

    def __init__(self, members: int, dim: int) -> None:
        super().__init__()
        self.gate = Linear(members, 2 * dim, dim)
        self.head = Linear(members, dim, N_DIMENSIONS, zero=True)

    def forward(self, sequence: Tensor, features: Tensor) -> Tensor:
        gate = self.gate(torch.cat([sequence, features], -1)).sigmoid()
        return self.head(gate * sequence + (1 - gate) * features)


class Late(nn.Module):
    """Each branch predicts by itself; a learned share per dimension, half at first, mixes the predictions."""

    def __init__(self, members: int, dim: int) -> None:
        super().__init__()
        self.sequence = Linear(members, dim, N_DIMENSIONS, zero=True)
        self.features = Linear(members, dim, N_DIMENSIONS, zero=True)
        self.share = nn.Parameter(torch.zeros(members, 1, N_DIMENSIONS))

    def forward(self, sequence: Tensor, features: Tensor) -> Tensor:
        share = self.share.sigmoid()
        return share * self.sequence(sequence) + (1 - share) * self.features(features)


FUSIONS: dict[str, type[nn.Module]] = {"concat": Concat, "gated": Gated, "late": Late}
