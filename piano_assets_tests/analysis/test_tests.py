"""The table of tests: planted differences, planted nulls, and comparisons that must be refused."""

import numpy as np
import pandas as pd
import pytest

from piano_assets.analysis.pairs import Pair, UnfairComparison, shared
from piano_assets.analysis.panel import Block, PredictionError
from piano_assets.analysis.secondary import SECONDARY
from piano_assets.analysis.tests import comparison_tests
from piano_assets.dimensions import NAMES
from piano_assets.metrics.regression import pearson, r2
from piano_assets.schemas import TABLES
from piano_assets_tests.analysis import world

RNG = np.random.default_rng(21)
CLIPS = world.clips(24, 12)
LABELS, VALUE = world.labels(CLIPS, RNG)
SPLITS = world.splits(CLIPS)


def noisy(spread: float) -> np.ndarray:
    return (VALUE + RNG.normal(0, spread, VALUE.shape)).astype(np.float32)


BASE = noisy(0.10)
PREDICTED = {
    "ref": BASE,
    "good": noisy(0.06),
    "bad": noisy(0.20),
    "twin": (BASE + RNG.normal(0, 0.001, VALUE.shape)).astype(np.float32),
}
ALL_TRIALS = {
    name: world.varied(world.TABULAR, model=world.Tabular(regressor=f"r_{name}"))
    for name in [*PREDICTED, "same", "gone"]
}
ALL_TRIALS["elsewhere"] = world.varied(world.TABULAR, split="random")
COMPARISONS = pd.DataFrame(
    {"comparison": ["c"], "hypothesis": ["h"], "reference": ["ref"], "search": ["{}"], "margin": [0.02]}
    | {"split": [None], "rule": [None]}
)
RUNS = pd.DataFrame({"config": [], "seed": [], "device": [], "precision": [], "status": []}, dtype=object)


def arm_frame(*names: str) -> pd.DataFrame:
    return pd.DataFrame([{"comparison": "c", "arm": n, "config": n, "is_reference": n == "ref"} for n in names])


def predicted(**of: np.ndarray) -> pd.DataFrame:
    return pd.concat(
        world.predict(f"{name}|{r}", SPLITS, CLIPS, x, repeats=(r,)) for name, x in of.items() for r in (0, 1)
    )


def run(arms: pd.DataFrame, predictions: pd.DataFrame, trials=None, runs=RUNS, others=()):
    subjects = world.subjects(*sorted(predictions["subject"].unique()))
    tables = (subjects, predictions, LABELS, CLIPS, SPLITS)
    known = world.trials(**(trials or ALL_TRIALS))
    return comparison_tests(COMPARISONS, arms, known, runs, *tables, rng=np.random.default_rng(0), others=others)


@pytest.fixture(scope="module")
def result() -> tuple[pd.DataFrame, pd.DataFrame]:
    arms = arm_frame("ref", "good", "bad", "twin", "same", "gone", "elsewhere")
    return run(arms, predicted(**PREDICTED, same=BASE))


def primary(tests: pd.DataFrame) -> pd.DataFrame:
    return tests[tests["is_primary"]].set_index("arm")


def test_conforms(result):
    TABLES["tests"].conform(result[0])


def test_planted_differences_are_found(result):
    assert primary(result[0])["verdict"].to_dict() == {"good": "better", "bad": "worse", "twin": "equivalent"}


def test_estimates_are_plain_differences(result):
    tests = result[0]
    row = primary(tests).loc["good"]
    want = np.mean(pearson(PREDICTED["good"], VALUE) - pearson(BASE, VALUE))
    assert row["estimate"] == pytest.approx(want, rel=1e-9)
    chosen = tests[(tests["arm"] == "good") & (tests["metric"] == "r2_pooled") & (tests["population"] == "all")]
    got = chosen.set_index("level").at["global", "estimate"]
    assert got == pytest.approx(np.mean(r2(PREDICTED["good"], VALUE) - r2(BASE, VALUE)), rel=1e-9)
    per_dimension = tests[(tests["arm"] == "good") & (tests["dimension"] == NAMES[7])]
    want = (pearson(PREDICTED["good"], VALUE) - pearson(BASE, VALUE))[7]
    assert per_dimension["estimate"].tolist() == [pytest.approx(want, rel=1e-9)] * 2
    assert per_dimension["test"].tolist() == ["two_way_t", "zou_interval"]


def test_the_primary_test_and_its_company(result):
    tests = result[0]
    row = primary(tests).loc["twin"]
    assert (row["test"], row["unit"], row["n_units"], row["n_seeds"], row["margin"]) == (
        "two_way_t", "performer", 12, 2, 0.02)  # fmt: skip
    assert row["ci_low"] < row["estimate"] < row["ci_high"]
    company = tests[(tests["arm"] == "twin") & (tests["metric"] == "pearson_mean") & (tests["dimension"] == "mean")]
    views = company.groupby(["population", "level"])["test"].agg(set)
    assert len(views) == 4
    assert all(found == {"two_way_t", *SECONDARY} for found in views)
    assert company[company["test"] != "two_way_t"]["p_tost"].isna().all()
    margins = tests.groupby("metric")["margin"].first().to_dict()
    assert margins == {"pearson_mean": 0.02, "r2_pooled": 0.03}


def test_correction_counts_the_arms_of_the_comparison(result):
    rows = primary(result[0])
    np.testing.assert_allclose(rows["p_bonferroni"], (3 * rows["p"]).clip(upper=1), rtol=1e-9)
    assert (rows["p"] <= rows["p_holm"]).all()
    assert (rows["p_holm"] <= rows["p_bonferroni"]).all()


def test_what_cannot_be_tested_is_listed_with_its_reason(result):
    reasons = result[1].groupby("arm")["reason"].first().to_dict()
    assert "no complete predictions of gone" in reasons["gone"]
    assert "not the reference's protocol (cluster, clean)" in reasons["elsewhere"]
    assert "predictions are the reference's" in reasons["same"]
    assert set(reasons) == {"gone", "elsewhere", "same"}


def test_only_shared_seeds_are_compared():
    predictions = pd.concat(
        [predicted(ref=BASE), world.predict("good|1", SPLITS, CLIPS, PREDICTED["good"], repeats=(1,))]
    )
    tests, _ = run(arm_frame("ref", "good"), predictions)
    assert set(tests["n_seeds"]) == {1}


def test_tuned_predictions_are_compared_only_where_both_are_tuned():
    fixed = predicted(ref=BASE, good=PREDICTED["good"])
    tuned = predicted(good=PREDICTED["bad"]).assign(tuning="tuned")
    tests, _ = run(arm_frame("ref", "good"), pd.concat([fixed, tuned]))
    assert set(tests["tuning"]) == {"fixed"}
    assert primary(tests).loc["good", "estimate"] > 0
    reference = predicted(ref=BASE).assign(tuning="tuned")
    tests, _ = run(arm_frame("ref", "good"), pd.concat([fixed, tuned, reference]))
    assert set(tests["tuning"]) == {"tuned"}
    assert primary(tests).loc["good", "estimate"] < 0


NEURAL_PAIR = ALL_TRIALS | {"ref": world.NEURAL, "bad": world.varied(world.NEURAL, model=world.Encoder(depth=1))}


def ran(**where: list[str]) -> pd.DataFrame:
    """Runs of ref and bad, two seeds each, in this order."""
    runs = pd.DataFrame({"config": ["ref", "ref", "bad", "bad"], "seed": [0, 1, 0, 1], "status": "finished"})
    return runs.assign(**({"device": "cuda:1", "precision": "bfloat16"} | where))


def test_networks_of_another_budget_are_not_tested():
    trials = NEURAL_PAIR | {"bad": world.varied(world.NEURAL, budget="smoke")}
    tests, untested = run(arm_frame("ref", "good", "bad"), predicted(**PREDICTED), trials)
    assert untested[["arm", "reason"]].to_numpy().tolist() == [
        ["bad", "trained at budget smoke, the reference at full"]
    ]
    # A tabular arm beside neural ones is what the comparison of families is about.
    assert set(tests["arm"]) == {"good"}


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        (
            {"device": ["cuda:0", "cuda:0", "cpu", "cpu"]},
            "repeat 0 was trained on cpu in bfloat16, the reference on cuda in bfloat16; repeat 1 was trained on cpu",
        ),
        (
            {"precision": ["bfloat16", "bfloat16", "float32", "float32"]},
            "repeat 0 was trained on cuda in float32, the reference on cuda in bfloat16; repeat 1 ",
        ),
    ],
)
def test_networks_of_other_machines_are_not_tested(where, reason):
    arms, predictions = arm_frame("ref", "good", "bad"), predicted(**PREDICTED)
    tests, untested = run(arms, predictions, NEURAL_PAIR, ran(**where))
    assert set(tests["arm"]) == {"good"}
    assert untested["reason"].iloc[0].startswith(reason)


def test_only_repeats_of_like_machines_are_paired():
    arms, predictions = arm_frame("ref", "bad"), predicted(**PREDICTED)
    tests, untested = run(arms, predictions, NEURAL_PAIR, ran(device=["cuda:0", "cpu", "cpu", "cpu"]))
    assert (set(tests["n_seeds"]), len(untested)) == ({1}, 0)
    second = predictions[predictions["subject"].str.endswith("|1")]
    alone, _ = run(arms, second, NEURAL_PAIR, ran(device=["cpu"] * 4))
    pd.testing.assert_frame_equal(tests, alone)


def test_devices_of_one_class_may_be_compared():
    runs = ran(device=["cuda:0", "cuda:1", "cuda:1", "cuda:0"])
    tests, untested = run(arm_frame("ref", "bad"), predicted(**PREDICTED), NEURAL_PAIR, runs)
    assert (set(tests["n_seeds"]), len(untested)) == ({2}, 0)


CUDA, CPU = "cuda in bfloat16", "cpu in bfloat16"
APART = {"device": ["cuda:0", "cuda:0", "cpu", "cpu"]}
"""Where what is shown was trained: the reference on a GPU, the arm on a CPU."""


def estimate(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.mean(pearson(a, VALUE) - pearson(b, VALUE)))


def test_another_way_of_training_makes_a_pair():
    """The reference was trained on a CPU as well: there it is compared, with what it predicted there."""
    arms, predictions, elsewhere = arm_frame("ref", "bad", "good"), predicted(**PREDICTED), noisy(0.09)
    others = [(CPU, predicted(ref=elsewhere))]
    tests, untested = run(arms, predictions, NEURAL_PAIR, ran(**APART), others)
    assert untested.empty
    found = primary(tests)
    assert found["machine"].to_dict() == {"bad": CPU, "good": CUDA}
    assert found.loc["bad", "estimate"] == pytest.approx(estimate(PREDICTED["bad"], elsewhere), rel=1e-9)
    # A tabular arm goes with the reference as it is shown.
    assert found.loc["good", "estimate"] == pytest.approx(estimate(PREDICTED["good"], BASE), rel=1e-9)
    TABLES["tests"].conform(tests)


def test_what_is_shown_is_preferred_to_what_was_trained_elsewhere():
    others = [(CPU, predicted(ref=noisy(0.3), bad=noisy(0.3)))]
    tests, _ = run(arm_frame("ref", "bad"), predicted(**PREDICTED), NEURAL_PAIR, ran(), others)
    assert primary(tests).loc["bad", "estimate"] == pytest.approx(estimate(PREDICTED["bad"], BASE), rel=1e-9)
    assert set(tests["machine"]) == {CUDA}


def test_the_first_common_way_is_taken_repeat_by_repeat():
    """Two other ways; the second repeat of the reference is in the second one only."""
    first, second = predicted(ref=noisy(0.09)), predicted(ref=noisy(0.09), bad=noisy(0.15))
    others = [(CPU, first[first["repeat"] == 0]), ("cpu in float32", second)]
    tests, untested = run(arm_frame("ref", "bad"), predicted(**PREDICTED), NEURAL_PAIR, ran(**APART), others)
    assert (set(tests["n_seeds"]), len(untested)) == ({2}, 0)
    assert set(tests["machine"]) == {"cpu in bfloat16 and cpu in float32"}


def test_an_incomplete_other_way_makes_no_pair_and_is_named():
    some = predicted(ref=noisy(0.09))
    some = some[some["clip"] != "c0e0p0"]
    others = [(CPU, some), ("cuda in float32", predicted(ref=noisy(0.09)))]
    tests, untested = run(arm_frame("ref", "bad"), predicted(**PREDICTED), NEURAL_PAIR, ran(**APART), others)
    assert tests.empty
    assert untested["reason"].iloc[0] == "; ".join(
        f"repeat {r} was trained on cpu in bfloat16, the reference on cuda in bfloat16 or cuda in float32"
        for r in (0, 1)
    )


def test_an_arm_that_was_only_trained_elsewhere_is_compared_there():
    shown = predicted(ref=BASE)
    other = predicted(ref=noisy(0.09), bad=PREDICTED["bad"])
    subjects = world.subjects(*sorted(other["subject"].unique()))
    tests, untested = comparison_tests(
        COMPARISONS,
        arm_frame("ref", "bad"),
        world.trials(**NEURAL_PAIR),
        ran().iloc[:2],
        subjects,
        shown,
        LABELS,
        CLIPS,
        SPLITS,
        rng=np.random.default_rng(0),
        others=[(CPU, other)],
    )
    assert (set(tests["machine"]), len(untested)) == ({CPU}, 0)


def test_tabular_pairs_have_no_machine():
    tests, _ = run(arm_frame("ref", "good"), predicted(ref=BASE, good=PREDICTED["good"]), runs=ran())
    assert tests["machine"].isna().all()


def test_sides_with_other_clips_are_refused():
    """Complete blocks of one split are alike by construction: this guards against those that are not."""
    pair = Pair("c", "good", "good", "ref", "cluster", "clean", 0.02)
    fold, clip = np.zeros(4, int), np.arange(4)
    sides = [
        Block(f"{name}|0", "cluster", "fixed", 0, fold[:n], clip[:n], VALUE[:n])
        for name, n in (("good", 4), ("ref", 3))
    ]
    by_arm = {("good", "cluster", "fixed"): sides[:1], ("ref", "cluster", "fixed"): sides[1:]}
    with pytest.raises(UnfairComparison, match=r"c\.good, split 'cluster', repeat 0: tested on 4 clips, .* on 3"):
        shared(by_arm, pair)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: pd.concat([p, p[p["clip"] == "c0e0p0"]]), r"'good\|0', split 'cluster', repeat 0.*19 .*twice"),
        (lambda p: p.assign(value=p["value"].mask(p["clip"] == "c0e0p0")), r"'good\|0', split 'cluster'.*not finite"),
    ],
)
def test_broken_predictions_are_refused(change, message):
    shown = predicted(ref=BASE)
    with pytest.raises(PredictionError, match=message):
        run(arm_frame("ref", "good"), pd.concat([shown, change(predicted(good=PREDICTED["good"]))]))
    with pytest.raises(PredictionError, match=message):
        run(
            arm_frame("ref", "good"),
            pd.concat([shown, predicted(good=PREDICTED["good"])]),
            others=[(CPU, change(predicted(good=PREDICTED["good"])))],
        )


def test_a_missing_fold_leaves_a_repeat_out_and_names_what_is_missing():
    good = predicted(good=PREDICTED["good"])
    one = good[~((good["repeat"] == 1) & (good["fold"] == 2))]
    tests, _ = run(arm_frame("ref", "good"), pd.concat([predicted(ref=BASE), one]))
    assert set(tests["n_seeds"]) == {1}
    tests, untested = run(arm_frame("ref", "good"), pd.concat([predicted(ref=BASE), good[good["fold"] != 2]]))
    assert tests.empty
    assert untested["reason"].tolist() == ["no complete predictions of good"]


def test_constant_predictions_and_a_lone_cluster_are_named():
    tests, untested = run(arm_frame("ref", "good"), predicted(ref=BASE, good=np.full(VALUE.shape, 0.5)))
    assert set(tests["metric"]) == {"r2_pooled"}
    assert "mean: undefined (constant predictions)" in set(untested[untested["metric"] == "pearson_mean"]["reason"])
    alone = CLIPS.assign(cluster="c0")
    subjects = world.subjects("ref|0", "ref|1", "good|0", "good|1")
    known = world.trials(**ALL_TRIALS)
    tables = (subjects, predicted(ref=BASE, good=PREDICTED["good"]), LABELS, alone, SPLITS)
    tests, untested = comparison_tests(
        COMPARISONS, arm_frame("ref", "good"), known, RUNS, *tables, rng=np.random.default_rng(0)
    )
    assert tests.empty
    assert set(untested["reason"].str.partition(": ")[2]) == {"only one cluster was scored"}


DERIVED = COMPARISONS.assign(split="cluster", rule="clean")


def derived(predictions: pd.DataFrame, reference: str = "ref", *arms: str, split: str = "cluster"):
    """(tests, untested) of a comparison whose arms are subjects made from trials."""
    rows = [{"comparison": "c", "arm": a, "config": a, "is_reference": False} for a in arms]
    subjects = world.subjects(*sorted(predictions["subject"].unique()))
    tables = (subjects, predictions, LABELS, CLIPS, SPLITS)
    of = DERIVED.assign(reference=reference, split=split)
    return comparison_tests(
        of, pd.DataFrame(rows), world.trials(**ALL_TRIALS), RUNS, *tables, rng=np.random.default_rng(0)
    )


def test_what_is_made_from_trials_is_tested_against_a_trial_or_another_such():
    made = pd.concat(
        [
            predicted(ref=BASE),
            world.predict("ensemble.x", SPLITS, CLIPS, PREDICTED["good"]),
            world.predict("adaptation.y", SPLITS, CLIPS, PREDICTED["bad"]),
        ]
    )
    tests, untested = derived(made, "ref", "ensemble.x", "adaptation.y")
    assert untested.empty
    assert TABLES["tests"].violations(tests) == []
    rows = primary(tests)
    assert rows["verdict"].to_dict() == {"ensemble.x": "better", "adaptation.y": "worse"}
    assert set(rows["n_seeds"]) == {2}
    assert rows["machine"].isna().all()
    want = np.mean(pearson(PREDICTED["good"], VALUE) - pearson(BASE, VALUE))
    assert rows.at["ensemble.x", "estimate"] == pytest.approx(want, rel=1e-9)
    turned, _ = derived(made, "adaptation.y", "ensemble.x")
    want = np.mean(pearson(PREDICTED["good"], VALUE) - pearson(PREDICTED["bad"], VALUE))
    assert primary(turned).at["ensemble.x", "estimate"] == pytest.approx(want, rel=1e-9)


def test_an_ensemble_of_tuned_members_meets_a_tuned_reference_though_it_is_not_tuned_itself():
    made = pd.concat(
        [
            predicted(ref=PREDICTED["bad"]),
            predicted(ref=BASE).assign(tuning="tuned"),
            world.predict("ensemble.x", SPLITS, CLIPS, PREDICTED["good"]),
        ]
    )
    row = primary(derived(made, "ref", "ensemble.x")[0]).loc["ensemble.x"]
    want = np.mean(pearson(PREDICTED["good"], VALUE) - pearson(BASE, VALUE))
    assert row["estimate"] == pytest.approx(want, rel=1e-9)
    assert row["tuning"] == "fixed"


def test_a_subject_without_predictions_or_on_another_split_is_named():
    made = pd.concat([predicted(ref=BASE), world.predict("ensemble.x", SPLITS, CLIPS, PREDICTED["good"])])
    _, untested = derived(made, "ref", "ensemble.gone")
    assert untested["reason"].tolist() == ["no complete predictions of ensemble.gone"]
    tests, untested = derived(made, "ref", "ensemble.x", split="random")
    assert tests.empty
    assert "no repeat and tuning" in untested["reason"].item()
