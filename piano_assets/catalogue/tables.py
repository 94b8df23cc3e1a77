"""The catalogue as tables: trials, comparisons, arms."""

import json
from collections.abc import Callable, Iterable, Mapping

import pandas as pd

from piano_assets.catalogue.comparisons import arm_configs, changed_fields
from piano_assets.catalogue.trial import Comparison, Trial, as_dict
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


def comparison_table(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """Table `comparisons`."""
    rows = [
        (
            c.name,
            c.hypothesis,
            c.reference,
            json.dumps({a: t.search for a, (_, t) in arm_configs(c).items() if t.search}),
            MARGINS["pearson_mean"],
        )
        for c in comparisons
    ]
    return pd.DataFrame(rows, columns=list(TABLES["comparisons"].columns))


def arm_table(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """Table `arms`."""
    rows = [
        (
            c.name,
            arm,
            config,
            trial.key,
            config == c.reference,
            json.dumps(changed_fields(c, arm), sort_keys=True),
            arm in c.label_changing,
        )
        for c in comparisons
        for arm, (config, trial) in arm_configs(c).items()
    ]
    return pd.DataFrame(rows, columns=list(TABLES["arms"].columns))
