"""Boosting against closed forms, and against the network that its first round is."""

import dataclasses
import shutil

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression, Ridge

from piano_assets.catalogue.trial import IllegalTrial, vary
from piano_assets.dimensions import NAMES
from piano_assets.store.parts import Store
from piano_assets.training.boosting import boost
from piano_assets.training.fitted import fitted
from piano_assets.training.run import run_trial
from piano_assets.training.size import n_params
from piano_assets_tests.training.tiny import MLP, RIDGE, build_store

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(40, 5)), RNG.normal(size=(40, 19))
START = Y.mean(0)


def learner(model):
    return lambda number, residual: model.fit(X, residual).predict(X)


def test_one_round_in_full_of_a_linear_learner_is_the_plain_fit():
    value, spread = boost(learner(LinearRegression()), Y, START, 1, 1.0)
    np.testing.assert_allclose(value, LinearRegression().fit(X, Y).predict(X), rtol=1e-10)
    assert np.isnan(spread).all()


def test_rounds_of_ridge_are_powers_of_its_hat_matrix():
    rounds, share = 6, 0.3
    hat = X @ np.linalg.inv(X.T @ X + 2.0 * np.eye(5)) @ X.T
    value, _ = boost(learner(Ridge(alpha=2.0, fit_intercept=False)), Y, START, rounds, share)
    left = np.linalg.matrix_power(np.eye(40) - share * hat, rounds) @ (Y - START)
    np.testing.assert_allclose(value, Y - left, rtol=1e-9, atol=1e-12)


def test_the_sum_is_the_weighted_mean_of_the_rounds_estimates_and_the_spread_theirs():
    steps = [RNG.normal(size=Y.shape) for _ in range(3)]
    value, spread = boost(lambda number, _: steps[number], Y, np.zeros(19), 3, 0.5)
    f1, f2 = 0.5 * steps[0], 0.5 * steps[0] + 0.5 * steps[1]
    estimates = np.stack([steps[0], f1 + steps[1], f2 + steps[2]])
    weights = np.array([0.125, 0.25, 0.5])
    np.testing.assert_allclose(value, np.tensordot(weights, estimates, 1), rtol=1e-10)
    weights /= weights.sum()
    centre = np.tensordot(weights, estimates, 1)
    np.testing.assert_allclose(spread, np.sqrt(np.tensordot(weights, (estimates - centre) ** 2, 1)), rtol=1e-10)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory) -> Store:
    return build_store(tmp_path_factory.mktemp("untouched") / "tiny")


@pytest.fixture
def store(untouched, tmp_path) -> Store:
    return Store(shutil.copytree(untouched.root, tmp_path / "tiny"))


BOOSTED = vary(MLP, {"rounds": 3, "shrinkage": 0.5})


def predictions(store: Store, config: str):
    part = next(p for p in store.parts("predictions") if p.name.startswith(f"{config}/"))
    return store.read("predictions", part.name).sort_values(["fold", "role", "clip", "dimension"])


def test_one_round_in_full_is_the_network_without_rounds(store):
    run_trial(MLP, "plain", 0, store)
    run_trial(vary(MLP, {"rounds": 1, "shrinkage": 1.0}), "once", 0, store)
    plain, once = predictions(store, "plain"), predictions(store, "once")
    assert (plain["clip"].to_numpy() == once["clip"].to_numpy()).all()
    # Targets less their mean, in float32, have moments of another last bit, which steps of the size of the learning
    # rate, whatever the gradient's, let grow to 1e-5; another start moves predictions by more than 1e-3.
    np.testing.assert_allclose(once["value"], plain["value"], atol=1e-4)
    run_trial(vary(MLP, {"rounds": 1, "shrinkage": 1.0, "replicate": 1}), "other", 0, store)
    assert abs(predictions(store, "other")["value"].to_numpy() - plain["value"].to_numpy()).max() > 1e-3


def test_stored_rounds_predict_what_was_predicted(store):
    run_trial(BOOSTED, "boosted", 0, store)
    kept = predictions(store, "boosted")
    assert (kept["std"] > 0).all()
    models = fitted(store, "boosted", BOOSTED)
    assert all(fold.weights == (0.5,) * 3 for fold in models.folds)
    for fold, pred in models.tested():
        want = kept[(kept["fold"] == fold.fold) & (kept["role"] == "test")]
        got = dict(zip(models.data.clips[fold.test], pred, strict=True))
        wide = want.pivot(index="clip", columns="dimension", values="value")
        np.testing.assert_allclose(
            np.stack([got[c] for c in wide.index]), wide[list(NAMES)].to_numpy(), rtol=1e-5, atol=1e-6
        )


def test_test_clips_decide_nothing(store):
    """Labels of a fold's test clips changed: the same predictions of that fold, round by round."""
    run_trial(BOOSTED, "before", 0, store)
    splits, labels = store.read("splits", "cluster"), store.read("labels", "clean")
    tested = splits[
        (splits["repeat"] == 0) & (splits["fold"] == 1) & (splits["role"] == "test") & splits["inner_fold"].isna()
    ]["clip"]
    wrong = labels["clip"].isin(set(tested))
    store.write("labels", labels.assign(value=labels["value"].where(~wrong, 0.9)), key="other", name="clean")
    run_trial(BOOSTED, "after", 0, store)
    before, after = (predictions(store, c).query("fold == 1") for c in ("before", "after"))
    np.testing.assert_array_equal(before["value"].to_numpy(), after["value"].to_numpy())


@pytest.mark.parametrize(
    ("base", "changes", "message"),
    [
        (MLP, {"rounds": 2}, "rounds=2 and shrinkage=0.0: both"),
        (MLP, {"rounds": -1}, "rounds=-1 must be >= 0"),
        (MLP, {"rounds": 2, "shrinkage": 1.5}, "shrinkage=1.5 must lie"),
        (RIDGE, {"rounds": 2, "shrinkage": 0.5}, "only networks"),
        (
            MLP,
            {"rounds": 2, "shrinkage": 0.5, "search": (("optimisation.learning_rate", (1e-4, 1e-3)),)},
            "search must be empty",
        ),
        (
            MLP,
            {
                "rounds": 2,
                "shrinkage": 0.5,
                "optimisation.snapshots": 2,
                "optimisation.schedule": "cyclic_cosine",
            },
            "one of them",
        ),
    ],
)
def test_rounds_that_cannot_be_are_refused(base, changes, message):
    with pytest.raises(IllegalTrial, match=message):
        vary(base, changes)


def test_a_boosted_trial_is_another_trial_and_one_without_rounds_the_same_as_ever():
    assert BOOSTED.key != MLP.key
    assert dataclasses.replace(BOOSTED, rounds=0, shrinkage=0.0).key == MLP.key


def test_all_rounds_are_counted(store):
    result = run_trial(BOOSTED, "boosted", 0, store)
    assert result.n_params == n_params(BOOSTED, store) == 3 * n_params(MLP, store)
