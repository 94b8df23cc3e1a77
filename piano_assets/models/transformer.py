"""The encoder of what runs in time: tokens -> positions -> pre-norm blocks -> masked mean.

After the Audio Spectrogram Transformer (Gong et al. 2021), with the pre-norm block of Xiong et al. (2020) and masked
mean pooling instead of a class token. Shapes: m members, b clips, n tokens, t patches in time, f in frequency, p patch
size. Frames come standardised, zeros where a clip has ended; real frames come first.
"""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from piano_assets.catalogue.trial import Encoder
from piano_assets.models.attention import ATTENTION, Grid
from piano_assets.models.layers import LayerNorm, Linear, Noise, drop, masked_mean


def time_positions(n: int, dim: int, like: Tensor) -> Tensor:
    """Sinusoids of the position, (n, dim) (Vaswani et al. 2017, sec. 3.5): defined for any length."""
    rates = torch.exp(torch.arange(0, dim, 2, device=like.device) * (-math.log(10_000.0) / dim))
    angles = torch.arange(n, device=like.device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :dim].to(like.dtype)


class Patches(nn.Module):
    """Square patches of a spectrogram as tokens: (m, b, n_frames, n_bands) -> (m, b, t x f, dim), and their mask.

    Frames and bands are padded to whole patches with zeros, the training mean; a patch without a real frame is masked.
    """

    def __init__(self, members: int, encoder: Encoder, n_bands: int, patch_size: int | None = None) -> None:
        super().__init__()
        self.patch_size = patch_size or encoder.patch_size
        self.n_bands = -(-n_bands // self.patch_size)
        self.embed = Linear(members, self.patch_size**2, encoder.dim)
        self.band = nn.Parameter(torch.zeros(members, self.n_bands, encoder.dim))

    def grid(self, crop: int) -> Grid:
        """The tokens of a crop of so many frames."""
        return Grid(-(-crop // self.patch_size), self.n_bands)

    @torch.no_grad()
    def reset(self, member: int, generator: torch.Generator) -> None:
        self.band[member] = 0.02 * torch.randn(self.band.shape[1:], generator=generator).to(self.band.dtype)

    def forward(self, frames: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        p = self.patch_size
        x = F.pad(frames, (0, -frames.shape[3] % p, 0, -frames.shape[2] % p))
        x = self.embed(rearrange(x, "m b (t p) (f q) -> m b t f (p q)", p=p, q=p))
        x = x + self.band[:, None, None] + time_positions(x.shape[2], x.shape[4], x)[:, None]
        if mask is not None:
            # Real frames come first, so a patch holds some exactly when its first frame is one.
            mask = mask[:, :, ::p, None].expand(*mask.shape[:2], -1, self.n_bands).flatten(2)
        return x.flatten(2, 3), mask


class Events(nn.Module):
    """Note events as tokens: (m, b, n_notes, n_columns) -> (m, b, n_notes, dim), and their mask as it is."""

    def __init__(self, members: int, encoder: Encoder, n_columns: int) -> None:
        super().__init__()
        self.expand = Linear(members, n_columns, encoder.dim)
        self.embed = Linear(members, encoder.dim, encoder.dim)

    def grid(self, crop: int) -> Grid:
        """The tokens of a crop of so many notes."""
        return Grid(crop, 1)

    def forward(self, events: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        x = self.embed(F.gelu(self.expand(events)))
        # Positions in the events' own precision: the sum of all branches should not round to bfloat16.
        return x + time_positions(x.shape[2], x.shape[3], events), mask


class Attention(nn.Module):
    """Multi-head self-attention of inner width heads x head_dim, whatever `dim` is."""

    def __init__(self, members: int, encoder: Encoder, grid: Grid) -> None:
        super().__init__()
        inner = encoder.heads * encoder.head_dim
        self.heads = encoder.heads
        self.qkv = Linear(members, encoder.dim, 3 * inner, spectral_norm=encoder.spectral_norm)
        self.attend = ATTENTION[encoder.attention](
            members, encoder.heads, encoder.head_dim, grid, **dict(encoder.settings)
        )
        self.out = Linear(members, inner, encoder.dim, spectral_norm=encoder.spectral_norm)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "m b n (three h d) -> three m b h n d", three=3, h=self.heads)
        return self.out(rearrange(self.attend(q, k, v, mask), "m b h n d -> m b n (h d)"))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); dropout where torch.nn.TransformerEncoderLayer has it.

    `depth`: share of the way through the network, for stochastic depth.
    """

    def __init__(self, members: int, encoder: Encoder, grid: Grid, depth: float = 1.0) -> None:
        super().__init__()
        hidden = round(encoder.dim * encoder.mlp_ratio)
        self.depth = depth
        self.norm_attention = LayerNorm(members, encoder.dim)
        self.attention = Attention(members, encoder, grid)
        self.norm_mlp = LayerNorm(members, encoder.dim)
        self.expand = Linear(members, encoder.dim, hidden, spectral_norm=encoder.spectral_norm)
        self.contract = Linear(members, hidden, encoder.dim, spectral_norm=encoder.spectral_norm)

    def forward(self, x: Tensor, mask: Tensor | None, noise: Noise | None) -> Tensor:
        x = x + self._branch(self.attention(self.norm_attention(x), mask), noise)
        hidden = drop(F.gelu(self.expand(self.norm_mlp(x))), noise)
        return x + self._branch(self.contract(hidden), noise)

    def _branch(self, x: Tensor, noise: Noise | None) -> Tensor:
        return x if noise is None else noise.drop_path(noise.drop(x), self.depth)


class Transformer(nn.Module):
    """Tokens of one kind through all blocks to one vector a clip: (m, b, n, width) -> (m, b, dim)."""

    def __init__(self, members: int, encoder: Encoder, stem: Patches | Events, crop: int) -> None:
        super().__init__()
        self.stem = stem
        grid, depth = stem.grid(crop), encoder.depth
        self.blocks = nn.ModuleList(Block(members, encoder, grid, (i + 1) / depth) for i in range(depth))
        self.norm = LayerNorm(members, encoder.dim)

    def forward(self, frames: Tensor, mask: Tensor | None, noise: Noise | None) -> Tensor:
        x, real = self.stem(frames, mask)
        x = drop(x, noise)
        for block in self.blocks:
            x = block(x, real, noise)
        return masked_mean(self.norm(x), real)
