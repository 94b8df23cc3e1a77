"""Lookups: predictors that hear nothing. They know who plays what, and the means of the training labels.

They belong beside every score: on a split that leaks, a lookup comes close to published results.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from piano_assets.dimensions import NAMES

SHRINKAGE = 1.0
"""Penalty of the additive lookup: each group's effect is estimated as if one further clip had shown none."""


def global_mean(learn: pd.DataFrame, target: np.ndarray, ask: pd.DataFrame) -> np.ndarray:
    """The mean of all training labels."""
    return np.tile(_mean(target), (len(ask), 1))


def excerpt_mean(learn: pd.DataFrame, target: np.ndarray, ask: pd.DataFrame) -> np.ndarray:
    """The mean of the excerpt's training labels, or of the cluster's, the work's or all where none is nearer."""
    return _nearest_mean(("excerpt", "cluster", "work"), learn, target, ask)


def performer_mean(learn: pd.DataFrame, target: np.ndarray, ask: pd.DataFrame) -> np.ndarray:
    """The mean of the performer's training labels; of the work's, or all, where the performer is unknown."""
    return _nearest_mean(("performer", "work"), learn, target, ask)


def excerpt_plus_performer(learn: pd.DataFrame, target: np.ndarray, ask: pd.DataFrame) -> np.ndarray:
    """Global mean plus effects of work, cluster, excerpt and performer, added and shrunk towards 0.

    Ridge regression on indicators with an unpenalised intercept and penalty `SHRINKAGE`. A group without training clips
    has no effect, so an unknown excerpt is predicted from its cluster, an unknown cluster from its work.
    """
    levels = ("work", "cluster", "excerpt", "performer")
    known, asked = _indicators(levels, learn, ask)
    out = np.empty((len(ask), target.shape[1]))
    seen = np.isfinite(target)
    for pattern in np.unique(seen.T, axis=0):
        dims = (pattern == seen.T).all(axis=1)
        x, y = known[pattern], target[np.ix_(pattern, dims)]
        centre, middle = x.mean(axis=0), y.mean(axis=0)
        gram = (x - centre).T @ (x - centre) + SHRINKAGE * np.eye(x.shape[1])
        effects = np.linalg.solve(gram, (x - centre).T @ (y - middle))
        out[:, dims] = middle + (asked - centre) @ effects
    return out


Lookup = Callable[[pd.DataFrame, np.ndarray, pd.DataFrame], np.ndarray]

LOOKUPS: dict[str, Lookup] = {
    "global_mean": global_mean,
    "excerpt_mean": excerpt_mean,
    "performer_mean": performer_mean,
    "excerpt_plus_performer": excerpt_plus_performer,
}
"""(clips to learn from, their labels (n_clips, 19), NaN where none, clips asked for) -> (n_asked, 19), 0..1 scale."""


def lookup_predictions(name: str, split_rows: pd.DataFrame, clips: pd.DataFrame, labels: pd.DataFrame) -> pd.DataFrame:
    """Predict every test clip of a split's outer folds from the fold's `train` and `valid` labels (table
    `predictions`).

    Test clips without a label are predicted too; learning clips without one are not learnt from.

    Args:
        split_rows: rows of table `splits`, of one split.
        clips: table `clips`, with clusters.
        labels: table `labels`, of one rule.

    Raises:
        KeyError: an unknown lookup.
        ValueError: labels of several rules, or a fold in which a dimension has no label to learn from.
    """
    if name not in LOOKUPS:
        raise KeyError(f"unknown lookup {name!r}; known: {', '.join(LOOKUPS)}")
    rules = sorted(labels["rule"].unique())
    if len(rules) != 1:
        raise ValueError(f"lookup_predictions: labels must be of one rule, found {rules}")
    table = clips.set_index("clip")
    target = labels.pivot(index="clip", columns="dimension", values="value").reindex(
        index=table.index, columns=list(NAMES)
    )
    frames = [
        _long(key, table.index[test], LOOKUPS[name](table.iloc[learn], target.to_numpy()[learn], table.iloc[test]))
        for key, learn, test in _folds(split_rows, table.index, target)
    ]
    out = pd.concat(frames, ignore_index=True)
    return out.assign(
        subject=f"lookup.{name}",
        inner_fold=pd.array([None] * len(out), dtype="Int32"),
        role="test",
        condition="clean",
        tuning="fixed",
        value=out["value"].astype(np.float32),
        std=np.full(len(out), np.nan, np.float32),
    )[_COLUMNS]


_COLUMNS = ["subject", "split", "repeat", "fold", "inner_fold", "clip", "dimension", "role", "condition", "tuning"]
_COLUMNS += ["value", "std"]


def _folds(
    rows: pd.DataFrame, clips: pd.Index, target: pd.DataFrame
) -> Iterator[tuple[tuple[str, int, int], np.ndarray, np.ndarray]]:
    outer = rows[rows["inner_fold"].isna()]
    labelled = target.notna().to_numpy()
    for key, group in outer.groupby(["split", "repeat", "fold"], sort=True):
        role = group.set_index("clip")["role"].reindex(clips)
        learn = np.flatnonzero(role.isin(("train", "valid")).to_numpy() & labelled.any(axis=1))
        empty = ~labelled[learn].any(axis=0)
        if empty.any():
            raise ValueError(f"split, repeat, fold {key}: no label to learn from for {target.columns[empty][0]!r}")
        yield key, learn, np.flatnonzero((role == "test").to_numpy())


def _long(key: tuple[str, int, int], clips: pd.Index, value: np.ndarray) -> pd.DataFrame:
    split, repeat, fold = key
    n_clips, n_dims = value.shape
    return pd.DataFrame(
        {
            "split": split,
            "repeat": np.int32(repeat),
            "fold": np.int32(fold),
            "clip": np.repeat(clips.to_numpy(dtype=object), n_dims),
            "dimension": np.tile(np.array(NAMES, dtype=object), n_clips),
            "value": value.ravel(),
        }
    )


def _mean(target: np.ndarray) -> np.ndarray:
    return np.nanmean(target, axis=0)


def _nearest_mean(levels: tuple[str, ...], learn: pd.DataFrame, target: np.ndarray, ask: pd.DataFrame) -> np.ndarray:
    out = np.tile(_mean(target), (len(ask), 1))
    values = pd.DataFrame(target, index=learn.index)
    for level in reversed(levels):
        means = values.groupby(learn[level]).mean().reindex(ask[level]).to_numpy()
        out = np.where(np.isfinite(means), means, out)
    return out


def _indicators(levels: tuple[str, ...], learn: pd.DataFrame, ask: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    known, asked = [], []
    for level in levels:
        code, names = pd.factorize(learn[level], sort=True)
        known.append(code[:, None] == np.arange(len(names)))
        asked.append(pd.Index(names).get_indexer(ask[level])[:, None] == np.arange(len(names)))
    return np.concatenate(known, axis=1).astype(np.float64), np.concatenate(asked, axis=1).astype(np.float64)
