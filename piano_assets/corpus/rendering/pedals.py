"""What the three pedals do to dampers and hammers."""

import numpy as np

from piano_assets.corpus.performance import SOFT, SOSTENUTO, SUSTAIN, Performance

TOUCH, CLEAR = 40, 88
"""Sustain pedal (CC64): below `TOUCH` the dampers rest on the strings, above `CLEAR` they are off them."""
SOFT_LEVEL = 0.8
SOFT_HARDNESS = 0.7
"""Una corda (CC67), fully down: amplitude, and velocity that gives the same brightness, relative to the pedal up."""


def damper_contact(value: np.ndarray) -> np.ndarray:
    """Share of the full damping at each sustain pedal value: 1 at rest, 0 clear of the strings, between: half-pedal.

    Smooth and squared, since felt that barely touches damps little: a quarter at 64.
    """
    lift = np.clip((np.asarray(value, np.float64) - TOUCH) / (CLEAR - TOUCH), 0, 1)
    return (1 - lift * lift * (3 - 2 * lift)) ** 2


def value_at(performance: Performance, controller: int, time_s: np.ndarray) -> np.ndarray:
    """A pedal's value at each time (a movement holds until the next; 0 before the first), float64, shape of time_s."""
    moved, value = performance.pedal(controller)
    last = np.searchsorted(moved, time_s, side="right")
    return np.concatenate([[0.0], value])[last]


def contact_integral(performance: Performance, n_blocks: int, block_s: float) -> np.ndarray:
    """Integral over time of the damper contact, in seconds, at the n_blocks + 1 block boundaries.

    A damped string of full damping rate r falls by exp(-r (I(t) - I(note-off))) beside its own decay.
    """
    middle = (np.arange(n_blocks) + 0.5) * block_s
    contact = damper_contact(value_at(performance, SUSTAIN, middle))
    return np.concatenate([[0.0], np.cumsum(contact) * block_s])


def held_until(performance: Performance) -> np.ndarray:
    """(n_notes,) seconds at which each damper may fall: the note-off, or the later release of the sostenuto pedal.

    The sostenuto pedal (CC66, down from 64) holds the keys that are down when it goes down.
    """
    offset = performance.offset_s.copy()
    moved, value = performance.pedal(SOSTENUTO)
    down = np.concatenate([[False], value >= 64, [False]])
    edges = np.concatenate([[0.0], moved, [np.inf]])
    for pressed, released in zip(edges[1:][~down[:-1] & down[1:]], edges[1:][down[:-1] & ~down[1:]], strict=True):
        caught = (performance.onset_s <= pressed) & (offset > pressed)
        offset[caught] = np.maximum(offset[caught], released)
    return offset


def soft_share(performance: Performance) -> np.ndarray:
    """(n_notes,) how far the soft pedal was down when each note was struck, 0..1."""
    return value_at(performance, SOFT, performance.onset_s) / 127
