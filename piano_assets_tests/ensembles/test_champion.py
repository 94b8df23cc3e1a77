"""Champions: by which rule, fitted how, how sure, and kept whole."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import nnls

from piano_assets.catalogue.trial import Inputs, Tabular, Trial
from piano_assets.dimensions import NAMES
from piano_assets.ensembles import champion as room
from piano_assets.ensembles.champion import Champion, fit_champion, half_widths
from piano_assets.ensembles.champion_files import champion_folder, retell, save_champion
from piano_assets.ensembles.procedures import Procedure
from piano_assets.ensembles.titles import Title, holder
from piano_assets.models.tabular import build
from piano_assets.store.checkpoints import load_checkpoint
from piano_assets.training.data import TrialData

TITLE = Title(hears="all", procedures=("first", "second", "third"))
N_CLIPS, N_FOLDS = 60, 3


def verdicts(*rows):
    columns = ["reference", "arm", "is_primary", "verdict", "estimate"]
    return pd.DataFrame(list(rows), columns=columns).astype({"is_primary": bool})


def test_a_title_changes_by_a_verdict_alone():
    first = "procedure.first"
    assert holder(TITLE, verdicts()) == "first"
    higher = (first, "second", True, "inconclusive", 0.5)
    equal = (first, "third", True, "equivalent", 0.001)
    assert holder(TITLE, verdicts(higher, equal)) == "first"
    assert holder(TITLE, verdicts((first, "second", False, "better", 0.5))) == "first"
    assert holder(TITLE, verdicts(("procedure.other", "second", True, "better", 0.5))) == "first"
    assert holder(TITLE, verdicts((first, "stranger", True, "better", 0.5))) == "first"
    better = [(first, "second", True, "better", 0.02), (first, "third", True, "better", 0.03)]
    assert holder(TITLE, verdicts(*better)) == "third"


def data() -> TrialData:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(N_CLIPS, 6))
    targets = 0.5 + 0.1 * np.tanh(x[:, :3] @ rng.normal(size=(3, 19))) + 0.02 * rng.normal(size=(N_CLIPS, 19))
    targets[5] = np.nan  # a clip without labels
    fold_of = np.arange(N_CLIPS) % N_FOLDS
    roles = {(0, f): np.where(fold_of == f, "test", "train").astype(object) for f in range(N_FOLDS)}
    roles |= {(1, 0): np.full(N_CLIPS, "train", object)}  # another repeat, which must not be used
    clips = np.array([f"clip{i:02d}" for i in range(N_CLIPS)], object)
    return TrialData(clips, targets, np.full_like(targets, 0.05), roles, x, tuple("abcdef"))


TRIALS = {
    "ridge": Trial(
        model=Tabular(regressor="ridge"),
        inputs=Inputs(features="symbolic"),
        search=(("model.settings.alpha", (1.0, 1e6)),),
        split="nested",
    ),
    "kernel": Trial(model=Tabular(regressor="kernel_ridge"), inputs=Inputs(features="symbolic"), split="nested"),
}
PROCEDURE = Procedure(candidates=tuple(TRIALS), description="Two.", rule="stacking_shared")


@pytest.fixture
def fitted(monkeypatch) -> Champion:
    monkeypatch.setattr(room, "load", lambda trial, store: data())
    steps = []
    found = fit_champion("two", PROCEDURE, TRIALS, None, threads=1, progress=lambda *s: steps.append(s))
    assert steps == [(k, 11) for k in range(1, 12)]  # 3 folds of 2 points and all, 3 folds of 1 and all
    return found


def test_it_searches_weighs_and_learns_from_all_labelled_clips(fitted):
    of = data()
    assert len(fitted.clips) == N_CLIPS - 1
    ridge, kernel = fitted.members
    assert ridge.point == "model.settings.alpha=1.0"
    assert kernel.point == "fixed"
    # By hand: each fold's clips from models of the others, weighted by non-negative least squares.
    labelled = np.flatnonzero(of.labelled)
    seen = []
    for name, settings in (("ridge", {"alpha": 1.0}), ("kernel_ridge", {})):
        pred = np.full((N_CLIPS, 19), np.nan)
        for fold in range(N_FOLDS):
            test = np.arange(N_CLIPS) % N_FOLDS == fold
            train = np.flatnonzero(~test & of.labelled)
            pred[test] = build(name, settings, 0).fit(of.features[train], of.targets[train]).predict(of.features[test])
        seen.append(pred[labelled])
    weights = nnls(np.stack([s.ravel() for s in seen], axis=1), of.targets[labelled].ravel())[0]
    np.testing.assert_allclose([m.weight[0] for m in fitted.members], weights, atol=1e-5)
    np.testing.assert_allclose(fitted.out_of_fold, sum(w * s for w, s in zip(weights, seen, strict=True)), atol=1e-5)
    everything = build("ridge", {"alpha": 1.0}, 0).fit(of.features[labelled], of.targets[labelled])
    np.testing.assert_allclose(ridge.model.predict(of.features), everything.predict(of.features), atol=1e-9)


def test_intervals_hold_what_they_promise_on_exchangeable_clips():
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(200):
        noise = rng.normal(size=(60, 19))
        champion = Champion("x", (), np.arange(59), noise[:-1], np.zeros((59, 19)))
        hits.append(np.abs(noise[-1]) <= half_widths(champion))
    # With 59 residuals the promise is kept exactly (54 of 60); 3,800 draws have a standard deviation of .005.
    assert np.mean(hits) == pytest.approx(0.9, abs=0.02)


def test_it_is_kept_whole_and_read_back_without_pickle(fitted, tmp_path):
    folder = champion_folder(tmp_path, "aligned")
    save_champion(folder, fitted, {"champion": "aligned", "part_key": "abc"})
    record = json.loads((folder / "record.json").read_text())
    assert [m["config"] for m in record["members"]] == list(TRIALS)
    assert (record["part_key"], record["n_clips"], len(record["half_widths"])) == ("abc", N_CLIPS - 1, len(NAMES))
    for number, member in enumerate(fitted.members):
        _, model = load_checkpoint(folder / f"member{number}", config=member.config)
        np.testing.assert_array_equal(model.predict(data().features), member.model.predict(data().features))


def test_its_record_learns_of_a_later_look_and_of_nothing_else(fitted, tmp_path):
    folder = champion_folder(tmp_path, "aligned")
    save_champion(folder, fitted, {"champion": "aligned", "part_key": "abc"})
    before = json.loads((folder / "record.json").read_text())
    assert retell(folder, nested={"r": 0.7}) == before | {"nested": {"r": 0.7}}
    assert json.loads((folder / "record.json").read_text()) == before | {"nested": {"r": 0.7}}
