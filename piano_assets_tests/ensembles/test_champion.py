"""Champions: by which rule, fitted how, how sure, and kept whole."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import nnls

from piano_assets.catalogue.trial import Inputs, Tabular, Trial
from piano_assets.ensembles import champion as room
from piano_assets.ensembles.champion import Champion, fit_champion
from piano_assets.ensembles.champion_files import (
    NoChampion,
    champion_home,
    current_champion,
    current_key,
    load_champion,
    promote,
    release,
    retell,
    roll_back,
    save_champion,
)
from piano_assets.ensembles.combine import EnsembleError
from piano_assets.ensembles.procedures import Procedure
from piano_assets.ensembles.titles import Title, holder
from piano_assets.models.tabular import build
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


CLIPS = pd.DataFrame(
    {
        "clip": data().clips,
        "excerpt": [f"excerpt{i % 4}" for i in range(N_CLIPS)],
        "cluster": [f"cluster{i % 2}" for i in range(N_CLIPS)],
        "deadpan": [i % 5 == 0 for i in range(N_CLIPS)],
        "duration_s": [5.0 + i for i in range(N_CLIPS)],
    }
).sample(frac=1, random_state=0)


def test_it_is_kept_whole_and_read_back_without_pickle(fitted, tmp_path):
    folder = champion_home(tmp_path, "aligned") / "abc"
    save_champion(folder, fitted, CLIPS, {"champion": "aligned", "part_key": "abc"})
    found = load_champion(folder)
    assert [m["config"] for m in found.record["members"]] == list(TRIALS)
    assert (found.record["part_key"], found.record["n_clips"], len(found.half_widths)) == ("abc", N_CLIPS - 1, 19)
    of = data()
    by_hand = sum(m.weight * m.model.predict(of.features) for m in fitted.members)
    np.testing.assert_array_equal(found.predict(of.features), by_hand)
    assert (found.feature_set, found.feature_names) == ("symbolic", tuple("abcdef"))
    np.testing.assert_array_equal(found.features, of.features[of.labelled])
    np.testing.assert_array_equal(found.out_of_fold, fitted.out_of_fold)
    place = np.flatnonzero(of.labelled)
    assert found.excerpts.tolist() == [f"excerpt{i % 4}" for i in place]
    assert found.duration_s.tolist() == [5.0 + i for i in place]
    assert found.human.tolist() == [i % 5 != 0 for i in place]
    (folder / "reference.npz").write_bytes(b"cut")
    with pytest.raises(ValueError, match=r"reference\.npz: sha256 is .* it was changed or cut"):
        load_champion(folder)


def test_members_that_read_different_things_are_no_champion():
    other = {**TRIALS, "kernel": Trial(model=Tabular(), inputs=Inputs(features="all"), split="nested")}
    with pytest.raises(EnsembleError, match="candidates of a champion read the same"):
        fit_champion("two", PROCEDURE, other, None)


def test_its_record_learns_of_a_later_look_and_of_nothing_else(fitted, tmp_path):
    folder = champion_home(tmp_path, "aligned") / "abc"
    save_champion(folder, fitted, CLIPS, {"champion": "aligned", "part_key": "abc"})
    before = json.loads((folder / "record.json").read_text())
    assert retell(folder, nested={"r": 0.7}) == before | {"nested": {"r": 0.7}}
    assert json.loads((folder / "record.json").read_text()) == before | {"nested": {"r": 0.7}}


def test_one_champion_of_a_title_scores_and_the_others_stay(fitted, tmp_path):
    home = champion_home(tmp_path, "aligned")
    with pytest.raises(NoChampion, match=r"no champion 'aligned' in .*: `piano champion aligned` fits one"):
        current_champion(tmp_path, "aligned")
    for key in ("abc", "def"):
        save_champion(home / key, fitted, CLIPS, {"champion": "aligned", "part_key": key})
        promote(home, key)
        promote(home, key)  # again changes nothing
    assert current_champion(tmp_path, "aligned") == home / "def"
    assert json.loads((home / "current.json").read_text())["before"] == ["abc"]
    promote(home, "abc")
    assert current_champion(tmp_path, "aligned") == home / "abc"
    assert load_champion(home / "def").record["part_key"] == "def"


def test_a_rollback_holds_the_title_until_it_is_released(fitted, tmp_path):
    home = champion_home(tmp_path, "aligned")
    for key in ("k1", "k2", "k3"):
        save_champion(home / key, fitted, CLIPS, {"champion": "aligned", "part_key": key})
    assert promote(home, "k1")
    with pytest.raises(NoChampion, match="nobody held the title before k1"):
        roll_back(home)
    assert promote(home, "k2")
    assert roll_back(home) == "k1"
    assert not promote(home, "k3")
    assert current_key(home) == "k1"
    release(home)
    assert promote(home, "k3")
    assert json.loads((home / "current.json").read_text()) == {
        "part_key": "k3",
        "before": ["k1", "k2"],
        "held": False,
        "beside": None,
    }
    shutil.rmtree(home / "k1")  # a champion that is gone cannot score
    assert roll_back(home) == "k2"
