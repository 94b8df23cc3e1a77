"""Whether intervals keep what they promise on music that was not heard: nested folds say, before anybody asks."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from piano_assets.dimensions import NAMES
from piano_assets.ensembles.inner import folds_of
from piano_assets.ensembles.weights import WEIGHTS, by_dimension

LEVEL = 0.9
"""Share of labels that the intervals promise to hold."""


def half_widths(residual: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """(19,) half widths of intervals that hold labels of unheard clips with probability `level`.

    The quantile of absolute out-of-fold residuals (n, 19), with the correction for a finite sample (cross-conformal:
    Vovk 2015, Annals of Mathematics and Artificial Intelligence 74:9).
    """
    ordered = np.sort(np.abs(residual), axis=0)
    n = len(ordered)
    return ordered[min(n - 1, int(np.ceil(level * (n + 1))) - 1)]


def nested_coverage(
    name: str, rule: str, candidates: Mapping[str, pd.DataFrame], labels: pd.DataFrame, level: float = LEVEL
) -> pd.DataFrame:
    """Which labels of outer test clips lie in the intervals that a champion of the outer fold's clips would promise.

    Weights and half widths come from inner predictions alone, as a champion's come from its out-of-fold ones.

    Args:
        rule: key of `WEIGHTS`. candidates, labels: see `procedures.run_procedure`.
    Returns:
        repeat, fold, clip, dimension, half_width, held; clips without a label are left out.
    Raises:
        EnsembleError: see `inner.folds_of`.
    """
    _, folds = folds_of(name, candidates, labels)
    target = labels.pivot(index="clip", columns="dimension", values="value").reindex(columns=list(NAMES)).dropna()
    found = []
    for fold in folds:
        seen = np.stack(list(fold.seen.values()))
        full = by_dimension(WEIGHTS[rule](seen, fold.target))
        width = half_widths((full[:, None] * seen).sum(0) - fold.target, level)
        tested = next(iter(fold.tested.values())).index.intersection(target.index)
        said = sum(
            w * wide.loc[tested].to_numpy(np.float64) for w, wide in zip(full, fold.tested.values(), strict=True)
        )
        held = np.abs(said - target.loc[tested].to_numpy()) <= width
        rows = pd.DataFrame(held, index=tested, columns=list(NAMES)).rename_axis("clip").reset_index()
        rows = rows.melt("clip", var_name="dimension", value_name="held")
        widths = dict(zip(NAMES, width, strict=True))
        found.append(rows.assign(repeat=fold.repeat, fold=fold.fold, half_width=rows["dimension"].map(widths)))
    return pd.concat(found, ignore_index=True)[["repeat", "fold", "clip", "dimension", "half_width", "held"]]


def shares(coverage: pd.DataFrame) -> dict[str, float]:
    """Share of labels that were held, overall (`mean`) and of each dimension."""
    by_dimension = coverage.groupby("dimension")["held"].mean()
    return {"mean": float(coverage["held"].mean())} | {name: float(by_dimension[name]) for name in NAMES}
