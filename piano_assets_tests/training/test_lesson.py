"""What tabular models are taught: labels, labels without biases, few components, clips that count differently."""

import dataclasses

import numpy as np
import pytest

from piano_assets.catalogue.trial import IllegalTrial, Inputs, Tabular, Trial
from piano_assets.corpus.rater_bias import Votes
from piano_assets.models.tabular import REGRESSORS, WEIGHTS, build
from piano_assets.training.data import TrialData
from piano_assets.training.lesson import error_weights, lesson
from piano_assets_tests.models.test_tabular import problem, settings_of


def data(n=6):
    rng = np.random.default_rng(0)
    targets = rng.random((n, 19))
    clip, dimension, rater = (x.ravel() for x in np.meshgrid(np.arange(n), np.arange(19), np.arange(2), indexing="ij"))
    votes = Votes(clip, dimension, rater, targets[clip, dimension] + np.where(rater == 0, 0.1, -0.1))
    return TrialData(np.arange(n).astype(str), targets, np.full((n, 19), 0.05), {}, votes=votes)


def test_labels_are_the_lesson_unless_asked_otherwise():
    of = data()
    targets, weights = lesson(Tabular(), of, np.array([4, 2]))
    np.testing.assert_array_equal(targets, of.targets[[4, 2]])
    assert weights is None


def test_biases_that_balance_leave_the_labels():
    of = data()
    for rows in (np.arange(6), np.array([3, 3, 0])):
        targets, _ = lesson(Tabular(unbiased_labels=True), of, rows)
        np.testing.assert_allclose(targets, of.targets[rows], atol=1e-5)


def test_surer_labels_count_more_and_all_count_one_on_average():
    errors = np.array([[0.0] * 19, [0.1] * 19, [np.nan] * 19])
    weights = error_weights(errors)
    # Around what a model can say they vary by .1, so variances are .01, .02 and, for one rater, .02.
    np.testing.assert_allclose(weights, np.array([2, 1, 1]) * 3 / 4)


@pytest.mark.parametrize("name", REGRESSORS)
def test_every_regressor_lets_clips_count_differently(name):
    x, y = problem()
    weights = np.where(np.arange(90) < 45, 1.9, 0.1)
    plain, weighted = (
        build(name, settings_of(name), 0).fit(x[:90], y[:90], **kwargs).predict(x[:90])
        for kwargs in ({}, {WEIGHTS: weights})
    )
    errors = [((p - y[:90]) ** 2).mean(1) for p in (plain, weighted)]
    assert errors[1][:45].mean() < errors[0][:45].mean()
    if name.startswith("random_forest"):
        return  # bootstrap samples are drawn by weight, in another order of draws
    alike = build(name, settings_of(name), 0).fit(x[:90], y[:90], **{WEIGHTS: np.ones(90)}).predict(x[:90])
    np.testing.assert_allclose(alike, plain, atol=1e-6)


def test_low_rank_labels_give_low_rank_predictions():
    x, y = problem()
    for rank in (1, 5):
        pred = build("ridge", {}, 0, label_rank=rank).fit(x[:90], y[:90]).predict(x[90:])
        centred = (pred - y[:90].mean(0)) / y[:90].std(0)
        assert np.linalg.matrix_rank(centred, tol=1e-8) == rank


def test_a_linear_model_of_all_components_is_that_of_all_labels():
    x, y = problem()
    # Components are scaled to one variance and back, which a linear model does not notice.
    all_of_them, labels = (build("ridge", {}, 0, label_rank=k).fit(x[:90], y[:90]).predict(x[90:]) for k in (19, 0))
    np.testing.assert_allclose(all_of_them, labels, atol=1e-8)


def test_what_cannot_be_learnt_is_refused():
    with pytest.raises(IllegalTrial, match=r"model.label_rank=20 must lie in 0..19"):
        Tabular(label_rank=20)
    trial = Trial(model=Tabular(unbiased_labels=True), inputs=Inputs(features="symbolic"))
    with pytest.raises(IllegalTrial, match="unbiased_labels=True needs label_rule 'clean'"):
        dataclasses.replace(trial, label_rule="published")
