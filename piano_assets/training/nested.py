"""Inner folds: inside each outer fold a trial is fitted on all inner folds but one, and predicts that one.

An inner fold is a fold like any other, of a `TrialData` whose roles are the inner ones: the inner fold's clips are
`test`, whole clusters of about a sixth of the other learning clips `valid`, the rest of them `train`, and what the
outer fold tests is `unused`. Whatever fits a fold therefore fits an inner one, and nothing about the outer test clips
can reach it. Its predictions are published with their inner fold and the role `valid`.

Tabular models: every point of the search is fitted on `train` and `valid` of every inner fold; the point with the best
mean r over the inner folds is fitted on all that the outer fold learns from (nested cross-validation: Varma and Simon
2006, BMC Bioinformatics 7:91; Cawley and Talbot 2010, JMLR 11:2079). The outer set `valid` decides nothing and is not
predicted. Networks: the whole trial, its search and its stopping by `valid` among it, happens once more in each inner
fold; the outer fold searches and stops by its outer set `valid`, as on split `cluster`.

Inner predictions called `tuned` come from points that these very clips (for networks: clips beside them) helped to
choose. That may flatter their inner scores a little; the outer ones it cannot reach.
"""

import dataclasses
from typing import Any

import numpy as np
import pandas as pd

from piano_assets.catalogue.trial import Trial
from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.store.parts import Store
from piano_assets.training.data import TrialData, has_inner_folds
from piano_assets.training.folds import FoldResult, fit_tabular
from piano_assets.training.members import FIXED, TUNED, search_points

_STEP = 1000
"""Numbers of inner folds start above those of outer ones, so that no two folds share a random stream or a folder."""


def unit_of(fold: int, inner_fold: int) -> int:
    """The number under which an inner fold is a fold of the inner level."""
    return _STEP * (fold + 1) + inner_fold


def folds_of(unit: int) -> tuple[int, int]:
    """(outer fold, inner fold) of a number made by `unit_of`."""
    return unit // _STEP - 1, unit % _STEP


def inner_level(trial: Trial, data: TrialData, store: Store) -> TrialData | None:
    """The data of a trial with its inner folds as folds, numbered by `unit_of`; None where its split has none.

    Raises:
        ValueError: the split's rows have no inner folds, an inner fold learns from or predicts clips that its outer
            fold tests, or it has too few clusters to set some aside.
    """
    if not has_inner_folds(trial):
        return None
    from piano_assets.corpus.split_strategies import stream, with_validation

    rows = store.read("splits", trial.split)
    rows = rows[rows["inner_fold"].notna()].astype({"inner_fold": int})
    if not len(rows):
        raise ValueError(f"split {trial.split!r} must have inner folds, its rows have none")
    cluster = store.read("clips", "all", ["clip", "cluster"]).set_index("clip")["cluster"]
    cluster_of = cluster.reindex(data.clips).to_numpy(object)
    position = pd.Index(data.clips)
    roles = {}
    for (repeat, fold, inner), group in rows.groupby(["repeat", "fold", "inner_fold"]):
        role = np.full(len(data.clips), "unused", dtype=object)
        role[position.get_indexer(group["clip"])] = group["role"]
        learning = np.flatnonzero(role != "unused")
        leaked = (data.roles[int(repeat), int(fold)][learning] == "test").sum()
        if leaked:
            raise ValueError(
                f"split {trial.split!r}, repeat {repeat}, fold {fold}: inner fold {inner} uses {leaked} clips that the "
                "outer fold tests"
            )
        rng = stream("inner validation", int(repeat), int(fold), int(inner))
        role[learning] = with_validation(role[learning] == "valid", cluster_of[learning], rng)
        roles[int(repeat), unit_of(int(fold), int(inner))] = role
    return dataclasses.replace(data, roles=roles)


def as_inner(result: FoldResult, unit: int) -> FoldResult:
    """What a fold of the inner level leaves, in the words of the tables, without its model.

    Its test clips are the inner fold's validation clips; the clips that it stopped by are not shown.
    """
    fold, inner = folds_of(unit)
    where = {"fold": fold, "inner_fold": inner}
    shown = result.predictions[result.predictions["role"] == "test"]
    shown = shown.assign(
        fold=np.int32(fold), inner_fold=pd.array([inner] * len(shown), dtype="Int32"), role="valid"
    ).reset_index(drop=True)
    return dataclasses.replace(
        result,
        predictions=shown,
        members=[row | where for row in result.members],
        history=[row | where for row in result.history],
        model=None,
    )


def fit_nested(
    trial: Trial, data: TrialData, inner: TrialData, repeat: int, fold: int, seed: int, threads: int | None
) -> FoldResult:
    """Fit one outer fold of a tabular trial: choose by its inner folds, then fit on all that it learns from.

    Args:
        inner: the inner level of `data`, see `inner_level`.
    Returns:
        predictions: test clips (`inner_fold` NULL) and the inner folds' clips, for the trial's own values and the
        chosen point.
    Raises:
        ValueError: an outer or inner fold without labelled clips to learn from.
    """
    points = search_points(trial)
    own = next((label for label, point in points.items() if point == trial), FIXED)
    tried = points if own in points else {**points, FIXED: trial}
    units = sorted(unit for r, unit in inner.roles if r == repeat and folds_of(unit)[0] == fold)
    tables: dict[str, list[pd.DataFrame]] = {label: [] for label in tried}
    members: list[dict[str, Any]] = []
    r: dict[str, list[float]] = {label: [] for label in tried}
    for unit in units:
        for label, point in tried.items():
            found = as_inner(fit_tabular(alone(point), inner, repeat, unit, seed, threads), unit)
            tables[label].append(found.predictions)
            r[label].append(_r(found, inner, repeat, unit))
            told = {"search_point": label, "reason": f"inner r {r[label][-1]:.4f}"}
            members += [row | told for row in found.members]
    chosen = max(points, key=lambda label: np.mean(r[label])) if points else None
    kept = {FIXED: own} | ({TUNED: chosen} if chosen else {})
    outer: dict[str, FoldResult] = {}
    shown = []
    for tuning, label in kept.items():
        if label not in outer:
            outer[label] = fit_tabular(alone(tried[label]), data, repeat, fold, seed, threads)
        shown += [t.assign(tuning=tuning) for t in (outer[label].predictions, *tables[label])]
        reason = f"fitted on train and valid: {label}, mean inner r {np.mean(r[label]):.4f}"
        members += [row | {"search_point": tuning, "reason": reason} for row in outer[label].members]
    model = outer[chosen or own].model
    return FoldResult(pd.concat(shown, ignore_index=True), members, [], model, chosen or FIXED)


def alone(point: Trial) -> Trial:
    """A point by itself: nothing is left to search, so that it is fitted on `train` and `valid` at once."""
    return dataclasses.replace(point, search=())


def _r(found: FoldResult, inner: TrialData, repeat: int, unit: int) -> float:
    """Mean r on the labelled clips of an inner fold."""
    from piano_assets.training.loop import mean_r

    rows = inner.rows(repeat, unit, "test", labelled=False)
    pred, target = found.predictions["value"].to_numpy(np.float64).reshape(-1, N_DIMENSIONS), inner.targets[rows]
    labelled = inner.labelled[rows]
    return mean_r(pred[labelled], target[labelled])
