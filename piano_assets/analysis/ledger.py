"""The evaluation ledger: every look at the outer score of a procedure that chooses is a line that stays.

A score that is looked at again and again while the procedure is changed becomes a validation score. The ledger cannot
prevent that; it shows how often it happened. Lines are only added: each look is a part of its own, named by its time,
and the same look (same predictions, same reason) is entered once.
"""

from datetime import datetime

import pandas as pd

from piano_assets.analysis.evaluate import ROW_NAMES, average, judge
from piano_assets.analysis.panel import blocks, units
from piano_assets.analysis.scores import intervals
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Part, Store, digest

TABLE = "evaluation_ledger"
METRICS = ("r2_pooled", "pearson_mean")
"""What a look shows: all clips, global, mean over dimensions and repeats."""


def look(
    predictions: pd.DataFrame,
    splits: pd.DataFrame,
    clips: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    rule: str,
    part_key: str,
    reason: str,
    at: datetime,
    git_commit: str | None,
) -> pd.DataFrame:
    """Score the predictions of one procedure: rows of `evaluation_ledger`, one a metric, with 95 % intervals.

    Args:
        predictions: complete test predictions of one subject (the procedure), on one split at one tuning.
        splits, clips, labels: the tables of those names; rule: the label rule that it is scored by.
        part_key: key of the part that holds the predictions. at: when it is looked at, with a time zone.
    Raises:
        ValueError: no reason, no time zone, or several subjects, splits or tunings.
        PredictionError: predictions that cannot be scored (see `panel.blocks`).
    """
    if not reason.strip():
        raise ValueError(f"reason={reason!r} must say why the score is looked at")
    if at.tzinfo is None:
        raise ValueError(f"at={at!r} must have a time zone")
    several = {c: sorted(set(predictions[c])) for c in ("subject", "split", "tuning") if predictions[c].nunique() != 1}
    if several:
        raise ValueError(f"a look is at one subject, on one split, at one tuning (are {several})")
    known = units(clips, labels)
    split = predictions["split"].iloc[0]
    found, listed = blocks(predictions, splits[splits["split"] == split], known)
    if not found or not listed["complete"].all():
        lacking = listed[~listed["complete"]][["repeat", "found", "expected"]].to_dict("records")
        raise ValueError(
            f"{predictions['subject'].iloc[0]}: incomplete test predictions cannot be looked at: {lacking}"
        )
    judged = [judge(block, known, rule, "all", "global", METRICS) for block in found]
    mean = average([one for one in judged if one is not None])
    low, high = intervals(mean, known)
    at_mean = ROW_NAMES.index("mean")
    rows = [
        {
            "at": at,
            "procedure": predictions["subject"].iloc[0],
            "split": split,
            "metric": metric,
            "value": mean.value[metric][at_mean],
            "ci_low": low[metric][at_mean],
            "ci_high": high[metric][at_mean],
            "part_key": part_key,
            "git_commit": git_commit,
            "reason": reason,
        }
        for metric in METRICS
    ]
    return pd.DataFrame(rows, columns=list(TABLES[TABLE].columns))


def look_key(procedure: str, part_key: str, reason: str) -> str:
    """Key of a look: the same procedure, predictions and reason are one look."""
    return digest(TABLE, procedure, part_key, reason)


def entered(store: Store, procedure: str, part_key: str, reason: str) -> Part | None:
    """The line of a look that was entered before, or None."""
    wanted = look_key(procedure, part_key, reason)
    return next((part for part in store.parts(TABLE) if part.key == wanted), None)


def enter(store: Store, rows: pd.DataFrame) -> tuple[Part, bool]:
    """Add a look to the ledger, unless it stands there. Returns (part, whether it was added).

    Raises:
        ValueError: another look has this name.
    """
    procedure, part_key, reason = (rows[c].iloc[0] for c in ("procedure", "part_key", "reason"))
    stands = entered(store, procedure, part_key, reason)
    if stands is not None:
        return stands, False
    wanted = look_key(procedure, part_key, reason)
    name = f"{procedure}/{rows['at'].iloc[0]:%Y%m%dT%H%M%S.%f}-{wanted}"
    if store.part(TABLE, name) is not None:
        raise ValueError(f"{TABLE}: a look named {name!r} stands already")
    return store.write(TABLE, rows, key=wanted, name=name), True
