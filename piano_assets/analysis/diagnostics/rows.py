"""Rows of the table `diagnostics`, before the asset adds whose they are."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

COLUMNS = ("condition", "step", "population", "dimension", "metric", "value", "ci_low", "ci_high")


def row(
    condition: str, step: float | None, metric: str, value: float, ci: tuple[float, float] | None = None
) -> dict[str, object]:
    """One row about all clips and dimensions at once; what is not finite becomes NULL."""
    low, high = (x if np.isfinite(x) else None for x in ci) if ci else (None, None)
    whole = {"population": "all", "dimension": "mean"}
    return {
        "condition": condition,
        "step": step,
        **whole,
        "metric": metric,
        "value": value,
        "ci_low": low,
        "ci_high": high,
    }


def table(rows: Iterable[dict[str, object]]) -> pd.DataFrame:
    """Rows as a frame with `COLUMNS`."""
    frame = pd.DataFrame(list(rows), columns=list(COLUMNS))
    numbers = ["step", "value", "ci_low", "ci_high"]
    return frame.assign(**{name: frame[name].astype(float) for name in numbers})
