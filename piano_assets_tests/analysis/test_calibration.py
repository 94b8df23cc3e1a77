"""Predictive intervals on a world of known noise: they hold what they promise, and what cannot be judged is absent."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from piano_assets.analysis.calibration import LEVELS, calibration_table
from piano_assets.dimensions import N_DIMENSIONS, NAMES
from piano_assets.schemas import TABLES
from piano_assets_tests.analysis import world

RNG = np.random.default_rng(23)
CLIPS = world.clips(40, 10)
LABELS, VALUE = world.labels(CLIPS, RNG)
SPREAD = np.linspace(0.02, 0.1, N_DIMENSIONS)


def with_validation(splits: pd.DataFrame) -> pd.DataFrame:
    """The training clips of the next fold become validation clips."""
    tested = splits[splits["role"] == "test"].set_index(["repeat", "clip"])["fold"]
    own = tested.loc[pd.MultiIndex.from_frame(splits[["repeat", "clip"]])].to_numpy()
    turned = (splits["role"] == "train") & (own == (splits["fold"] + 1) % 4)
    return splits.assign(role=np.where(turned, "valid", splits["role"]))


SPLITS = with_validation(world.splits(CLIPS))
PRED = VALUE + SPREAD * RNG.normal(size=VALUE.shape)


def predicted(subject: str, pred: np.ndarray, role: str, std: np.ndarray | None = None, repeats=(0,)) -> pd.DataFrame:
    as_test = SPLITS[SPLITS["role"] == role].assign(role="test")
    rows = world.predict(subject, as_test, CLIPS, pred, repeats=repeats)
    if std is not None:
        at = CLIPS["clip"].to_numpy()
        rows = rows.assign(std=pd.DataFrame(std, index=at, columns=list(NAMES)).stack().loc[
            pd.MultiIndex.from_frame(rows[["clip", "dimension"]])].to_numpy())  # fmt: skip
    return rows.assign(role=role)


def table(*predictions: pd.DataFrame, subjects=("m|0",)) -> pd.DataFrame:
    weights = pd.DataFrame({"ensemble": ["mean"], "split": ["cluster"], "member": ["m|0"]})
    return calibration_table(
        pd.concat(predictions),
        LABELS,
        CLIPS,
        SPLITS,
        world.subjects(*subjects),
        world.trials(m=world.TABULAR),
        ensemble_weights=weights,
    )


@pytest.fixture(scope="module")
def conformal() -> pd.DataFrame:
    return table(*(predicted("m|0", PRED, role) for role in ("test", "valid")))


def test_conforms(conformal):
    TABLES["calibration"].conform(conformal)


def test_conformal_intervals_hold_what_they_promise(conformal):
    mean = conformal[(conformal["dimension"] == "mean") & (conformal["population"] == "all")].set_index(
        ["metric", "step"]
    )
    for level in LEVELS:
        row = mean.loc[("coverage", level)]
        # 800 clips x 19 dimensions, and quantiles of 200 residuals a fold: half a percent (one sd).
        assert row["value"] == pytest.approx(level, abs=0.02)
        assert row["ci_low"] <= row["value"] <= row["ci_high"]


def test_widths_are_those_of_the_noise(conformal):
    width = conformal[
        (conformal["metric"] == "width") & (conformal["population"] == "all") & (conformal["step"] == 0.9)
    ]
    got = width.set_index("dimension")["value"].loc[list(NAMES)]
    # A 90 % quantile of 200 Gaussian residuals errs by 5 %, the mean of four folds by less; three of these.
    np.testing.assert_allclose(got, 2 * stats.norm.ppf(0.95) * SPREAD, rtol=0.12)


def test_coverage_is_brute_force(conformal):
    """Fold by fold, the ceil((n + 1) 90 %)-th smallest residual of the validation clips."""
    held = []
    outer = SPLITS[SPLITS["repeat"] == 0]
    position = pd.Index(CLIPS["clip"])
    for _, rows in outer.groupby("fold"):
        valid, test = (position.get_indexer(rows["clip"][rows["role"] == r]) for r in ("valid", "test"))
        rank = int(np.ceil((len(valid) + 1) * 0.9))
        half = np.sort(abs(PRED - VALUE)[valid], axis=0)[rank - 1]
        held.append(abs(PRED - VALUE)[test] <= half)
    got = conformal[
        (conformal["metric"] == "coverage") & (conformal["population"] == "all") & (conformal["step"] == 0.9)
    ]
    want = np.concatenate(held).mean(0)
    np.testing.assert_allclose(got.set_index("dimension")["value"].loc[list(NAMES)], want, atol=1e-6)


def test_a_spread_is_judged_beside_its_proper_scores():
    true = np.broadcast_to(SPREAD, VALUE.shape)
    found = table(predicted("mean", PRED, "test", std=true), subjects=("mean", "m|0"))
    assert set(found["probe"]) == {"gaussian"}
    mean = found[(found["dimension"] == "mean") & (found["population"] == "all")].set_index(["metric", "step"])["value"]
    assert mean["coverage", 0.9] == pytest.approx(0.9, abs=0.01)
    # 80 clips a bin: a root mean square errs by 8 %, the mean of absolute errors is 6 %.
    assert mean.xs("ence").iloc[0] == pytest.approx(0.06, abs=0.03)
    # Of a Gaussian with its true spread: sigma / sqrt(pi).
    assert mean.xs("crps").iloc[0] == pytest.approx(SPREAD.mean() / np.sqrt(np.pi), rel=0.03)


def test_without_validation_predictions_there_are_no_intervals():
    assert table(predicted("m|0", PRED, "test")).empty


def test_too_few_validation_clips_promise_no_high_level():
    """Nine residuals a fold can promise 90 %, and not 95 %."""
    valid = predicted("m|0", PRED, "valid")
    few = valid.groupby(["fold", "dimension"], group_keys=False).head(9)
    found = table(predicted("m|0", PRED, "test"), few)
    assert set(found["step"]) == {0.5, 0.8, 0.9}
