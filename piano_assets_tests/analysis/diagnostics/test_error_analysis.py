"""The error analysis of a corpus whose errors are known: planted slopes and shares, and brute force for all means."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from piano_assets.analysis.diagnostics.error_analysis import (
    UnknownClips,
    by_clip,
    error_analysis,
    mean_row,
    study,
)
from piano_assets.dimensions import NAMES
from piano_assets.schemas import TABLES
from piano_assets.statistics.clustered import two_way_se
from piano_assets.statistics.mixed import fit_mixed
from piano_assets_tests.analysis import world
from piano_assets_tests.analysis.diagnostics.planted_errors import EXCERPT_SD, PERFORMER_SD, REST_SD, SLOPE, corpus

pytestmark = pytest.mark.xdist_group("planted_errors")  # one worker makes what they share


@pytest.fixture(scope="module")
def analysed():
    found = corpus(np.random.default_rng(8))
    told: list[tuple[int, int]] = []
    rows = error_analysis(*found[:3], progress=lambda *x: told.append(x))
    assert told[-1] == (21, 21)
    return *found, rows


def chosen(rows: pd.DataFrame, **values) -> pd.DataFrame:
    for column, value in values.items():
        rows = rows[rows[column] == value]
    return rows


def test_planted_slopes_and_shares_are_found(analysed):
    """The 19 dimensions are 19 repetitions: means within 4.5 standard errors (wrong alarms in 1 of 30,000 runs)."""
    rows = analysed[-1]
    total = EXCERPT_SD**2 + PERFORMER_SD**2 + REST_SD**2
    wanted = {("residual_slope", "duration"): SLOPE, ("residual_slope", "density"): 0, ("residual_slope", "raters"): 0}
    wanted |= {("residual_share", "rest"): REST_SD**2 / total}
    for (metric, condition), want in wanted.items():
        got = chosen(rows, metric=metric, condition=condition)
        got = got[got["dimension"] != "mean"]["value"]
        assert len(got) == 19
        assert abs(got.mean() - want) < 4.5 * got.std(ddof=1) / np.sqrt(19), (metric, condition)
    # Ratios are biased where 14 performers tell a variance (of chi-square form): shares are checked to .05.
    for part, sd in (("excerpt", EXCERPT_SD), ("performer", PERFORMER_SD)):
        got = chosen(rows, metric="residual_share", condition=part)
        assert got[got["dimension"] != "mean"]["value"].mean() == pytest.approx(sd**2 / total, abs=0.05)


def test_intervals_of_shares_and_slopes_hold_the_truth_mostly(analysed):
    """95 % intervals of 19 dimensions: fewer than 14 hold it in 1 of 10,000 runs."""
    rows, total = analysed[-1], EXCERPT_SD**2 + PERFORMER_SD**2 + REST_SD**2
    for metric, condition, want in (
        ("residual_share", "excerpt", EXCERPT_SD**2 / total),
        ("residual_share", "rest", REST_SD**2 / total),
        ("residual_slope", "duration", SLOPE),
    ):
        got = chosen(rows, metric=metric, condition=condition)
        got = got[got["dimension"] != "mean"]
        assert (got["ci_low"].le(want) & got["ci_high"].ge(want)).sum() >= 14


def test_rows_are_those_of_the_mixed_model_of_each_response(analysed):
    _, clips, labels, residual, rows = analysed
    assert (chosen(rows, metric="rmse_converged")["value"] == 1).all()
    assert (chosen(rows, metric="residual_converged")["value"] == 1).all()
    target = labels.pivot(index="clip", columns="dimension", values="n_raters")
    columns = [
        np.log(clips["duration_s"]), target.mean(axis=1).to_numpy(), clips["deadpan"].astype(float),
        labels.groupby("clip")["standard_error"].mean().to_numpy(), clips["n_notes"] / clips["duration_s"],
        (clips["composer"] == "Beethoven").astype(float),
    ]  # fmt: skip
    x = np.c_[np.ones(len(clips)), *(stats.zscore(np.asarray(c)) for c in columns)]
    groups = {"excerpt": clips["excerpt"].to_numpy(), "performer": clips["performer"].to_numpy()}
    for metric, y, dimension in (
        ("rmse", np.sqrt((residual**2).mean(1)), "mean"),
        ("residual", residual.mean(1), "mean"),
        ("residual", residual[:, 4], NAMES[4]),
    ):
        fit = fit_mixed(y, x, groups, intervals=False)
        got = chosen(rows, metric=f"{metric}_slope", dimension=dimension).set_index("condition")["value"]
        names = ["duration", "raters", "deadpan", "label_error", "density", "composer Beethoven"]
        # Columns of another rounding: the search for the spreads stops at 1e-6.
        np.testing.assert_allclose(got[names], fit.coefficient[1:], rtol=1e-4, atol=1e-8)
        share = chosen(rows, metric=f"{metric}_share", dimension=dimension).set_index("condition")["value"]
        np.testing.assert_allclose(share[list(fit.share)], list(fit.share.values()), atol=1e-4)


def test_means_by_group_are_brute_force_means(analysed):
    _, clips, labels, residual, rows = analysed
    error = pd.Series(np.sqrt((residual**2).mean(1)), clips["clip"])
    of = chosen(rows, metric="mean_rmse").set_index(["condition", "step"])["value"]
    assert of[("all", np.nan)] == pytest.approx(error.mean())
    deadpan = clips["deadpan"].to_numpy()
    assert of[("deadpan", np.nan)] == pytest.approx(error[deadpan].mean())
    assert of[("people", np.nan)] == pytest.approx(error[~deadpan].mean())
    for grouping in ("excerpt", "performer"):
        for name, mean in error.groupby(clips[grouping].to_numpy()).mean().items():
            assert of[(f"{grouping}={name}", np.nan)] == pytest.approx(mean)
    thirds = pd.qcut(clips["duration_s"], 3, labels=False).to_numpy() + 1
    for k in (1, 2, 3):
        assert of[("tercile of duration", k)] == pytest.approx(error[thirds == k].mean())
    raters = labels.drop_duplicates("clip")["n_raters"].to_numpy()
    edges = np.quantile(raters, [1 / 3, 2 / 3])
    assert of[("tercile of rater count", 1)] == pytest.approx(error[raters <= edges[0]].mean())
    assert of[("tercile of rater count", 3)] == pytest.approx(error[raters > edges[1]].mean())
    by_dimension = chosen(rows, metric="dimension_rmse").set_index("dimension")["value"]
    np.testing.assert_allclose(by_dimension[list(NAMES)], np.sqrt((residual**2).mean(0)))
    bias = chosen(rows, metric="bias").set_index("dimension")["value"]
    np.testing.assert_allclose(bias[list(NAMES)], residual.mean(0), atol=1e-12)


def test_interval_of_one_excerpt_is_students_over_its_performers(analysed):
    _, clips, _, residual, rows = analysed
    mine = np.sqrt((residual**2).mean(1))[(clips["excerpt"] == "e05").to_numpy()]
    want = stats.ttest_1samp(mine, 0).confidence_interval()
    row = chosen(rows, metric="mean_rmse", condition="excerpt=e05").iloc[0]
    np.testing.assert_allclose([row["ci_low"], row["ci_high"]], want, rtol=1e-10)


def test_interval_of_one_performers_single_clip_is_unknown():
    assert np.isnan(mean_row(np.array([0.2]), np.zeros(1), np.zeros(1))["ci_low"])


def test_root_mean_square_intervals_are_the_delta_methods(analysed):
    """Of the rows: influence values of the root. Of the method: a bootstrap of independent errors."""
    _, clips, _, residual, rows = analysed
    got = chosen(rows, metric="dimension_rmse").set_index("dimension")
    cluster, performer = (pd.factorize(clips[g])[0] for g in ("cluster", "performer"))
    for d in (0, 7):
        square = residual[:, d] ** 2
        root = np.sqrt(square.mean())
        se, df = two_way_se((square - square.mean())[:, None] / len(square) / (2 * root), cluster, performer)
        half = stats.t.ppf(0.975, df) * se[0]
        row = got.loc[NAMES[d], ["ci_low", "ci_high"]].to_numpy(float)
        np.testing.assert_allclose(row, [root - half, root + half], rtol=1e-9)
    rng, x = np.random.default_rng(2), np.random.default_rng(3).normal(size=400)
    draws = np.sqrt((x[rng.integers(0, 400, (4000, 400))] ** 2).mean(1))
    square = mean_row(x**2, np.arange(400), np.arange(400))
    half = (square["ci_high"] - square["value"]) / (2 * np.sqrt(square["value"]))
    # 4,000 draws tell a standard deviation to 1.1 %; the delta method is right to O(1/n).
    assert half == pytest.approx(stats.t.ppf(0.975, 399) * draws.std(), rel=0.05)


def test_worst_clips_are_ranked_with_their_worst_dimensions(analysed):
    pred, clips, _, residual, rows = analysed
    error = np.sqrt((residual**2).mean(1))
    worst = chosen(rows, metric="rmse").sort_values("step")
    order = np.argsort(-error)[:10]
    assert list(worst["condition"]) == list(clips["clip"].iloc[order])
    np.testing.assert_allclose(worst["value"], error[order])
    first = rows[rows["condition"] == clips["clip"].iloc[order[0]]]
    at = np.argsort(-abs(residual[order[0]]))[:3]
    for metric, want in (("predicted", pred.iloc[order[0]]), ("rated", pred.iloc[order[0]] - residual[order[0]])):
        got = chosen(first, metric=metric).set_index("dimension")["value"]
        assert set(got.index) == {NAMES[d] for d in at}
        for d in at:
            assert got[NAMES[d]] == pytest.approx(want.iloc[d])


def test_rows_fit_the_table(analysed):
    whose = {"subject": "s", "split": "cluster", "rule": "clean", "tuning": "fixed", "probe": "error_analysis"}
    TABLES["diagnostics"].conform(analysed[-1].assign(**whose))


def test_what_does_not_vary_and_models_that_do_not_converge_are_null():
    pred, clips, labels, _ = corpus(np.random.default_rng(9))
    few = clips[clips["excerpt"] < "e06"].assign(deadpan=False, composer="Schubert")
    # Every performer plays one excerpt and every excerpt has one performer: the two cannot be told apart.
    few = few.assign(performer=few["excerpt"])
    mine = labels["clip"].isin(few["clip"])
    rows = error_analysis(pred.loc[few["clip"]], few, labels[mine])
    assert (chosen(rows, metric="residual_converged")["value"] == 0).any()
    stuck = chosen(rows, metric="residual_converged", value=0)["dimension"]
    lost = rows[rows["dimension"].isin(stuck) & rows["metric"].isin(["residual_slope", "residual_share"])]
    assert lost["value"].isna().all()
    assert chosen(rows, condition="deadpan", metric="residual_slope")["value"].isna().all()
    assert "composer Beethoven" not in set(rows["condition"])


def test_clips_without_labels_or_predictions_are_left_out():
    pred, clips, labels, _ = corpus(np.random.default_rng(9))
    pred.iloc[3, 2] = np.nan
    labels = labels[~((labels["clip"] == clips["clip"][5]) & (labels["dimension"] == NAMES[0]))]
    labels.loc[labels["clip"] == clips["clip"][0], "standard_error"] = np.nan
    known, residual = study(pred, clips, labels)
    assert set(clips["clip"]) - set(known["clip"]) == {clips["clip"][3], clips["clip"][5]}
    assert len(residual) == len(known) == len(clips) - 2
    one_rater = known.set_index("clip").loc[clips["clip"][0], "label_error"]
    assert one_rater == pytest.approx(known["label_error"][1:].mean(), rel=1e-3), "neither certain nor uncertain"


def test_refusals():
    pred, clips, labels, _ = corpus(np.random.default_rng(9))
    with pytest.raises(UnknownClips, match=r"lacks 1 clip.*'elsewhere'"):
        error_analysis(pred.rename({clips["clip"][0]: "elsewhere"}), clips, labels)
    with pytest.raises(ValueError, match="labels of one rule"):
        both = pd.concat([labels, labels.assign(rule="published")])
        error_analysis(pred, clips, both)
    with pytest.raises(ValueError, match="errors of 9 clips: at least 10"):
        error_analysis(pred.iloc[:9], clips, labels)


def test_by_clip_averages_folds_and_refuses_mixtures():
    rng = np.random.default_rng(1)
    clips = world.clips()
    value = rng.uniform(size=(len(clips), 19))
    one = world.predict("a|0", world.splits(clips), clips, value, repeats=(0,))
    two = world.predict("a|0", world.splits(clips), clips, value + 1, repeats=(1,))
    wide = by_clip(pd.concat([one, two, one.assign(role="valid", value=9.0)]))
    np.testing.assert_allclose(wide.loc[clips["clip"]], value + 0.5)
    assert list(wide.columns) == list(NAMES)
    with pytest.raises(ValueError, match="one subject are wanted, got 2"):
        by_clip(pd.concat([one, two.assign(subject="b|0")]))
