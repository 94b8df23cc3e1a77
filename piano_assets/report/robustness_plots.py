"""Figures of the table `robustness`: one for each probe, a panel for each kind of alteration, scores over strength."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from piano_assets.report.plots import CEILING, INK, LOOKUP, _figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CLEAN = "clean"
GREY = "#777777"
COLOURS = ("#2a6f97", "#e08e1b", "#7b4b94", "#3a3a3a", "#4f9d8f", "#b0413e")
WORDS = {
    "pearson_mean": "mean r",
    "r2_pooled": "R²",
    "mse": "mean squared error",
    "pearson_mean_change": "change of mean r",
    "r2_pooled_change": "change of R²",
    "mean_shift": "shift of predictions",
}
"""How metrics are called on an axis; others go by their own names."""
MOST_PANELS_A_ROW = 3
LEAST_WIDTH = 5.5
"""Inches of the panels together: a title needs them."""


@dataclass(frozen=True)
class Scale:
    """The axis of a kind's strengths.

    label: with its unit; kind: `linear` or `log`; falling: whether the strongest alteration has the smallest number;
    clean: where on the axis the unaltered clip stands, or None.
    """

    label: str
    kind: str = "linear"
    falling: bool = False
    clean: float | None = None


SCALES: dict[str, Scale] = {
    "noise": Scale("signal-to-noise ratio (dB)", falling=True),
    "tempo": Scale("tempo ratio (above 1: faster)", "log", clean=1.0),
    "recording_quality.band_limit": Scale("low-pass at (Hz)", "log", falling=True),
    "recording_quality.room": Scale("reverberation time RT60 (s)", "log"),
    "recording_quality.mp3": Scale("MP3 at (kbit/s)", "log", falling=True),
    "recording_quality.vorbis": Scale("Ogg Vorbis quality", falling=True),
    "recording_quality.gain": Scale("gain (dB)", clean=0.0),
}
"""Probe, or `<probe>.<kind>`, -> its axis; all others are linear and called `strength`."""


def robustness_curves(
    rows: pd.DataFrame,
    probe: str,
    title: str,
    metric: str = "pearson_mean",
    dimension: str = "mean",
    population: str = "all",
    lookup: float | None = None,
    ceiling: float | None = None,
) -> "Figure":
    """A metric over the strength of a probe's alterations, a panel for each kind, with 95 % intervals as bands.

    Dotted lines are the subjects' clean values, zero where the metric is a change or a shift; where the unaltered clip
    has a place on the axis, the curve passes through a hollow point there. Kinds without strengths share one panel of
    points.

    Args:
        rows: of the table `robustness`, of one or several subjects (column `subject`).
        lookup, ceiling: values of the same metric to stand beside.
    Raises:
        ValueError: no row of this probe, metric, dimension and population.
    """
    asked = {"probe": probe, "metric": metric, "dimension": dimension, "population": population}
    for column, value in asked.items():
        rows = rows[rows[column] == value]
    altered = rows[rows["condition"] != CLEAN]
    if altered.empty:
        raise ValueError("no rows of " + ", ".join(f"{column} {value!r}" for column, value in asked.items()))
    kinds = list(dict.fromkeys(altered.loc[altered["step"].notna(), "condition"]))
    plain = altered[altered["step"].isna()]
    n = len(kinds) + (not plain.empty)
    across = min(n, MOST_PANELS_A_ROW)
    down = -(-n // across)
    n_points = plain["condition"].nunique()
    width = 1.0 + max(3.1 * across, 0.9 * n_points, LEAST_WIDTH)
    figure, axes = _figure(width, 1.0 + 2.7 * down, down, across, sharey=True)
    subjects = sorted(rows["subject"].unique())
    colours = {subject: COLOURS[i % len(COLOURS)] for i, subject in enumerate(subjects)}
    clean = rows[rows["condition"] == CLEAN].set_index("subject")["value"]
    relative = metric.endswith("_change") or metric == "mean_shift"
    unaltered = dict.fromkeys(subjects, 0.0) if relative else clean.to_dict()
    panels = list(axes.flat)
    for axis, kind in zip(panels, kinds, strict=False):
        _curves(axis, altered[altered["condition"] == kind], scale_of(probe, kind), colours, unaltered)
        axis.set_title(kind.replace("_", " "), fontsize=9, color=INK)
    if not plain.empty:
        _points(panels[len(kinds)], plain, colours)
    for axis in panels[:n]:
        _levels(axis, {"": 0.0} if relative else unaltered, colours, lookup, ceiling)
    for axis in panels[n:]:
        axis.axis("off")
    for axis in axes[:, 0]:
        axis.set_ylabel(f"{WORDS.get(metric, metric)}{'' if dimension == 'mean' else f', {dimension}'}", fontsize=8)
    _legend(figure, panels[0], across)
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def scale_of(probe: str, kind: str) -> Scale:
    """The axis of a kind: its own, its probe's, or a plain one."""
    return SCALES.get(f"{probe}.{kind}", SCALES.get(probe, Scale("strength")))


def _curves(
    axis: "Axes", rows: pd.DataFrame, scale: Scale, colours: dict[str, str], unaltered: dict[str, float]
) -> None:
    """One curve with its band for each subject; strength grows to the right."""
    steps = np.sort(rows["step"].unique())
    for subject, one in rows.groupby("subject", sort=True):
        one, colour = one.sort_values("step"), colours[str(subject)]
        axis.fill_between(one["step"], one["ci_low"], one["ci_high"], color=colour, alpha=0.15, linewidth=0)
        axis.plot(one["step"], one["value"], "o", color=colour, markersize=3.5)
        x, y = one["step"].to_numpy(), one["value"].to_numpy()
        if scale.clean is not None and subject in unaltered:
            at = np.searchsorted(x, scale.clean)
            x, y = np.insert(x, at, scale.clean), np.insert(y, at, unaltered[str(subject)])
            axis.plot(scale.clean, unaltered[str(subject)], "o", color=colour, markersize=4, mfc="white", zorder=3)
        axis.plot(x, y, color=colour, linewidth=1.4, label=subject)
    axis.set_xscale("log" if scale.kind == "log" and steps[0] > 0 else "linear")
    axis.set_xticks(steps, [f"{step:g}" for step in steps])
    axis.minorticks_off()
    axis.set_xlabel(scale.label, fontsize=8)
    if scale.falling:
        axis.invert_xaxis()


def _points(axis: "Axes", rows: pd.DataFrame, colours: dict[str, str]) -> None:
    """Kinds without strengths side by side, subjects beside one another, with intervals."""
    kinds = list(dict.fromkeys(rows["condition"]))
    for i, (subject, one) in enumerate(rows.groupby("subject", sort=True)):
        x = np.array([kinds.index(kind) for kind in one["condition"]]) + 0.14 * (i - (len(colours) - 1) / 2)
        colour = colours[str(subject)]
        axis.vlines(x, one["ci_low"], one["ci_high"], color=colour, linewidth=1.4)
        axis.plot(x, one["value"], "o", color=colour, markersize=4.5, label=subject)
    axis.set_xticks(range(len(kinds)), [kind.replace("_", " ") for kind in kinds], rotation=15, ha="right")
    axis.set_xlim(-0.6, len(kinds) - 0.4)


def _levels(
    axis: "Axes", clean: dict[str, float], colours: dict[str, str], lookup: float | None, ceiling: float | None
) -> None:
    """Lines of what stands beside the curves; `clean`: subject -> value."""
    for subject, value in clean.items():
        axis.axhline(value, color=colours.get(subject, GREY), linewidth=0.9, linestyle=":", zorder=0)
    axis.plot([], [], color=GREY, linewidth=0.9, linestyle=":", label="clean")
    if lookup is not None:
        axis.axhline(lookup, color=LOOKUP, linewidth=1.0, linestyle="--", label="best lookup")
    if ceiling is not None:
        axis.axhline(ceiling, color=CEILING, linewidth=1.0, linestyle="--", label="ceiling")


def _legend(figure: "Figure", axis: "Axes", across: int) -> None:
    handles, labels = axis.get_legend_handles_labels()
    columns = min(len(labels), 2 * across)
    figure.legend(handles, labels, fontsize=8, frameon=False, loc="outside lower center", ncols=columns)
