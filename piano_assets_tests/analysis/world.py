"""A small world of tables for the tests of this room: clips, labels, splits, predictions of known quality."""

import dataclasses
import json

import numpy as np
import pandas as pd

from piano_assets.catalogue.trial import Encoder, Inputs, Optimisation, Tabular, Trial, as_dict
from piano_assets.dimensions import N_DIMENSIONS, NAMES

TABULAR = Trial(model=Tabular(), inputs=Inputs(features="symbolic"))
NEURAL = Trial(model=Encoder(), inputs=Inputs(spectrogram="log_mel_128"), optimisation=Optimisation())


def clips(n_clusters: int = 8, n_performers: int = 7) -> pd.DataFrame:
    """Two excerpts a cluster, each played by all performers; the last performer is deadpan."""
    rows = [
        {
            "clip": f"c{k}e{e}p{p}",
            "excerpt": f"c{k}e{e}",
            "cluster": f"c{k}",
            "performer": f"p{p}",
            "deadpan": p == n_performers - 1,
        }
        for k in range(n_clusters)
        for e in range(2)
        for p in range(n_performers)
    ]
    return pd.DataFrame(rows)


def labels(of: pd.DataFrame, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """(table `labels` under both rules, the clean values (n_clips, 19)); published lacks the first clip."""
    value = np.clip(rng.normal(0.5, 0.1, (len(of), N_DIMENSIONS)), 0, 1)
    long = pd.DataFrame(value, columns=list(NAMES)).assign(clip=of["clip"].to_numpy())
    long = long.melt("clip", var_name="dimension").assign(standard_error=0.05, n_raters=10)
    published = long[long["clip"] != of["clip"].iloc[0]].assign(rule="published")
    return pd.concat([long.assign(rule="clean"), published], ignore_index=True), value


def splits(of: pd.DataFrame, n_repeats: int = 2, n_folds: int = 4, name: str = "cluster") -> pd.DataFrame:
    """Folds by cluster, rotated with the repeat; roles test and train of the outer level."""
    cluster = pd.factorize(of["cluster"])[0]
    frames = []
    for repeat in range(n_repeats):
        fold_of = (cluster + repeat * (cluster % 2)) % n_folds
        for fold in range(n_folds):
            role = np.where(fold_of == fold, "test", "train")
            frames.append(
                pd.DataFrame({"split": name, "repeat": repeat, "fold": fold, "clip": of["clip"], "role": role})
            )
    return pd.concat(frames, ignore_index=True).assign(inner_fold=pd.array([pd.NA], "Int32")[0], split_hash="x")


def predict(
    subject: str, split: pd.DataFrame, of: pd.DataFrame, value: np.ndarray, *, repeats=(0, 1), tuning: str = "fixed"
) -> pd.DataFrame:
    """Rows of `predictions`: `value` (n_clips, 19) as the test prediction of each clip, in each repeat."""
    tested = split[(split["role"] == "test") & split["repeat"].isin(repeats)]
    position = pd.Index(of["clip"]).get_indexer(tested["clip"])
    wide = pd.DataFrame(value[position], columns=list(NAMES))
    wide = wide.assign(**{c: tested[c].to_numpy() for c in ("split", "repeat", "fold", "clip", "role")})
    long = wide.melt(["split", "repeat", "fold", "clip", "role"], var_name="dimension")
    return long.assign(subject=subject, inner_fold=None, condition="clean", tuning=tuning, std=np.nan)


def subjects(*names: str) -> pd.DataFrame:
    """Rows of `subjects`: `config|seed` is a trial, `lookup...` a lookup, anything else an ensemble."""
    rows = []
    for name in names:
        config, _, seed = name.partition("|")
        kind = "trial" if seed else "lookup" if name.startswith("lookup") else "ensemble"
        rows.append(
            {
                "subject": name,
                "kind": kind,
                "family": "random_forest" if seed else kind,
                "config": config if seed else None,
                "seed": int(seed) if seed else None,
                "trial": config if seed else None,
            }
        )
    return pd.DataFrame(rows)


def trials(**of: Trial) -> pd.DataFrame:
    rows = [
        {
            "trial": trial.key,
            "config": config,
            "family": trial.family,
            "trial_json": json.dumps(as_dict(trial)),
            "n_params": None,
            "budget": trial.budget,
        }
        for config, trial in of.items()
    ]
    return pd.DataFrame(rows)


def varied(trial: Trial, **changes) -> Trial:
    return dataclasses.replace(trial, **changes)
