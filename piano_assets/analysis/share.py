"""How much of what the raters' agreement allows a score reaches, with the uncertainty of both."""

import numpy as np
import pandas as pd

from piano_assets.statistics.ratio import ratio_interval

CEILING: dict[str, tuple[str, float]] = {"pearson_mean": ("max_r", 0.5), "r2_pooled": ("max_r2", 1.0)}
"""Metrics that the raters' agreement bounds -> (column with the bound, the power of the reliability that it is).

A single fold's R2 has another bound.
"""

COLUMNS = ("share_of_ceiling", "share_low", "share_high")
KEYS = ["rule", "population", "level", "dimension"]


def with_share(table: pd.DataFrame, ceiling: pd.DataFrame | None) -> pd.DataFrame:
    """Add `COLUMNS`: the value over the split-half ceiling of the same rule, population, level and dimension.

    The interval combines the score's with the ceiling's (`ratio_interval`), taking the two for independent. Both rest
    on the same clips: where few of them vary, scores and agreement sink together, so that the interval is a little
    wide. The ceiling's interval is that of the reliability, raised to the bound's power; a row `mean` takes the mean
    reliability's, relative to its estimate.

    NULL where there is no ceiling; the interval also where the score has none, or where the raters' agreement cannot be
    told from 0.
    """
    found = np.full((3, len(table)), np.nan)
    if ceiling is not None and len(table):
        bounds = ceiling[ceiling["method"] == "split_half"].set_index(KEYS)
        at = bounds.index.get_indexer(pd.MultiIndex.from_frame(table[KEYS]))
        for metric, (column, power) in CEILING.items():
            rows = (table["metric"] == metric).to_numpy() & (at >= 0)
            chosen = bounds.iloc[at[rows]]
            bound, reliability, *ends = (
                chosen[c].to_numpy(np.float64) for c in (column, "reliability", "ci_low", "ci_high")
            )
            bound = np.where(bound > 0, bound, np.nan)
            with np.errstate(divide="ignore", invalid="ignore"):  # no reliability, no bound: NaN by the line above
                below = [bound * np.maximum(end / reliability, 0) ** power for end in ends]
            # Percentile intervals of a skewed quantity may miss their own estimate.
            within = np.minimum(below[0], bound), np.maximum(below[1], bound)
            value, low, high = (table[c].to_numpy(np.float64)[rows] for c in ("value", "ci_low", "ci_high"))
            found[:, rows] = value / bound, *ratio_interval(value, (low, high), bound, within)
    return table.assign(**dict(zip(COLUMNS, found, strict=True)))
