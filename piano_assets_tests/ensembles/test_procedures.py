"""Procedures against brute force on tables made by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from piano_assets.catalogue.comparisons import catalogue
from piano_assets.corpus.splits import SPLITS
from piano_assets.dimensions import NAMES
from piano_assets.ensembles.combine import EnsembleError
from piano_assets.ensembles.procedures import PREFIX, PROCEDURES, Procedure, run_procedure
from piano_assets.ensembles.weights import WEIGHTS, best_inner_r
from piano_assets.schemas import TABLES
from piano_assets_tests.ensembles.by_hand import (
    FOLD_OF,
    LABELS,
    N_CLIPS,
    N_FOLDS,
    TRUTH,
    A,
    B,
    candidate,
    labels_of,
)

TWO = Procedure(candidates=("a", "b"), description="Two.")
KEY = ["clip", "dimension", "value"]


def inner_r(rows: pd.DataFrame, repeat: int, fold: int) -> float:
    """Mean over dimensions of scipy's r over all inner predictions of a fold."""
    mine = rows[(rows["repeat"] == repeat) & (rows["fold"] == fold) & rows["inner_fold"].notna()]
    wide = mine.pivot(index="clip", columns="dimension", values="value")
    truth = LABELS.pivot(index="clip", columns="dimension", values="value").loc[wide.index]
    return float(np.mean([stats.pearsonr(wide[d], truth[d])[0] for d in NAMES]))


def test_the_better_inner_r_is_chosen_in_each_fold_and_its_test_predictions_taken():
    shuffled = B.sample(frac=1, random_state=0)
    got, weights = run_procedure("x", TWO, {"b": shuffled, "a": A}, LABELS)
    assert TABLES["predictions"].violations(got) == []
    assert TABLES["ensemble_weights"].violations(weights) == []
    assert set(got["subject"]) == set(weights["ensemble"]) == {"procedure.x"}
    assert (set(got["tuning"]), set(got["role"]), set(got["split"])) == ({"tuned"}, {"test"}, {"nested"})
    assert got["inner_fold"].isna().all()
    assert len(got) == 2 * N_CLIPS * 19
    seen = set()
    for repeat in (0, 1):
        for fold in range(N_FOLDS):
            best, rows = max((("a", A), ("b", B)), key=lambda c: inner_r(c[1], repeat, fold))
            seen.add(best)

            def mine(of: pd.DataFrame, repeat: int = repeat, fold: int = fold) -> pd.DataFrame:
                of = of[(of["repeat"] == repeat) & (of["fold"] == fold) & (of["role"] == "test")]
                return of[KEY].sort_values(KEY[:2]).reset_index(drop=True).astype({"value": "float32"})

            pd.testing.assert_frame_equal(mine(got), mine(rows), check_exact=True)
            row = weights[(weights["repeat"] == repeat) & (weights["fold"] == fold) & (weights["weight"] > 0)]
            assert row[["member", "weight", "dimension"]].to_numpy().tolist() == [[best, 1.0, "mean"]]
    assert seen == {"a", "b"}


def test_labels_of_tested_clips_do_not_enter_the_choice_of_their_fold():
    _, weights = run_procedure("x", TWO, {"a": A, "b": B}, LABELS)
    for fold in range(N_FOLDS):
        other = np.where((fold == FOLD_OF)[:, None], 1 - TRUTH, TRUTH)
        _, again = run_procedure("x", TWO, {"a": A, "b": B}, labels_of(other))
        same = weights["fold"] == fold
        pd.testing.assert_frame_equal(again[same], weights[same])


def test_unlabelled_clips_are_predicted_and_do_not_enter_the_choice():
    few = LABELS[~LABELS["clip"].isin(["clip00", "clip01"])].iloc[1:]  # and one clip lacks one dimension
    got, weights = run_procedure("x", TWO, {"a": A, "b": B}, few)
    assert len(got) == 2 * N_CLIPS * 19
    assert len(weights) == 2 * 2 * N_FOLDS


def test_tuned_predictions_are_taken_where_a_candidate_has_them():
    tuned = candidate("a", 5, tuning="tuned")
    got = run_procedure("x", TWO, {"a": pd.concat([A, tuned]), "b": B}, LABELS)
    want = run_procedure("x", TWO, {"a": tuned, "b": B}, LABELS)
    for one, other in zip(got, want, strict=True):
        pd.testing.assert_frame_equal(one, other)


def test_only_repeats_that_all_candidates_have_enter():
    got, weights = run_procedure("x", TWO, {"a": A, "b": candidate("b", 1, repeats=(1,))}, LABELS)
    assert set(got["repeat"]) == set(weights["repeat"]) == {1}


def test_equal_candidates_go_to_the_first_and_constant_ones_count_as_nothing():
    pred = np.random.default_rng(0).random((10, 19))
    flat = np.full((10, 19), 0.5)
    assert best_inner_r(np.stack([pred, 2 * pred]), pred).tolist() == [1, 0]
    assert best_inner_r(np.stack([flat, -pred, pred]), pred).tolist() == [0, 0, 1]
    assert best_inner_r(np.stack([-pred, flat]), pred).tolist() == [0, 1]


def leaking() -> pd.DataFrame:
    """Candidate b, but an inner prediction of a clip that the fold tests."""
    row = (B["repeat"] == 0) & (B["fold"] == 0) & B["inner_fold"].notna() & (B["clip"] == "clip01")
    return B.assign(clip=B["clip"].where(~row, "clip00"))


def plus_leak(rows: pd.DataFrame) -> pd.DataFrame:
    more = rows[(rows["role"] == "test") & (rows["clip"] == "clip00")].assign(role="valid", inner_fold=0)
    return pd.concat([rows, more.astype({"inner_fold": "Int32"})], ignore_index=True)


@pytest.mark.parametrize(
    ("candidates", "message"),
    [
        ({"a": A}, r"among \('a', 'b'\), at least two \(has \('a',\)\)"),
        ({"a": A, "c": B}, r"\(has \('a', 'c'\)\)"),
        ({"a": A, "b": B.assign(split="cluster")}, "one split"),
        ({"a": A, "b": candidate("b", 1, repeats=(3,))}, "no repeat that all members have"),
        ({"a": A[A["inner_fold"].isna()], "b": B}, "no inner predictions of a in repeat 0, fold 0"),
        ({"a": A[A["clip"] != "clip03"], "b": B}, r"of [ab] in repeat 0, fold 0 must be of the clips of the others"),
        ({"a": A.iloc[1:], "b": B}, r"test predictions of a in repeat 0, fold 0 .* \(7 clips against 8\)"),
        ({"a": pd.concat([A, A.iloc[:1]]), "b": B}, "a predicts clip 'clip00' twice in repeat 0, fold 0"),
        ({"a": plus_leak(A), "b": plus_leak(B)}, "1 inner predictions of repeat 0, fold 0 are of clips that it tests"),
        ({"a": A, "b": leaking()}, "inner predictions of b in repeat 0, fold 0 must be of the clips of the others"),
    ],
)
def test_candidates_that_do_not_fit_are_refused(candidates, message):
    with pytest.raises(EnsembleError, match=message):
        run_procedure("x", TWO, candidates, LABELS)


def test_wrong_rules_are_refused():
    with pytest.raises(EnsembleError, match=r"rule='lucky' must be one of \('stacking', .*'best_inner_r'\)"):
        run_procedure("x", Procedure(candidates=("a", "b"), description="", rule="lucky"), {"a": A, "b": B}, LABELS)
    both = pd.concat([LABELS, LABELS.assign(rule="published")])
    with pytest.raises(EnsembleError, match=r"one rule \(have \['clean', 'published'\]\)"):
        run_procedure("x", TWO, {"a": A, "b": B}, both)


def test_every_procedure_chooses_among_configs_of_the_catalogue_on_one_split_with_inner_folds():
    trials = catalogue()
    for name, procedure in PROCEDURES.items():
        chosen = [trials[c] for c in procedure.candidates]
        (where,) = {(t.split, t.label_rule, t.budget) for t in chosen}
        assert SPLITS[where[0]].n_inner_folds > 0
        assert procedure.rule in WEIGHTS
        assert procedure.description.endswith(".")
        assert not any(config.startswith(PREFIX + name) for config in trials), "a procedure is no config"
