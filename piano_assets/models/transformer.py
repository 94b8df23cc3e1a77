"""The audio transformer: patches of a spectrogram, pre-norm blocks, mean pooling, one linear head.

After the Audio Spectrogram Transformer (Gong et al. 2021), with the pre-norm block of Xiong et al. (2020) and masked
mean pooling instead of a class token. Shapes: b clips, n tokens, t patches in time, f in frequency, p patch size.
Dropout draws from a generator that the caller passes; without one the model is deterministic.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from piano_assets.catalogue.trial import Encoder
from piano_assets.dimensions import N_DIMENSIONS


def vanilla(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention of every token to every real token (Vaswani et al. 2017, eq. 1).

    q, k, v: (b, heads, n, head_dim). mask: (b, n), True at real tokens, or None where all are.
    """
    return F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None, :])


ATTENTION: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]] = {"vanilla": vanilla}


def dropout(x: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """Zero each value with probability p and scale the rest by 1 / (1 - p); the identity without a generator."""
    if generator is None or p == 0:
        return x
    keep = torch.empty_like(x).bernoulli_(1 - p, generator=generator)
    return x * keep / (1 - p)


def time_positions(n: int, dim: int, like: Tensor) -> Tensor:
    """Sinusoids of the patch index, (n, dim) (Vaswani et al. 2017, sec. 3.5): defined for any length."""
    rates = torch.exp(torch.arange(0, dim, 2, device=like.device) * (-math.log(10_000.0) / dim))
    angles = torch.arange(n, device=like.device)[:, None] * rates
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :dim].to(like.dtype)


class Attention(nn.Module):
    """Multi-head self-attention of inner width heads x head_dim, whatever `dim` is."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        inner = encoder.heads * encoder.head_dim
        self.heads = encoder.heads
        self.attend = ATTENTION[encoder.attention]
        self.qkv = nn.Linear(encoder.dim, 3 * inner)
        self.out = nn.Linear(inner, encoder.dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = rearrange(self.qkv(x), "b n (three h d) -> three b h n d", three=3, h=self.heads)
        return self.out(rearrange(self.attend(q, k, v, mask), "b h n d -> b n (h d)"))


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)); dropout where torch.nn.TransformerEncoderLayer has it."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        hidden = round(encoder.dim * encoder.mlp_ratio)
        self.p = encoder.dropout
        self.norm_attention = nn.LayerNorm(encoder.dim)
        self.attention = Attention(encoder)
        self.norm_mlp = nn.LayerNorm(encoder.dim)
        self.expand = nn.Linear(encoder.dim, hidden)
        self.contract = nn.Linear(hidden, encoder.dim)

    def forward(self, x: Tensor, mask: Tensor | None, generator: torch.Generator | None) -> Tensor:
        x = x + dropout(self.attention(self.norm_attention(x), mask), self.p, generator)
        hidden = dropout(F.gelu(self.expand(self.norm_mlp(x))), self.p, generator)
        return x + dropout(self.contract(hidden), self.p, generator)


class SpectrogramTransformer(nn.Module):
    """patch -> position -> blocks -> pool -> head.

    Inputs are standardised by the training clips' mean and deviation per mel band, outputs start at the training
    targets' mean; both lie in buffers, so a checkpoint carries them.
    """

    input_mean: Tensor
    input_std: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, encoder: Encoder, n_mels: int) -> None:
        super().__init__()
        self.patch_size = encoder.patch_size
        self.p = encoder.dropout
        bands = math.ceil(n_mels / encoder.patch_size)
        self.embed = nn.Linear(encoder.patch_size**2, encoder.dim)
        self.band = nn.Parameter(torch.zeros(bands, encoder.dim))
        self.blocks = nn.ModuleList(Block(encoder) for _ in range(encoder.depth))
        self.norm = nn.LayerNorm(encoder.dim)
        self.head = nn.Linear(encoder.dim, N_DIMENSIONS)
        for name, size, value in (
            ("input_mean", n_mels, 0.0),
            ("input_std", n_mels, 1.0),
            ("target_mean", N_DIMENSIONS, 0.0),
            ("target_std", N_DIMENSIONS, 1.0),
        ):
            self.register_buffer(name, torch.full((size,), value))

    def standardise(self, input_mean: Tensor, input_std: Tensor, targets: Tensor) -> None:
        """Keep the training clips' moments: (n_mels,) each, and those of `targets`, (n_clips, 19)."""
        self.input_mean.copy_(input_mean)
        self.input_std.copy_(input_std)
        self.target_mean.copy_(targets.mean(0))
        # A dimension that never varies in training is predicted by its mean; a floor keeps it learnable.
        self.target_std.copy_(targets.std(0, correction=0).clamp(min=1e-3))

    def forward(self, frames: Tensor, mask: Tensor | None = None, generator: torch.Generator | None = None) -> Tensor:
        """Predict the 19 ratings.

        Args:
            frames: (b, n_frames, n_mels).
            mask: (b, n_frames), True at real frames, which come first; None where all are real.
            generator: source of dropout; None switches it off.
        Returns:
            (b, 19).
        """
        tokens, real = self.patches(frames, mask)  # (b, n, dim), (b, n)
        tokens = dropout(tokens, self.p, generator)
        for block in self.blocks:
            tokens = block(tokens, real, generator)
        pooled = masked_mean(self.norm(tokens), real)
        return self.target_mean + self.target_std * self.head(pooled).to(self.target_mean.dtype)

    def patches(self, frames: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Standardise, pad to whole patches with zeros (the training mean), embed and add both positions."""
        p = self.patch_size
        x = (frames - self.input_mean) / self.input_std
        if mask is not None:
            x = torch.where(mask[..., None], x, 0.0)
        x = F.pad(x, (0, -x.shape[2] % p, 0, -x.shape[1] % p))
        x = self.embed(rearrange(x, "b (t p) (f q) -> b t f (p q)", p=p, q=p))
        x = x + self.band + time_positions(x.shape[1], x.shape[3], x)[:, None]
        if mask is not None:
            bands = self.band.shape[0]
            # Real frames come first, so a patch holds some exactly when its first frame is one.
            mask = rearrange(mask[:, ::p, None].expand(-1, -1, bands), "b t f -> b (t f)")
        return rearrange(x, "b t f d -> b (t f) d"), mask


def masked_mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over real tokens: (b, n, dim), (b, n) -> (b, dim)."""
    if mask is None:
        return x.mean(1)
    weights = mask[..., None].to(x.dtype)
    return (x * weights).sum(1) / weights.sum(1)


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Draw all weights from `generator`: Xavier-uniform matrices, zero biases, unit norms, a zero head.

    With a zero head the first prediction is the training mean, the best constant.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    if isinstance(model, SpectrogramTransformer):
        nn.init.normal_(model.band, std=0.02, generator=generator)
        nn.init.zeros_(model.head.weight)


def n_params(encoder: Encoder, n_mels: int) -> int:
    """Number of trained parameters, counted on the built model (nothing is allocated)."""
    with torch.device("meta"):
        model = SpectrogramTransformer(encoder, n_mels)
    return sum(p.numel() for p in model.parameters())
