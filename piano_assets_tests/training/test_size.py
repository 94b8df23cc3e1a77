"""Parameter counts before training are those of the networks that train."""

import pytest

from piano_assets.catalogue.trial import vary
from piano_assets.features.note_events import NOTE_EVENTS
from piano_assets.store.parts import Store
from piano_assets.training.run import run_trial
from piano_assets.training.size import n_features, n_params
from piano_assets_tests.training.tiny import AST, EVENT_COLUMNS, HYBRID, MLP, NOTES, RIDGE, build_store


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return build_store(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("trial", [AST, HYBRID, MLP, vary(HYBRID, {"inputs.top_k": 2})], ids=lambda t: t.family)
def test_counted_before_is_counted_after(store, trial):
    assert n_params(trial, store) == run_trial(trial, f"{trial.family}.{trial.key}", 0, store).n_params


def test_note_networks_differ_by_the_columns_that_the_tiny_corpus_lacks(store):
    trained = run_trial(NOTES, "notes", 0, store).n_params
    assert n_params(NOTES, store) - trained == (NOTE_EVENTS.n_bands - EVENT_COLUMNS) * NOTES.model.dim


def test_what_is_not_known_is_none(store, tmp_path):
    assert n_params(RIDGE, store) is None
    assert n_features(RIDGE, store) == 6
    assert n_features(AST, store) == 0
    assert n_params(HYBRID, Store(tmp_path)) is None
    assert n_features(vary(RIDGE, {"inputs.top_k": 4}), Store(tmp_path)) == 4
