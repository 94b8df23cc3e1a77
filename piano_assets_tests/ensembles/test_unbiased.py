"""On labels that are pure noise nested selection is unbiased, the naive one is not.

Unbiased means: what is measured on the outer test clips is what the same predictions would get, on average, on labels
that nothing was chosen by. Test labels of a fold are independent of all that its model and its choice learnt from.

- r within outer folds is odd in the test labels, whose distribution is symmetric: its expectation is 0, exactly.
- The squared error of a prediction that varies for nothing lies above that of a constant, so that R2 lies below 0, on
  fresh labels too. What R2 shows beyond that is its optimism, twice the covariance of predictions and labels over the
  labels' variance (Efron 2004, JASA 99:619). Within outer folds the expectation of that is 0, exactly.
- r over pooled folds, as the ledger shows it, lies below 0 even without any choice: a training mean lies opposite to
  the mean of the test fold. It flatters nobody.

The naive choice is the candidate and search point with the best outer score, reported by that score.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from piano_assets.analysis.evaluate import centred_within
from piano_assets.catalogue.trial import Inputs, Tabular, Trial
from piano_assets.corpus.split_strategies import balanced_folds, with_validation
from piano_assets.dimensions import N_DIMENSIONS, NAMES
from piano_assets.ensembles.procedures import Procedure, run_procedure
from piano_assets.metrics.regression import pearson
from piano_assets.models.tabular import REGRESSORS
from piano_assets.training.data import TrialData
from piano_assets.training.nested import fit_nested, unit_of

pytestmark = pytest.mark.xdist_group("unbiased")  # one worker makes what they share

CLUSTER = np.repeat(np.arange(16), [16, 12, 10, 8, 8, 6, 6, 5, 5, 4, 4, 3, 3, 2, 2, 2])
N, N_FOLDS, N_INNER = len(CLUSTER), 2, 2
CLIPS = np.array([f"clip{i:03d}" for i in range(N)], dtype=object)
N_CANDIDATES, N_FEATURES = 6, 4
N_WORLDS = 14
LARGEST_T = 5.0
"""Of Student's t with 13 degrees of freedom: beyond it by chance once in 4,100 worlds of worlds, on either side."""
RIDGE = Trial(
    model=Tabular(regressor="ridge", settings=(("alpha", 1.0),)),
    inputs=Inputs(features="symbolic"),
    search=(("model.settings.alpha", (1.0, 100.0)),),
    split="nested",
)


class Ridge:
    """Ridge regression in closed form: thousands are fitted here, and a pipeline takes milliseconds for its checks."""

    def __init__(self, seed: int, *, alpha: float) -> None:
        self.alpha = alpha

    def fit(self, x: np.ndarray, y: np.ndarray) -> "Ridge":
        self.x, self.y = x.mean(0), y.mean(0)
        centred = x - self.x
        penalty = self.alpha * np.eye(x.shape[1])
        self.weights = np.linalg.solve(centred.T @ centred + penalty, centred.T @ (y - self.y))
        return self

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.y + (x - self.x) @ self.weights


def clustered(rng: np.random.Generator, width: int, share: float) -> np.ndarray:
    """(N, width) standard normal values, of whose variance clips of a cluster share a part."""
    of_cluster = rng.normal(size=(CLUSTER.max() + 1, width))[CLUSTER]
    return np.sqrt(share) * of_cluster + np.sqrt(1 - share) * rng.normal(size=(N, width))


def noise_labels(rng: np.random.Generator) -> np.ndarray:
    """Labels as correlated as ratings are: half of each dimension's variance is one common impression."""
    common, own = clustered(rng, 1, 0.3), clustered(rng, N_DIMENSIONS, 0.3)
    return 0.5 + 0.1 * (common + own) / np.sqrt(2)


def levels(rng: np.random.Generator) -> tuple[np.ndarray, dict, dict]:
    """(outer fold of each clip, roles of the outer level, roles of the inner level), whole clusters everywhere."""
    fold_of = balanced_folds(CLUSTER, N_FOLDS, rng, 10)
    outer, inner = {}, {}
    for fold in range(N_FOLDS):
        outer[0, fold] = with_validation(fold_of == fold, CLUSTER, rng)
        learning = np.flatnonzero(fold_of != fold)
        part = balanced_folds(CLUSTER[learning], N_INNER, rng, 10)
        for k in range(N_INNER):
            role = np.full(N, "unused", dtype=object)
            role[learning] = with_validation(part == k, CLUSTER[learning], rng)
            inner[0, unit_of(fold, k)] = role
    return fold_of, outer, inner


@dataclass(frozen=True)
class Scores:
    """Of one world's out-of-fold predictions: within folds r, R2 and its optimism; r over pooled folds."""

    r: float
    r2: float
    optimism: float
    pooled_r: float

    @classmethod
    def of(cls, pred: np.ndarray, target: np.ndarray, fold: np.ndarray) -> "Scores":
        within = [np.nan_to_num(pearson(pred[fold == k], target[fold == k])).mean() for k in range(N_FOLDS)]
        p, y = centred_within(pred, fold), centred_within(target, fold)
        r2 = 1 - ((y - p) ** 2).sum() / (y**2).sum()
        on_fresh_labels = -(p**2).sum() / (y**2).sum()
        return cls(float(np.mean(within)), r2, r2 - on_fresh_labels, float(pearson(pred, target).mean()))


def one_world(seed: int) -> dict[str, Scores]:
    """Scores of nested selection, of naive selection by each measure, and of one option without any choice."""
    rng = np.random.default_rng(seed)
    target = noise_labels(rng)
    fold_of, outer, inner = levels(rng)
    found = {}
    for i in range(N_CANDIDATES):
        features = clustered(rng, N_FEATURES, 0.3)
        data = TrialData(CLIPS, target, np.full(target.shape, np.nan), outer, features)
        below = TrialData(CLIPS, target, data.errors, inner, features)
        tables = [fit_nested(RIDGE, data, below, 0, fold, 0, 1).predictions for fold in range(N_FOLDS)]
        found[f"c{i}"] = pd.concat(tables, ignore_index=True).assign(
            subject=f"c{i}|0", split="nested", repeat=0, condition="clean", std=np.nan
        )
    labels = pd.DataFrame(
        {"clip": np.repeat(CLIPS, 19), "dimension": np.tile(NAMES, N), "value": target.ravel(), "rule": "clean"}
    )
    procedure = Procedure(candidates=tuple(found), description="The best of them.")
    chosen, _ = run_procedure("noise", procedure, found, labels)

    def scores(tested: pd.DataFrame) -> Scores:
        """Rows come fold by fold, clips in order, dimensions as they are named."""
        pred = np.empty(target.shape)
        pred[np.argsort(fold_of, kind="stable")] = tested["value"].to_numpy(np.float64).reshape(target.shape)
        return Scores.of(pred, target, fold_of)

    options = [
        scores(r[(r["role"] == "test") & (r["tuning"] == t)]) for r in found.values() for t in ("fixed", "tuned")
    ]
    return {
        "nested": scores(chosen),
        "naive": max(options, key=lambda o: o.r),
        "naive_pooled": max(options, key=lambda o: o.pooled_r),
        "first": options[0],
    }


@pytest.fixture(scope="module")
def worlds() -> list[dict[str, Scores]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(REGRESSORS, "ridge", Ridge)
        return [one_world(seed) for seed in range(N_WORLDS)]


def bias(worlds, of: str, measure: str) -> tuple[float, float]:
    """(mean of a measure over worlds, its t against 0)."""
    values = [getattr(world[of], measure) for world in worlds]
    return float(np.mean(values)), float(stats.ttest_1samp(values, 0).statistic)


def test_the_chance_of_a_false_alarm_is_as_stated():
    assert 2 * stats.t.sf(LARGEST_T, N_WORLDS - 1) == pytest.approx(1 / 4100, rel=0.02)


def test_r_of_nested_selection_is_0_on_noise_and_that_of_naive_selection_is_not(worlds):
    assert abs(bias(worlds, "nested", "r")[1]) < LARGEST_T
    naive, t = bias(worlds, "naive", "r")
    assert t > LARGEST_T
    assert naive > 0.03


def test_r2_of_nested_selection_is_that_on_fresh_labels_and_that_of_naive_selection_is_above(worlds):
    assert abs(bias(worlds, "nested", "optimism")[1]) < LARGEST_T
    assert bias(worlds, "nested", "r2")[0] < 0, "what varies for nothing costs"
    naive, t = bias(worlds, "naive", "optimism")
    assert t > LARGEST_T
    assert naive > 0.03


def test_r_over_pooled_folds_flatters_no_nested_selection(worlds):
    assert bias(worlds, "nested", "pooled_r")[1] < LARGEST_T
    assert bias(worlds, "first", "pooled_r")[0] < 0
    gained = [world["naive_pooled"].pooled_r - world["nested"].pooled_r for world in worlds]
    assert stats.ttest_1samp(gained, 0).statistic > LARGEST_T
