"""How recordings differ from what a champion learnt from."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from piano_assets.report.plots import GREY, INK, LOOKUP, SCORE, _figure
from piano_assets.scoring.monitoring import SHIFT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MOST = 19


def drift_figure(drift: pd.DataFrame, champion: str) -> "Figure":
    """The features and the scores of a champion that moved furthest: index and shift of the median.

    Args:
        drift: rows of the table `drift` of that champion.
    """
    figure, axes = _figure(12, 6.4, 1, 2)
    for axis, kind in zip(axes[0], ("feature", "score"), strict=True):
        rows = drift[drift["kind"] == kind].sort_values("psi", ascending=False).head(_MOST)
        y = np.arange(len(rows))[::-1]
        axis.barh(y, rows["psi"], color=[LOOKUP if drifted else SCORE for drifted in rows["drifted"]], height=0.6)
        axis.scatter(rows["psi_by_chance"], y, marker="|", color=INK, s=90, zorder=3)
        words = [f"{name} ({shift:+.1f})" for name, shift in zip(rows["name"], rows["shift"], strict=True)]
        axis.set_yticks(y, words, fontsize=8)
        axis.axvline(SHIFT, color=GREY, linewidth=1, zorder=0)
        n = int(rows["n_recordings"].max()) if len(rows) else 0
        axis.set_title(f"{champion}: {kind}s of {n} recordings", fontsize=9)
        axis.set_xlabel("population stability index (tick: by chance once in twenty; red: drifted)", fontsize=8)
    return figure
