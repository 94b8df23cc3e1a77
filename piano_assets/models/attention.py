"""Attention kinds: queries, keys, values and a mask of real tokens in, one value per query out.

Shapes: q, k, v (..., heads, n, head_dim), the result likewise; mask (..., n), True at real tokens, or None where all
are. Padded keys get no weight in any kind; what comes out at padded queries is finite and means nothing. The functions
hold the mathematics; a class of the same name keeps a kind's settings and what it draws or learns, for m members.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Grid:
    """Where tokens stand: time-major, token i at time i // n_bands; a batch may have only the first of them."""

    n_times: int
    n_bands: int

    @property
    def n_tokens(self) -> int:
        """Tokens of a full batch."""
        return self.n_times * self.n_bands

    def position(self, n: int, device: torch.device) -> Tensor:
        """Time step of the first n tokens, (n,)."""
        return torch.arange(n, device=device) // self.n_bands


def vanilla(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Softmax attention of every token to every real token (Vaswani et al. 2017, eq. 1).

    There may be more keys than queries or fewer; the mask is that of the keys.
    """
    return _softmax_attention(q, k, v, _keep(mask))


def local(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, position: Tensor, radius: int) -> Tensor:
    """Softmax attention to the tokens at most `radius` time steps away (Beltagy et al. 2020, sec. 3.1).

    The window counts time steps, not tokens: all bands of a step lie in it together. position: (n,).
    """
    return _softmax_attention(q, k, v, _keep(mask, band_mask(position, radius)))


def sparse(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, position: Tensor, radius: int, stride: int, n_global: int
) -> Tensor:
    """Softmax attention over window, stride and global tokens, the union of `sparse_mask`, in every head.

    The union is the "merged head" of Child et al. 2019, sec. 5.1.
    """
    return _softmax_attention(q, k, v, _keep(mask, sparse_mask(position, radius, stride, n_global)))


def band_mask(position: Tensor, radius: int) -> Tensor:
    """Pairs at most `radius` apart: (n,) -> (n, n)."""
    return (position[:, None] - position).abs() <= radius


def sparse_mask(position: Tensor, radius: int, stride: int, n_global: int) -> Tensor:
    """Pairs within a window, a multiple of `stride` time steps apart, or with one of the first tokens: (n,) -> (n, n).

    Window and stride are the strided pattern of Child et al. 2019, sec. 4.3, here in both directions; the first
    `n_global` tokens see all and are seen by all (Zaheer et al. 2020, BigBird, sec. 2, internal construction).
    """
    apart = position[:, None] - position
    first = torch.arange(len(position), device=position.device) < n_global
    return (apart.abs() <= radius) | (apart % stride == 0) | first[:, None] | first


def performer(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, projection: Tensor) -> Tensor:
    """FAVOR+: softmax attention estimated with positive random features (Choromanski et al. 2021, lemma 1).

    exp(q.k) is the mean over Gaussian w of exp(w.q - |q|^2/2) exp(w.k - |k|^2/2), so that keys are summed once for all
    queries. projection: (..., n_features, head_dim), its leading axes broadcast against those before the heads.

    The paper subtracts one maximum from all exponents and adds 1e-4 against division by zero. Here each feature's
    maximum over the keys moves to the queries: the estimate is exact and the denominator is at least 1.
    """
    # Half precision would lose the exponents' differences.
    with torch.autocast(q.device.type, enabled=False):
        given, dtype = v.dtype, torch.promote_types(q.dtype, torch.float32)
        q, k, v, w = (x.to(dtype) for x in (q, k, v, projection))
        scale = q.shape[-1] ** -0.25  # of queries and of keys: its square is softmax attention's 1 / sqrt(head_dim)
        # A query's own -|q|^2/2 cancels between numerator and denominator.
        of_queries = torch.einsum("...fd,...hnd->...hnf", w * scale, q)
        of_keys = torch.einsum("...fd,...hnd->...hnf", w * scale, k) - k.square().sum(-1, keepdim=True) * scale**2 / 2
        if mask is not None:
            # Finite, so that a sequence without a real token gives no NaN.
            of_keys = of_keys.masked_fill(~mask[..., None, :, None], -1e30)
        # The result does not depend on the shifts: no gradient passes through them.
        largest = of_keys.detach().amax(-2, keepdim=True)
        features_k = (of_keys - largest).exp()
        logits = of_queries + largest
        features_q = (logits - logits.detach().amax(-1, keepdim=True)).exp()
        weight = features_q @ features_k.sum(-2)[..., None]
        return (features_q @ (features_k.mT @ v) / weight).to(given)


def orthogonal_features(n_features: int, head_dim: int, generator: torch.Generator) -> Tensor:
    """Gaussian rows, orthogonal within each block of `head_dim`, (n_features, head_dim), float64.

    Each row is Gaussian by itself, so that the kernel's estimate stays unbiased; its variance is less than that of
    independent rows (Choromanski et al. 2021, theorem 2).
    """
    n_blocks = -(-n_features // head_dim)
    gaussian = torch.randn(n_blocks, head_dim, head_dim, generator=generator, dtype=torch.float64)
    q, r = torch.linalg.qr(gaussian)
    # Without these signs the rotations would not be uniform (Mezzadri 2007).
    rotations = q * r.diagonal(dim1=-2, dim2=-1).sign()[:, None]
    lengths = torch.randn(n_features, head_dim, generator=generator, dtype=torch.float64).norm(dim=1)
    return rotations.flatten(0, 1)[:n_features] * lengths[:, None]


def linformer(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, project_k: Tensor, project_v: Tensor) -> Tensor:
    """Softmax attention to k mixtures of the keys, for all lengths alike (Wang et al. 2020, eq. 7).

    project_k, project_v: (..., k, n_max), leading axes as before the heads, which share them; of the columns the first
    n are used. Padded tokens enter no mixture, and a mixture into which no real token enters gets no weight.
    """
    n = k.shape[-2]
    project_k, project_v = project_k[..., :n], project_v[..., :n]
    enters = project_k != 0
    if mask is not None:
        k, v = (torch.where(mask[..., None, :, None], x, 0.0) for x in (k, v))
        enters = enters & mask[..., None, :]
    mixed_k = torch.einsum("...sn,...hnd->...hsd", project_k, k)
    mixed_v = torch.einsum("...sn,...hnd->...hsd", project_v, v)
    return _softmax_attention(q, mixed_k, mixed_v, _keep(enters.any(-1)))


def _keep(mask: Tensor | None, pairs: Tensor | None = None) -> Tensor | None:
    """Which keys each query sees, (..., 1, 1 or n, n), of those that `pairs` (n, n) allows; (n, n) without a mask.

    A padded query sees every real key, and a sequence without a real token sees its padding: a softmax over nothing
    would be NaN, and NaN spreads through the gradient.
    """
    if mask is None:
        return pairs
    keys = (mask | ~mask.any(-1, keepdim=True))[..., None, None, :]
    return keys if pairs is None else keys & (pairs | ~mask[..., None, :, None])


def _softmax_attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None) -> Tensor:
    # Torch's fast kernels take four axes.
    leading = q.shape[:-3]
    if keep is not None and keep.dim() > 2:
        keep = keep.expand(*leading, *keep.shape[-3:]).reshape(-1, *keep.shape[-3:])
    q, k, v = (x.reshape(-1, *x.shape[-3:]) for x in (q, k, v))
    if q.dtype == torch.bfloat16 and q.device.type == "cpu":  # torch's own is slower: benchmarks/attention.py
        scores = q @ k.mT * q.shape[-1] ** -0.5
        out = (scores if keep is None else scores.masked_fill(~keep, -math.inf)).softmax(-1) @ v
    else:
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=keep)
    return out.reshape(*leading, *out.shape[1:])


class Vanilla(nn.Module):
    """`vanilla`, which has nothing to set."""

    def __init__(self, members: int, heads: int, head_dim: int, grid: Grid) -> None:
        super().__init__()

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return vanilla(q, k, v, mask)


class Local(nn.Module):
    """`local`: radius in time steps."""

    def __init__(self, members: int, heads: int, head_dim: int, grid: Grid, *, radius: int = 4) -> None:
        super().__init__()
        self.grid, self.radius = grid, radius

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return local(q, k, v, mask, self.grid.position(q.shape[-2], q.device), self.radius)


class Performer(nn.Module):
    """`performer` with features that each member draws once, shared by its heads and fixed in training."""

    projection: Tensor

    def __init__(self, members: int, heads: int, head_dim: int, grid: Grid, *, n_features: int = 256) -> None:
        super().__init__()
        self.register_buffer("projection", torch.zeros(members, n_features, head_dim))

    @torch.no_grad()
    def reset(self, member: int, generator: torch.Generator) -> None:
        """Draw the member's random features."""
        _, n_features, head_dim = self.projection.shape
        self.projection[member] = orthogonal_features(n_features, head_dim, generator).to(self.projection)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return performer(q, k, v, mask, self.projection[:, None])


class Linformer(nn.Module):
    """`linformer` with learned projections, apart for keys and values and shared by the heads (Wang 2020, sec. 4).

    More mixtures than tokens would compress nothing: k is at most the grid's number of tokens.
    """

    def __init__(self, members: int, heads: int, head_dim: int, grid: Grid, *, k: int = 32) -> None:
        super().__init__()
        shape = members, min(k, grid.n_tokens), grid.n_tokens
        self.project_k = nn.Parameter(torch.zeros(shape))
        self.project_v = nn.Parameter(torch.zeros(shape))

    @torch.no_grad()
    def reset(self, member: int, generator: torch.Generator) -> None:
        """Gaussian with variance 1 / n_max: a mixture of independent keys is as large as a key.

        The paper's bound has 1 / k, with which mixtures grow with the length of the sequence.
        """
        for weight in (self.project_k, self.project_v):
            drawn = torch.randn(weight.shape[1:], generator=generator) / weight.shape[2] ** 0.5
            weight[member] = drawn.to(weight)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        return linformer(q, k, v, mask, self.project_k[:, None], self.project_v[:, None])


class Sparse(nn.Module):
    """`sparse`: radius and stride in time steps, global tokens as a number of tokens."""

    def __init__(
        self,
        members: int,
        heads: int,
        head_dim: int,
        grid: Grid,
        *,
        radius: int = 1,
        stride: int = 4,
        n_global: int = 4,
    ) -> None:
        super().__init__()
        self.grid, self.radius, self.stride, self.n_global = grid, radius, stride, n_global

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        position = self.grid.position(q.shape[-2], q.device)
        return sparse(q, k, v, mask, position, self.radius, self.stride, self.n_global)


ATTENTION: dict[str, type[nn.Module]] = {
    "vanilla": Vanilla,
    "local": Local,
    "performer": Performer,
    "linformer": Linformer,
    "sparse": Sparse,
}
"""Kind -> module, built with members, heads, head_dim, grid and the kind's settings as keywords."""

PAIRS: dict[str, Callable[[Any, Tensor], Tensor | None]] = {
    "vanilla": lambda layer, q: None,
    "local": lambda layer, q: band_mask(layer.grid.position(q.shape[-2], q.device), layer.radius),
    "sparse": lambda layer, q: sparse_mask(
        layer.grid.position(q.shape[-2], q.device), layer.radius, layer.stride, layer.n_global
    ),
}
"""The kinds that weigh tokens one by one -> which pairs a layer of the kind lets see one another, for such queries."""


def attention_weights(kind: str, layer: nn.Module, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
    """With which weights a layer of a kind mixes the values, (..., heads, n, n); rows sum to 1.

    The layers themselves never form them: fused kernels return what is mixed alone.

    Raises:
        ValueError: the kind sums keys before it knows the query, or mixes them first.
    """
    if kind not in PAIRS:
        raise ValueError(f"attention={kind!r} gives no weights to single tokens; those that do: {tuple(PAIRS)}")
    keep = _keep(mask, PAIRS[kind](layer, q))
    scores = q @ k.mT * q.shape[-1] ** -0.5
    return (scores if keep is None else scores.masked_fill(~keep, -math.inf)).softmax(-1)


def check_settings(kind: str, settings: Mapping[str, Any]) -> None:
    """Refuse an attention kind or a setting that does not exist, or a value that is no integer >= 1.

    Raises:
        ValueError: naming the rule and the value.
    """
    if kind not in ATTENTION:
        raise ValueError(f"model.attention={kind!r} must be one of {tuple(ATTENTION)}")
    parameters = inspect.signature(ATTENTION[kind]).parameters.values()
    known = tuple(p.name for p in parameters if p.kind is p.KEYWORD_ONLY)
    for setting, value in settings.items():
        where = f"model.settings.{setting}={value!r}"
        if setting not in known:
            raise ValueError(f"{where}: {kind} has no such setting; known: {known}")
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{where} must be an integer >= 1")
