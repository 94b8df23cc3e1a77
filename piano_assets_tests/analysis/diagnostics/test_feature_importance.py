"""Grouped permutation importance against scikit-learn's, closed forms of linear models, and brute force."""

from dataclasses import dataclass, fields, replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t as student
from sklearn.inspection import permutation_importance

from piano_assets.analysis.diagnostics import feature_importance as module
from piano_assets.analysis.diagnostics.feature_importance import (
    INTACT,
    WITHIN,
    exchanged,
    feature_importance,
    groups_of,
    orders,
)
from piano_assets.analysis.evaluate import average, less
from piano_assets.analysis.panel import units
from piano_assets.analysis.scores import intervals
from piano_assets.catalogue.trial import Encoder, Optimisation
from piano_assets.dimensions import NAMES
from piano_assets.metrics.regression import pearson
from piano_assets.schemas import TABLES
from piano_assets.statistics.clustered import degrees_of_freedom
from piano_assets.training.data import Frames
from piano_assets.training.fitted import Fitted, FittedFold
from piano_assets.training.fitted import fitted as kept_models
from piano_assets.training.run import run_trial
from piano_assets_tests.analysis.diagnostics import kept
from piano_assets_tests.training import tiny

FOUR = ("symbolic.a", "symbolic.b", "symbolic.c", "audio.d")


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


def by_name(name: str) -> str:
    """Each feature its own family."""
    return name


def drops(rows, metric: str = "pearson_mean_drop", dimension: str = "mean", population: str = "all") -> dict:
    chosen = (rows["metric"] == metric) & (rows["dimension"] == dimension) & (rows["population"] == population)
    return rows[chosen].set_index("condition")["value"].to_dict()


def linear_subject(rng, n_folds=1, ignored=(), noise=0.02, n_clusters=4):
    """(subject, units, features, weights): labels are the model's predictions and noise."""
    clips, known = kept.tables(rng, n_clusters)
    x = rng.normal(size=(len(clips), 4))
    weight = kept.weights(rng, 4, ignored)
    known.labels["clean"][:] = x @ weight + noise * rng.normal(size=known.labels["clean"].shape)
    return kept.fitted(clips, known, x, FOUR, kept.linear(weight), n_folds), known, x, weight


class Recorder:
    """An estimator that notes what it is asked; scikit-learn wants a `fit`."""

    def __init__(self, weight):
        self.weight, self.seen = weight, []

    def fit(self, x, y):
        return self

    def predict(self, x):
        self.seen.append(x.copy())
        return x @ self.weight


def test_agrees_with_scikit_learn_on_families_of_one(rng, monkeypatch):
    of, known, x, weight = linear_subject(rng)
    model, repeats = Recorder(weight), 4

    def score(estimator, features, target):
        return pearson(estimator.predict(features), target).mean()

    peer = permutation_importance(
        model, x, known.labels["clean"], scoring=score, n_repeats=repeats, random_state=3, n_jobs=1
    )
    # The first call is of the intact table; the next are of the first column, whose values are all different.
    place = {value: i for i, value in enumerate(x[:, 0])}
    theirs = np.array([[place[v] for v in seen[:, 0]] for seen in model.seen[1 : 1 + repeats]])
    monkeypatch.setattr(module, "orders", lambda *_: theirs)
    rows = feature_importance(of, known, rng, repeats=repeats, family=by_name)
    got = drops(rows)
    np.testing.assert_allclose([got[name] for name in FOUR], peer.importances_mean, rtol=1e-10)


def test_expected_drop_of_a_linear_model_is_its_closed_form(rng, monkeypatch):
    """Over all shifts each clip gets each value once: the rise of the squared error is 2 var(c) - 2 cov(error, c)."""
    of, known, x, weight = linear_subject(rng, noise=0.1, n_clusters=2)
    target = known.labels["clean"]
    n = len(target)
    shifts = (np.arange(n) + np.arange(n)[:, None]) % n
    monkeypatch.setattr(module, "orders", lambda *_: shifts)
    rows = feature_importance(of, known, rng, family=lambda name: "symbolic.ab" if name[-1] in "ab" else name)
    part, error = x[:, :2] @ weight[:2], x @ weight - target
    rise = 2 * part.var(0) - 2 * ((error - error.mean(0)) * (part - part.mean(0))).mean(0)
    chosen = rows[(rows["condition"] == "symbolic.ab") & (rows["metric"] == "r2_pooled_drop")]
    got = chosen[chosen["population"] == "all"].set_index("dimension")["value"]
    want = rise / target.var(0)
    np.testing.assert_allclose(got[list(NAMES)], want, rtol=1e-10)
    assert got["mean"] == pytest.approx(want.mean(), rel=1e-10)


def test_what_the_model_ignores_is_worth_exactly_nothing(rng):
    of, known, _, _ = linear_subject(rng, n_folds=2, ignored=(1,))
    rows = feature_importance(of, known, rng, family=by_name)
    ignored = rows[rows["condition"].isin(["symbolic.b", "symbolic.b" + WITHIN])]
    assert len(ignored) == 2 * 2 * 2 * 20, "two exchanges, two populations, two metrics, 19 dimensions and their mean"
    assert (ignored[["value", "ci_low", "ci_high"]] == 0).all().all()
    assert drops(rows)["symbolic.a"] > 0.01


def test_exchange_within_excerpts_sees_only_what_varies_there(rng):
    of, known, x, _ = linear_subject(rng)
    x[:, 0] = known.excerpt  # the model reads the same table
    known.labels["clean"][:] = of.folds[0].predict(of.data, np.arange(len(x)))
    rows = feature_importance(of, known, rng, family=by_name)
    got = drops(rows)
    assert got["symbolic.a"] > 0.01
    assert got["symbolic.a" + WITHIN] == 0
    assert got["symbolic.c" + WITHIN] > 0.01


def test_intact_rows_are_the_scores_themselves(rng):
    of, known, x, weight = linear_subject(rng, n_folds=2, noise=0.1)
    rows = feature_importance(of, known, rng, family=by_name, repeats=1)
    want = pearson(x @ weight, known.labels["clean"])
    intact = rows[(rows["condition"] == INTACT) & (rows["metric"] == "pearson_mean") & (rows["population"] == "all")]
    np.testing.assert_allclose(intact.set_index("dimension")["value"][list(NAMES)], want, rtol=1e-10)
    human = rows[(rows["condition"] == INTACT) & (rows["metric"] == "pearson_mean") & (rows["population"] == "humans")]
    want = pearson((x @ weight)[known.human], known.labels["clean"][known.human])
    np.testing.assert_allclose(human.set_index("dimension")["value"][list(NAMES)], want, rtol=1e-10)


def test_intervals_hold_the_chance_of_clips_and_exchanges(rng):
    """Drops of 80 corpora around their known expectation, in standard errors: a spread of about 1.

    Clips are independent here. The spread's own standard error is .08; outside .6 to 1.3 it comes in less than 1 of
    1,000 runs.
    """
    clips, known = kept.tables(rng, n_clusters=12)
    weight, z = np.full((2, 19), 0.05), []
    expected = 2 * 0.05**2 / (2 * 0.05**2 + 0.1**2)
    for _ in range(80):
        x = rng.normal(size=(len(clips), 2))
        target = x @ weight + 0.1 * rng.normal(size=(len(clips), 1))
        now = replace(known, labels={"clean": target})
        of = kept.fitted(clips, now, x, FOUR[:2], kept.linear(weight), 1)
        before = module._judged(of, now, [x @ weight])
        pred = module._exchanged(of, of.folds[0], orders(rng, np.zeros(len(x)), 2), np.array([0]))
        after = [module._judged(of, now, [p])["all"] for p in pred]
        drop = average([less(before["all"], one, list(one.value)) for one in after])
        low, high = intervals(drop, now)
        df = degrees_of_freedom(known.cluster, known.performer)
        se = (high["r2_pooled"] - low["r2_pooled"])[-1] / 2 / student.ppf(0.975, df)
        z.append((drop.value["r2_pooled"][-1] - expected) / se)
    assert 0.6 < np.std(z) < 1.3
    assert abs(np.mean(z)) < 0.5


def test_orders_are_uniform_permutations_within_groups(rng):
    group = np.array([2, 0, 2, 1, 0, 2])
    drawn = orders(rng, group, 6000)
    assert (np.sort(drawn, axis=1) == np.arange(6)).all()
    assert (group[drawn] == group).all()
    alike, counts = np.unique(drawn[:, [0, 2, 5]], axis=0, return_counts=True)
    assert len(alike) == 6
    # Each of the 6 orders of three: 1000 +- 29; outside 4.5 standard deviations in 4 of 100,000 runs.
    assert abs(counts - 1000).max() < 130


def test_exchanged_rows_hold_own_and_foreign_values(rng):
    of, _, x, _ = linear_subject(rng)
    rows, order = np.array([3, 8, 5]), np.array([[2, 0, 1], [1, 0, 2]])
    altered = exchanged(of.data, rows, order, np.array([1, 3]))
    for k in range(2):
        for i in range(3):
            got = altered.features[k * 3 + i]
            own, other = x[rows[i]], x[rows[order[k][i]]]
            np.testing.assert_array_equal(got, [own[0], other[1], own[2], other[3]])
            assert altered.clips[k * 3 + i] == of.data.clips[rows[i]]
    np.testing.assert_array_equal(of.data.features, x)


@dataclass(frozen=True, eq=False)
class Listener(FittedFold):
    """A model that hears the mean of a clip's frames beside its first feature."""

    def predict(self, data, rows):
        of = data.sequence
        heard = [of.values[of.start[i] : of.start[i] + of.n_frames[i]].mean() for i in rows]
        return np.repeat(np.array(heard)[:, None] + data.features[rows, :1], 19, axis=1)


def hearing(of: Fitted, rng) -> Fitted:
    """The subject with a spectrogram beside its features."""
    n_frames = rng.integers(2, 6, len(of.data.clips))
    frames = Frames(rng.normal(size=(n_frames.sum(), 3)), np.cumsum(n_frames) - n_frames, n_frames)
    folds = tuple(Listener(**{f.name: getattr(fold, f.name) for f in fields(FittedFold)}) for fold in of.folds)
    return replace(of, data=replace(of.data, sequence=frames), folds=folds)


def test_a_hybrids_sequences_are_exchanged_as_whole_clips(rng, monkeypatch):
    of, known, _, _ = linear_subject(rng)
    of = hearing(of, rng)
    order = rng.permutation(len(of.data.clips))
    monkeypatch.setattr(module, "orders", lambda *_: order[None])
    rows = feature_importance(of, known, rng, family=by_name, repeats=1)
    pred, target = of.folds[0].predict(of.data, np.arange(len(order))), known.labels["clean"]
    sound = pred - of.data.features[:, :1]
    want = pearson(pred, target) - pearson(sound[order] + of.data.features[:, :1], target)
    assert drops(rows)["spectrogram"] == pytest.approx(want.mean(), rel=1e-10)
    want = pearson(pred, target) - pearson(sound + of.data.features[order, :1], target)
    assert drops(rows)["symbolic.a"] == pytest.approx(want.mean(), rel=1e-10)
    steps = rows.drop_duplicates("condition").set_index("condition")["step"]
    assert np.isnan(steps["spectrogram"])
    assert steps["symbolic"] == 3


def test_a_trained_hybrid_takes_exchanged_clips_its_usual_way(tmp_path, monkeypatch):
    store = tiny.build_store(tmp_path)
    run_trial(tiny.HYBRID, "hybrid", 0, store)
    of = kept_models(store, "hybrid", tiny.HYBRID)
    known = units(store.read("clips", "all"), store.read("labels", "clean"))
    monkeypatch.setattr(module, "orders", lambda _, group, repeats: np.roll(np.arange(len(group)), 1)[None])
    rows = feature_importance(of, known, np.random.default_rng(0), family=lambda _: "symbolic.all", repeats=1)
    whole, pred = of.data, {"spectrogram": [], "symbolic.all": []}
    labelled = [fold.test[whole.labelled[fold.test]] for fold in of.folds]
    for fold in of.folds:
        other = np.arange(len(whole.clips))
        other[fold.test] = np.roll(fold.test, 1)
        frames = replace(whole.sequence, start=whole.sequence.start[other], n_frames=whole.sequence.n_frames[other])
        keep = whole.labelled[fold.test]
        pred["spectrogram"].append(fold.predict(replace(whole, sequence=frames), fold.test)[keep])
        pred["symbolic.all"].append(fold.predict(replace(whole, features=whole.features[other]), fold.test)[keep])
    target = whole.targets[np.concatenate(labelled)]
    intact = pearson(of.out_of_fold()[np.concatenate(labelled)], target)
    for name, found in pred.items():
        want = (intact - pearson(np.concatenate(found), target)).mean()
        # Windows of other batches: float32 sums in another order.
        assert drops(rows)[name] == pytest.approx(want, abs=1e-5)
    assert abs(drops(rows)["spectrogram"]) > 1e-3


def test_groups_are_families_and_whole_sources(rng):
    of, _, _, _ = linear_subject(rng)
    found = groups_of(of, by_name)
    assert {name: list(columns) for name, columns in found.items()} == {
        "audio.d": [3], "symbolic.a": [0], "symbolic.b": [1], "symbolic.c": [2], "symbolic": [0, 1, 2],
    }  # fmt: skip
    assert groups_of(hearing(of, rng), by_name)["spectrogram"] is None
    notes = replace(of.trial, inputs=replace(of.trial.inputs, notes=True), model=Encoder(fusion="gated"),
                    optimisation=Optimisation())  # fmt: skip
    assert "notes" in groups_of(replace(hearing(of, rng), trial=notes), by_name)


def test_rows_fit_the_table_and_depend_on_the_generator_alone(rng):
    of, known, _, _ = linear_subject(rng, n_folds=2)
    told = []
    rows = feature_importance(of, known, np.random.default_rng(1), family=by_name, progress=lambda *x: told.append(x))
    assert told[-1] == (10, 10)
    again = feature_importance(of, known, np.random.default_rng(1), family=by_name)
    pd.testing.assert_frame_equal(rows, again)
    whose = {"subject": of.subject, "split": "cluster", "rule": "clean", "tuning": "fixed"}
    TABLES["diagnostics"].conform(rows.assign(**whose, probe="feature_importance"))


def test_refuses_subjects_without_features_and_no_repeats(rng):
    of, known, _, _ = linear_subject(rng)
    with pytest.raises(ValueError, match="reads no features"):
        feature_importance(replace(of, data=replace(of.data, features=None)), known, rng)
    with pytest.raises(ValueError, match="repeats=0 must be >= 1"):
        feature_importance(of, known, rng, repeats=0)
    strange = replace(of.data, clips=np.array([f"x{i}" for i in range(len(of.data.clips))], object))
    with pytest.raises(ValueError, match="clip 'x0' is not in the table clips"):
        feature_importance(replace(of, data=strange), known, rng, family=by_name)
