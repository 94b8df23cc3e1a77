"""Two branches with patches of size p and 2p over the same frames, which talk through their summary tokens.

After CrossViT (Chen et al. 2021, sec. 3). Shapes: m members, b clips, n tokens of a branch, its summary token first.

Differences: both branches have the same depth and width, so that the projections f and g between widths (eq. 4 and 6)
fall away; there is a cross-attention after every block, not after every few, since reference networks are three blocks
deep; and instead of one head a branch, one linear layer joins both summaries, as the caller has one head for all.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from piano_assets.catalogue.trial import Encoder
from piano_assets.models.attention import Grid, vanilla
from piano_assets.models.layers import LayerNorm, Linear, Noise, drop
from piano_assets.models.transformer import Block, Patches


class CrossAttention(nn.Module):
    """What a branch's summary token learns from the other branch's patches, to be added to it (Chen 2021, eq. 5).

    Keys and values are the summary itself and the patches (eq. 4); there is no perceptron behind, as in the paper.
    """

    def __init__(self, members: int, encoder: Encoder) -> None:
        super().__init__()
        inner = encoder.heads * encoder.head_dim
        self.heads = encoder.heads
        self.norm = LayerNorm(members, encoder.dim)
        self.query = Linear(members, encoder.dim, inner, spectral_norm=encoder.spectral_norm)
        self.key_value = Linear(members, encoder.dim, 2 * inner, spectral_norm=encoder.spectral_norm)
        self.out = Linear(members, inner, encoder.dim, spectral_norm=encoder.spectral_norm)

    def forward(self, summary: Tensor, patches: Tensor, mask: Tensor | None) -> Tensor:
        """(m, b, 1, dim), (m, b, n, dim) and the mask of both, (m, b, 1 + n) -> (m, b, 1, dim)."""
        x = self.norm(torch.cat([summary, patches], 2))
        q = rearrange(self.query(x[:, :, :1]), "m b n (h d) -> m b h n d", h=self.heads)
        k, v = rearrange(self.key_value(x), "m b n (two h d) -> two m b h n d", two=2, h=self.heads)
        return self.out(rearrange(vanilla(q, k, v, mask), "m b h n d -> m b n (h d)"))


class TwoBranchBlock(nn.Module):
    """One block a branch, then each summary token asks the other branch (Chen 2021, fig. 2).

    `depth`: share of the way through the network, for stochastic depth.
    """

    def __init__(self, members: int, encoder: Encoder, grids: Sequence[Grid], depth: float) -> None:
        super().__init__()
        self.depth = depth
        self.blocks = nn.ModuleList(Block(members, encoder, grid, depth) for grid in grids)
        self.crossings = nn.ModuleList(CrossAttention(members, encoder) for _ in grids)

    def forward(self, branches: list[Tensor], masks: list[Tensor | None], noise: Noise | None) -> list[Tensor]:
        branches = [block(x, mask, noise) for block, x, mask in zip(self.blocks, branches, masks, strict=True)]
        out = []
        for cross, own, other, mask in zip(self.crossings, branches, branches[::-1], masks[::-1], strict=True):
            summary = own[:, :, :1]
            learned = cross(summary, other[:, :, 1:], mask)
            if noise is not None:
                learned = noise.drop_path(noise.drop(learned), self.depth)
            out.append(torch.cat([summary + learned, own[:, :, 1:]], 2))
        return out


class MultiScale(nn.Module):
    """A spectrogram through both branches to one vector a clip: (m, b, n_frames, n_bands) -> (m, b, dim).

    `encoder` gives the small patch size and the shape of every block; attention inside a branch is vanilla.
    """

    def __init__(self, members: int, encoder: Encoder, n_bands: int, crop: int) -> None:
        super().__init__()
        plain = replace(encoder, attention="vanilla", settings=())
        stems = [Patches(members, plain, n_bands, size) for size in (encoder.patch_size, 2 * encoder.patch_size)]
        grids, depth = [stem.grid(crop) for stem in stems], encoder.depth
        self.stems = nn.ModuleList(stems)
        self.summaries = nn.Parameter(torch.zeros(members, 2, encoder.dim))
        self.blocks = nn.ModuleList(TwoBranchBlock(members, plain, grids, (i + 1) / depth) for i in range(depth))
        self.norms = nn.ModuleList(LayerNorm(members, encoder.dim) for _ in stems)
        self.join = Linear(members, 2 * encoder.dim, encoder.dim)

    @torch.no_grad()
    def reset(self, member: int, generator: torch.Generator) -> None:
        """Draw the member's summary tokens."""
        drawn = 0.02 * torch.randn(self.summaries.shape[1:], generator=generator)
        self.summaries[member] = drawn.to(self.summaries)

    def forward(self, frames: Tensor, mask: Tensor | None, noise: Noise | None) -> Tensor:
        branches, masks = [], []
        for stem, summary in zip(self.stems, self.summaries.unbind(1), strict=True):
            x, real = stem(frames, mask)
            x = torch.cat([summary[:, None, None].expand(-1, x.shape[1], -1, -1), x], 2)
            branches.append(drop(x, noise))
            masks.append(None if real is None else F.pad(real, (1, 0), value=True))
        for block in self.blocks:
            branches = block(branches, masks, noise)
        return self.join(torch.cat([norm(x[:, :, 0]) for norm, x in zip(self.norms, branches, strict=True)], -1))
