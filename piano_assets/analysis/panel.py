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

KEYS = ("subject", "split", "tuning", "repeat")
COMPLETENESS = (*KEYS, "expected", "found", "complete")


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
    """Test predictions of a subject in one repeat. fold, clip (position in `Units`): (n_rows,); pred: (n_rows, 19).

    machine: device class and precision that a network was trained with, where it matters who is compared with whom.
    """

    subject: str
    split: str
    tuning: str
    repeat: int
    fold: np.ndarray
    clip: np.ndarray
    pred: np.ndarray
    machine: str | None = None


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


@dataclass(frozen=True, eq=False)
class Rows:
    """Predictions of a subject in one repeat, as they lie in the table: (n,) each.

    at: position in the table; clip: position in `Units`, -1 for an unknown one; dimension: position in `NAMES`.
    """

    subject: str
    split: str
    tuning: str
    repeat: int
    at: np.ndarray
    fold: np.ndarray
    clip: np.ndarray
    dimension: np.ndarray
    value: np.ndarray

    def __str__(self) -> str:
        return f"subject {self.subject!r}, split {self.split!r}, repeat {self.repeat}, {self.tuning}"


def rows_of(predictions: pd.DataFrame, known: Units, role: str, column: str = "value") -> list[Rows]:
    """Predictions with a role, at the outer level (inner_fold NULL) and of clips as they are (condition `clean`).

    In the order of subject, split, tuning and repeat. The table may have millions of rows: each column is looked at
    once, and names are compared as integers.

    Raises:
        PredictionError: an unknown dimension.
    """
    outer = predictions["inner_fold"].isna() & (predictions["role"] == role) & (predictions["condition"] == "clean")
    at = np.flatnonzero(outer.to_numpy(bool))
    group, names = np.zeros(len(at), np.int64), list[pd.Index]()
    for key in KEYS:
        code, values = pd.factorize(predictions[key], sort=True)
        group, names = group * max(len(values), 1) + code[at], [*names, values]
    order = np.argsort(group, kind="stable")
    at, group = at[order], group[order]
    columns = [
        at,
        predictions["fold"].to_numpy()[at].astype(np.int32),
        _positions_of(known.clip, predictions["clip"])[at],
        _positions_of(pd.Index(NAMES), predictions["dimension"])[at],
        predictions[column].to_numpy()[at],
    ]
    ends = np.flatnonzero(np.diff(group, append=-1)) + 1
    found = []
    for start, stop in zip([0, *ends[:-1]], ends, strict=False):
        codes = np.unravel_index(group[start], [len(n) for n in names])
        subject, split, tuning, repeat = (n[c] for n, c in zip(names, codes, strict=True))
        rows = Rows(subject, split, tuning, int(repeat), *(c[start:stop] for c in columns))
        if (rows.dimension < 0).any():
            raise PredictionError(f"{rows}: {int((rows.dimension < 0).sum())} predictions of unknown dimensions")
        found.append(rows)
    return found


def _positions_of(index: pd.Index, names: pd.Series) -> np.ndarray:
    """Where each name stands in `index`, -1 where it does not; of categories only the few names are looked up."""
    if isinstance(names.dtype, pd.CategoricalDtype):
        return index.get_indexer(names.cat.categories).astype(np.int32)[names.cat.codes.to_numpy()]
    return index.get_indexer(names).astype(np.int32)


def blocks(
    predictions: pd.DataFrame,
    splits: pd.DataFrame,
    known: Units,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Block], pd.DataFrame]:
    """Return the complete blocks, and the frame `completeness` of all.

    Only what `rows_of` gives for the role `test` is looked at. A block is complete when its rows equal exactly the
    (fold, clip) pairs with role `test` in its split and repeat, on all 19 dimensions. Incomplete ones are listed
    (columns `COMPLETENESS`) and not returned.

    Raises:
        PredictionError: a clip predicted twice, a value that is not finite, a clip or split that is unknown, or a test
            prediction for a clip that the fold does not test.
    """
    expected = _expected(splits, known)
    found, listed = [], []
    every = rows_of(predictions, known, "test")
    for done, rows in enumerate(every, 1):
        if (rows.split, rows.repeat) not in expected:
            raise PredictionError(f"{rows}: {len(rows.value)} predictions, but the split has no such repeat")
        if not np.isfinite(rows.value).all():
            n_bad = int((~np.isfinite(rows.value)).sum())
            raise PredictionError(f"{rows}: {n_bad} predictions are not finite")
        pairs = expected[rows.split, rows.repeat]
        at, alien = _positions(pairs, rows.fold, rows.clip)
        if alien.any():
            first = predictions.iloc[rows.at[alien.argmax()]]
            raise PredictionError(
                f"{rows}: {int(alien.sum())} test predictions for clips that the fold does not test, "
                f"first {first['clip']!r} in fold {first['fold']}"
            )
        cell = at * N_DIMENSIONS + rows.dimension
        twice = np.bincount(cell, minlength=pairs.size // 2 * N_DIMENSIONS) > 1
        if twice.any():
            name = known.clip[pairs[1, np.flatnonzero(twice)[0] // N_DIMENSIONS]]
            raise PredictionError(f"{rows}: {int(twice.sum())} values predicted twice, first clip {name!r}")
        pred = np.full((pairs.shape[1], N_DIMENSIONS), np.nan)
        pred.ravel()[cell] = rows.value
        n_found = int((~np.isnan(pred)).all(1).sum())
        complete = n_found == len(pred)
        listed.append((rows.subject, rows.split, rows.tuning, rows.repeat, len(pred), n_found, complete))
        if complete:
            found.append(Block(rows.subject, rows.split, rows.tuning, rows.repeat, pairs[0], pairs[1], pred))
        if progress:
            progress(done, len(every))
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
    keys, wanted = pairs[0] * width + pairs[1], fold.astype(np.int64) * width + clip
    at = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
    return at, (clip < 0) | (keys[at] != wanted)
