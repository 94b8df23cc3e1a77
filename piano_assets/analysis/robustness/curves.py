"""From predictions of altered clips to the table `robustness`: scores over strength, and what changed against `clean`.

All conditions of a subject are judged on the same clips, so changes are paired: their intervals come from the
difference of the clips' contributions (two-way clustered), and are far narrower than those of the scores themselves.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from piano_assets.analysis.evaluate import ROW_NAMES, Judged, judge, less, side_of
from piano_assets.analysis.panel import Block, Units
from piano_assets.analysis.scores import intervals
from piano_assets.dimensions import NAMES
from piano_assets.training.data import TrialData

if TYPE_CHECKING:
    from piano_assets.training.fitted import Fitted

METRICS = ("pearson_mean", "r2_pooled", "mse")
CHANGES = ("pearson_mean", "r2_pooled")
"""Metrics whose paired change is told."""
BY_DIMENSION = ("pearson_mean", "mean_shift")
"""Metrics that are told of every dimension; of the others the mean."""
CLEAN = "clean"
COLUMNS = ("probe", "condition", "step", "population", "dimension", "metric", "value", "ci_low", "ci_high")
_CONDITION = re.compile(r"(?P<probe>\w+)\.(?P<kind>[^:]+)(:(?P<step>[-+.\w]+))?")


def parts_of(condition: str) -> tuple[str, str, float | None]:
    """(probe, kind, strength) of a condition `<probe>.<kind>:<strength>`; without a strength, None.

    Raises:
        ValueError: the text is no such condition.
    """
    found = _CONDITION.fullmatch(condition)
    if found is None:
        raise ValueError(f"condition {condition!r} must read <probe>.<kind> or <probe>.<kind>:<strength>")
    try:
        return found["probe"], found["kind"], None if found["step"] is None else float(found["step"])
    except ValueError as error:
        raise ValueError(f"condition {condition!r}: its strength {found['step']!r} must be a number") from error


def sample(of: "Fitted", known: Units, n_clips: int | None) -> dict[int, np.ndarray]:
    """Rows of `of.data` to probe, by fold: test clips, spread as evenly over clusters as there are clips.

    Clusters give one clip each in turn, those that have none left excepted, so that no large cluster speaks for all.
    Which clips, and which clusters in the last turn, is decided by hashes of the clips' names: the same everywhere, and
    a larger sample holds a smaller one. With `n_clips` None all test clips are taken; in a sample, only clips with
    labels.

    Raises:
        ValueError: `n_clips` below 1, or a clip that `known` does not have.
    """
    if n_clips is None:
        return {fold.fold: fold.test for fold in of.folds}
    if n_clips < 1:
        raise ValueError(f"n_clips={n_clips} must be at least 1")
    tested = np.unique(np.concatenate([fold.test for fold in of.folds]))
    rows = tested[of.data.labelled[tested]]
    cluster = known.cluster[_positions(of.data.clips[rows], known)]
    rank = np.argsort([hashlib.sha256(str(clip).encode()).hexdigest() for clip in of.data.clips[rows]])
    turn = np.empty(len(rows), int)
    turn[rank] = pd.Series(cluster[rank]).groupby(cluster[rank]).cumcount()
    chosen = rows[rank[np.argsort(turn[rank], kind="stable")][:n_clips]]
    return {fold.fold: fold.test[np.isin(fold.test, chosen)] for fold in of.folds}


def predicted(of: "Fitted", known: Units, chosen: Mapping[int, np.ndarray], data: TrialData | None = None) -> Block:
    """Predictions of the clips at `chosen` (rows by fold), each by the models that test it, from `data` (or as is)."""
    data = of.data if data is None else data
    folds = [fold for fold in of.folds if len(chosen.get(fold.fold, ()))]
    rows = [chosen[fold.fold] for fold in folds]
    pred = np.concatenate([fold.predict(data, mine) for fold, mine in zip(folds, rows, strict=True)])
    number = np.repeat([fold.fold for fold in folds], [len(mine) for mine in rows])
    clip = _positions(of.data.clips[np.concatenate(rows)], known)
    return Block(of.subject, of.trial.split, of.tuning, of.repeat, number, clip, pred)


def prediction_rows(block: Block, condition: str, known: Units) -> pd.DataFrame:
    """A block as rows of the table `predictions` under a condition."""
    long = pd.DataFrame(block.pred, columns=list(NAMES)).assign(fold=block.fold, clip=known.clip[block.clip])
    long = long.melt(["fold", "clip"], var_name="dimension")
    told = {"subject": block.subject, "split": block.split, "tuning": block.tuning, "repeat": block.repeat}
    return long.assign(**told, inner_fold=None, role="test", condition=condition, std=np.nan)


def by_condition(predictions: pd.DataFrame, known: Units) -> dict[str, Block]:
    """The test predictions of one subject in one repeat as a block for each condition, `clean` among them.

    Raises:
        ValueError: several subjects, splits, tunings or repeats, a clip that `known` does not have, or a clip with a
            dimension missing or predicted twice.
    """
    rows = predictions[(predictions["role"] == "test") & predictions["inner_fold"].isna()]
    keys = ["subject", "split", "tuning", "repeat"]
    told = rows[keys].drop_duplicates()
    if len(told) != 1:
        raise ValueError(f"conditions are those of one subject, split, tuning and repeat (found {len(told)})")
    subject, split, tuning, repeat = told.iloc[0]
    found = {}
    for condition, mine in rows.groupby("condition", sort=False):
        wide = mine.pivot(index=["fold", "clip"], columns="dimension", values="value").reindex(columns=list(NAMES))
        if wide.isna().to_numpy().any():
            raise ValueError(f"{subject}, condition {condition!r}: every clip needs all {len(NAMES)} dimensions")
        fold = wide.index.get_level_values("fold").to_numpy(np.int64)
        clip = _positions(wide.index.get_level_values("clip"), known)
        block = Block(subject, split, tuning, int(repeat), fold, clip, wide.to_numpy(np.float64))
        found[str(condition)] = _ordered(block)
    return found


def curve_rows(
    clean: Block, altered: Mapping[str, Block], known: Units, rule: str, populations: tuple[str, ...] = ("all",)
) -> pd.DataFrame:
    """Scores of every condition and of `clean` on the same clips, with intervals; the columns are `COLUMNS`.

    For each probe, kind and strength: `pearson_mean` (of each dimension and in the mean), `r2_pooled` and `mse`;
    `pearson_mean_change` and `r2_pooled_change`, the score less the clean one, paired; `mean_shift`, predictions less
    clean ones, averaged over clips. A row's condition is the kind and its step the strength; each probe has rows of
    condition `clean`, whose step is NaN. A population of which fewer than 2 clips were probed has no rows.

    Args:
        clean: may hold more clips than were probed.
        altered: condition -> block; all on the same (fold, clip) pairs, all of them in `clean`.
    Raises:
        ValueError: blocks on different clips, or a condition that cannot be read.
    """
    if not altered:
        raise ValueError("curve_rows needs at least one altered condition (found none)")
    altered = {condition: _ordered(block) for condition, block in altered.items()}
    first = next(iter(altered.values()))
    clean = _restricted(_ordered(clean), first)
    for condition, block in altered.items():
        if not (np.array_equal(block.fold, first.fold) and np.array_equal(block.clip, first.clip)):
            raise ValueError(f"condition {condition!r} must have the same clips as the others of {clean.subject}")
    frames = [
        rows.assign(population=population)
        for population in populations
        for rows in _of_population(clean, altered, known, rule, population)
    ]
    return pd.concat(frames, ignore_index=True)[list(COLUMNS)] if frames else pd.DataFrame(columns=list(COLUMNS))


def _of_population(
    clean: Block, altered: Mapping[str, Block], known: Units, rule: str, population: str
) -> Iterator[pd.DataFrame]:
    own = judge(clean, known, rule, population, "global", METRICS)
    if own is None:
        return
    for probe in dict.fromkeys(parts_of(condition)[0] for condition in altered):
        yield _rows(own, known).assign(probe=probe, condition=CLEAN, step=np.nan)
    for condition, block in altered.items():
        probe, kind, step = parts_of(condition)
        judged = judge(block, known, rule, population, "global", METRICS)
        assert judged is not None  # the same clips, of which the clean block could be judged
        rows = [
            _rows(judged, known),
            _rows(less(judged, own, CHANGES), known, "_change"),
            _rows(_shift(clean, block, known, rule, population, judged.scored), known),
        ]
        yield pd.concat(rows).assign(probe=probe, condition=kind, step=np.nan if step is None else step)


def _shift(clean: Block, block: Block, known: Units, rule: str, population: str, scored: np.ndarray) -> Judged:
    """Mean over the scored clips of prediction less clean prediction, per dimension and in their mean."""
    before, after = (side_of(b, known, rule, population, "global") for b in (clean, block))
    assert before is not None
    assert after is not None
    difference = after[0].view.pred - before[0].view.pred
    difference = np.concatenate([difference, difference.mean(1, keepdims=True)], axis=1)
    mean = difference.mean(0)
    contribution = np.zeros((len(known.clip), len(ROW_NAMES)))
    np.add.at(contribution, after[1], (difference - mean) / len(difference))
    return Judged({"mean_shift": mean}, {"mean_shift": contribution}, scored)


def _rows(judged: Judged, known: Units, ending: str = "") -> pd.DataFrame:
    low, high = intervals(judged, known)
    frames = []
    for metric, value in judged.value.items():
        name = metric + ending
        shown = slice(None) if name in BY_DIMENSION else slice(-1, None)
        columns = {"value": value[shown], "ci_low": low[metric][shown], "ci_high": high[metric][shown]}
        frames.append(pd.DataFrame({"dimension": ROW_NAMES[shown], "metric": name, **columns}))
    return pd.concat(frames, ignore_index=True)


def _positions(clips: np.ndarray | pd.Index, known: Units) -> np.ndarray:
    """Positions of clips in `known`."""
    found = known.clip.get_indexer(pd.Index(clips))
    if (found < 0).any():
        raise ValueError(f"{int((found < 0).sum())} clips are unknown, first {clips[int(np.argmax(found < 0))]!r}")
    return found


def _ordered(block: Block) -> Block:
    """A block with its rows by fold, then clip."""
    order = np.lexsort((block.clip, block.fold))
    return replace(block, fold=block.fold[order], clip=block.clip[order], pred=block.pred[order])


def _restricted(block: Block, like: Block) -> Block:
    """The rows of a block that another one has."""
    index = pd.MultiIndex.from_arrays([block.fold, block.clip])
    at = index.get_indexer(pd.MultiIndex.from_arrays([like.fold, like.clip]))
    if (at < 0).any():
        name = f"{int((at < 0).sum())} of {len(at)}"
        raise ValueError(f"{block.subject}: {name} altered clips have no clean prediction in the same fold")
    return replace(block, fold=block.fold[at], clip=block.clip[at], pred=block.pred[at])
