"""A performance played slower, with more pedal or louder, by steps: what a score that makes sense must follow."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from piano_assets.corpus.performance import SUSTAIN, Performance
from piano_assets.features.variants import altered

STEPS = 5
"""Strengths of each edit; the first is the performance as it was played."""
_SLOWER, _LOUDER, _LONGER_S, _DOWN = 0.1, 6, 0.05, 127


def slower(performance: Performance, step: int) -> Performance:
    """At 1, .9, .8, .7 and .6 of its tempo."""
    return altered(performance, f"tempo{1 - _SLOWER * step:g}") if step else performance


def louder(performance: Performance, step: int) -> Performance:
    """All velocities raised by 6 a step, at most to 127."""
    raised = np.minimum(performance.velocity + _LOUDER * step, 127).astype(performance.velocity.dtype)
    return replace(performance, velocity=raised)


def longer_pedal(performance: Performance, step: int) -> Performance:
    """The sustain pedal comes up 0, 50, ..., 200 ms later, as deep as it was: changes blur, short lifts close.

    At each moment it is as deep as it was at the deepest of the time before, so nowhere higher than it was.
    """
    if not step:
        return performance
    time, value = performance.pedal()
    time, value = np.concatenate([[0.0], time]), np.concatenate([[0], value])  # up before the first movement
    late = step * _LONGER_S
    ends = np.append(time[1:], np.inf) + late
    when = np.unique(np.concatenate([time, ends[:-1]]))
    when = when[when <= performance.duration_s]
    # What the pedal was in [t - late, t]: from the last movement that had not ended by then to the last begun.
    first, last = np.searchsorted(ends, when, side="right"), np.searchsorted(time, when, side="right")
    deepest = np.array([value[a:b].max() for a, b in zip(first, last, strict=True)])
    moved = np.concatenate([[True], np.diff(deepest) != 0])
    return _pedalled(performance, when[moved], deepest[moved])


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
    return _pedalled(performance, np.array([t for t, _ in moves]), np.array([v for _, v in moves]))


def _pedalled(performance: Performance, time: np.ndarray, value: np.ndarray) -> Performance:
    """With other movements (n,) of the sustain pedal."""
    others = performance.controller != SUSTAIN
    when = np.concatenate([performance.control_time_s[others], time])
    order = np.argsort(when, kind="stable")
    pedal = np.full(len(time), SUSTAIN, performance.controller.dtype)
    depth = value.astype(performance.control_value.dtype)
    return replace(
        performance,
        control_time_s=when[order],
        controller=np.concatenate([performance.controller[others], pedal])[order],
        control_value=np.concatenate([performance.control_value[others], depth])[order],
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
    "longer_pedal": (longer_pedal, "pedal_sparse_saturated"),
    "deeper_pedal": (deeper_pedal, "pedal_sparse_saturated"),
    "earlier_pedal": (earlier_pedal, "pedal_sparse_saturated"),
    "louder": (louder, "timbre_soft_loud"),
}
"""Edit -> (performance, step) -> performance, and the dimension that must rise with it."""
