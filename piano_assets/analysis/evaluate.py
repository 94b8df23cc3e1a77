"""One block judged: every measure per dimension and in the mean, with each clip's contribution to its error."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from piano_assets.analysis.measures import MEASURES, View
from piano_assets.analysis.panel import Block, Units
from piano_assets.analysis.primary import MOMENTS, Side
from piano_assets.dimensions import N_DIMENSIONS, NAMES
from piano_assets.schemas import LEVELS, POPULATIONS
from piano_assets.statistics import jackknife
from piano_assets.statistics.jackknife import Left

ROW_NAMES: tuple[str, ...] = (*NAMES, "mean")
MIN_CLIPS = 5
"""Scored clips that an excerpt must have to enter the level `within_excerpt`."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Metrics of one block in one population at one level; columns are the 19 dimensions and their mean.

    value: metric -> (20,). contribution: metric -> (n_clips, 20), influence values over n, whose sum over clips is the
    estimate's sampling error to first order; metrics without a known influence function are absent. scored: (n_clips,).
    left: metric -> what its 20 values lose without each cluster, performer and pair of both, exactly; functions of
    moments only.
    """

    value: dict[str, np.ndarray]
    contribution: dict[str, np.ndarray]
    scored: np.ndarray
    left: dict[str, tuple[Left, ...]] = field(default_factory=dict)


def judge(
    block: Block, known: Units, rule: str, population: str, level: str, metrics: Collection[str] = tuple(MEASURES)
) -> Judged | None:
    """Judge a block; None when fewer than 2 clips can be scored (none of the population, or no large excerpt)."""
    seen = side_of(block, known, rule, population, level)
    return None if seen is None else judge_side(*seen, known, level, metrics)


def judge_side(
    side: Side, clip: np.ndarray, known: Units, level: str, metrics: Collection[str] = tuple(MEASURES)
) -> Judged:
    """Judge the rows of a side; clip: (n,), the position of each in `known`."""
    view, value, contribution = side.view, {}, {}
    for name in metrics:
        measure = MEASURES[name]
        found = measure.value(view) if level in measure.levels else None
        if found is None:
            continue
        value[name] = _only_mean(found) if measure.flat else _with_mean(found)
        if measure.influence is not None and level in measure.moved_at:
            moved = measure.influence(view)
            rows = _only_mean(moved) if measure.flat else _with_mean(moved)
            contribution[name] = _by_clip(rows, clip, known)
    scored = np.zeros(len(known.clip), bool)
    scored[clip] = True
    left = {m: side.left[m] for m in value if m in MOMENTS}
    return Judged(value, contribution, scored, left)


def side_of(block: Block, known: Units, rule: str, population: str, level: str) -> tuple[Side, np.ndarray] | None:
    """What of a block is scored, and the clip of each row (position in `known`); None for fewer than 2 rows."""
    if population not in POPULATIONS or level not in LEVELS:
        raise ValueError(f"population {population!r} or level {level!r} is unknown")
    kept = scored_rows(block, known, rule, population)
    group = known.excerpt[block.clip]
    if level == "within_excerpt":
        kept &= _large(group, block.clip, kept)
    if kept.sum() < 2:
        return None
    pred, group, clip, fold = block.pred[kept], group[kept], block.clip[kept], block.fold[kept]
    target = known.labels[rule][clip]
    if level == "within_excerpt":
        if len(np.unique(clip)) < len(clip):
            # Fixed test sets are predicted by several models: each is centred on its own, not on their mixture.
            group = group * (fold.max() + 1) + fold
        pred, target = centred_within(pred, group), centred_within(target, group)
    hard = known.hard.get((block.split, rule))
    weights = known.reliability.get((rule, population, level))
    view = View(pred, target, fold, group, weights, None if hard is None else hard[clip])
    return Side(view, known.cluster[clip], known.performer[clip]), clip


def scored_rows(block: Block, known: Units, rule: str, population: str) -> np.ndarray:
    """Rows of the population that have a label, (n_rows,) bool."""
    kept = ~np.isnan(known.labels[rule][block.clip, 0])
    return kept & known.human[block.clip] if population == "humans" else kept


def average(parts: list[Judged]) -> Judged:
    """The mean over repeats (or seeds, each with its repeat), with contributions averaged clip by clip."""
    if len(parts) == 1:
        return parts[0]

    def mean(get: Callable[[Judged], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        shared = [m for m in get(parts[0]) if all(m in get(p) for p in parts)]
        return {m: np.mean([get(p)[m] for p in parts], axis=0) for m in shared}

    scored = np.any([p.scored for p in parts], axis=0)
    exact = [m for m in parts[0].left if all(m in p.left for p in parts)]
    left = {m: jackknife.average([p.left[m] for p in parts]) for m in exact}
    return Judged(mean(lambda p: p.value), mean(lambda p: p.contribution), scored, left)


def weighted(parts: Sequence[Judged], weights: Sequence[float], metrics: Collection[str]) -> Judged:
    """The weighted sum of scores from the same clips: values, contributions, and what is lost by group.

    Raises:
        ValueError: they rest on different groups.
    """

    def total(get: Callable[[Judged], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        return {m: np.tensordot(weights, [get(p)[m] for p in parts], axes=1) for m in metrics}

    exact = [m for m in metrics if all(m in p.left for p in parts)]
    left = {m: jackknife.weighted([p.left[m] for p in parts], weights) for m in exact}
    return Judged(total(lambda p: p.value), total(lambda p: p.contribution), parts[0].scored, left)


def less(a: Judged, b: Judged, metrics: Collection[str]) -> Judged:
    """`a` less `b`, both judged on the same clips; raises as `weighted`."""
    return weighted((a, b), (1, -1), metrics)


def centred_within(x: np.ndarray, group: np.ndarray) -> np.ndarray:
    """`x` (n, d) less the mean of its group; exactly 0 where a group is constant, so that rounding is no signal."""
    _, code = np.unique(group, return_inverse=True)
    order = np.argsort(code, kind="stable")
    start = np.flatnonzero(np.r_[True, np.diff(code[order]) > 0])
    size = np.diff(np.r_[start, len(code)])[:, None]
    ordered = x[order]
    mean = np.add.reduceat(ordered, start) / size
    constant = np.maximum.reduceat(ordered, start) == np.minimum.reduceat(ordered, start)
    return np.where(constant[code], 0.0, x - mean[code])


def _large(group: np.ndarray, clip: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Rows of excerpts with at least `MIN_CLIPS` distinct scored clips."""
    excerpt_of = np.unique(np.stack([clip[kept], group[kept]]), axis=1)[1]
    return np.bincount(excerpt_of, minlength=group.max(initial=0) + 1)[group] >= MIN_CLIPS


def _with_mean(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, x.mean(-1, keepdims=True)], axis=-1)


def _only_mean(x: np.ndarray) -> np.ndarray:
    return np.concatenate([np.full((*x.shape, N_DIMENSIONS), np.nan), x[..., None]], axis=-1)


def _by_clip(rows: np.ndarray, clip: np.ndarray, known: Units) -> np.ndarray:
    """Sum rows of the same clip: (n_clips, 20)."""
    table = np.zeros((len(known.clip), rows.shape[1]))
    if np.bincount(clip).max() == 1:  # many times faster than adding
        table[clip] = rows
    else:
        np.add.at(table, clip, rows)
    return table
