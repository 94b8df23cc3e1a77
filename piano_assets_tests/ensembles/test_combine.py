"""Ensembles against plain arithmetic on their members."""

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import BaggingRegressor
from sklearn.linear_model import Ridge

from piano_assets.catalogue.comparisons import catalogue
from piano_assets.dimensions import NAMES
from piano_assets.ensembles.combine import EnsembleError, mean_of_members
from piano_assets.ensembles.recipes import RECIPES
from piano_assets.schemas import TABLES


def member(config: str, seed: int, *, repeats: tuple[int, ...] = (0, 1), tuning: str = "fixed", split: str = "cluster"):
    rng = np.random.default_rng(seed)
    frames = []
    for repeat in repeats:
        clips = [f"clip{i}" for i in range(6)]
        frames.append(
            pd.DataFrame(
                {
                    "subject": f"{config}|{repeat}",
                    "split": split,
                    "repeat": repeat,
                    "fold": np.repeat(np.arange(6) % 2, 19),
                    "inner_fold": pd.array([None] * 114, "Int32"),
                    "clip": np.repeat(clips, 19),
                    "dimension": np.tile(NAMES, 6),
                    "role": "test",
                    "condition": "clean",
                    "tuning": tuning,
                    "value": rng.random(114),
                    "std": np.nan,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def test_the_mean_and_the_spread_are_numpys():
    a, b, c = (member(n, s) for n, s in (("a", 0), ("b", 1), ("c", 2)))
    shuffled = b.sample(frac=1, random_state=0)
    got, weights = mean_of_members("ensemble.x", {"a": a, "b": shuffled, "c": c})
    stacked = np.stack([m["value"] for m in (a, b, c)])
    order = a.assign(want=stacked.mean(0), spread=stacked.std(0, ddof=1))
    joined = got.merge(order, on=["repeat", "clip", "dimension"])
    assert len(joined) == len(a)
    np.testing.assert_allclose(joined["value_x"], joined["want"], rtol=1e-6)  # stored as float32
    np.testing.assert_allclose(joined["std_x"], joined["spread"], rtol=1e-5)
    assert weights.groupby(["repeat", "fold"])["weight"].sum().to_numpy() == pytest.approx(1)
    assert TABLES["predictions"].violations(got) == []
    assert TABLES["ensemble_weights"].violations(weights) == []


def test_only_repeats_that_all_members_have_enter():
    got, _ = mean_of_members("e", {"a": member("a", 0), "b": member("b", 1, repeats=(1,))})
    assert got["repeat"].unique().tolist() == [1]


def test_tuned_predictions_are_taken_where_a_member_has_them():
    fixed, tuned, other = member("a", 0), member("a", 5, tuning="tuned"), member("b", 1)
    got, _ = mean_of_members("e", {"a": pd.concat([fixed, tuned]), "b": other})
    want, _ = mean_of_members("e", {"a": tuned, "b": other})
    pd.testing.assert_frame_equal(got, want)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"a": member("a", 0)}, "at least two"),
        ({"a": member("a", 0), "b": member("b", 1, split="excerpt")}, "one split"),
        ({"a": member("a", 0, repeats=(0,)), "b": member("b", 1, repeats=(1,))}, "no repeat"),
        ({"a": member("a", 0), "b": member("b", 1).iloc[19:]}, "clip0.*1 of 2"),
    ],
)
def test_members_that_do_not_fit_are_refused(members, message):
    with pytest.raises(EnsembleError, match=message):
        mean_of_members("e", members)


def test_every_recipe_names_configs_of_the_catalogue_on_one_split_with_one_rule():
    trials = catalogue()
    for recipe in RECIPES.values():
        chosen = [trials[m] for m in recipe.members]
        assert len({(recipe.split or t.split, t.label_rule) for t in chosen}) == 1


def test_spreads_of_members_are_added_to_the_variance_between_them():
    a, b = member("a", 0).assign(std=0.3), member("b", 1).assign(std=0.1)
    got, _ = mean_of_members("e", {"a": a, "b": b})
    order = a.assign(want=np.sqrt(np.stack([a["value"], b["value"]]).var(0, ddof=1) + (0.09 + 0.01) / 2))
    joined = got.merge(order, on=["repeat", "clip", "dimension"])
    np.testing.assert_allclose(joined["std_x"], joined["want"], rtol=1e-5)


def test_one_member_is_an_ensemble_where_it_has_a_spread():
    one = member("a", 0).assign(std=0.2)
    got, weights = mean_of_members("ensemble.x", {"a": one})
    joined = got.merge(one, on=["repeat", "clip", "dimension"])
    np.testing.assert_allclose(joined["value_x"], joined["value_y"], rtol=1e-6)
    np.testing.assert_allclose(joined["std_x"], 0.2, rtol=1e-6)
    assert set(weights["weight"]) == {1.0}


def test_bagged_ridges_are_scikit_learns_bagging():
    """The mean of ridges fitted to the resamples that scikit-learn drew is what its BaggingRegressor predicts."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(30, 4)), rng.random((30, 19))
    peer = BaggingRegressor(Ridge(), n_estimators=5, random_state=0).fit(x, y)
    bags = [Ridge().fit(x[rows], y[rows]).predict(x[:6]) for rows in peer.estimators_samples_]
    members = {f"bag{k}": member("a", 0, repeats=(0,)).assign(value=pred.ravel()) for k, pred in enumerate(bags)}
    got, _ = mean_of_members("e", members)
    wide = got.pivot(index="clip", columns="dimension", values="value")[list(NAMES)]
    np.testing.assert_allclose(wide, peer.predict(x[:6]), rtol=1e-5)  # stored as float32
