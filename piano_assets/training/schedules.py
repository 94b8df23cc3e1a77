"""Learning-rate schedules: pure functions (step, total, warmup) -> multiplier in [0, 1], asked before each step."""

import math
from collections.abc import Callable


def constant(step: int, total: int, warmup: int = 0) -> float:
    """The same learning rate throughout, after a linear warm-up if there is one."""
    return (step + 1) / warmup if step < warmup else 1.0


def cosine(step: int, total: int, warmup: int = 0) -> float:
    """Half a cosine from 1 to 0 without warm-up (Loshchilov & Hutter 2017, eq. 5, one cycle)."""
    return 0.5 * (1 + math.cos(math.pi * step / max(1, total)))


def warmup_cosine(step: int, total: int, warmup: int) -> float:
    """Linear warm-up over `warmup` steps, then half a cosine over the rest."""
    if step < warmup:
        return (step + 1) / warmup
    return cosine(step - warmup, total - warmup)


SCHEDULES: dict[str, Callable[[int, int, int], float]] = {
    "constant": constant,
    "cosine": cosine,
    "warmup_cosine": warmup_cosine,
}
