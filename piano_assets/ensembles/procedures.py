"""Procedures that choose among trials, scored by nested cross-validation from stored predictions alone.

In each outer fold a procedure sees what its candidates predicted of the inner folds, and the labels of those clips; it
chooses, and the chosen candidate's predictions of the outer test clips become its own. Labels of outer test clips
enter no choice of their fold, so that the score is that of the whole procedure, its choices among it (Varma and Simon
2006, BMC Bioinformatics 7:91; Cawley and Talbot 2010, JMLR 11:2079). The best of the candidates' own outer scores is
not such a number: the more candidates, the higher it comes out, even on noise.

The choice may differ from fold to fold: the score belongs to the procedure, not to any config. Adding a procedure is
one line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from piano_assets.dimensions import NAMES
from piano_assets.ensembles.combine import EnsembleError
from piano_assets.metrics.regression import pearson
from piano_assets.schemas import TABLES

PREFIX = "procedure."
"""Subjects of procedures are named with it."""


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """A choice: its candidates' configs (all on one split with inner folds, with one label rule) and its rule."""

    candidates: tuple[str, ...]
    description: str
    rule: str = "best_inner_r"


def best_inner_r(inner: Mapping[str, np.ndarray], target: np.ndarray) -> str:
    """The candidate with the highest r over pooled inner predictions, mean over dimensions; the first among equals.

    Args:
        inner: candidate -> (n_clips, 19). target: (n_clips, 19), without NaN. An undefined r (constant predictions)
            counts as 0.
    """
    return max(inner, key=lambda name: np.nan_to_num(pearson(inner[name], target)).mean())


RULES: dict[str, Callable[[Mapping[str, np.ndarray], np.ndarray], str]] = {"best_inner_r": best_inner_r}
"""Rules by which one of the candidates is chosen in an outer fold."""

PROCEDURES: dict[str, Procedure] = {
    "best_family": Procedure(
        candidates=(
            "procedure.reference",
            "procedure.ridge",
            "procedure.kernel_ridge",
            "procedure.extra_trees",
            "procedure.gradient_boosting",
        ),
        description="The family of tabular models, each with its search, that predicts the inner folds best.",
    ),
}


def run_procedure(
    name: str, procedure: Procedure, candidates: Mapping[str, pd.DataFrame], labels: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose in every outer fold and take the chosen candidate's test predictions.

    Each candidate's `tuned` predictions are taken where it has any, else its `fixed` ones. Only repeats that every
    candidate has enter.

    Args:
        candidates: config -> rows of the table `predictions` of all its seeds.
        labels: rows of the table `labels` under the candidates' rule.
    Returns:
        Tables `predictions` (subject `procedure.<name>`, tuning `tuned`) and `ensemble_weights` (weight 1 for the
        chosen).
    Raises:
        EnsembleError: fewer than two candidates or others than declared, an unknown rule, different splits, no repeat
            in common, labels of several rules, no inner predictions, different clips, or inner predictions of clips
            that the outer fold tests.
    """
    subject = f"{PREFIX}{name}"
    if procedure.rule not in RULES:
        raise EnsembleError(f"{subject}: rule={procedure.rule!r} must be one of {tuple(RULES)}")
    if len(candidates) < 2 or set(candidates) != set(procedure.candidates):
        raise EnsembleError(f"{subject} chooses among {procedure.candidates}, at least two (has {tuple(candidates)})")
    if labels["rule"].nunique() != 1:
        raise EnsembleError(f"{subject}: labels must be of one rule (have {sorted(set(labels['rule']))})")
    kept = {config: _kept(candidates[config]) for config in procedure.candidates}
    splits = {config: tuple(rows["split"].unique()) for config, rows in kept.items()}
    if len(set(splits.values())) != 1 or len(next(iter(splits.values()))) != 1:
        raise EnsembleError(f"{subject}: candidates must share one split (have {splits})")
    outer = {
        c: _wide(subject, c, rows[(rows["role"] == "test") & rows["inner_fold"].isna()]) for c, rows in kept.items()
    }
    inner = {
        c: _wide(subject, c, rows[(rows["role"] == "valid") & rows["inner_fold"].notna()]) for c, rows in kept.items()
    }
    repeats = sorted(set.intersection(*({r for r, _ in folds} for folds in outer.values())))
    if not repeats:
        raise EnsembleError(f"{subject}: no repeat that all candidates have ({procedure.candidates})")
    target = labels.pivot(index="clip", columns="dimension", values="value").reindex(columns=list(NAMES)).dropna()
    taken, chosen = [], []
    for where in sorted({fold for folds in outer.values() for fold in folds if fold[0] in repeats}):
        seen = _shared(subject, where, inner, "inner")
        tested = _shared(subject, where, outer, "test")
        clips, learnt = next(iter(tested.values())).index, next(iter(seen.values())).index
        if len(clips.intersection(learnt)):
            raise EnsembleError(
                f"{subject}: {len(clips.intersection(learnt))} inner predictions of repeat {where[0]}, fold {where[1]} "
                f"are of clips that it tests, first {clips.intersection(learnt)[0]!r}"
            )
        labelled = learnt.intersection(target.index)
        choice = RULES[procedure.rule](
            {c: wide.loc[labelled].to_numpy(np.float64) for c, wide in seen.items()}, target.loc[labelled].to_numpy()
        )
        chosen.append((*where, choice))
        taken.append(_long(tested[choice]).assign(repeat=where[0], fold=where[1]))
    split = next(iter(splits.values()))[0]
    predictions = pd.concat(taken, ignore_index=True).assign(
        subject=subject, split=split, inner_fold=None, role="test", condition="clean", tuning="tuned", std=np.nan
    )
    weights = pd.DataFrame(chosen, columns=["repeat", "fold", "member"]).assign(
        ensemble=subject, split=split, dimension="mean", weight=1.0
    )
    columns = list(TABLES["predictions"].columns), list(TABLES["ensemble_weights"].columns)
    return predictions[columns[0]].astype({"value": "float32", "std": "float32"}), weights[columns[1]]


def _kept(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows[rows["condition"] == "clean"]
    tuned = rows[rows["tuning"] == "tuned"]
    return tuned if len(tuned) else rows


Folds = dict[tuple[int, int], pd.DataFrame]


def _wide(subject: str, config: str, rows: pd.DataFrame) -> Folds:
    """(repeat, fold) -> predictions, one row a clip (sorted), one column a dimension."""
    key = ["repeat", "fold", "clip", "dimension"]
    if rows.duplicated(key).any():
        first = rows[rows.duplicated(key)].iloc[0]
        raise EnsembleError(
            f"{subject}: {config} predicts clip {first['clip']!r} twice in repeat {first['repeat']}, "
            f"fold {first['fold']}"
        )
    wide = rows.astype({"dimension": object, "clip": object}).pivot(
        index=["repeat", "fold", "clip"], columns="dimension", values="value"
    )
    wide = wide.reindex(columns=list(NAMES)).sort_index()
    folds = wide.groupby(level=["repeat", "fold"])
    return {(int(repeat), int(fold)): of.droplevel(["repeat", "fold"]) for (repeat, fold), of in folds}


def _shared(subject: str, where: tuple[int, int], of: Mapping[str, Folds], kind: str) -> dict[str, pd.DataFrame]:
    """Each candidate's predictions in one fold, refused unless all have the same clips, complete."""
    told = f"repeat {where[0]}, fold {where[1]}"
    absent = [config for config, folds in of.items() if where not in folds]
    if absent:
        raise EnsembleError(f"{subject}: no {kind} predictions of {', '.join(absent)} in {told}")
    found = {config: folds[where] for config, folds in of.items()}
    first = next(iter(found.values())).index
    for config, wide in found.items():
        if not wide.index.equals(first) or wide.isna().any(axis=None):
            raise EnsembleError(
                f"{subject}: {kind} predictions of {config} in {told} must be of the clips of the others, on all "
                f"dimensions ({len(wide.dropna())} clips against {len(first)})"
            )
    return found


def _long(wide: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "clip": np.repeat(wide.index.to_numpy(object), len(NAMES)),
            "dimension": np.tile(np.array(NAMES, dtype=object), len(wide)),
            "value": wide.to_numpy().ravel(),
        }
    )
