"""What a pretrained network makes of one performance: its states, and how far each note departs from what it expects.

Shapes: n notes, a attributes, g groups of attributes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from piano_assets.models.masked_notes import MaskedNotes
from piano_assets.training.pretraining import masks
from piano_assets.training.pretraining.windows import GROUP_OF, GROUPS, LENGTH, N_SCORE

N_PARTS = 4
"""Stretches of chords are hidden in as many turns, so that each note is guessed from three quarters of the others."""

VIEWS = ("neighbours", "others", "score")
"""What a note's attributes are guessed from: the notes around it, its other groups of attributes, the score alone."""


@dataclass(frozen=True)
class Answers:
    """What the network says of one performance.

    states: (n, dim) of the untouched performance.
    departure: (VIEWS, n, a) value less expected value, in standard deviations of the pretraining music.
    surprise: (VIEWS, n, a) nats above what the network itself expects to be surprised by (its entropy).
    """

    states: np.ndarray
    departure: np.ndarray
    surprise: np.ndarray


@torch.no_grad()
def answers(network: MaskedNotes, events: np.ndarray) -> Answers:
    """Ask a network, in evaluation mode, about a performance's `events` (n, WIDTH)."""
    found = [_of_stretch(network, torch.from_numpy(stretch)) for stretch in stretches(events)]
    states, departure, surprise = zip(*found, strict=True)
    return Answers(torch.cat(states).numpy(), torch.cat(departure, dim=1).numpy(), torch.cat(surprise, dim=1).numpy())


def stretches(events: np.ndarray) -> Iterator[np.ndarray]:
    """Stretches of equal length, at most `LENGTH` notes each, as the network has seen no longer ones."""
    return iter(np.array_split(events, -(-len(events) // LENGTH)))


def questions(chord: Tensor) -> Tensor:
    """What is hidden in each of 1 + N_PARTS + g + 1 turns, (turns, n, g) bool: nothing, parts, groups, everything."""
    n, g = len(chord), len(GROUPS)
    part = masks.spans(chord) % N_PARTS
    by_part = (part == torch.arange(N_PARTS)[:, None])[..., None].expand(N_PARTS, n, g)
    by_group = torch.eye(g, dtype=torch.bool)[:, None].expand(g, n, g)
    return torch.cat([torch.zeros(1, n, g, dtype=torch.bool), by_part, by_group, torch.ones(1, n, g, dtype=torch.bool)])


def _of_stretch(network: MaskedNotes, events: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    chord = events[:, -1] - events[0, -1]
    hidden = questions(chord)
    turns, attributes = len(hidden), events[:, N_SCORE:-1]
    states, logits = network(events[:, :N_SCORE].expand(turns, -1, -1), attributes.expand(turns, -1, -1), hidden)
    value, target = network.standardised(attributes), network.bins(attributes[None])[0]
    part = masks.spans(chord) % N_PARTS
    departure, surprise = [], []
    for i, (x, k) in enumerate(zip(logits, network.n_bins, strict=True)):
        turn = torch.stack(
            [1 + part, torch.full_like(part, 1 + N_PARTS + GROUP_OF[i]), torch.full_like(part, turns - 1)]
        )
        log_p = F.log_softmax(x[turn, torch.arange(len(chord))], -1)  # (VIEWS, n, bins)
        centre = (network.centres[i, :k] - network.mean[i]) / network.std[i]
        departure.append(value[:, i] - (log_p.exp() * centre).sum(-1))
        nats = -log_p.gather(-1, target[:, i].expand(len(VIEWS), -1)[..., None])[..., 0]
        surprise.append(nats + (log_p.exp() * log_p).sum(-1))
    return states[0], torch.stack(departure, -1), torch.stack(surprise, -1)
