"""Kinds of clips that a result is shown for by themselves: whose music, who plays, how long, how often rated."""

import numpy as np
import pandas as pd

from piano_assets.analysis.panel import Units

THIRDS: dict[str, tuple[str, str, str]] = {
    "duration": ("short", "middle", "long"),
    "raters": ("few", "middle", "many"),
    "excerpt": ("few performances", "middle", "many performances"),
}


def clip_groups(clips: pd.DataFrame, labels: pd.DataFrame, known: Units, rule: str) -> dict[str, np.ndarray]:
    """Condition -> the clips that it names, (n_clips,) bool: composer, player, and thirds of three quantities.

    Thirds are of `duration` (seconds), `raters` (mean number per dimension under the rule) and `excerpt` (performances
    of the excerpt), cut at the quantiles of all clips that have one. Clips of equal value stay together, so thirds of
    few values are uneven, and one that holds nothing is left out.

    Args: the tables `clips` (with composer and duration_s) and `labels`; `known` of the same clips.
    """
    composer = clips["composer"].to_numpy(object)
    found = {f"composer: {name}": composer == name for name in sorted(set(composer))}
    found |= {"player: human": known.human, "player: deadpan": ~known.human}
    of_rule = labels[labels["rule"] == rule]
    raters = of_rule.groupby("clip", observed=True)["n_raters"].mean().reindex(known.clip)
    quantities = {
        "duration": clips["duration_s"].to_numpy(np.float64),
        "raters": raters.to_numpy(np.float64),
        "excerpt": np.bincount(known.excerpt)[known.excerpt].astype(np.float64),
    }
    for name, values in quantities.items():
        found |= {f"{name}: {third}": rows for third, rows in zip(THIRDS[name], thirds(values), strict=True)}
    return {condition: rows for condition, rows in found.items() if rows.any()}


def thirds(values: np.ndarray) -> list[np.ndarray]:
    """The rows of the lowest, middle and highest third, (n,) bool each; NaN belongs to none."""
    known = ~np.isnan(values)
    edges = np.quantile(values[known], [1 / 3, 2 / 3])
    third = np.searchsorted(edges, values)
    return [known & (third == i) for i in range(3)]
