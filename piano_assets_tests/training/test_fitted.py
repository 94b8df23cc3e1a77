"""Models read back predict what was stored when they were trained, and what is asked of altered clips."""

import dataclasses
import shutil

import numpy as np
import pytest

from piano_assets.catalogue.trial import vary
from piano_assets.dimensions import NAMES
from piano_assets.training.fitted import NotFitted, fitted
from piano_assets.training.run import run_trial
from piano_assets_tests.training.tiny import AST, HYBRID, MLP, NOTES, RIDGE, SEARCHED, build_store

pytestmark = pytest.mark.xdist_group("fitted")  # one worker makes what they share

TOP_K = vary(HYBRID, {"inputs.top_k": 3})
TRIALS = {"ridge": RIDGE, "searched": SEARCHED, "ast": AST, "hybrid": HYBRID, "notes": NOTES, "mlp": MLP}
TRIALS |= {"top_k": TOP_K}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    made = build_store(tmp_path_factory.mktemp("fitted"))
    for config, trial in TRIALS.items():
        run_trial(trial, config, 0, made)
    return made


@pytest.mark.parametrize("config", TRIALS)
def test_out_of_fold_predictions_are_those_that_were_stored(store, config):
    of = fitted(store, config, TRIALS[config])
    stored = store.read("predictions", of.run.name)
    stored = stored[(stored["role"] == "test") & (stored["tuning"] == of.tuning) & stored["inner_fold"].isna()]
    want = stored.pivot(index="clip", columns="dimension", values="value").reindex(columns=list(NAMES))
    assert of.tuning == ("tuned" if config == "searched" else "fixed")
    assert of.subject == f"{config}|0"
    # Stored as float32; networks predict one member alone, which may round differently from a stack's.
    got = of.out_of_fold()
    np.testing.assert_allclose(got, want.reindex(of.data.clips).to_numpy(), atol=1e-6)


@pytest.mark.parametrize("config", ["ridge", "hybrid", "notes"])
def test_clips_that_change_places_change_predictions(store, config):
    of = fitted(store, config, TRIALS[config])
    fold = of.folds[0]
    a, b = fold.test[:2]
    order = np.arange(len(of.data.clips))
    order[[a, b]] = b, a
    changed = {}
    if of.data.features is not None:
        changed["features"] = of.data.features[order]
    if of.data.sequence is not None:
        frames = of.data.sequence
        changed["sequence"] = dataclasses.replace(frames, start=frames.start[order], n_frames=frames.n_frames[order])
    plain = fold.predict(of.data, fold.test)
    got = fold.predict(dataclasses.replace(of.data, **changed), fold.test)
    assert abs(plain[0] - plain[1]).max() > 2e-5, "or nothing could be told from it"
    np.testing.assert_allclose(got[[1, 0]], plain[:2], atol=1e-6)
    np.testing.assert_allclose(got[2:], plain[2:], atol=1e-6)


def test_without_models_it_says_how_to_get_them(store, tmp_path):
    with pytest.raises(NotFitted, match=r"never\|0 has no models .* it is not trained; train it here"):
        fitted(store, "never", vary(RIDGE, {"model.settings.alpha": 3.0}))
    shutil.copytree(store.root, tmp_path / "other")
    shutil.rmtree(tmp_path / "other" / "checkpoints")
    other = dataclasses.replace(store, root=tmp_path / "other")
    with pytest.raises(NotFitted, match="only its predictions are kept here"):
        fitted(other, "ridge", RIDGE)
