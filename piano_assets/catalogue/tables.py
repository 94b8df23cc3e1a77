"""The catalogue as tables: trials, comparisons, arms."""

import json
from collections.abc import Callable, Mapping

import pandas as pd

from piano_assets.catalogue.comparisons import Catalogue
from piano_assets.catalogue.trial import Trial, as_dict
from piano_assets.schemas import MARGINS, TABLES


def trial_table(trials: Mapping[str, Trial], n_params: Callable[[Trial], int | None] = lambda _: None) -> pd.DataFrame:
    """Table `trials`. `n_params` measures a trial's parameters (None where the number depends on the data)."""
    rows = [
        (trial.key, config, trial.family, to_json(trial), n_params(trial), trial.budget)
        for config, trial in trials.items()
    ]
    return pd.DataFrame(rows, columns=list(TABLES["trials"].columns)).astype({"n_params": "Int64"})


def to_json(trial: Trial) -> str:
    return json.dumps(as_dict(trial), sort_keys=True)


def comparison_table(known: Catalogue) -> pd.DataFrame:
    """Table `comparisons`: each at full budget, and those with networks at `reduced` as `<name>@reduced`."""
    rows = [
        (
            name,
            of.hypothesis,
            known.reference(of, budget)[0],
            budget,
            json.dumps({arm: trial.search for arm, (_, trial) in known.arms(of, budget).items() if trial.search}),
            MARGINS["pearson_mean"],
            of.tested,
            of.budget_note,
            None,
            None,
        )
        for name, of, budget in known.views()
    ]
    return pd.DataFrame(rows, columns=list(TABLES["comparisons"].columns))


def arm_table(known: Catalogue) -> pd.DataFrame:
    """Table `arms`, for the same comparisons."""
    rows = [
        (
            name,
            arm,
            config,
            trial.key,
            config == known.reference(of, budget)[0],
            json.dumps(known.changed_fields(of, arm), sort_keys=True),
            trial.augmentation.bends_sound,
            of.claims.get(arm),
        )
        for name, of, budget in known.views()
        for arm, (config, trial) in known.arms(of, budget).items()
    ]
    return pd.DataFrame(rows, columns=list(TABLES["arms"].columns)).astype({"claimed_params": "Int64"})
