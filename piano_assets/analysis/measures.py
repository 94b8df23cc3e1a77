"""What subjects are judged by: the registry of measures, each a function of stored predictions.

Names are fixed for all tables: `r2_pooled` (pooled test clips around their pooled mean), `r2_fold_mean` (per fold, then
averaged), `pearson_mean`, `spearman_mean`, `mse`, `mae`, `ccc`, `wasserstein`, `ks`, `top3_accuracy` and `mse_hardest`
have a row per dimension and a row `mean`, the plain mean over dimensions. `pearson_weighted` (dimensions by their
reliability), `pearson_flat_z` and `pearson_flat_raw` are one number. A new measure is one line here; nothing is
trained again for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from piano_assets.metrics.distribution import ks, wasserstein
from piano_assets.metrics.ranking import MIN_GROUP, top_k_accuracy
from piano_assets.metrics.regression import FLAT_METRICS, METRICS, pearson, r2_fold_mean
from piano_assets.schemas import LEVELS
from piano_assets.statistics.influence import FLAT_INFLUENCE, INFLUENCE, Grades, grades, spearman_of


@dataclass(frozen=True, eq=False)
class View:
    """The scored rows of a block in one population at one level, complete.

    pred, target: (n, 19), centred within excerpts at that level; fold, group (excerpt): (n,); weights: (19,)
    reliability of the labels, or None where it is not known; hard: (n,) clips that are hard to predict, or None where
    nothing says so.
    """

    pred: np.ndarray
    target: np.ndarray
    fold: np.ndarray
    group: np.ndarray
    weights: np.ndarray | None = None
    hard: np.ndarray | None = None

    @cached_property
    def r(self) -> np.ndarray:
        """Pearson's r of each dimension, (19,)."""
        return pearson(self.pred, self.target)

    @cached_property
    def r_influence(self) -> np.ndarray:
        """How much each row moves it, (n, 19)."""
        return INFLUENCE["pearson"](self.pred, self.target) / len(self.pred)

    @cached_property
    def grades(self) -> tuple[Grades, Grades]:
        """Ranks of both sides, for Spearman's rho and its influence values."""
        return grades(self.pred), grades(self.target)


Value = np.ndarray | None


@dataclass(frozen=True)
class Measure:
    """A measure and how much each row moves it, at `moved_at`.

    value: (19,), or () where `flat`; None where the view does not allow it. influence: (n, 19), or (n,) where `flat`:
    influence values over n, whose sum is the sampling error to first order; None where it is not known. moment: the
    function of moments that it is (`statistics.resampling.MOMENTS`), where it is one: it can then be had exactly
    without any group of clips.
    """

    value: Callable[[View], Value]
    influence: Callable[[View], np.ndarray] | None = None
    flat: bool = False
    levels: tuple[str, ...] = LEVELS
    moved_at: tuple[str, ...] = LEVELS
    moment: str | None = None


def _plain(name: str) -> Measure:
    """A metric of each dimension by itself."""
    return Measure(
        lambda v: METRICS[name](v.pred, v.target),
        lambda v: INFLUENCE[name](v.pred, v.target) / len(v.pred),
        moment=name,
    )


def _flat(name: str) -> Measure:
    """A correlation of all (clip, dimension) pairs: a question of the literature's, asked globally only."""
    return Measure(
        lambda v: np.array(FLAT_METRICS[name](v.pred, v.target)),
        lambda v: FLAT_INFLUENCE[name](v.pred, v.target) / len(v.pred),
        flat=True,
        levels=("global",),
    )


def _rho(v: View) -> Value:
    """Pearson's r of the ranks."""
    return pearson(*(side.grade for side in v.grades))


def _rho_influence(v: View) -> np.ndarray:
    return spearman_of(*v.grades) / len(v.pred)


def _folds(v: View) -> list[int]:
    return [k for k in np.unique(v.fold) if (v.fold == k).sum() >= 2]


def _fold_mean(v: View) -> Value:
    return r2_fold_mean(v.pred, v.target, v.fold) if _folds(v) else None


def _fold_mean_influence(v: View) -> np.ndarray:
    total, folds = np.zeros(v.pred.shape), _folds(v)
    for k in folds:
        rows = v.fold == k
        total[rows] = INFLUENCE["r2"](v.pred[rows], v.target[rows]) / rows.sum() / len(folds)
    return total


def _shares(v: View) -> np.ndarray | None:
    if v.weights is None or not v.weights.sum() > 0:
        return None
    return v.weights / v.weights.sum()


def _weighted(v: View) -> Value:
    shares = _shares(v)
    return None if shares is None else v.r @ shares


def _weighted_influence(v: View) -> np.ndarray:
    return v.r_influence @ _shares(v)


def _top3(v: View) -> Value:
    ranked = np.unique(v.group, return_counts=True)[1].max(initial=0) >= MIN_GROUP
    return top_k_accuracy(v.pred, v.target, v.group, 3) if ranked else None


def _hardest(v: View) -> Value:
    if v.hard is None or v.hard.sum() < 2:
        return None
    return METRICS["mse"](v.pred[v.hard], v.target[v.hard])


def _hardest_influence(v: View) -> np.ndarray:
    assert v.hard is not None
    total = np.zeros(v.pred.shape)
    total[v.hard] = INFLUENCE["mse"](v.pred[v.hard], v.target[v.hard]) / v.hard.sum()
    return total


MEASURES: dict[str, Measure] = {
    "r2_pooled": _plain("r2"),
    "pearson_mean": Measure(lambda v: v.r, lambda v: v.r_influence, moment="pearson"),
    # Within excerpts a clip moves its excerpt's mean, and so all ranks there: no influence function is known.
    "spearman_mean": Measure(_rho, _rho_influence, moved_at=("global",)),
    "mse": _plain("mse"),
    "mae": _plain("mae"),
    "ccc": _plain("ccc"),
    "r2_fold_mean": Measure(_fold_mean, _fold_mean_influence, levels=("global",)),
    "pearson_flat_z": _flat("pearson_flat_z"),
    "pearson_flat_raw": _flat("pearson_flat_raw"),
    "pearson_weighted": Measure(_weighted, _weighted_influence, flat=True),
    "top3_accuracy": Measure(_top3, levels=("within_excerpt",)),
    "wasserstein": Measure(lambda v: wasserstein(v.pred, v.target), levels=("global",)),
    "ks": Measure(lambda v: ks(v.pred, v.target), levels=("global",)),
    "mse_hardest": Measure(_hardest, _hardest_influence, levels=("global",)),
}
