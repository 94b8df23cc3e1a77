"""A network that guesses hidden parts of a performance: a transformer over notes with a distribution per attribute.

After the masked language model of Devlin et al. (2019, sec. 3.1), which MidiBERT-Piano (Chou et al. 2021) has for
notes. But what the notes *are* is always seen here: what a performer decides is hidden and guessed.
Shapes: b windows, n notes, a attributes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from piano_assets.catalogue.trial import Encoder
from piano_assets.models.layers import LayerNorm, Linear
from piano_assets.models.transformer import Block, Events

CLIP = 5.0
"""Standardised inputs are cut here."""


class MaskedNotes(nn.Module):
    """Score columns and the attributes that are not hidden -> a distribution over the bins of every attribute.

    Moments of the inputs and bins of the attributes are buffers, so that a checkpoint needs no second file.

    Args:
        group: the group of each attribute, (a,): what is hidden is hidden by group.
        n_bins: bins of each attribute, (a,).
    """

    score_mean: Tensor
    score_std: Tensor
    mean: Tensor
    std: Tensor
    edges: Tensor
    centres: Tensor

    def __init__(self, encoder: Encoder, n_score: int, group: Sequence[int], n_bins: Sequence[int]) -> None:
        super().__init__()
        self.group, self.n_bins, n_groups, widest = tuple(group), tuple(n_bins), 1 + max(group), max(n_bins)
        self.stem = Events(1, encoder, n_score + len(group) + n_groups)
        grid, depth = self.stem.grid(1), encoder.depth
        self.blocks = nn.ModuleList(Block(1, encoder, grid, (i + 1) / depth) for i in range(depth))
        self.norm = LayerNorm(1, encoder.dim)
        self.head = Linear(1, encoder.dim, sum(n_bins), zero=True)
        for name, shape in (
            ("score_mean", (n_score,)),
            ("mean", (len(group),)),
            ("edges", (len(group), widest - 1)),
            ("centres", (len(group), widest)),
        ):
            self.register_buffer(name, torch.zeros(shape))
        self.register_buffer("score_std", torch.ones(n_score))
        self.register_buffer("std", torch.ones(len(group)))

    def bins(self, attributes: Tensor) -> Tensor:
        """The bin of every value, (b, n, a) -> int64 (b, n, a)."""
        columns = attributes.unbind(-1)
        found = [
            torch.searchsorted(self.edges[i, : k - 1].contiguous(), x.contiguous(), right=True)
            for i, (x, k) in enumerate(zip(columns, self.n_bins, strict=True))
        ]
        return torch.stack(found, -1)

    def standardised(self, attributes: Tensor) -> Tensor:
        """(b, n, a) attributes in standard deviations from their mean, cut at `CLIP`."""
        return ((attributes - self.mean) / self.std).clamp(-CLIP, CLIP)

    def forward(self, score: Tensor, attributes: Tensor, hidden: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Guess all attributes of all notes.

        Args:
            score: (b, n, n_score), raw. attributes: (b, n, a), raw; hidden ones are not read.
            hidden: (b, n, n_groups) bool.
        Returns:
            states (b, n, dim), and for each attribute the logarithm of a density over its bins, unnormalised,
            (b, n, n_bins).
        """
        unseen = hidden[..., list(self.group)]
        played = torch.where(unseen, 0.0, self.standardised(attributes))
        known = ((score - self.score_mean) / self.score_std).clamp(-CLIP, CLIP)
        x, _ = self.stem(torch.cat([known, played, hidden.to(known.dtype)], -1)[None], None)
        for block in self.blocks:
            x = block(x, None, None)
        states = self.norm(x)
        return states[0], self.head(states)[0].float().split(self.n_bins, -1)
