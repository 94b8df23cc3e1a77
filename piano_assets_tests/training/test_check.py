"""Names against registries."""

import pytest

from piano_assets.catalogue.trial import IllegalTrial, vary
from piano_assets.training.check import check
from piano_assets_tests.training.tiny import AST, RIDGE, SEARCHED


@pytest.mark.parametrize("trial", [RIDGE, SEARCHED, AST])
def test_legal_trials_pass(trial):
    check(trial)


@pytest.mark.parametrize(
    ("trial", "change", "message"),
    [
        (RIDGE, {"model.regressor": "rigde"}, "model.regressor='rigde' must be one of"),
        (RIDGE, {"model.settings.alhpa": 1.0}, "model.settings.alhpa=1.0: ridge has no such setting"),
        (RIDGE, {"inputs.features": "symbolc"}, "inputs.features='symbolc' must be one of"),
        (RIDGE, {"split": "clustre"}, "split='clustre' must be one of"),
        (RIDGE, {"search": (("model.settings.alpha", ()),)}, "must have at least one value"),
        (RIDGE, {"search": (("model.settings.alpha", (1.0, -1.0)),)}, "alpha=-1.0 must be > 0"),
        (RIDGE, {"search": (("model.setings.alpha", (1.0,)),)}, "unknown field"),
        (AST, {"inputs.spectrogram": "mel_12"}, "inputs.spectrogram='mel_12' must be one of"),
        (AST, {"model.attention": "vanila"}, "model.attention='vanila' must be one of"),
        (AST, {"optimisation.loss": "mes"}, "optimisation.loss='mes' must be one of"),
        (AST, {"optimisation.schedule": "step_"}, "optimisation.schedule='step_' must be one of"),
    ],
)
def test_unknown_names_are_refused_with_rule_and_value(trial, change, message):
    with pytest.raises(IllegalTrial, match=message):
        check(vary(trial, change))


def test_every_arm_of_the_catalogue_is_legal():
    from piano_assets.catalogue.comparisons import COMPARISONS, arm_trials

    for comparison in COMPARISONS:
        for trial in arm_trials(comparison).values():
            check(trial)
