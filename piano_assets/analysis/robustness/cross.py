"""What a model predicts of composers or performers that it never heard.

A model is what it learnt from, so these probes alter that: the same trial is trained on a split that holds back whole
composers, or whole performers, and predicts the held-back clips. Beside it stands the same trial on its own split, on
the same clips. PercePiano has two composers: that is two directions, and no distribution.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from piano_assets.analysis.panel import Block, Units, blocks
from piano_assets.analysis.robustness.curves import curve_rows

CROSS: dict[str, str] = {"cross_composer": "composer", "cross_performer": "performer"}
"""Probe -> the split that holds back."""

ALL = "all unheard"


def cross_rows(
    probe: str,
    own: pd.DataFrame,
    held_back: pd.DataFrame,
    splits: pd.DataFrame,
    clips: pd.DataFrame,
    known: Units,
    rule: str,
) -> pd.DataFrame:
    """Rows of the table `robustness`: scores on clips of whom was held back, and their change against `own`.

    Args:
        own: test predictions of one subject on its own split; held_back: of the same trial on the probe's split; both
            of one repeat and tuning. splits: rows of both splits.
    Returns:
        as `curves.curve_rows`; condition `all unheard` beside `clean`, and each composer beside `<composer>, heard`,
        the trial on its own split, which heard other music of that composer.
    Raises:
        PredictionError: predictions that cannot be scored. ValueError: incomplete ones.
    """
    clean, other = (_whole(rows, splits, known) for rows in (own, held_back))
    groups: Mapping[str, np.ndarray] = {ALL: np.ones(len(other.clip), bool)}
    if probe == "cross_composer":
        name = clips.set_index("clip")["composer"].reindex(known.clip).to_numpy()[other.clip]
        groups = {**groups, **{str(k): name == k for k in np.unique(name.astype(str))}}
    frames = []
    for group, mine in groups.items():
        rows = curve_rows(clean, {f"{probe}.{group}": _some(other, mine)}, known, rule)
        # Each group is compared on its own clips, so each has a value of its own where it was heard.
        heard = "clean" if group == ALL else f"{group}, heard"
        frames.append(rows.assign(condition=rows["condition"].replace("clean", heard)))
    return pd.concat(frames, ignore_index=True)


def _whole(predictions: pd.DataFrame, splits: pd.DataFrame, known: Units) -> Block:
    """The one block of some predictions, as if in one fold: clips are matched, folds are not."""
    split = predictions["split"].iloc[0]
    found, listed = blocks(predictions, splits[splits["split"] == split], known)
    if len(found) != 1 or not listed["complete"].all():
        raise ValueError(f"split {split!r}: one complete repeat is wanted, found {listed.to_dict('records')}")
    (block,) = found
    return _some(block, np.ones(len(block.clip), bool))


def _some(block: Block, rows: np.ndarray) -> Block:
    fold = np.zeros(int(rows.sum()), np.int64)
    return Block(block.subject, block.split, block.tuning, block.repeat, fold, block.clip[rows], block.pred[rows])
