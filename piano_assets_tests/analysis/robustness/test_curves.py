"""Curves against scipy and sklearn on the same clips, changes against Student's interval and the jackknife."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import r2_score

from piano_assets.analysis.panel import Block, units
from piano_assets.analysis.robustness.curves import (
    by_condition,
    curve_rows,
    parts_of,
    predicted,
    prediction_rows,
    sample,
)
from piano_assets.dimensions import NAMES
from piano_assets.schemas import TABLES
from piano_assets_tests.analysis import world
from piano_assets_tests.analysis.robustness.sounding import CLIPS as SOUNDING

pytestmark = pytest.mark.xdist_group("sounding")  # one worker makes what they share

RNG = np.random.default_rng(8)
CLIPS = world.clips()
LABELS, VALUE = world.labels(CLIPS, RNG)
KNOWN = units(CLIPS, LABELS)
N = len(CLIPS)
KEYS = ["probe", "condition", "step", "population", "dimension", "metric"]


def block(pred: np.ndarray, rows: np.ndarray | None = None) -> Block:
    rows = np.arange(N) if rows is None else rows
    return Block("m|0", "cluster", "fixed", 0, rows % 4, rows, pred[rows])


PRED = 0.5 * VALUE + 0.25 + RNG.normal(0, 0.05, VALUE.shape)
WORSE = {s: PRED + RNG.normal(0, s, VALUE.shape) - s / 10 for s in (0.01, 0.1)}
ALTERED = {"noise.white:20": block(WORSE[0.01]), "noise.white:0": block(WORSE[0.1])}


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    return curve_rows(block(PRED), ALTERED, KNOWN, "clean", ("all", "humans"))


def value(table: pd.DataFrame, condition: str, step: float, metric: str, dimension: str = "mean", of: str = "all"):
    at = (table["condition"] == condition) & (table["metric"] == metric) & (table["dimension"] == dimension)
    at &= (table["population"] == of) & (table["step"].isna() if np.isnan(step) else table["step"] == step)
    (found,) = table[at].itertuples()
    return found


@pytest.mark.parametrize("of", ["all", "humans"])
def test_scores_are_scipys_and_sklearns(table, of):
    rows = np.flatnonzero(KNOWN.human) if of == "humans" else np.arange(N)
    for condition, step, pred in (("clean", np.nan, PRED), ("white", 20, WORSE[0.01]), ("white", 0, WORSE[0.1])):
        r = [stats.pearsonr(p, t)[0] for p, t in zip(pred[rows].T, VALUE[rows].T, strict=True)]
        assert value(table, condition, step, "pearson_mean", of=of).value == pytest.approx(np.mean(r), rel=1e-10)
        for name, want in zip(NAMES, r, strict=True):
            assert value(table, condition, step, "pearson_mean", name, of).value == pytest.approx(want, rel=1e-10)
        want = r2_score(VALUE[rows], pred[rows])  # uniform average over dimensions
        assert value(table, condition, step, "r2_pooled", of=of).value == pytest.approx(want, rel=1e-10)
        want = np.mean((VALUE[rows] - pred[rows]) ** 2)
        assert value(table, condition, step, "mse", of=of).value == pytest.approx(want, rel=1e-10)


def test_changes_are_differences_and_shifts_are_means(table):
    for step, pred in ((20, WORSE[0.01]), (0, WORSE[0.1])):
        for metric in ("pearson_mean", "r2_pooled"):
            want = value(table, "white", step, metric).value - value(table, "clean", np.nan, metric).value
            assert value(table, "white", step, f"{metric}_change").value == pytest.approx(want, rel=1e-10)
        for i, name in enumerate(NAMES):
            want = (pred - PRED)[:, i].mean()
            assert value(table, "white", step, "mean_shift", name).value == pytest.approx(want, rel=1e-10)
        assert value(table, "white", step, "mean_shift").value == pytest.approx((pred - PRED).mean(), rel=1e-10)


def alone():
    """Every clip its own cluster and performer: nothing is shared, and n clips are n."""
    return dataclasses.replace(KNOWN, cluster=np.arange(N), performer=np.arange(N))


def test_interval_of_a_shift_is_students_where_clips_share_nothing():
    found = curve_rows(block(PRED), ALTERED, alone(), "clean")
    for step, pred in ((20, WORSE[0.01]), (0, WORSE[0.1])):
        low, high = stats.ttest_1samp(pred - PRED, 0).confidence_interval()
        for i, name in enumerate(NAMES):
            row = value(found, "white", step, "mean_shift", name)
            np.testing.assert_allclose([row.ci_low, row.ci_high], [low[i], high[i]], rtol=1e-9)


@pytest.mark.parametrize("metric", ["pearson_mean", "r2_pooled"])
def test_interval_of_a_change_is_the_jackknifes_where_clips_share_nothing(metric):
    """Influence values are the jackknife's to first order: standard errors agree to about 1/n, and n is 112."""

    def score(pred, target):
        if metric == "r2_pooled":
            return r2_score(target, pred)
        return np.mean([np.corrcoef(p, t)[0, 1] for p, t in zip(pred.T, target.T, strict=True)])

    found = curve_rows(block(PRED), ALTERED, alone(), "clean")
    row = value(found, "white", 0, f"{metric}_change")
    change = [
        score(WORSE[0.1][kept], VALUE[kept]) - score(PRED[kept], VALUE[kept])
        for kept in (np.delete(np.arange(N), i) for i in range(N))
    ]
    se = np.sqrt((N - 1) ** 2 / N * np.var(change, ddof=1))
    half = stats.t.ppf(0.975, N - 1) * se
    assert (row.ci_high - row.ci_low) / 2 == pytest.approx(half, rel=0.04)
    # Paired, it is narrower than the two intervals that it is the difference of.
    apart = np.hypot(
        *(np.subtract(*value(found, c, s, metric)[-1:-3:-1]) for c, s in (("white", 0), ("clean", np.nan)))
    )
    assert 2 * half < 0.9 * apart


def test_nothing_altered_changes_nothing_and_a_constant_shift_no_correlation():
    rows = curve_rows(block(PRED), {"gain.up:0": block(PRED), "gain.up:1": block(PRED + 0.125)}, KNOWN, "clean")
    for metric in ("pearson_mean_change", "r2_pooled_change", "mean_shift"):
        same = value(rows, "up", 0, metric)
        assert (same.value, same.ci_low, same.ci_high) == (0, 0, 0)
    assert value(rows, "up", 1, "pearson_mean_change").value == pytest.approx(0, abs=1e-12)
    shift = value(rows, "up", 1, "mean_shift", "tempo_fast_slow")
    np.testing.assert_allclose([shift.value, shift.ci_low, shift.ci_high], 0.125, rtol=1e-12)
    assert value(rows, "up", 1, "r2_pooled_change").value < -0.5


def test_constant_predictions_have_no_correlation_but_an_error():
    rows = curve_rows(block(PRED), {"noise.white:0": block(np.full_like(PRED, 0.5))}, KNOWN, "clean")
    assert np.isnan(value(rows, "white", 0, "pearson_mean_change").value)
    assert np.isfinite(value(rows, "white", 0, "mse").ci_low)
    assert np.isfinite(value(rows, "white", 0, "mean_shift").ci_low)


def test_clean_is_restricted_to_the_probed_clips_whatever_their_order():
    some = RNG.permutation(N)[:50]
    altered = {c: block(b.pred, some) for c, b in ALTERED.items()}
    found = curve_rows(block(PRED), altered, KNOWN, "clean")
    pd.testing.assert_frame_equal(found, curve_rows(block(PRED, some[::-1]), altered, KNOWN, "clean"))
    assert value(found, "clean", np.nan, "mse").value == pytest.approx(np.mean((VALUE[some] - PRED[some]) ** 2))


def test_other_clips_are_refused():
    half = np.arange(N // 2)
    with pytest.raises(ValueError, match=r"'noise\.white:0' must have the same clips"):
        curve_rows(block(PRED), {"noise.white:20": block(PRED), "noise.white:0": block(PRED, half)}, KNOWN, "clean")
    with pytest.raises(ValueError, match=r"m\|0: 56 of 112 altered clips have no clean prediction"):
        curve_rows(block(PRED, half), ALTERED, KNOWN, "clean")
    with pytest.raises(ValueError, match="at least one altered"):
        curve_rows(block(PRED), {}, KNOWN, "clean")


def test_the_rows_fit_their_table(table):
    several = {**ALTERED, "recording_quality.fluidsynth": block(WORSE[0.01])}
    found = curve_rows(block(PRED), several, KNOWN, "clean", ("all", "humans"))
    told = {"subject": "m|0", "split": "cluster", "rule": "clean", "tuning": "fixed"}
    stored = TABLES["robustness"].conform(found.assign(**told)).to_pandas()
    assert len(stored) == len(found)
    assert set(found["probe"]) == {"noise", "recording_quality"}
    # 22 scores, 2 changes and 20 shifts a condition; 22 scores of `clean` for each probe; twice for two populations.
    assert len(found) == 2 * (3 * 44 + 2 * 22)
    pd.testing.assert_frame_equal(
        found[found["probe"] == "noise"].sort_values(KEYS, ignore_index=True),
        table.sort_values(KEYS, ignore_index=True),
    )


@pytest.mark.parametrize(
    ("condition", "want"),
    [
        ("noise.white:20", ("noise", "white", 20.0)),
        ("recording_quality.gain:-12", ("recording_quality", "gain", -12.0)),
        ("adversarial.fgsm:1e-05", ("adversarial", "fgsm", 1e-5)),
        ("cross_composer.Beethoven to Schubert", ("cross_composer", "Beethoven to Schubert", None)),
    ],
)
def test_conditions_are_read(condition, want):
    assert parts_of(condition) == want


@pytest.mark.parametrize("condition", ["clean", "noise:20", "noise.white:loud", ""])
def test_other_conditions_are_refused(condition):
    with pytest.raises(ValueError, match="condition"):
        parts_of(condition)


def test_predictions_go_through_their_table_and_come_back():
    conditions = {"clean": block(PRED), **ALTERED}
    long = pd.concat([prediction_rows(b, c, KNOWN) for c, b in conditions.items()], ignore_index=True)
    stored = TABLES["predictions"].conform(long).to_pandas()
    found = by_condition(stored, KNOWN)
    assert set(found) == set(conditions)
    for condition, b in found.items():
        want = conditions[condition]
        order = np.lexsort((want.clip, want.fold))
        np.testing.assert_array_equal(b.clip, want.clip[order])
        np.testing.assert_array_equal(b.fold, want.fold[order])
        np.testing.assert_array_equal(b.pred, want.pred[order].astype(np.float32))
        assert (b.subject, b.split, b.tuning, b.repeat) == ("m|0", "cluster", "fixed", 0)
    with pytest.raises(ValueError, match="all 19 dimensions"):
        by_condition(stored[1:], KNOWN)
    with pytest.raises(ValueError, match="one subject"):
        by_condition(pd.concat([stored, stored.assign(repeat=1)]), KNOWN)
    with pytest.raises(ValueError, match="unknown, first"):
        by_condition(stored, dataclasses.replace(KNOWN, clip=KNOWN.clip[::-1] + "?"))


def fake(test: list[np.ndarray], labelled: np.ndarray):
    """A fitted subject as far as sampling asks: names and labels of clips, and what each fold tests."""
    data = SimpleNamespace(clips=KNOWN.clip.to_numpy(), labelled=labelled)
    return SimpleNamespace(data=data, folds=[SimpleNamespace(fold=k, test=rows) for k, rows in enumerate(test)])


def test_a_sample_is_spread_over_clusters_nested_and_always_the_same():
    rng = np.random.default_rng(9)
    labelled = rng.random(N) > 0.1
    of = fake([np.arange(0, N, 2), np.arange(1, N, 2)], labelled)
    large = sample(of, KNOWN, 60)
    chosen = np.concatenate(list(large.values()))
    assert len(chosen) == len(set(chosen)) == 60
    assert labelled[chosen].all()
    counts = np.bincount(KNOWN.cluster[chosen], minlength=8)
    assert counts.max() - counts.min() <= 1  # 60 clips, 8 clusters of about 12 labelled ones
    small = np.concatenate(list(sample(of, KNOWN, 13).values()))
    assert set(small) < set(chosen)
    assert sorted(np.bincount(KNOWN.cluster[small], minlength=8)) == [1, 1, 1, 2, 2, 2, 2, 2]
    for fold in of.folds:
        assert set(large[fold.fold]) <= set(fold.test)
    again = sample(fake([f.test[::-1] for f in of.folds], labelled), KNOWN, 60)
    assert {k: set(v) for k, v in again.items()} == {k: set(v) for k, v in large.items()}


def test_small_clusters_give_all_they_have_and_none_is_everything():
    cluster = np.where(np.arange(N) < 4, 0, 1)
    known = dataclasses.replace(KNOWN, cluster=cluster)
    of = fake([np.arange(N)], np.ones(N, bool))
    chosen = sample(of, known, 30)[0]
    assert np.bincount(cluster[chosen]).tolist() == [4, 26]
    assert len(sample(of, known, 10 * N)[0]) == N
    unlabelled = fake([np.arange(N)], np.zeros(N, bool))
    np.testing.assert_array_equal(sample(unlabelled, known, None)[0], np.arange(N))
    with pytest.raises(ValueError, match="n_clips=0"):
        sample(of, known, 0)


def test_a_clip_that_several_folds_test_is_sampled_once_and_tested_by_all():
    of = fake([np.arange(20), np.arange(20)], np.ones(N, bool))
    found = sample(of, KNOWN, 7)
    np.testing.assert_array_equal(found[0], found[1])
    assert len(found[0]) == 7


def test_predicted_clips_are_the_models_own_out_of_fold_predictions(subjects, sounding):
    of = subjects["table"]
    known = units(sounding.read("clips"), sounding.read("labels"))
    found = predicted(of, known, sample(of, known, None))
    whole = of.out_of_fold()
    rows = pd.Index(SOUNDING).get_indexer(known.clip[found.clip])
    assert len(rows) == len(SOUNDING)
    np.testing.assert_array_equal(found.pred, whole[rows])
    assert (found.subject, found.split, found.repeat, found.tuning) == ("table|0", "cluster", 0, "fixed")
    some = sample(of, known, 3)
    altered = dataclasses.replace(of.data, features=of.data.features + 1)
    shifted = predicted(of, known, some, altered)
    assert len(shifted.clip) == 3
    assert not np.isin(shifted.pred, found.pred).any()
