"""Figures of the table `adaptation_curves`: scores over rated clips, and groups of dimensions from stage to stage."""

from typing import TYPE_CHECKING

import pandas as pd

from piano_assets.adaptation.conditions import GROUPS
from piano_assets.report.plots import INK, _figure
from piano_assets.report.robustness_plots import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METRIC_WORDS = {"pearson_mean": "mean r", "r2_pooled": "R²"}
MARKERS = "os^Dv<>P"


def support_figure(rows: pd.DataFrame, population: str = "all", level: str = "global") -> "Figure":
    """Mean r and R2 over the number of rated clips, a line a method; the grey band is the unadapted with its interval.

    Raises:
        ValueError: no row of the curve `support`.
    """
    mine = rows[(rows["curve"] == "support") & (rows["population"] == population) & (rows["level"] == level)]
    if mine.empty:
        raise ValueError(f"no rows of the curve 'support' for {population}, {level}")
    figure, axes = _figure(9.5, 4.2, 1, 2)
    adapted = mine[mine["step"] > 0]
    steps = sorted(adapted["step"].unique())
    for axis, (metric, words) in zip(axes.flat, METRIC_WORDS.items(), strict=True):
        before = mine[(mine["step"] == 0) & (mine["metric"] == metric)]
        for row in before.itertuples():
            axis.axhspan(row.ci_low, row.ci_high, color="#eef1f4", zorder=0)
            axis.axhline(row.value, color="#8a8f98", linewidth=1, linestyle="--", label=_name(row.subject))
        lines = adapted[adapted["metric"] == metric].groupby("subject", sort=False, observed=True)
        for i, (subject, line) in enumerate(lines):
            line = line.sort_values("step")
            style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)]}
            at = [steps.index(step) for step in line["step"]]
            axis.plot(at, line["value"], markersize=4, linewidth=1.2, label=_name(subject), **style)
        axis.set_xticks(range(len(steps)), [str(int(step)) for step in steps])
        axis.set_xlabel("rated clips of the new performer", fontsize=9, color=INK)
        axis.set_ylabel(words, fontsize=9, color=INK)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=5)
    return figure


def sequence_figure(rows: pd.DataFrame) -> "Figure":
    """Mean r of each group of dimensions after each stage, a panel a group; a method of one stage is a dashed line.

    Raises:
        ValueError: no row of the curve `sequence`.
    """
    mine = rows[(rows["curve"] == "sequence") & (rows["metric"] == "pearson_mean")]
    if mine.empty:
        raise ValueError("no rows of the curve 'sequence'")
    figure, axes = _figure(9.5, 3.4, 1, len(GROUPS), sharey=True)
    subjects = list(dict.fromkeys(mine["subject"]))
    for axis, group in zip(axes.flat, GROUPS, strict=True):
        for i, subject in enumerate(subjects):
            line = mine[(mine["subject"] == subject) & (mine["group"] == group)].sort_values("step")
            style = {"color": COLOURS[i % len(COLOURS)], "label": _name(subject)}
            if mine.loc[mine["subject"] == subject, "step"].nunique() == 1:
                axis.axhline(line["value"].iloc[0], linestyle="--", linewidth=1, **style)
            else:
                axis.plot(line["step"], line["value"], marker="o", markersize=4, linewidth=1.2, **style)
        axis.set_title(group, fontsize=9, color=INK)
        axis.set_xticks(range(1, len(GROUPS) + 1))
        axis.set_xlim(0.8, len(GROUPS) + 0.2)
        axis.set_xlabel("groups learnt so far", fontsize=8, color=INK)
    axes[0, 0].set_ylabel("mean r", fontsize=9, color=INK)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=5)
    return figure


def _name(subject: str) -> str:
    return subject.partition(".")[2].replace("_", " ")
