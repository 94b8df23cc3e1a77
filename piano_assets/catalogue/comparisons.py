"""The catalogue: references, comparisons and their arms. Adding an arm is one line.

A config is the partition key of one distinct trial: `<reference>` or `<comparison>.<arm>`, with `@<budget>` where the
budget is not `full`. An arm that equals its reference owns no config of its own.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from piano_assets.catalogue.trial import (
    BUDGETS,
    Comparison,
    Encoder,
    IllegalTrial,
    Inputs,
    Optimisation,
    Tabular,
    Trial,
    differences,
    vary,
)

REFERENCES: dict[str, Trial] = {
    "ast.reference": Trial(
        model=Encoder(),
        inputs=Inputs(spectrogram="log_mel_128"),
        optimisation=Optimisation(),
        search=(("optimisation.learning_rate", (3e-5, 1e-4, 3e-4, 1e-3)),),
    ),
    "forest.reference": Trial(model=Tabular(), inputs=Inputs(features="all_traditional")),
    "family.reference": Trial(model=Tabular(), inputs=Inputs(features="symbolic")),
    "literature.reference": Trial(
        model=Tabular(regressor="extra_trees"),
        inputs=Inputs(features="symbolic"),
        split="excerpt",
        label_rule="published",
    ),
}

RIDGE_GRID = (("model.settings.alpha", (300.0, 1000.0, 3000.0, 10000.0)),)

_AST = {"model": REFERENCES["ast.reference"].model, "inputs": REFERENCES["ast.reference"].inputs}

COMPARISONS: tuple[Comparison, ...] = (
    Comparison(
        "family",
        "Among what a user would really choose between, some families hear more than a random forest does.",
        "family.reference",
        {
            "ridge": {"model.regressor": "ridge", "search": RIDGE_GRID},
            "kernel_ridge": {"model.regressor": "kernel_ridge"},
            "random_forest": {},
            "random_forest_founding": {"model.regressor": "random_forest_founding"},
            "extra_trees": {"model.regressor": "extra_trees"},
            "gradient_boosting": {"model.regressor": "gradient_boosting"},
            "ast": {**_AST, "optimisation": Optimisation(), "search": REFERENCES["ast.reference"].search},
        },
    ),
    Comparison(
        "feature_set",
        "What the notes say predicts listeners better than the 65 traditional audio features; both together do best.",
        "forest.reference",
        {
            "spectral_only": {"inputs.features": "spectral_only"},
            "mfcc_only": {"inputs.features": "mfcc_only"},
            "temporal_only": {"inputs.features": "temporal_only"},
            "harmonic_only": {"inputs.features": "harmonic_only"},
            "all_traditional": {},
            "symbolic": {"inputs.features": "symbolic"},
            "all": {"inputs.features": "all"},
        },
    ),
    Comparison(
        "literature",
        "On the literature's own splits and labels, note-level features reach the published numbers.",
        "literature.reference",
        {
            "excerpt": {},
            "percepiano_performer": {"split": "percepiano_performer"},
            "performer": {"split": "performer"},
            "founding": {"split": "founding"},
            "excerpt_kernel_ridge": {"model.regressor": "kernel_ridge"},
            "percepiano_performer_kernel_ridge": {"split": "percepiano_performer", "model.regressor": "kernel_ridge"},
            "performer_kernel_ridge": {"split": "performer", "model.regressor": "kernel_ridge"},
            "founding_kernel_ridge": {"split": "founding", "model.regressor": "kernel_ridge"},
        },
        tested=False,
    ),
    Comparison(
        "split_strategy",
        "The protocol moves the score more than the model does: the gap is what a split leaks.",
        "forest.reference",
        {
            "cluster": {},
            "random": {"split": "random"},
            "excerpt": {"split": "excerpt"},
            "performer": {"split": "performer"},
            "founding": {"split": "founding"},
            "percepiano_performer": {"split": "percepiano_performer"},
            "composer": {"split": "composer"},
            "temporal": {"split": "temporal"},
            "stratified_difficulty": {"split": "stratified_difficulty"},
            "leave_one_performer_out": {"split": "leave_one_performer_out"},
            "holdout": {"split": "holdout"},
        },
        tested=False,
    ),
)


def with_budget(config: str, trial: Trial, budget: str) -> tuple[str, Trial]:
    """The trial at another training budget, and its config. Tabular models are cheap: they always run at `full`."""
    if isinstance(trial.model, Tabular) or budget == "full":
        return config, trial
    search = trial.search if BUDGETS[budget].searches else ()
    return f"{config}@{budget}", dataclasses.replace(trial, budget=budget, search=search)


def arm_trials(comparison: Comparison, references: Mapping[str, Trial] = REFERENCES) -> dict[str, Trial]:
    """Each arm's trial, by the arm's name.

    Raises:
        IllegalTrial: an unknown reference or field, or an illegal value; comparison and arm are named.
    """
    if comparison.reference not in references:
        raise IllegalTrial(f"{comparison.name}: unknown reference {comparison.reference!r}; known: {list(references)}")
    reference = references[comparison.reference]
    found = {}
    for arm, changes in comparison.arms.items():
        try:
            found[arm] = vary(reference, changes)
        except IllegalTrial as error:
            raise IllegalTrial(f"{comparison.name}.{arm}: {error}") from error
    return found


def arm_configs(comparison: Comparison, references: Mapping[str, Trial] = REFERENCES) -> dict[str, tuple[str, Trial]]:
    """(config, trial) of each arm; an arm that equals a reference trial goes by that reference's config."""
    known = {trial.key: config for config, trial in references.items()}
    return {
        arm: (known.get(trial.key, f"{comparison.name}.{arm}"), trial)
        for arm, trial in arm_trials(comparison, references).items()
    }


def catalogue(
    comparisons: tuple[Comparison, ...] = COMPARISONS, budgets: tuple[str, ...] = ("full", "smoke")
) -> dict[str, Trial]:
    """Every distinct trial by config: the references, then the arms, each at the given budgets.

    Raises:
        IllegalTrial: two configs own the same trial.
    """
    found = dict(REFERENCES)
    owner = {trial.key: config for config, trial in found.items()}
    for comparison in comparisons:
        for config, trial in arm_configs(comparison).values():
            if owner.setdefault(trial.key, config) == config:
                found[config] = trial
    return dict(with_budget(config, trial, b) for config, trial in found.items() for b in budgets)


def changed_fields(comparison: Comparison, arm: str) -> dict[str, tuple[Any, Any]]:
    """What an arm really changes: dotted field -> (value, reference's value)."""
    return differences(arm_trials(comparison)[arm], REFERENCES[comparison.reference])
