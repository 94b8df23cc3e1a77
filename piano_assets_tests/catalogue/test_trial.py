"""Trials: equal intent, equal key; illegal values named."""

import json

import pytest

from piano_assets.catalogue.references import REFERENCES
from piano_assets.catalogue.trial import (
    Augmentation,
    Encoder,
    IllegalTrial,
    Inputs,
    Optimisation,
    Tabular,
    Trial,
    as_dict,
    differences,
    from_dict,
    vary,
)

RIDGE = Trial(model=Tabular(regressor="ridge"), inputs=Inputs(features="symbolic"))
AST = REFERENCES["ast.reference"]


@pytest.mark.parametrize("trial", [RIDGE, AST, vary(RIDGE, {"model.settings.alpha": 3.0})])
def test_a_trial_survives_json_with_its_key(trial):
    again = from_dict(json.loads(json.dumps(as_dict(trial))))
    assert again == trial
    assert again.key == trial.key


def test_the_key_follows_every_field_and_nothing_else():
    assert vary(RIDGE, {"label_rule": "published"}).key != RIDGE.key
    assert vary(AST, {"model.dropout": 0.3}).key != AST.key
    assert vary(AST, {"model.dropout": AST.model.dropout}).key == AST.key
    one = vary(RIDGE, {"model.settings.a": 1, "model.settings.b": 2})
    assert one.key == vary(RIDGE, {"model.settings.b": 2, "model.settings.a": 1}).key


def test_differences_name_exactly_what_was_varied():
    changes = {"model.dropout": 0.3, "optimisation.loss": "huber", "split": "excerpt"}
    got = differences(vary(AST, changes), AST)
    assert {f: new for f, (new, _) in got.items()} == changes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.droput": 0.3}, r"unknown field model.droput \(is 0.3\): Encoder has no 'droput'"),
        ({"droput": 0.3}, r"unknown field droput \(is 0.3\): Trial has no 'droput'"),
        ({"optimisation.loss": 3}, "optimisation.loss=3 must be text"),
        ({"model.dropout": "high"}, "model.dropout='high' must be a number"),
        ({"model.depth": True}, "model.depth=True must be an integer"),
        ({"model.spectral_norm": 1}, "model.spectral_norm=1 must be true or false"),
        ({"model.mlp_ratio": float("inf")}, "model.mlp_ratio=inf must be finite"),
        ({"model.settings.radius": float("nan")}, "model.settings.radius=nan must be finite"),
        ({"model.settings.radius": (1, 2)}, "must be text or a number"),
        ({"inputs": "log_mel_128"}, "inputs='log_mel_128' must be Inputs"),
        ({"search": (("model.dropout", 0.3),)}, "must be pairs of a field and its values"),
        ({"model.dropout": 1.0}, r"model.dropout=1.0 must lie in \[0, 1\)"),
        ({"model.heads": 0}, "model.heads=0 must be an integer >= 1"),
        ({"model.depth": 2.5}, "model.depth=2.5 must be an integer"),
        ({"optimisation.learning_rate": 0.0}, "learning_rate=0.0 must be > 0"),
        ({"label_rule": "median"}, "label_rule='median' must be one of"),
        ({"budget": "huge"}, "budget='huge' must be one of"),
        ({"inputs.spectrogram": None}, "name a feature set, a spectrogram or notes"),
        ({"optimisation": None}, "networks have one"),
        ({"model": Tabular()}, "tabular models none"),
    ],
)
def test_illegal_trials_are_refused_with_rule_and_value(changes, message):
    with pytest.raises(IllegalTrial, match=message):
        vary(AST, changes)


def test_unknown_fields_of_a_stored_trial_are_named():
    stored = as_dict(RIDGE)
    stored["model"]["colour"] = "blue"
    with pytest.raises(IllegalTrial, match="colour"):
        from_dict(stored)


def test_a_whole_part_may_change_together_with_a_field_of_it():
    got = vary(RIDGE, {"model": Encoder(), "model.dropout": 0.1, "inputs": AST.inputs, "optimisation": Optimisation()})
    assert got.model.dropout == 0.1


def test_a_value_has_one_spelling():
    """A file says 3 where code says 3.0: that is one trial, not two."""
    assert vary(AST, {"model.mlp_ratio": 3}).key == vary(AST, {"model.mlp_ratio": 3.0}).key
    unsorted = Tabular(settings=(("b", 2), ("a", 1)))
    assert unsorted == Tabular(settings=(("a", 1), ("b", 2)))


def test_a_field_that_is_off_is_not_in_the_key():
    """So a field that is added later, off by default, leaves every key as it was."""
    assert vary(AST, {"augmentation": Augmentation(), "model.stochastic_depth": 0.0}).key == AST.key


@pytest.mark.parametrize(
    ("inputs", "family"),
    [
        ({}, "ast"),
        ({"inputs.features": "symbolic", "model.fusion": "late"}, "hybrid"),
        ({"inputs": Inputs(notes=True)}, "note_transformer"),
        ({"inputs": Inputs(features="symbolic")}, "mlp"),
    ],
)
def test_the_inputs_say_the_family_of_a_network(inputs, family):
    assert vary(AST, inputs).family == family
