"""Combine stored predictions of several subjects into one: the plain mean."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from piano_assets.schemas import TABLES

_WHERE = ["split", "repeat", "fold", "inner_fold", "clip", "dimension", "role", "condition"]

SAME_OUTER_FOLDS = {"nested": "cluster"}
"""Split -> the one whose folds its outer folds are, so that results may stand under that one's name."""


class EnsembleError(ValueError):
    """Members that cannot be combined; the message names them and says why."""


def mean_of_members(
    name: str, members: Mapping[str, pd.DataFrame], split: str = ""
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The mean of the members' test predictions, with their standard deviation (n - 1) as its spread.

    Each member's `tuned` predictions are taken where it has any, else its `fixed` ones. Only repeats that every member
    has enter; within those, every member must predict the same clips. Where members have a spread of their own, its
    mean square is added to the variance between them (Lakshminarayanan et al. 2017, section 2.4); a single member is
    an ensemble if it has one, as one of snapshots.

    Args:
        members: config -> rows of the table `predictions` of all its seeds.
        split: under which the result stands; members of another split must have its folds. Default: the members'.

    Returns:
        Tables `predictions` (subject = name) and `ensemble_weights`.

    Raises:
        EnsembleError: fewer than two members without a spread, no repeat in common, different splits, or different
            clips.
    """
    tested = {config: _tested(rows) for config, rows in members.items()}
    if len(members) < 2 and not all(len(rows) and rows["std"].notna().all() for rows in tested.values()):
        raise EnsembleError(f"ensemble {name!r} needs at least two members, or one with a spread (has {list(members)})")
    splits = {config: tuple(rows["split"].unique()) for config, rows in tested.items()}
    if any(len(s) != 1 for s in splits.values()) or len({stands_on(name, s, split) for (s,) in splits.values()}) != 1:
        raise EnsembleError(f"ensemble {name!r}: members must share one split (have {splits})")
    tested = {c: rows.assign(split=stands_on(name, splits[c][0], split)) for c, rows in tested.items()}
    repeats = set.intersection(*(set(rows["repeat"]) for rows in tested.values()))
    if not repeats:
        raise EnsembleError(f"ensemble {name!r}: no repeat that all members have ({list(members)})")
    rows = pd.concat([r[r["repeat"].isin(repeats)] for r in tested.values()])
    rows = rows.assign(own=rows["std"].astype("float64").fillna(0.0) ** 2)
    groups = rows.groupby(_WHERE, dropna=False, sort=True)
    combined = groups.agg(value=("value", "mean"), var=("value", "var"), own=("own", "mean"), n=("value", "size"))
    combined = combined.reset_index()
    wrong = combined[combined["n"] != len(members)]
    if len(wrong):
        first = wrong.iloc[0]
        raise EnsembleError(
            f"ensemble {name!r}: {len(wrong)} predictions are not there once per member, "
            f"first clip {first['clip']!r} in repeat {first['repeat']}, fold {first['fold']} "
            f"({first['n']} of {len(members)})"
        )
    combined["std"] = np.sqrt(combined["var"].astype("float64").fillna(0.0) + combined["own"])
    predictions = combined.assign(subject=name, tuning="fixed")[list(TABLES["predictions"].columns)]
    folds = combined[["split", "repeat", "fold"]].drop_duplicates()
    weights = folds.merge(pd.DataFrame({"member": list(members)}), how="cross")
    weights = weights.assign(ensemble=name, dimension="mean", weight=1 / len(members))
    return predictions.astype({"value": "float32", "std": "float32"}), weights[list(TABLES["ensemble_weights"].columns)]


def stands_on(name: str, own: str, wanted: str) -> str:
    """The split under which members of split `own` stand, if `wanted` is asked for.

    Raises:
        EnsembleError: the two have different folds.
    """
    if wanted in ("", own):
        return own
    if SAME_OUTER_FOLDS.get(own) != wanted:
        raise EnsembleError(f"ensemble {name!r}: folds of split {own!r} are not those of {wanted!r}")
    return wanted


def _tested(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows[(rows["role"] == "test") & rows["inner_fold"].isna()]
    tuned = rows[rows["tuning"] == "tuned"]
    return tuned if len(tuned) else rows
