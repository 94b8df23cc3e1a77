"""Weighted ensembles against arithmetic on tables made by hand; the outer level teaches them nothing."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import nnls

from piano_assets.catalogue.comparisons import catalogue
from piano_assets.catalogue.derived import derived_arm_table
from piano_assets.corpus.splits import SPLITS, make_split
from piano_assets.dimensions import NAMES
from piano_assets.ensembles.combine import SAME_OUTER_FOLDS, EnsembleError
from piano_assets.ensembles.recipes import COMPARISON, E1, RECIPES, Recipe, combined
from piano_assets.ensembles.weighted import weighted_members
from piano_assets.ensembles.weights import WEIGHTS
from piano_assets.schemas import TABLES
from piano_assets_tests.ensembles.by_hand import LABELS, N_CLIPS, N_FOLDS, TRUTH, A, B, candidate, labels_of

MEMBERS = {"a": A, "b": B}


def wide(rows: pd.DataFrame, repeat: int, fold: int, role: str) -> pd.DataFrame:
    mine = rows[(rows["repeat"] == repeat) & (rows["fold"] == fold) & (rows["role"] == role)]
    return mine.pivot(index="clip", columns="dimension", values="value")[list(NAMES)]


def test_stacking_weighs_test_predictions_by_what_fits_inner_ones():
    shuffled = {"a": A.sample(frac=1, random_state=1), "b": B}
    got, weights = weighted_members("ensemble.x", "stacking", shuffled, LABELS)
    assert TABLES["predictions"].violations(got) == []
    assert TABLES["ensemble_weights"].violations(weights) == []
    assert (set(got["subject"]), set(got["split"]), len(got)) == ({"ensemble.x"}, {"nested"}, 2 * N_CLIPS * 19)
    truth = LABELS.pivot(index="clip", columns="dimension", values="value")[list(NAMES)]
    for repeat in (0, 1):
        for fold in range(N_FOLDS):
            inner, test = ([wide(m, repeat, fold, role) for m in (A, B)] for role in ("valid", "test"))
            for d in (NAMES[3], NAMES[11]):
                want = nnls(np.stack([x[d] for x in inner], 1), truth.loc[inner[0].index, d])[0]
                mine = weights[(weights["repeat"] == repeat) & (weights["fold"] == fold) & (weights["dimension"] == d)]
                np.testing.assert_allclose(mine.set_index("member")["weight"].loc[["a", "b"]], want, rtol=1e-9)
                value = wide(got, repeat, fold, "test")[d]
                np.testing.assert_allclose(value, want[0] * test[0][d] + want[1] * test[1][d], rtol=1e-6)


def test_the_spread_is_the_weighted_standard_deviation_and_that_of_all_where_one_member_has_all_the_weight():
    got, weights = weighted_members("e", "stacking_shared", MEMBERS, LABELS)
    w = weights[(weights["repeat"] == 0) & (weights["fold"] == 1)].set_index("member")["weight"]
    share = w / w.sum()
    a, b = (wide(m, 0, 1, "test") for m in (A, B))
    mine = got[(got["repeat"] == 0) & (got["fold"] == 1)].pivot(index="clip", columns="dimension", values="std")
    np.testing.assert_allclose(mine[NAMES[4]], np.sqrt(share["a"] * share["b"]) * abs(a - b)[NAMES[4]], rtol=1e-5)
    perfect = candidate("a", 0)
    truth = labels_of(TRUTH).set_index(["clip", "dimension"])["value"]
    perfect["value"] = truth.reindex(pd.MultiIndex.from_frame(perfect[["clip", "dimension"]])).to_numpy()
    got, weights = weighted_members("e", "greedy", {"a": perfect, "b": B}, LABELS)
    assert set(weights[weights["member"] == "b"]["weight"]) == {0.0}
    p, b = wide(perfect, 0, 0, "test"), wide(B, 0, 0, "test")
    mine = got[(got["repeat"] == 0) & (got["fold"] == 0)].pivot(index="clip", columns="dimension", values="std")
    np.testing.assert_allclose(mine[NAMES[2]], abs(p - b)[NAMES[2]] / 2, rtol=1e-5)


@pytest.mark.parametrize("combine", WEIGHTS)
def test_labels_of_clips_that_a_fold_tests_change_nothing_of_it(combine):
    before, _ = weighted_members("e", combine, MEMBERS, LABELS)
    tested = set(A[(A["fold"] == 1) & (A["role"] == "test")]["clip"])
    lied = LABELS.assign(value=LABELS["value"].where(~LABELS["clip"].isin(tested), 0.123))
    after, _ = weighted_members("e", combine, MEMBERS, lied)
    of_fold = [x[x["fold"] == 1].sort_values(["repeat", "clip", "dimension"])["value"] for x in (before, after)]
    np.testing.assert_array_equal(*of_fold)
    others = [x[x["fold"] != 1].sort_values(["repeat", "clip", "dimension"])["value"] for x in (before, after)]
    assert (others[0].to_numpy() != others[1].to_numpy()).any(), "they teach other folds"


def test_outer_out_of_fold_predictions_are_refused_as_a_teacher():
    outer = {c: rows[rows["inner_fold"].isna()] for c, rows in MEMBERS.items()}
    with pytest.raises(EnsembleError, match="e: no inner predictions of a, b in repeat 0, fold 0"):
        weighted_members("e", "stacking", outer, LABELS)
    # Nor do they pass for inner ones: what a fold tests must not teach it.
    false = {
        c: pd.concat([rows, rows.assign(role="valid", inner_fold=pd.array([0] * len(rows), "Int32"))])
        for c, rows in outer.items()
    }
    with pytest.raises(EnsembleError, match="inner predictions of repeat 0, fold 0 are of clips that it tests"):
        weighted_members("e", "stacking", false, LABELS)


def test_an_unknown_rule_and_a_single_member_are_refused():
    with pytest.raises(EnsembleError, match=r"combine='median' must be one of \('mean', 'stacking'"):
        weighted_members("e", "median", MEMBERS, LABELS)
    with pytest.raises(EnsembleError, match="at least two members"):
        weighted_members("e", "greedy", {"a": A}, LABELS)
    with pytest.raises(ValueError, match="combine='median'"):
        Recipe(members=("a", "b"), description="", combine="median")


def test_a_result_stands_on_the_split_that_has_the_same_folds():
    got, weights = combined(
        "e", Recipe(members=("a", "b"), description="", combine="greedy", split="cluster"), MEMBERS, LABELS
    )
    assert set(got["split"]) == set(weights["split"]) == {"cluster"}
    plain = {c: rows[rows["inner_fold"].isna()] for c, rows in MEMBERS.items()}
    on_cluster = plain["b"].assign(split="cluster")
    recipe = Recipe(members=("a", "b"), description="", split="cluster", seeds=1)
    got, _ = combined("e", recipe, {"a": plain["a"], "b": on_cluster}, LABELS)
    want, _ = combined("e", Recipe(members=("a", "b"), description=""), plain, LABELS)
    assert (set(got["split"]), set(got["repeat"])) == ({"cluster"}, {0})
    np.testing.assert_array_equal(got["value"], want[want["repeat"] == 0]["value"])
    for combine in ("mean", "greedy"):
        with pytest.raises(EnsembleError, match="folds of split 'nested' are not those of 'performer'"):
            combined(
                "e", Recipe(members=("a", "b"), description="", combine=combine, split="performer"), MEMBERS, LABELS
            )


@pytest.mark.parametrize(("own", "other"), SAME_OUTER_FOLDS.items())
def test_splits_that_are_said_to_have_the_same_folds_have_them(own, other):
    clips = pd.DataFrame({"clip": [f"c{i:03d}" for i in range(120)]})
    clips = clips.assign(cluster=[f"k{i % 23}" for i in range(120)], excerpt="e", performer="p", composer="x")
    nothing = pd.DataFrame()
    a, b = (make_split(name, clips, nothing, nothing, nothing) for name in (own, other))
    a = a[a["inner_fold"].isna()]
    columns = ["repeat", "fold", "clip", "role"]
    pd.testing.assert_frame_equal(*(x[columns].sort_values(columns).reset_index(drop=True) for x in (a, b)))


def test_every_recipe_of_the_comparison_can_be_made_and_stands_on_its_protocol():
    trials = catalogue()
    assert {
        "single",
        "deep_ensemble",
        "bagging",
        "boosting",
        "stacking",
        "snapshot",
        "test_time_augmentation",
        "mixed",
    } <= set(COMPARISON.arms)
    assert COMPARISON.arms["single"] == COMPARISON.reference
    assert set(COMPARISON.configs) <= set(trials)
    arms = derived_arm_table([COMPARISON]).set_index("arm")
    for name, recipe in E1.items():
        of = [trials[m] for m in recipe.members]
        assert {recipe.split or t.split for t in of} == {COMPARISON.split}
        assert {t.label_rule for t in of} == {COMPARISON.label_rule}
        assert set(recipe.members) <= set(COMPARISON.configs)
        if recipe.combine != "mean":
            assert all(SPLITS[t.split].n_inner_folds for t in of), f"{name} learns weights from inner folds"
        if len(recipe.members) == 1:
            assert of[0].several, f"{name}: one member must have a spread"
        assert arms.at[name, "config"] == f"ensemble.{name}"
    assert set(E1) <= set(RECIPES)
