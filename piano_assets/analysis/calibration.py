"""The table `calibration`: how often predictive intervals hold what listeners said, and how wide they are.

Two kinds. `conformal`: prediction +- a quantile of the same model's absolute residuals on the inner validation clips of
its fold (split-conformal, Lei et al. 2018), for every subject that keeps validation predictions. `gaussian`: prediction
+- the spread that the subject itself gives (ensembles), with ENCE and CRPS beside. Validation clips are music that the
model was not fitted on, as test clips are; but models refitted on train and valid (tabular ones) err less on test
clips than their residuals say, so that their intervals are a little wide.

Coverage of all clips says nothing of some: at one level it is also told by kind of clip (`groups.clip_groups`).
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from piano_assets.analysis.evaluate import ROW_NAMES, Judged, average, scored_rows
from piano_assets.analysis.groups import clip_groups
from piano_assets.analysis.panel import Block, PredictionError, Rows, Units, blocks, rows_of, units
from piano_assets.analysis.scores import grouped, intervals, label_rules
from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.metrics.calibration import conformal_quantile, crps, ence, gaussian_half_width
from piano_assets.schemas import POPULATIONS, RULES, TABLES

LEVELS = (0.5, 0.8, 0.9, 0.95)
GROUP_LEVEL = 0.9
"""The level at which kinds of clips are told apart."""
EVERY = "all"
MIN_SCORED = 20
"""Clips that ENCE and CRPS need: two in each of ENCE's bins."""

Key = tuple[str, str, str, int]
"""(subject, split, tuning, repeat)."""

ByFold = dict[int, tuple[np.ndarray, np.ndarray]]
"""fold -> (positions of clips, (n,); their values, (n, 19)), complete clips only."""


def calibration_table(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    clips: pd.DataFrame,
    splits: pd.DataFrame,
    subjects: pd.DataFrame,
    trials: pd.DataFrame,
    *,
    ensemble_weights: pd.DataFrame | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Coverage and width at several levels of every arm, ensemble and lookup that has intervals.

    Args: as `scores.score_table`. An arm's rows are means over its seeds.

    Raises:
        PredictionError, ValueError: as `scores.score_table`.
    """
    known = units(clips, labels)
    found, _ = blocks(predictions, splits, known)
    rules = label_rules(sorted({(b.subject, b.split) for b in found}), subjects, trials, ensemble_weights)
    valid = _by_fold(predictions, known, "valid", "value")
    spreads = _by_fold(predictions[predictions["std"].notna()], known, "test", "std")
    kinds = {rule: clip_groups(clips, labels, known, rule) for rule in RULES}
    groups = grouped(found, subjects)
    frames: list[pd.DataFrame] = []
    for done, ((name, split, tuning), members) in enumerate(groups.items(), 1):
        for rule in rules[members[0].subject, split]:
            for probe, seen in (("conformal", valid), ("gaussian", spreads)):
                rows = list(_rows(probe, members, seen, known, rule, kinds[rule]))
                if rows:
                    told = {"subject": name, "split": split, "rule": rule, "tuning": tuning, "probe": probe}
                    frames.append(pd.concat(rows, ignore_index=True).assign(**told))
        if progress:
            progress(done, len(groups))
    table = pd.concat(frames, ignore_index=True) if frames else TABLES["calibration"].empty()
    return table[list(TABLES["calibration"].columns)]


def _by_fold(predictions: pd.DataFrame, known: Units, role: str, column: str) -> dict[Key, ByFold]:
    """A column of each block by fold; a clip that lacks a dimension, or has NULL there, is left out.

    Raises:
        PredictionError: a clip that is not in the table clips, or one predicted twice in a fold.
    """
    found: dict[Key, ByFold] = {}
    for rows in rows_of(predictions, known, role, column):
        folds = {int(k): _wide(rows, rows.fold == k, role) for k in np.unique(rows.fold)}
        found[rows.subject, rows.split, rows.tuning, rows.repeat] = {k: of for k, of in folds.items() if len(of[0])}
    return found


def _wide(rows: Rows, chosen: np.ndarray, role: str) -> tuple[np.ndarray, np.ndarray]:
    clip, code = np.unique(rows.clip[chosen], return_inverse=True)
    if clip[0] < 0:
        raise PredictionError(f"{rows}: {int((rows.clip < 0).sum())} {role} predictions of unknown clips")
    cell = code.astype(np.int64) * N_DIMENSIONS + rows.dimension[chosen]
    twice = np.bincount(cell) > 1
    if twice.any():
        raise PredictionError(f"{rows}: {int(twice.sum())} {role} predictions stand there twice")
    table = np.full((len(clip), N_DIMENSIONS), np.nan)
    table.ravel()[cell] = rows.value[chosen]
    complete = ~np.isnan(table).any(1)
    return clip[complete], table[complete]


def _rows(
    probe: str, members: list[Block], seen: dict[Key, ByFold], known: Units, rule: str, kinds: dict[str, np.ndarray]
) -> Iterator[pd.DataFrame]:
    """Rows of each level, population and kind of clip, means over the members that have intervals in every fold."""
    usable = [b for b in members if set(np.unique(b.fold)) <= seen.get(_key(b), {}).keys()]
    if not usable:
        return
    spread = [_spread(b, seen[_key(b)], known) for b in usable] if probe == "gaussian" else []
    every = np.ones(len(known.clip), bool)
    for level in LEVELS:
        if probe == "gaussian":
            half = [gaussian_half_width(std, level) for std in spread]
        else:
            half = [_conformal(b, seen[_key(b)], known, rule, level) for b in usable]
        for population in POPULATIONS:
            yield from _interval_rows(usable, half, known, rule, population, level, EVERY, every)
        if level == GROUP_LEVEL:
            for condition, of in kinds.items():
                yield from _interval_rows(usable, half, known, rule, "all", level, condition, of)
    for population in POPULATIONS if probe == "gaussian" else ():
        yield from _proper(usable, spread, known, rule, population)


def _key(block: Block) -> Key:
    return block.subject, block.split, block.tuning, block.repeat


def _conformal(block: Block, seen: ByFold, known: Units, rule: str, level: float) -> np.ndarray:
    """Half widths of a block's rows, (n_rows, 19): the quantile of the labelled validation clips' residuals."""
    half = np.empty(block.pred.shape)
    for k in np.unique(block.fold):
        clip, pred = seen[int(k)]
        error = abs(pred - known.labels[rule][clip])
        half[block.fold == k] = conformal_quantile(error[~np.isnan(error[:, 0])], level)
    return half


def _spread(block: Block, seen: ByFold, known: Units) -> np.ndarray:
    """The spread that the subject gives for each of its rows, (n_rows, 19); NaN where it gives none."""
    std = np.empty(block.pred.shape)
    for k in np.unique(block.fold):
        table = np.full((len(known.clip), N_DIMENSIONS), np.nan)
        clip, of = seen[int(k)]
        table[clip] = of
        rows = block.fold == k
        std[rows] = table[block.clip[rows]]
    return std


def _interval_rows(
    members: list[Block],
    half: list[np.ndarray],
    known: Units,
    rule: str,
    population: str,
    level: float,
    condition: str,
    of: np.ndarray,
) -> Iterator[pd.DataFrame]:
    """Coverage of the clips `of` (n_clips,) bool in a population, and width where these are all of them."""
    judged = [_held(b, h, scored_rows(b, known, rule, population) & of[b.clip], known, rule)
              for b, h in zip(members, half, strict=True)]  # fmt: skip
    kept = [j for j in judged if j is not None]
    if not kept:
        return
    mean = average(kept)
    low, high = intervals(mean, known)
    for metric, value in mean.value.items():
        if condition != EVERY and metric != "coverage":
            continue
        told = {"condition": condition, "step": level, "population": population, "dimension": ROW_NAMES}
        told |= {"metric": metric, "value": value}
        yield pd.DataFrame(told | {"ci_low": np.clip(low[metric], 0, 1), "ci_high": np.clip(high[metric], 0, 1)})


def _held(block: Block, half: np.ndarray, kept: np.ndarray, known: Units, rule: str) -> Judged | None:
    """Coverage and full width of a block; None for fewer than 2 rows, or where an interval is infinite or unknown.

    An interval is infinite where a fold has too few validation clips for its level.
    """
    half, clip = half[kept], block.clip[kept]
    if len(clip) < 2 or not np.isfinite(half).all():
        return None
    held = (abs(known.labels[rule][clip] - block.pred[kept]) <= half).astype(float)
    held = np.concatenate([held, held.mean(1, keepdims=True)], axis=1)
    moved = np.zeros((len(known.clip), len(ROW_NAMES)))
    np.add.at(moved, clip, (held - held.mean(0)) / len(held))
    width = 2 * half.mean(0)
    scored = np.zeros(len(known.clip), bool)
    scored[clip] = True
    value = {"coverage": held.mean(0), "width": np.append(width, width.mean())}
    return Judged(value, {"coverage": moved}, scored)


def _proper(
    members: list[Block], spread: list[np.ndarray], known: Units, rule: str, population: str
) -> Iterator[pd.DataFrame]:
    """ENCE and CRPS of spreads, means over repeats."""
    found: dict[str, list[np.ndarray]] = {"ence": [], "crps": []}
    for b, std in zip(members, spread, strict=True):
        kept = scored_rows(b, known, rule, population)
        if kept.sum() < MIN_SCORED or not (std[kept] > 0).all():
            continue
        target = known.labels[rule][b.clip[kept]]
        for name, metric in (("ence", ence), ("crps", crps)):
            found[name].append(metric(b.pred[kept], std[kept], target))
    for name, values in found.items():
        if values:
            mean = np.mean(values, axis=0)
            told = {"condition": EVERY, "step": np.nan, "population": population, "dimension": ROW_NAMES}
            told |= {"metric": name, "value": np.append(mean, mean.mean())}
            yield pd.DataFrame(told | {"ci_low": np.nan, "ci_high": np.nan})
