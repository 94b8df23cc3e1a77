"""Where a long recording is cut: at gaps in the music, into windows as long as the clips that a champion learnt from.

Its clips are eight bars or so. Of a whole movement it would read means over what no listener of the corpus ever rated
at once; so each window is scored as a clip, and the recording by all of them.
"""

from dataclasses import dataclass, replace

import numpy as np

from piano_assets.corpus.performance import Performance

_GRID_S = 0.25
"""Distance of the places at which a recording without notes may be cut."""
_BAD_GAP, _OUTSIDE = 0.5, 10.0
"""What a cut at the worst gap costs, and what a window does beyond the limits, in squared log ratios of lengths."""


@dataclass(frozen=True)
class Lengths:
    """Seconds that a window lasts at least, at best and at most."""

    least: float
    best: float
    most: float

    @classmethod
    def of_clips(cls, duration_s: np.ndarray) -> "Lengths":
        """As the clips of a corpus: their 5 % and 95 % quantiles, and the geometric mean."""
        least, most = np.quantile(duration_s, [0.05, 0.95])
        return cls(float(least), float(np.exp(np.log(duration_s).mean())), float(most))


def cut_points(places: np.ndarray, gaps: np.ndarray, duration_s: float, lengths: Lengths) -> np.ndarray:
    """Where to cut, from the start to the end: the best compromise between good gaps and windows of the best length.

    Minimises the sum over windows of log(length / best)^2, ten times that of what exceeds the limits, .5 for a
    cut at the worst gap and nothing at the best, by dynamic programming over `places`. A recording of at most
    `lengths.most` is
    not cut; where there is no place, as in a held chord, a window is as long as it must be.

    Args:
        places: (n,) seconds, rising, inside the recording. gaps: (n,) how good a place is; only their order counts.
    Returns:
        (n_windows + 1,) seconds, the first 0 and the last `duration_s`.
    """
    if duration_s <= lengths.most:
        return np.array([0.0, duration_s])
    rank = np.argsort(np.argsort(gaps)) / max(1, len(gaps) - 1)
    at = np.concatenate([[0.0], places, [duration_s]])
    price = np.concatenate([[0.0], _BAD_GAP * (1 - rank), [0.0]])
    # Further back than this no window begins, unless there is no place between.
    first = np.minimum(np.searchsorted(at, at - 4 * lengths.most), np.arange(len(at)) - 1)
    total, before = np.zeros(len(at)), np.zeros(len(at), np.int64)
    for end in range(1, len(at)):
        near = slice(max(0, first[end]), end)
        found = total[near] + _misfit(at[end] - at[near], lengths)
        best = int(np.argmin(found))
        before[end], total[end] = near.start + best, found[best] + price[end]
    cuts = [len(at) - 1]
    while cuts[-1] > 0:
        cuts.append(int(before[cuts[-1]]))
    return at[cuts[::-1]]


def _misfit(length: np.ndarray, lengths: Lengths) -> np.ndarray:
    beyond = np.log(np.clip(length, lengths.least, lengths.most) / length)
    return np.log(length / lengths.best) ** 2 + _OUTSIDE * beyond**2


def gaps_of_notes(performance: Performance) -> tuple[np.ndarray, np.ndarray]:
    """(places, gaps) between notes: before each onset that begins something, and how long nothing began before it."""
    onset = np.unique(performance.onset_s)
    return onset[1:], np.diff(onset)


def gaps_of_sound(samples: np.ndarray, sample_rate: int) -> tuple[np.ndarray, np.ndarray]:
    """(places, gaps) in sound: every quarter of a second, the better the softer it is around."""
    hop = round(_GRID_S * sample_rate)
    n = len(samples) // hop
    power = np.square(samples[: n * hop].astype(np.float64)).reshape(n, hop).mean(1)
    around = np.minimum(power[:-1], power[1:])
    return np.arange(1, n) * hop / sample_rate, -around


def part_of(performance: Performance, start_s: float, end_s: float) -> Performance:
    """The notes that begin in [start_s, end_s), the first onset at 0, each as long as it was; pedals as they stood.

    Raises:
        ValueError: no note begins there.
    """
    chosen = (performance.onset_s >= start_s) & (performance.onset_s < end_s)
    if not chosen.any():
        raise ValueError(f"no note begins between {start_s:g} and {end_s:g} s")
    start, end = performance.onset_s[chosen].min(), performance.offset_s[chosen].max()
    inside = (performance.control_time_s > start) & (performance.control_time_s <= end)
    earlier = performance.control_time_s <= start
    # Of each pedal the last movement before the start is its state there.
    held = [
        int(np.flatnonzero(earlier & (performance.controller == c))[-1])
        for c in np.unique(performance.controller[earlier])
    ]
    kept = np.concatenate([np.array(sorted(held), np.int64), np.flatnonzero(inside)])
    return replace(
        performance,
        onset_s=performance.onset_s[chosen] - start,
        offset_s=performance.offset_s[chosen] - start,
        pitch=performance.pitch[chosen],
        velocity=performance.velocity[chosen],
        control_time_s=np.maximum(performance.control_time_s[kept] - start, 0.0),
        controller=performance.controller[kept],
        control_value=performance.control_value[kept],
    )


def without(performance: Performance, start_s: float, end_s: float) -> Performance:
    """The performance less the notes that begin in [start_s, end_s); what follows comes that much earlier.

    Notes that sound on into the gap stay as long as they were; the pedals are at its end as they would have been.

    Raises:
        ValueError: no other note is left.
    """
    gone = (performance.onset_s >= start_s) & (performance.onset_s < end_s)
    if gone.all():
        raise ValueError(f"all notes begin between {start_s:g} and {end_s:g} s")
    length, at = end_s - start_s, performance.control_time_s
    earlier = np.where(performance.onset_s[~gone] >= end_s, length, 0.0)
    inside = (at >= start_s) & (at < end_s)
    last = [
        int(np.flatnonzero(inside & (performance.controller == c))[-1])
        for c in np.unique(performance.controller[inside])
    ]
    moved = np.where(at >= end_s, at - length, np.minimum(at, start_s))
    kept = np.sort(np.concatenate([np.flatnonzero(~inside), np.array(last, np.int64)]))
    offset = performance.offset_s[~gone] - earlier
    kept = kept[moved[kept] <= offset.max()]
    return replace(
        performance,
        onset_s=performance.onset_s[~gone] - earlier,
        offset_s=offset,
        pitch=performance.pitch[~gone],
        velocity=performance.velocity[~gone],
        control_time_s=moved[kept],
        controller=performance.controller[kept],
        control_value=performance.control_value[kept],
    )
