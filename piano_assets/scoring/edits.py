"""A performance played slower, with more pedal or louder, by steps: what a score that makes sense must follow."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from piano_assets.corpus.performance import SUSTAIN, Performance
from piano_assets.features.variants import altered

STEPS = 5
"""Strengths of each edit; the first is the performance as it was played."""
_SLOWER, _LOUDER, _DOWN = 0.1, 6, 127


def slower(performance: Performance, step: int) -> Performance:
    """At 1, .9, .8, .7 and .6 of its tempo."""
    return altered(performance, f"tempo{1 - _SLOWER * step:g}") if step else performance


def louder(performance: Performance, step: int) -> Performance:
    """All velocities raised by 6 a step, at most to 127."""
    raised = np.minimum(performance.velocity + _LOUDER * step, 127).astype(performance.velocity.dtype)
    return replace(performance, velocity=raised)


def deeper_pedal(performance: Performance, step: int) -> Performance:
    """The sustain pedal is 0, 1/5, ..., 4/5 of the way nearer to the floor, wherever it is."""
    if not step:
        return performance
    sustain = performance.controller == SUSTAIN
    time, value, controller = performance.control_time_s, performance.control_value, performance.controller
    if not (sustain & (time == 0)).any():  # up, and nobody says so
        time, value = np.concatenate([[0.0], time]), np.concatenate([np.zeros(1, value.dtype), value])
        controller = np.concatenate([np.full(1, SUSTAIN, controller.dtype), controller])
        sustain = controller == SUSTAIN
    deeper = np.rint(value + (_DOWN - value) * step / STEPS).astype(value.dtype)
    return replace(
        performance,
        control_time_s=time,
        controller=controller,
        control_value=np.where(sustain, deeper, value),
    )


def earlier_pedal(performance: Performance, step: int) -> Performance:
    """The sustain pedal goes down earlier: of each moment with it up, the last 0, 1/5, ..., 4/5 have it down.

    A half-pressed pedal (below 64) counts as up. Where somebody plays with half pedal throughout, this makes one late
    press of many movements.
    """
    if not step:
        return performance
    time, value = performance.pedal(SUSTAIN)
    edges = np.concatenate([[0.0], time, [performance.duration_s]])
    down = np.concatenate([[False], value >= 64])
    moves = [(t, int(v)) for t, v in zip(time, value, strict=True)]
    for start, end in _stretches(edges, ~down):
        press = end - (end - start) * step / STEPS
        # What happens in the stretch from there on is held down; its last movement, the next press, is there already.
        moves = [(t, v) for t, v in moves if not press <= t < end] + [(press, _DOWN)]
    moves.sort()
    others = performance.controller != SUSTAIN
    when = np.concatenate([performance.control_time_s[others], [t for t, _ in moves]])
    order = np.argsort(when, kind="stable")
    return replace(
        performance,
        control_time_s=when[order],
        controller=np.concatenate([performance.controller[others], np.full(len(moves), SUSTAIN, np.int16)])[order],
        control_value=np.concatenate([performance.control_value[others], np.array([v for _, v in moves], np.int16)])[
            order
        ],
    )


def _stretches(edges: np.ndarray, held: np.ndarray) -> list[tuple[float, float]]:
    """(start, end) of the longest runs of spans between `edges` that are `held`; those of no length are left out."""
    found: list[tuple[float, float]] = []
    for start, end, is_held in zip(edges[:-1], edges[1:], held, strict=True):
        if not is_held or end <= start:
            continue
        if found and found[-1][1] == start:
            found[-1] = (found[-1][0], float(end))
        else:
            found.append((float(start), float(end)))
    return found


EDITS: dict[str, tuple[Callable[[Performance, int], Performance], str]] = {
    "slower": (slower, "tempo_fast_slow"),
    "deeper_pedal": (deeper_pedal, "pedal_sparse_saturated"),
    "earlier_pedal": (earlier_pedal, "pedal_sparse_saturated"),
    "louder": (louder, "timbre_soft_loud"),
}
"""Edit -> (performance, step) -> performance, and the dimension that must rise with it."""
