"""Long tables turned into arrays once, and checked once: what scores and tests are computed from.

A *block* is the test predictions of one subject (at one tuning) in one repeat of one split: one row per (fold, clip)
with role `test`, so a clip that several folds test (PercePiano's fixed test sets) has several rows.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from piano_assets.dimensions import N_DIMENSIONS, NAMES
from piano_assets.schemas import RULES

COMPLETENESS = ("subject", "split", "tuning", "repeat", "expected", "found", "complete")


class PredictionError(ValueError):
    """Predictions that cannot be scored; the message names subject, split and how many values are wrong."""


@dataclass(frozen=True, eq=False)
class Units:
    """What the clips are made of, one position per clip: names, group codes, and labels by rule.

    clip: Index (n_clips,); human: (n_clips,) bool; excerpt, cluster, performer: (n_clips,) integer codes;
    labels: rule -> (n_clips, 19), NaN where a clip has no label; reliability: (rule, population, level) -> (19,) share
    of the labels' variance that is no noise; hard: (split, rule) -> (n_clips,) bool, the clips that are hardest there.
    """

    clip: pd.Index
    human: np.ndarray
    excerpt: np.ndarray
    cluster: np.ndarray
    performer: np.ndarray
    labels: dict[str, np.ndarray]
    reliability: dict[tuple[str, str, str], np.ndarray] = field(default_factory=dict)
    hard: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Block:
    """Test predictions of a subject in one repeat. fold, clip (position in `Units`): (n_rows,); pred: (n_rows, 19)."""

    subject: str
    split: str
    tuning: str
    repeat: int
    fold: np.ndarray
    clip: np.ndarray
    pred: np.ndarray


def units(clips: pd.DataFrame, labels: pd.DataFrame) -> Units:
    """Gather clips and labels.

    A clip that has labels on some dimensions only counts as unlabelled under that rule, so that every dimension is
    scored on the same clips.

    Raises:
        ValueError: a label of an unknown clip, or a clip twice.
    """
    index = pd.Index(clips["clip"])
    if not index.is_unique:
        raise ValueError(f"clips: {index[index.duplicated()][0]!r} stands there twice")
    position = index.get_indexer(labels["clip"])
    if (position < 0).any():
        unknown = labels["clip"][position < 0].iloc[0]
        raise ValueError(f"labels: {int((position < 0).sum())} rows of unknown clips, first {unknown!r}")
    tables = {}
    for rule in RULES:
        chosen = (labels["rule"] == rule).to_numpy()
        table = np.full((len(index), N_DIMENSIONS), np.nan)
        dimension = pd.Index(NAMES).get_indexer(labels["dimension"][chosen])
        table[position[chosen], dimension] = labels["value"][chosen].to_numpy(np.float64)
        table[np.isnan(table).any(1)] = np.nan
        tables[rule] = table

    def codes(column: str) -> np.ndarray:
        return pd.factorize(clips[column])[0]

    human = ~clips["deadpan"].to_numpy(bool)
    return Units(index, human, codes("excerpt"), codes("cluster"), codes("performer"), tables)


def blocks(
    predictions: pd.DataFrame,
    splits: pd.DataFrame,
    known: Units,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Block], pd.DataFrame]:
    """Return the complete blocks, and the frame `completeness` of all.

    Only rows of the outer level (inner_fold NULL) with role `test` and condition `clean` are looked at. A block is
    complete when its rows equal exactly the (fold, clip) pairs with role `test` in its split and repeat, on all 19
    dimensions. Incomplete ones are listed (columns `COMPLETENESS`) and not returned.

    Raises:
        PredictionError: a clip predicted twice, a value that is not finite, a clip or split that is unknown, or a test
            prediction for a clip that the fold does not test.
    """
    expected = _expected(splits, known)
    chosen = predictions[
        (predictions["role"] == "test") & predictions["inner_fold"].isna() & (predictions["condition"] == "clean")
    ]
    clip = known.clip.get_indexer(chosen["clip"])
    dimension = pd.Index(NAMES).get_indexer(chosen["dimension"])
    fold = chosen["fold"].to_numpy(np.int64)
    value = chosen["value"].to_numpy(np.float64)
    found, listed = [], []
    groups = chosen.reset_index(drop=True).groupby(["subject", "split", "tuning", "repeat"], sort=True).indices
    for done, ((subject, split, tuning, repeat), rows) in enumerate(groups.items(), 1):
        where = f"subject {subject!r}, split {split!r}, repeat {repeat}, {tuning}"
        if (split, repeat) not in expected:
            raise PredictionError(f"{where}: {len(rows)} predictions, but the split has no such repeat")
        if not np.isfinite(value[rows]).all():
            n_bad = int((~np.isfinite(value[rows])).sum())
            raise PredictionError(f"{where}: {n_bad} predictions are not finite")
        pairs = expected[split, repeat]
        at, alien = _positions(pairs, fold[rows], clip[rows])
        if alien.any():
            first = chosen.iloc[rows[alien.argmax()]]
            raise PredictionError(
                f"{where}: {int(alien.sum())} test predictions for clips that the fold does not test, "
                f"first {first['clip']!r} in fold {first['fold']}"
            )
        cell = at * N_DIMENSIONS + dimension[rows]
        twice = np.bincount(cell, minlength=pairs.size // 2 * N_DIMENSIONS) > 1
        if twice.any():
            name = known.clip[pairs[1, np.flatnonzero(twice)[0] // N_DIMENSIONS]]
            raise PredictionError(f"{where}: {int(twice.sum())} values predicted twice, first clip {name!r}")
        pred = np.full((pairs.shape[1], N_DIMENSIONS), np.nan)
        pred.ravel()[cell] = value[rows]
        n_found = int((~np.isnan(pred)).all(1).sum())
        complete = n_found == len(pred)
        listed.append((subject, split, tuning, int(repeat), len(pred), n_found, complete))
        if complete:
            found.append(Block(subject, split, tuning, int(repeat), pairs[0], pairs[1], pred))
        if progress:
            progress(done, len(groups))
    return found, pd.DataFrame(listed, columns=list(COMPLETENESS))


def completeness(predictions: pd.DataFrame, splits: pd.DataFrame, known: Units) -> pd.DataFrame:
    """For each subject, split, tuning and repeat: test pairs expected, found, and whether that is all."""
    return blocks(predictions, splits, known)[1]


def _expected(splits: pd.DataFrame, known: Units) -> dict[tuple[str, int], np.ndarray]:
    """(split, repeat) -> (2, n_rows): fold and clip of the test pairs, sorted."""
    tested = splits[(splits["role"] == "test") & splits["inner_fold"].isna()]
    found = {}
    for (split, repeat), rows in tested.groupby(["split", "repeat"], sort=True):
        clip = known.clip.get_indexer(rows["clip"])
        if (clip < 0).any():
            raise PredictionError(f"split {split!r}: {int((clip < 0).sum())} test clips are not in the table clips")
        pairs = np.stack([rows["fold"].to_numpy(np.int64), clip.astype(np.int64)])
        found[str(split), int(repeat)] = pairs[:, np.lexsort(pairs[::-1])]
    return found


def _positions(pairs: np.ndarray, fold: np.ndarray, clip: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(column of `pairs` that each row belongs to, rows that belong to none)."""
    width = int(max(pairs[1].max(), clip.max(initial=0))) + 1
    keys, wanted = pairs[0] * width + pairs[1], fold * width + clip
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return at, (clip < 0) | (keys[at] != wanted)
