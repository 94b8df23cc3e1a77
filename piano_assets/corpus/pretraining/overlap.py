"""Whether a performance contains music that models are evaluated on, found by its notes alone.

Names of files and titles differ from one collection to the next, and a performance of a whole movement contains
excerpts somewhere in its middle. So every performance is compared with the score of every excerpt: common runs of
intervals give the places where the excerpt might lie, in any key; there the rule of `corpus/clusters.py` decides.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from piano_assets.corpus.clusters import shared_music
from piano_assets.corpus.performance import CHORD_GAP_S, Performance

GRAM = 5
"""Intervals in a run that two sequences must share to be compared there."""

MIN_RUNS = 0.05
"""Share of an excerpt's runs that must occur near one place. Where less does, matching blocks cannot cover enough."""

MIN_SHARE = 0.4
"""Share of the excerpt that matching blocks must cover. Lower than between two scores, as performers play wrong notes
and ornaments: see the measurement in `docs/data.md`."""

PLACES = 3
"""Places of an excerpt in a performance that are looked at, those with most runs first."""

_BASE = 257  # intervals lie in -127..127


@dataclass(frozen=True)
class Overlap:
    """An excerpt that a performance contains: share of it that was found, and by how many semitones it is moved."""

    excerpt: str
    share: float
    semitones: int


def pitch_sequence(performance: Performance) -> np.ndarray:
    """Pitches chord by chord, each chord from its lowest note: the order does not depend on how a chord is spread."""
    starts = np.concatenate(([0], np.cumsum(np.diff(performance.onset_s) > CHORD_GAP_S)))
    return performance.pitch[np.lexsort((performance.pitch, starts))].astype(np.int64)


class Scores:
    """The scores of all excerpts, indexed by their runs of intervals.

    Args:
        scores: excerpt -> pitches in order of onset, then pitch.
    """

    def __init__(self, scores: Mapping[str, Sequence[int]]) -> None:
        self.names = sorted(scores)
        self.pitches = [np.asarray(scores[name], np.int64) for name in self.names]
        runs = [_runs(pitch) for pitch in self.pitches]
        code = np.concatenate([np.zeros(0, np.int64), *runs])
        excerpt = np.repeat(np.arange(len(runs)), [len(r) for r in runs])
        place = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(r)) for r in runs)])
        order = np.argsort(code, kind="stable")
        self.code, self.excerpt, self.place = code[order], excerpt[order], place[order]

    def overlap(self, pitch: np.ndarray) -> Overlap | None:
        """The excerpt of which most is found in a pitch sequence, or None where no share reaches `MIN_SHARE`."""
        best = max(self.found(pitch), key=lambda o: o.share, default=None)
        return best if best is not None and best.share >= MIN_SHARE else None

    def found(self, pitch: np.ndarray) -> list[Overlap]:
        """Every excerpt with a place in `pitch` where enough runs agree, and the share of it that is found there."""
        run, at, excerpt, place = self._hits(_runs(pitch))
        results = []
        for e in np.unique(excerpt):
            mine = excerpt == e
            score = self.pitches[e]
            semitones = pitch[at[mine]] - score[place[mine]]
            places = _places(run[mine], at[mine] - place[mine], semitones, len(score))
            shares = [(_share(pitch, score + shift, start), shift) for start, shift in places]
            if shares:
                share, shift = max(shares)
                results.append(Overlap(self.names[e], share, int(shift)))
        return results

    def _hits(self, runs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """All pairs of equal runs: (place in the excerpt, place in the performance, excerpt, place in the excerpt)."""
        first = np.searchsorted(self.code, runs, side="left")
        count = np.searchsorted(self.code, runs, side="right") - first
        at = np.repeat(np.arange(len(runs)), count)
        within = np.arange(len(at)) - np.repeat(np.cumsum(count) - count, count)
        row = np.repeat(first, count) + within
        return self.place[row], at, self.excerpt[row], self.place[row]


def _runs(pitch: np.ndarray) -> np.ndarray:
    """One number for every `GRAM` successive intervals: (max(0, n - GRAM),)."""
    interval = np.diff(pitch) + _BASE // 2
    n = max(0, len(interval) - GRAM + 1)
    code = np.zeros(n, np.int64)
    for i in range(GRAM):
        code = code * _BASE + interval[i : i + n]
    return code


def _places(run: np.ndarray, start: np.ndarray, semitones: np.ndarray, length: int) -> list[tuple[int, int]]:
    """(where the excerpt would begin, semitones) with at least `MIN_RUNS` of its runs, most runs first.

    Wrong notes and ornaments move the beginning that a run implies, so beginnings are counted in overlapping stretches
    of half the excerpt.
    """
    step = max(1, length // 4)
    cell = np.concatenate([start // step, start // step - 1])
    key = np.stack([cell, np.tile(semitones, 2), np.tile(run, 2)])
    distinct = np.unique(key, axis=1)  # a repeated figure counts once for each of its places in the excerpt
    (cells, shifts), count = np.unique(distinct[:2], axis=1, return_counts=True)
    order = np.argsort(-count, kind="stable")
    order = order[count[order] >= max(1.0, MIN_RUNS * (length - GRAM))][:PLACES]
    return [(int(cells[i]) * step, int(shifts[i])) for i in order]


def _share(pitch: np.ndarray, score: np.ndarray, start: int) -> float:
    """Share of the score in matching blocks with the stretch of `pitch` around the place where it would begin."""
    slack = max(8, len(score) // 2)
    stretch = pitch[max(0, start - slack // 2) : max(0, start) + len(score) + slack]
    return shared_music(stretch.tolist(), score.tolist()) if len(stretch) else 0.0
