"""The table `calibration`: how often predictive intervals hold what listeners said, and how wide they are.

Two kinds. `conformal`: prediction +- a quantile of the same model's absolute residuals on the inner validation clips of
its fold (split-conformal, Lei et al. 2018), for every subject that keeps validation predictions. `gaussian`: prediction
+- the spread that the subject itself gives (ensembles), with ENCE and CRPS beside. Validation clips are music that the
model was not fitted on, as test clips are; but models refitted on train and valid (tabular ones) err less on test
clips than their residuals say, so that their intervals are a little wide.
"""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from piano_assets.analysis.evaluate import ROW_NAMES, Judged, average
from piano_assets.analysis.panel import Block, Units, blocks, units
from piano_assets.analysis.scores import grouped, intervals, label_rules
from piano_assets.dimensions import N_DIMENSIONS, NAMES
from piano_assets.metrics.calibration import conformal_quantile, crps, ence, gaussian_half_width
from piano_assets.schemas import POPULATIONS, TABLES

LEVELS = (0.5, 0.8, 0.9, 0.95)

Residuals = dict[tuple[str, str, str, int, int], np.ndarray]
"""(subject, split, tuning, repeat, fold) -> absolute residuals of validation clips, (n, 19)."""


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
    chosen = predictions[predictions["inner_fold"].isna() & (predictions["condition"] == "clean")]
    spreads = _spreads(chosen, known)
    valid = chosen[chosen["role"] == "valid"].reset_index(drop=True)
    of_subject = valid.groupby(["subject", "split", "tuning"], observed=True).indices
    groups = grouped(found, subjects)
    frames: list[pd.DataFrame] = []
    for done, ((name, split, tuning), members) in enumerate(groups.items(), 1):
        for rule in rules[members[0].subject, split]:
            mine = [valid.iloc[of_subject.get((b.subject, split, tuning), [])] for b in members]
            residuals = _residuals(pd.concat(mine), known, rule)
            for probe, seen in (("conformal", residuals), ("gaussian", spreads)):
                rows = list(_rows(probe, members, seen, known, rule))
                if rows:
                    told = {"subject": name, "split": split, "rule": rule, "tuning": tuning, "probe": probe}
                    frames.append(pd.concat(rows, ignore_index=True).assign(**told))
        if progress:
            progress(done, len(groups))
    table = pd.concat(frames, ignore_index=True) if frames else TABLES["calibration"].empty()
    return table[list(TABLES["calibration"].columns)]


def _wide(rows: pd.DataFrame, known: Units, column: str) -> tuple[np.ndarray, np.ndarray]:
    """(clip positions (n,), values (n, 19)) of complete clips."""
    wide = rows.pivot(index="clip", columns="dimension", values=column).reindex(columns=list(NAMES)).dropna()
    return known.clip.get_indexer(wide.index), wide.to_numpy(np.float64)


KEYS = ["subject", "split", "tuning", "repeat", "fold"]


def _residuals(valid: pd.DataFrame, known: Units, rule: str) -> Residuals:
    found = {}
    for (subject, split, tuning, repeat, fold), rows in valid.groupby(KEYS, observed=True):
        clip, pred = _wide(rows, known, "value")
        error = abs(pred - known.labels[rule][clip])
        found[subject, split, tuning, int(repeat), int(fold)] = error[~np.isnan(error[:, 0])]
    return found


def _spreads(predictions: pd.DataFrame, known: Units) -> Residuals:
    """Like residuals, but (n_clips, 19) spreads of the test clips themselves, NaN elsewhere."""
    spread = predictions[(predictions["role"] == "test") & predictions["std"].notna()]
    found = {}
    for (subject, split, tuning, repeat, fold), rows in spread.groupby(KEYS, observed=True):
        table = np.full((len(known.clip), N_DIMENSIONS), np.nan)
        clip, std = _wide(rows, known, "std")
        table[clip] = std
        found[subject, split, tuning, int(repeat), int(fold)] = table
    return found


def _rows(probe: str, members: list[Block], seen: Residuals, known: Units, rule: str) -> Iterator[pd.DataFrame]:
    """Rows of each population and level, means over the members that have intervals in every fold."""
    usable = [
        b for b in members if all((b.subject, b.split, b.tuning, b.repeat, int(k)) in seen for k in np.unique(b.fold))
    ]
    if not usable:
        return
    for population, level in itertools.product(POPULATIONS, LEVELS):
        parts = [_held(probe, b, seen, known, rule, population, level) for b in usable]
        kept = [p for p in parts if p is not None]
        if not kept:
            continue
        mean = average(kept)
        low, high = intervals(mean, known)
        for metric, value in mean.value.items():
            told = {"step": level, "population": population, "dimension": ROW_NAMES, "metric": metric, "value": value}
            yield pd.DataFrame(told | {"ci_low": np.clip(low[metric], 0, 1), "ci_high": np.clip(high[metric], 0, 1)})
    if probe == "gaussian":
        for population in POPULATIONS:
            yield from _proper(usable, seen, known, rule, population)


def _scored(block: Block, known: Units, rule: str, population: str) -> np.ndarray:
    kept = ~np.isnan(known.labels[rule][block.clip, 0])
    return kept & known.human[block.clip] if population == "humans" else kept


def _held(
    probe: str, block: Block, seen: Residuals, known: Units, rule: str, population: str, level: float
) -> Judged | None:
    """Coverage and full width of a block; None where an interval is infinite (too few validation clips)."""
    kept = _scored(block, known, rule, population)
    if kept.sum() < 2:
        return None
    half = np.empty(block.pred.shape)
    for k in np.unique(block.fold):
        rows, of = block.fold == k, seen[block.subject, block.split, block.tuning, block.repeat, int(k)]
        half[rows] = (
            conformal_quantile(of, level) if probe == "conformal" else gaussian_half_width(of, level)[block.clip[rows]]
        )
    half, clip = half[kept], block.clip[kept]
    if not np.isfinite(half).all():
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


def _proper(members: list[Block], seen: Residuals, known: Units, rule: str, population: str) -> Iterator[pd.DataFrame]:
    """ENCE and CRPS of spreads, means over repeats."""
    found: dict[str, list[np.ndarray]] = {"ence": [], "crps": []}
    for b in members:
        kept = _scored(b, known, rule, population)
        std = np.empty(b.pred.shape)
        for k in np.unique(b.fold):
            rows = b.fold == k
            std[rows] = seen[b.subject, b.split, b.tuning, b.repeat, int(k)][b.clip[rows]]
        if kept.sum() < 20 or not (std[kept] > 0).all():
            continue
        target = known.labels[rule][b.clip[kept]]
        for name, metric in (("ence", ence), ("crps", crps)):
            found[name].append(metric(b.pred[kept], std[kept], target))
    for name, values in found.items():
        if values:
            mean = np.mean(values, axis=0)
            told = {"step": np.nan, "population": population, "dimension": ROW_NAMES, "metric": name}
            yield pd.DataFrame(told | {"value": np.append(mean, mean.mean()), "ci_low": np.nan, "ci_high": np.nan})
