"""Trials: equal intent, equal key; illegal values named."""

import json

import pytest

from piano_assets.catalogue.comparisons import COMPARISONS, REFERENCES, arm_configs, catalogue, changed_fields
from piano_assets.catalogue.tables import arm_table, comparison_table, trial_table
from piano_assets.catalogue.trial import (
    Comparison,
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
from piano_assets.schemas import TABLES

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
        ({"model.droput": 0.3}, "model.droput|droput"),
        ({"droput": 0.3}, "Trial has no 'droput'"),
        ({"model.dropout": 1.0}, r"model.dropout=1.0 must lie in \[0, 1\)"),
        ({"model.heads": 0}, "model.heads=0 must be an integer >= 1"),
        ({"model.depth": 2.5}, "model.depth=2.5 must be an integer"),
        ({"optimisation.learning_rate": 0.0}, "learning_rate=0.0 must be > 0"),
        ({"label_rule": "median"}, "label_rule='median' must be one of"),
        ({"budget": "huge"}, "budget='huge' must be one of"),
        ({"inputs.spectrogram": None}, "name a feature set or a spectrogram"),
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


def test_no_two_configs_own_the_same_trial():
    trials = catalogue()
    assert len({t.key for t in trials.values()}) == len(trials)
    assert all("|" not in config and "," not in config for config in trials)


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda c: c.name)
def test_every_arm_changes_exactly_its_declared_fields(comparison: Comparison):
    for arm, declared in comparison.arms.items():
        changed = changed_fields(comparison, arm)
        assert all(any(f == d or f.startswith(d + ".") for d in declared) for f in changed), (arm, changed)
        assert bool(changed) == bool(declared), "an arm without changes is the reference, and only such an arm"


@pytest.mark.parametrize("comparison", COMPARISONS, ids=lambda c: c.name)
def test_an_arm_that_equals_its_reference_owns_no_partition(comparison: Comparison):
    for arm, (config, trial) in arm_configs(comparison).items():
        assert (config == comparison.reference) == (trial == REFERENCES[comparison.reference]), arm


def test_a_misspelt_arm_names_comparison_and_arm():
    wrong = Comparison("loss", "h", "ast.reference", {"huber": {"optimisation.los": "huber"}})
    with pytest.raises(IllegalTrial, match=r"loss\.huber.*los"):
        arm_configs(wrong)


def test_tables_of_the_catalogue_keep_their_declarations():
    frames = {
        "trials": trial_table(catalogue()),
        "comparisons": comparison_table(COMPARISONS),
        "arms": arm_table(COMPARISONS),
    }
    for name, frame in frames.items():
        assert TABLES[name].conform(frame).num_rows == len(frame) > 0
    assert set(frames["arms"]["config"]) <= set(frames["trials"]["config"])
