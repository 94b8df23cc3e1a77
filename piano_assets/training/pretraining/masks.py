"""What is hidden from the network, drawn anew for every window. Shapes: b windows, n notes, g groups of attributes."""

import torch
from torch import Tensor

SPAN = 4
"""Chords that are hidden together: one chord alone would be told by its neighbours."""

BY_NOTE = 0.6
"""Share of the windows in which stretches of notes are hidden, all groups of them; in the others whole groups are."""

BY_GROUP = 0.6
"""Probability that a group is hidden in a window where whole groups are; one of them always is."""

LOWEST, HIGHEST = 0.1, 0.7
"""Share of a window's spans that are hidden, drawn evenly between these."""


def spans(chord: Tensor, offset: Tensor | int = 0) -> Tensor:
    """Number of the span of `SPAN` chords in which each note lies, (b, n) int64; spans begin `offset` chords early."""
    return (chord.long() + offset) // SPAN


def draw(chord: Tensor, n_groups: int, generator: torch.Generator) -> Tensor:
    """(b, n, g) bool: hidden from the network. chord: (b, n), each note's chord."""
    b, n = chord.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator)

    span = spans(chord, torch.randint(SPAN, (b, 1), generator=generator))
    rate = LOWEST + (HIGHEST - LOWEST) * uniform(b, 1)
    by_note = uniform(b, n // SPAN + 2).gather(1, span) < rate
    by_group = uniform(b, n_groups) < BY_GROUP
    by_group[torch.arange(b), torch.randint(n_groups, (b,), generator=generator)] = True
    notes = (uniform(b, 1, 1) < BY_NOTE).expand(b, n, n_groups)
    return torch.where(notes, by_note[..., None], by_group[:, None])
