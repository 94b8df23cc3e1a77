"""Ensembles whose weights are learnt, in each outer fold from its inner predictions alone."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from piano_assets.dimensions import NAMES
from piano_assets.ensembles.combine import EnsembleError, stands_on
from piano_assets.ensembles.inner import Fold, folds_of, long
from piano_assets.ensembles.weights import WEIGHTS, by_dimension
from piano_assets.schemas import TABLES


def weighted_members(
    name: str, combine: str, members: Mapping[str, pd.DataFrame], labels: pd.DataFrame, split: str = ""
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The weighted sum of the members' test predictions, and as its spread their weighted standard deviation.

    Where one member has all the weight, the spread is that of all members.

    Args:
        combine: key of `WEIGHTS`. members: config -> rows of the table `predictions` of all its seeds. labels: rows of
            the table `labels` under the members' rule. split: under which the result stands; default: the members'.
    Returns:
        Tables `predictions` (subject = name) and `ensemble_weights`.
    Raises:
        EnsembleError: an unknown rule, a split whose folds are others, or members that `inner.folds_of` refuses.
    """
    if combine not in WEIGHTS:
        raise EnsembleError(f"{name}: combine={combine!r} must be one of {('mean', *WEIGHTS)}")
    own, folds = folds_of(name, members, labels)
    stands = stands_on(name, own, split)
    tables, weights = [], []
    for fold in folds:
        seen = np.stack(list(fold.seen.values()))
        weight = WEIGHTS[combine](seen, fold.target)
        tables.append(_combined(fold, weight))
        weights.append(_weights(fold, weight))
    told = {"subject": name, "split": stands, "inner_fold": None, "role": "test", "condition": "clean"}
    predictions = pd.concat(tables, ignore_index=True).assign(**told, tuning="fixed")
    found = pd.concat(weights, ignore_index=True).assign(ensemble=name, split=stands)
    predictions = predictions[list(TABLES["predictions"].columns)].astype({"value": "float32", "std": "float32"})
    return predictions, found[list(TABLES["ensemble_weights"].columns)]


def _combined(fold: Fold, weight: np.ndarray) -> pd.DataFrame:
    tested = np.stack([wide.to_numpy(np.float64) for wide in fold.tested.values()])  # (m, n, 19)
    full = by_dimension(weight)
    several = (full > 0).sum(0) > 1
    share = np.where(several, full, 1.0)
    share = share / share.sum(0)
    mean = (share[:, None] * tested).sum(0)
    spread = np.sqrt((share[:, None] * (tested - mean) ** 2).sum(0))
    index = next(iter(fold.tested.values())).index
    value = pd.DataFrame((full[:, None] * tested).sum(0), index=index, columns=list(NAMES))
    return long(value).assign(std=spread.ravel(), repeat=fold.repeat, fold=fold.fold)


def _weights(fold: Fold, weight: np.ndarray) -> pd.DataFrame:
    members = list(fold.tested)
    if weight.ndim == 1:
        table = pd.DataFrame({"member": members, "dimension": "mean", "weight": weight})
    else:
        table = pd.DataFrame(weight, index=members, columns=list(NAMES)).rename_axis("member").reset_index()
        table = table.melt("member", var_name="dimension", value_name="weight")
    return table.assign(repeat=fold.repeat, fold=fold.fold)
