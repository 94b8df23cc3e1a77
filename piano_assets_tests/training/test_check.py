"""Names against registries."""

import pytest

from piano_assets.catalogue.trial import IllegalTrial, vary
from piano_assets.training.check import check
from piano_assets_tests.training.tiny import AST, HYBRID, MLP, NOTES, RIDGE, SEARCHED


@pytest.mark.parametrize("trial", [RIDGE, SEARCHED, AST, HYBRID, NOTES, MLP])
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


@pytest.mark.parametrize(
    ("trial", "change", "message"),
    [
        (AST, {"model.settings.radius": 3}, "model.settings.radius=3: vanilla has no such setting"),
        (AST, {"model.attention": "local", "model.settings.radius": 0}, "radius=0 must be an integer >= 1"),
        (AST, {"model.attention": "multi_scale", "model.settings.k": 2}, "multi_scale has none"),
        (NOTES, {"model.attention": "multi_scale"}, "'multi_scale' needs patches of a spectrogram"),
        (AST, {"model.patch_size": 129}, r"model.patch_size=129 must be at most the bands of log_mel_128 \(128\)"),
        (HYBRID, {"model.fusion": "gate"}, "model.fusion='gate' must be one of"),
        (AST, {"inputs.spectrogram": "waveform"}, "inputs.spectrogram='waveform' must be one of"),
        (NOTES, {"augmentation.spec_augment": 0.5}, "augmentation.spec_augment=0.5 needs a spectrogram"),
        (NOTES, {"augmentation.cutmix": 0.5}, "augmentation.cutmix=0.5 needs a spectrogram"),
        (MLP, {"augmentation.time_stretch": 0.1}, "augmentation.time_stretch=0.1 needs a spectrogram"),
        (HYBRID, {"augmentation.mixup": 0.1}, "augmentation.mixup=0.1 mixes sequences, not features"),
        (AST, {"augmentation.mixup": 0.1, "augmentation.c_mixup": 0.1}, "choose partners differently"),
        (AST, {"inputs.spectrogram": "cqt", "augmentation.pitch_shift": 1}, "inputs.spectrogram='cqt' is 'cqt'"),
        (AST, {"budget": "full", "search": (("model.depth", (1, 2)),)}, "must leave shapes and steps alone"),
        (AST, {"budget": "full", "search": (("optimisation.loss", ("mse", "mes")),)}, "loss='mes' must be one of"),
    ],
)
def test_networks_that_cannot_be_are_refused_with_rule_and_value(trial, change, message):
    with pytest.raises(IllegalTrial, match=message):
        check(vary(trial, change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.fusion": "gated"}, "networks with features and a sequence name one, others none"),
        ({"inputs.features": "all"}, "networks with features and a sequence name one, others none"),
        ({"inputs.notes": True}, "notes beside spectrogram"),
        ({"model.dim": 15}, "model.dim=15 must be even"),
        ({"model.stochastic_depth": 1.0}, r"must lie in \[0, 1\)"),
        ({"augmentation.mixup": 0.6, "augmentation.cutmix": 0.6}, "= 1.2 must be <= 1"),
        ({"augmentation.factor": 1}, "factor=1 must be 0 or >= 2"),
        ({"augmentation.longer": True}, "longer=True needs a factor"),
        ({"augmentation.rerender": True}, "rerender=True needs time_stretch or pitch_shift"),
        ({"inputs.top_k": 3}, "top_k=3 selects features: name their set"),
        ({"model.patch_size": 0}, "patch_size=0 must be an integer >= 1"),
        ({"optimisation.label_smoothing": 1.0}, r"label_smoothing=1.0 must lie in \[0, 1\)"),
    ],
)
def test_values_that_cannot_be_are_refused_as_they_are_written(change, message):
    with pytest.raises(IllegalTrial, match=message):
        vary(AST, change)
