"""Combine stored predictions of several subjects into one."""

import pandas as pd

from piano_assets.schemas import TABLES

_WHERE = ["split", "repeat", "fold", "inner_fold", "clip", "dimension", "role", "condition"]


class EnsembleError(ValueError):
    """Members that cannot be combined; the message names them and says why."""


def mean_of_members(name: str, members: dict[str, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The mean of the members' test predictions, with their standard deviation (n - 1) as its spread.

    Each member's `tuned` predictions are taken where it has any, else its `fixed` ones. Only repeats that every member
    has enter; within those, every member must predict the same clips.

    Args:
        members: config -> rows of the table `predictions` of all its seeds.

    Returns:
        Tables `predictions` (subject = name) and `ensemble_weights`.

    Raises:
        EnsembleError: fewer than two members, no repeat in common, different splits, or different clips.
    """
    if len(members) < 2:
        raise EnsembleError(f"ensemble {name!r} needs at least two members (has {list(members)})")
    tested = {config: _tested(rows) for config, rows in members.items()}
    splits = {config: tuple(rows["split"].unique()) for config, rows in tested.items()}
    if len(set(splits.values())) != 1 or len(next(iter(splits.values()))) != 1:
        raise EnsembleError(f"ensemble {name!r}: members must share one split (have {splits})")
    repeats = set.intersection(*(set(rows["repeat"]) for rows in tested.values()))
    if not repeats:
        raise EnsembleError(f"ensemble {name!r}: no repeat that all members have ({list(members)})")
    rows = pd.concat([r[r["repeat"].isin(repeats)] for r in tested.values()])
    groups = rows.groupby(_WHERE, dropna=False, sort=True)["value"]
    combined = groups.agg(value="mean", std="std", n="size").reset_index()
    wrong = combined[combined["n"] != len(members)]
    if len(wrong):
        first = wrong.iloc[0]
        raise EnsembleError(
            f"ensemble {name!r}: {len(wrong)} predictions are not there once per member, "
            f"first clip {first['clip']!r} in repeat {first['repeat']}, fold {first['fold']} "
            f"({first['n']} of {len(members)})"
        )
    predictions = combined.assign(subject=name, tuning="fixed")[list(TABLES["predictions"].columns)]
    folds = combined[["split", "repeat", "fold"]].drop_duplicates()
    weights = folds.merge(pd.DataFrame({"member": list(members)}), how="cross")
    weights = weights.assign(ensemble=name, dimension="mean", weight=1 / len(members))
    return predictions.astype({"value": "float32", "std": "float32"}), weights[list(TABLES["ensemble_weights"].columns)]


def _tested(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows[(rows["role"] == "test") & rows["inner_fold"].isna()]
    tuned = rows[rows["tuning"] == "tuned"]
    return tuned if len(tuned) else rows
