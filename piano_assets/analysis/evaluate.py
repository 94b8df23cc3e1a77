"""One block judged: every metric per dimension and in the mean, with each clip's contribution to its sampling error.

Metric names, fixed for all tables: `r2_pooled` (pooled test clips around their pooled mean), `r2_fold_mean` (per fold,
then averaged), `pearson_mean`, `spearman_mean`, `mse`, `mae`, `ccc`; each has a row per dimension and a row `mean`, the
plain mean over dimensions. `pearson_flat_z` and `pearson_flat_raw` flatten clips and dimensions and have only `mean`.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from piano_assets.analysis.panel import Block, Units
from piano_assets.dimensions import N_DIMENSIONS, NAMES
from piano_assets.metrics.regression import FLAT_METRICS, METRICS, r2_fold_mean
from piano_assets.schemas import LEVELS, POPULATIONS
from piano_assets.statistics.influence import FLAT_INFLUENCE, INFLUENCE

POOLED: dict[str, str] = {
    "r2_pooled": "r2",
    "pearson_mean": "pearson",
    "spearman_mean": "spearman",
    "mse": "mse",
    "mae": "mae",
    "ccc": "ccc",
}
"""Name in the tables -> name in `METRICS` and `INFLUENCE`."""

FOLD_MEAN = "r2_fold_mean"
METRIC_NAMES: tuple[str, ...] = (*POOLED, FOLD_MEAN, *FLAT_METRICS)
ROW_NAMES: tuple[str, ...] = (*NAMES, "mean")
MIN_CLIPS = 5
"""Scored clips that an excerpt must have to enter the level `within_excerpt`."""


@dataclass(frozen=True, eq=False)
class Judged:
    """Metrics of one block in one population at one level; columns are the 19 dimensions and their mean.

    value: metric -> (20,). contribution: metric -> (n_clips, 20), influence values over n, whose sum over clips is the
    estimate's sampling error to first order; metrics without a known influence function are absent. scored: (n_clips,).
    """

    value: dict[str, np.ndarray]
    contribution: dict[str, np.ndarray]
    scored: np.ndarray


def judge(
    block: Block, known: Units, rule: str, population: str, level: str, metrics: Collection[str] = METRIC_NAMES
) -> Judged | None:
    """Judge a block; None when fewer than 2 clips can be scored (none of the population, or no large excerpt).

    `r2_fold_mean` and the flat correlations exist at the level `global` only: the first has its own centring, and the
    second answers a question of the literature's.
    """
    if population not in POPULATIONS or level not in LEVELS:
        raise ValueError(f"population {population!r} or level {level!r} is unknown")
    target = known.labels[rule][block.clip]
    kept = ~np.isnan(target[:, 0])
    if population == "humans":
        kept &= known.human[block.clip]
    group = known.excerpt[block.clip]
    if level == "within_excerpt":
        kept &= _large(group, block.clip, kept)
    if kept.sum() < 2:
        return None
    pred, target, clip, fold = block.pred[kept], target[kept], block.clip[kept], block.fold[kept]
    if level == "within_excerpt":
        # Fixed test sets are predicted by several models: each is centred on its own, not on their mixture.
        overlapping = len(np.unique(clip)) < len(clip)
        group = group[kept] * (fold.max() + 1) + fold if overlapping else group[kept]
        pred, target = centred_within(pred, group), centred_within(target, group)
    value, contribution = {}, {}
    for name in metrics:
        if name in POOLED:
            value[name] = _with_mean(METRICS[POOLED[name]](pred, target))
            if POOLED[name] in INFLUENCE:
                contribution[name] = _by_clip(INFLUENCE[POOLED[name]](pred, target) / len(pred), clip, known)
        elif level != "global":
            continue
        elif name == FOLD_MEAN:
            kept_folds = [k for k in np.unique(fold) if (fold == k).sum() >= 2]
            if kept_folds:
                value[name] = _with_mean(r2_fold_mean(pred, target, fold))
                contribution[name] = _fold_mean_contribution(pred, target, fold, kept_folds, clip, known)
        else:
            value[name] = _only_mean(np.array(FLAT_METRICS[name](pred, target)))
            psi = FLAT_INFLUENCE[name](pred, target) / len(pred)
            contribution[name] = _by_clip(_only_mean(psi), clip, known, mean=False)
    scored = np.zeros(len(known.clip), bool)
    scored[clip] = True
    return Judged(value, contribution, scored)


def average(parts: list[Judged]) -> Judged:
    """The mean over repeats (or seeds, each with its repeat), with contributions averaged clip by clip."""

    def mean(get: Callable[[Judged], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        shared = [m for m in get(parts[0]) if all(m in get(p) for p in parts)]
        return {m: np.mean([get(p)[m] for p in parts], axis=0) for m in shared}

    scored = np.any([p.scored for p in parts], axis=0)
    return Judged(mean(lambda p: p.value), mean(lambda p: p.contribution), scored)


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


def _by_clip(rows: np.ndarray, clip: np.ndarray, known: Units, *, mean: bool = True) -> np.ndarray:
    """Sum rows of the same clip: (n_clips, 20)."""
    table = np.zeros((len(known.clip), rows.shape[1]))
    np.add.at(table, clip, rows)
    return _with_mean(table) if mean else table


def _fold_mean_contribution(
    pred: np.ndarray, target: np.ndarray, fold: np.ndarray, folds: list[int], clip: np.ndarray, known: Units
) -> np.ndarray:
    total = np.zeros((len(known.clip), N_DIMENSIONS + 1))
    for k in folds:
        rows = fold == k
        psi = INFLUENCE["r2"](pred[rows], target[rows]) / rows.sum()
        total += _by_clip(psi, clip[rows], known) / len(folds)
    return total
