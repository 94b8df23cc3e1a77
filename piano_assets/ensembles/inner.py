"""What members predicted, fold by fold, with its inner folds: what choosing and weighting among them may look at.

In an outer fold, weights may come from predictions of inner folds alone, which no member was fitted on and the outer
fold does not test. Out-of-fold predictions of the outer level will not do: they are of the clips that are scored
(Wolpert 1992, Neural Networks 5:241).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from piano_assets.dimensions import NAMES
from piano_assets.ensembles.combine import EnsembleError

Folds = dict[tuple[int, int], pd.DataFrame]


@dataclass(frozen=True, eq=False)
class Fold:
    """One outer fold: what each member predicted of the inner folds' labelled clips, their labels, and of test clips.

    seen: member -> (n_learnt, 19). target: (n_learnt, 19), no NaN. tested: member -> a row a clip, a column a
    dimension.
    """

    repeat: int
    fold: int
    seen: dict[str, np.ndarray]
    target: np.ndarray
    tested: dict[str, pd.DataFrame]


def folds_of(subject: str, members: Mapping[str, pd.DataFrame], labels: pd.DataFrame) -> tuple[str, Iterator[Fold]]:
    """(the members' split, its outer folds in every repeat that all members have).

    Each member's `tuned` predictions are taken where it has any, else its `fixed` ones.

    Args:
        subject: what is made of them, for messages. members: config -> rows of the table `predictions` of all its
            seeds. labels: rows of the table `labels` under the members' rule.
    Raises:
        EnsembleError: fewer than two members, different splits, no repeat in common, labels of several rules, no inner
            predictions, different clips, or inner predictions of clips that the outer fold tests.
    """
    if len(members) < 2:
        raise EnsembleError(f"{subject} needs at least two members (has {tuple(members)})")
    if labels["rule"].nunique() != 1:
        raise EnsembleError(f"{subject}: labels must be of one rule (have {sorted(set(labels['rule']))})")
    kept = {config: _kept(rows) for config, rows in members.items()}
    splits = {config: tuple(rows["split"].unique()) for config, rows in kept.items()}
    if len(set(splits.values())) != 1 or len(next(iter(splits.values()))) != 1:
        raise EnsembleError(f"{subject}: members must share one split (have {splits})")
    outer = {
        c: _wide(subject, c, rows[(rows["role"] == "test") & rows["inner_fold"].isna()]) for c, rows in kept.items()
    }
    inner = {
        c: _wide(subject, c, rows[(rows["role"] == "valid") & rows["inner_fold"].notna()]) for c, rows in kept.items()
    }
    repeats = sorted(set.intersection(*({r for r, _ in folds} for folds in outer.values())))
    if not repeats:
        raise EnsembleError(f"{subject}: no repeat that all members have ({tuple(members)})")
    target = labels.pivot(index="clip", columns="dimension", values="value").reindex(columns=list(NAMES)).dropna()

    def found() -> Iterator[Fold]:
        for where in sorted({fold for folds in outer.values() for fold in folds if fold[0] in repeats}):
            seen = _shared(subject, where, inner, "inner")
            tested = _shared(subject, where, outer, "test")
            clips, learnt = next(iter(tested.values())).index, next(iter(seen.values())).index
            both = clips.intersection(learnt)
            if len(both):
                raise EnsembleError(
                    f"{subject}: {len(both)} inner predictions of repeat {where[0]}, fold {where[1]} are of clips "
                    f"that it tests, first {both[0]!r}"
                )
            labelled = learnt.intersection(target.index)
            of = {c: wide.loc[labelled].to_numpy(np.float64) for c, wide in seen.items()}
            yield Fold(*where, of, target.loc[labelled].to_numpy(), tested)

    return next(iter(splits.values()))[0], found()


def _kept(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows[rows["condition"] == "clean"]
    tuned = rows[rows["tuning"] == "tuned"]
    return tuned if len(tuned) else rows


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


def long(wide: pd.DataFrame) -> pd.DataFrame:
    """Columns clip, dimension and value of a row a clip and a column a dimension."""
    return pd.DataFrame(
        {
            "clip": np.repeat(wide.index.to_numpy(object), len(NAMES)),
            "dimension": np.tile(np.array(NAMES, dtype=object), len(wide)),
            "value": wide.to_numpy().ravel(),
        }
    )
