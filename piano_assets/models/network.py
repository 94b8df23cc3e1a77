"""The network of a trial, for any number of members: sequence branch, feature branch, or both fused.

It carries the training clips' moments in buffers, so that a checkpoint can score what it never saw: inputs are
standardised by them, and predictions start at the training targets' mean, the best constant.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from piano_assets.catalogue.trial import Encoder
from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.models.attention import ATTENTION
from piano_assets.models.fusion import FUSIONS, FeatureBranch
from piano_assets.models.layers import Linear, Noise
from piano_assets.models.multi_scale import MultiScale
from piano_assets.models.transformer import Events, Patches, Transformer

MULTI_SCALE = "multi_scale"
KINDS = (*ATTENTION, MULTI_SCALE)
"""What `model.attention` may be."""
CLIP = 5.0
"""Standardised features are cut here: one absurd value of one feature cannot take a prediction off the scale."""


@dataclass(frozen=True)
class Shape:
    """What a network must know of its inputs.

    width: bands of the spectrogram or columns of an event, 0 without a sequence; crop: frames or events of a window;
    n_features: 0 without features; events: the sequence is one of notes.
    """

    width: int = 0
    crop: int = 0
    n_features: int = 0
    events: bool = False


class Network(nn.Module):
    """m members of one encoder on inputs of one shape; predictions (m, b, 19) on the 0..1 scale."""

    input_mean: Tensor
    input_std: Tensor
    feature_mean: Tensor
    feature_std: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, encoder: Encoder, shape: Shape, members: int = 1) -> None:
        super().__init__()
        self.shape = shape
        self.sequence: nn.Module | None = None
        self.features: nn.Module | None = None
        if shape.width and encoder.attention == MULTI_SCALE:
            self.sequence = MultiScale(members, encoder, shape.width, shape.crop)
        elif shape.width:
            stem = Events(members, encoder, shape.width) if shape.events else Patches(members, encoder, shape.width)
            self.sequence = Transformer(members, encoder, stem, shape.crop)
        if shape.n_features:
            self.features = FeatureBranch(members, shape.n_features, encoder.dim)
        if self.sequence is not None and self.features is not None:
            self.head: nn.Module = FUSIONS[encoder.fusion](members, encoder.dim)
        else:
            self.head = Linear(members, encoder.dim, N_DIMENSIONS, zero=True)
        for name, size in (("input", shape.width), ("feature", shape.n_features), ("target", N_DIMENSIONS)):
            self.register_buffer(f"{name}_mean", torch.zeros(members, size))
            self.register_buffer(f"{name}_std", torch.ones(members, size))

    def standardise_frames(self, frames: Tensor, mask: Tensor | None) -> Tensor:
        """Raw (m, b, n, width) by the training clips' moments; zeros where `mask` (m, b, n) says that a clip ended."""
        x = (frames - self.input_mean[:, None, None]) / self.input_std[:, None, None]
        return x if mask is None else torch.where(mask[..., None], x, 0.0)

    def standardise_features(self, features: Tensor) -> Tensor:
        """Raw (m, b, n_features); an undefined feature (NaN) becomes the training mean."""
        x = (features - self.feature_mean[:, None]) / self.feature_std[:, None]
        return x.clamp(-CLIP, CLIP).nan_to_num()

    def forward(
        self,
        frames: Tensor | None = None,
        mask: Tensor | None = None,
        features: Tensor | None = None,
        noise: Noise | None = None,
    ) -> Tensor:
        """Predict the 19 ratings.

        Args:
            frames: (m, b, n, width), standardised; None without a sequence branch.
            mask: (m, b, n), True at real frames, which come first; None where all are real.
            features: (m, b, n_features), standardised; None without a feature branch.
            noise: source of dropout and stochastic depth; None switches them off.
        Returns:
            (m, b, 19).
        """
        parts = []
        if self.sequence is not None:
            parts.append(self.sequence(frames, mask, noise))
        if self.features is not None:
            parts.append(self.features(features, noise))
        out = self.head(*parts).to(self.target_mean.dtype)
        return self.target_mean[:, None] + self.target_std[:, None] * out


def initialise(network: nn.Module, generators: Sequence[torch.Generator]) -> None:
    """Draw every member's weights from its own generator; what has no `reset` starts as it is built."""
    for module in network.modules():
        reset = getattr(module, "reset", None)
        if callable(reset):
            for member, generator in enumerate(generators):
                reset(member, generator)


def n_params(encoder: Encoder, shape: Shape) -> int:
    """Number of trained parameters of one member, counted on the built network (nothing is allocated)."""
    with torch.device("meta"):
        network = Network(encoder, shape)
    return sum(p.numel() for p in network.parameters())
