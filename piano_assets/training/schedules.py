"""Learning-rate schedules: pure functions of where training stands, `schedule(at) -> multiplier` in [0, 1].

All but `cosine`, `cyclic_cosine` and `one_cycle` begin with a linear warm-up where there is one; these are defined
without.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

STEP_FACTOR, STEP_AT = 0.1, (0.25, 0.5, 0.75)
"""`step` multiplies by the factor at these shares of all steps."""

PLATEAU_FACTOR, PLATEAU_PATIENCE, PLATEAU_THRESHOLD = 0.5, 1, 1e-4
"""`reduce_on_plateau` halves after more than `PLATEAU_PATIENCE` epochs in a row without a validation r that is better
by the relative threshold. Training itself stops after 3 to 8 such epochs: torch's patience of 10 would never act."""

ONE_CYCLE_RISE, ONE_CYCLE_START, ONE_CYCLE_END = 0.3, 1 / 25, 1 / 25e4
"""Share of steps that rise, first and last multiplier."""

BETA1, ONE_CYCLE_BETA1 = 0.9, (0.95, 0.85)
"""AdamW's first momentum, and that of `one_cycle` at its lowest and highest learning rate."""


@dataclass(frozen=True)
class Progress:
    """Where training stands: steps taken of `total`, steps of warm-up, validation r of each epoch so far, steps of a
    cycle (0: all of them are one)."""

    step: int
    total: int
    warmup: int = 0
    valid_r: tuple[float, ...] = ()
    cycle: int = 0


def constant(at: Progress) -> float:
    """The same learning rate throughout, after the warm-up."""
    return _warm(at)


def cosine(at: Progress) -> float:
    """Half a cosine from 1 to 0 without warm-up (Loshchilov & Hutter 2017, eq. 5, one cycle)."""
    return _half_cosine(1, 0, at.step / max(1, at.total))


def warmup_cosine(at: Progress) -> float:
    """Linear warm-up (Goyal et al. 2017), then half a cosine over the rest."""
    if at.step < at.warmup:
        return _warm(at)
    return _half_cosine(1, 0, (at.step - at.warmup) / max(1, at.total - at.warmup))


def cyclic_cosine(at: Progress) -> float:
    """Half a cosine from 1 to 0 in each cycle, without warm-up (Huang et al. 2017, eq. 2, with steps from 0)."""
    cycle = at.cycle or max(1, at.total)
    return _half_cosine(1, 0, at.step % cycle / cycle)


def step(at: Progress) -> float:
    """A tenth of the rate from each quarter of the steps to the next."""
    return _warm(at) * STEP_FACTOR ** sum(at.step >= share * at.total for share in STEP_AT)


def reduce_on_plateau(at: Progress) -> float:
    """Half the rate whenever validation r has stopped to rise: torch's rule with mode "max" and the values above."""
    best, bad, reductions = -math.inf, 0, 0
    for r in at.valid_r:
        if r > best * (1 + PLATEAU_THRESHOLD):
            best, bad = r, 0
        else:
            bad += 1
        if bad > PLATEAU_PATIENCE:
            bad, reductions = 0, reductions + 1
    return _warm(at) * PLATEAU_FACTOR**reductions


def one_cycle(at: Progress) -> float:
    """Up to 1 over the first 30 % of steps and down to almost 0, both along half cosines (Smith & Topin 2018).

    With torch's default values; `beta1` moves against it.
    """
    return _cycle(at, ONE_CYCLE_START, 1, ONE_CYCLE_END)


SCHEDULES: dict[str, Callable[[Progress], float]] = {
    "constant": constant,
    "cosine": cosine,
    "warmup_cosine": warmup_cosine,
    "cyclic_cosine": cyclic_cosine,
    "step": step,
    "reduce_on_plateau": reduce_on_plateau,
    "one_cycle": one_cycle,
}


def beta1(schedule: str, at: Progress) -> float:
    """AdamW's first momentum under a schedule: constant but for `one_cycle`, which lowers it as the rate rises."""
    low_rate, high_rate = ONE_CYCLE_BETA1
    return _cycle(at, low_rate, high_rate, low_rate) if schedule == "one_cycle" else BETA1


def _warm(at: Progress) -> float:
    return (at.step + 1) / at.warmup if at.step < at.warmup else 1.0


def _half_cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * share))


def _cycle(at: Progress, start: float, peak: float, end: float) -> float:
    top, last = ONE_CYCLE_RISE * at.total - 1, at.total - 1
    if at.step <= top:
        return _half_cosine(start, peak, at.step / top)
    # With three steps or fewer the top lies before the first: they only fall.
    return _half_cosine(peak, end, (at.step - top) / (last - top))
