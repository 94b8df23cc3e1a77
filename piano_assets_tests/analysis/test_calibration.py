"""Predictive intervals on a world of known noise: they hold what they promise, and what cannot be judged is absent."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from piano_assets.analysis.calibration import LEVELS, calibration_table
from piano_assets.analysis.panel import PredictionError
from piano_assets.dimensions import N_DIMENSIONS, NAMES
from piano_assets.schemas import TABLES
from piano_assets_tests.analysis import world

RNG = np.random.default_rng(23)
CLIPS = world.clips(40, 10)
CLIPS["composer"] = np.where(CLIPS["cluster"].isin([f"c{k}" for k in range(10)]), "Beethoven", "Schubert")
CLIPS["duration_s"] = RNG.uniform(5, 60, len(CLIPS))
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
    every = conformal[(conformal["condition"] == "all") & (conformal["population"] == "all")]
    mean = every[every["dimension"] == "mean"].set_index(["metric", "step"])
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
    np.testing.assert_allclose(at_90(conformal, "all"), held_at_90().mean(0), atol=1e-6)


def at_90(found: pd.DataFrame, condition: str, column: str = "value") -> np.ndarray:
    """Coverage of each dimension under a condition."""
    rows = found[(found["metric"] == "coverage") & (found["step"] == 0.9) & (found["population"] == "all")]
    return rows[rows["condition"] == condition].set_index("dimension")[column].loc[list(NAMES)].to_numpy()


def held_at_90() -> np.ndarray:
    """By brute force: whether the interval of each clip and dimension holds, (n_clips, 19)."""
    held = np.zeros(VALUE.shape)
    outer = SPLITS[SPLITS["repeat"] == 0]
    position = pd.Index(CLIPS["clip"])
    for _, rows in outer.groupby("fold"):
        valid, test = (position.get_indexer(rows["clip"][rows["role"] == r]) for r in ("valid", "test"))
        rank = int(np.ceil((len(valid) + 1) * 0.9))
        half = np.sort(abs(PRED - VALUE)[valid], axis=0)[rank - 1]
        held[test] = abs(PRED - VALUE)[test] <= half
    return held


def test_kinds_of_clips_are_told_apart_at_one_level(conformal):
    told = conformal[conformal["condition"] != "all"]
    assert (set(told["step"]), set(told["metric"]), set(told["population"])) == ({0.9}, {"coverage"}, {"all"})
    held = held_at_90()
    kinds = {
        "composer: Beethoven": CLIPS["composer"] == "Beethoven",
        "player: deadpan": CLIPS["deadpan"],
        "duration: short": CLIPS["duration_s"] <= CLIPS["duration_s"].quantile(1 / 3),
    }
    for condition, rows in kinds.items():
        np.testing.assert_allclose(at_90(conformal, condition), held[rows.to_numpy()].mean(0), atol=1e-6)
    # Every clip has ten raters and every excerpt as many performances: one group each, which is all of them.
    named = {"composer: Beethoven", "composer: Schubert", "player: human", "player: deadpan", "raters: few"}
    named |= {f"duration: {third}" for third in ("short", "middle", "long")} | {"excerpt: few performances"}
    assert set(told["condition"]) == named
    np.testing.assert_allclose(at_90(conformal, "raters: few"), held.mean(0), atol=1e-6)
    # One deadpan player: no interval; music by two composers: one.
    assert np.isnan(at_90(conformal, "player: deadpan", "ci_low")).all()
    assert (at_90(conformal, "composer: Beethoven", "ci_low") < at_90(conformal, "composer: Beethoven")).all()


def test_a_kind_of_clip_that_is_heard_worse_shows():
    """Twice the noise on Beethoven, a quarter of the clips: intervals made for all hold too little of it."""
    rough = VALUE + np.where(CLIPS["composer"] == "Beethoven", 2, 1)[:, None] * (PRED - VALUE)
    found = table(*(predicted("m|0", rough, role) for role in ("test", "valid")))
    assert at_90(found, "composer: Beethoven").mean() < 0.8 < 0.9 < at_90(found, "composer: Schubert").mean()
    assert at_90(found, "all").mean() == pytest.approx(0.9, abs=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: pd.concat([v, v[v["clip"] == "c0e0p0"]]), r"'m\|0', split 'cluster'.*19 valid predictions.*twice"),
        (lambda v: v.assign(clip=v["clip"].replace("c0e0p0", "nobody")), r"'m\|0', split 'cluster'.*19 valid.*unknown"),
    ],
)
def test_broken_validation_predictions_are_refused(change, message):
    with pytest.raises(PredictionError, match=message):
        table(predicted("m|0", PRED, "test"), change(predicted("m|0", PRED, "valid")))


def test_a_fold_without_validation_predictions_has_no_interval():
    valid = predicted("m|0", PRED, "valid")
    assert table(predicted("m|0", PRED, "test"), valid[valid["fold"] != 2]).empty


def test_a_spread_is_judged_beside_its_proper_scores():
    true = np.broadcast_to(SPREAD, VALUE.shape)
    found = table(predicted("mean", PRED, "test", std=true), subjects=("mean", "m|0"))
    assert set(found["probe"]) == {"gaussian"}
    every = found[(found["condition"] == "all") & (found["population"] == "all")]
    mean = every[every["dimension"] == "mean"].set_index(["metric", "step"])["value"]
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
