"""Two recordings of one piece side by side, as a musician sees them."""

from typing import TYPE_CHECKING

import numpy as np

from piano_assets.dimensions import DIMENSIONS
from piano_assets.report.plots import GREY, INK, LOOKUP, SCORE, _figure
from piano_assets.report.recording import embedded, heat, roll
from piano_assets.report.templates import filled
from piano_assets.scoring.compare import Difference
from piano_assets.scoring.tell import about_champion, difference_as_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def page(difference: Difference) -> str:
    """One HTML file that opens without a network."""
    figures = [("How differently listeners would rate them", _SCORES, scores_figure(difference))]
    figures.append(("What in the playing makes the difference", _MOVED, moved_figure(difference)))
    if difference.matched is not None:
        figures.append(("The playing", _ROLLS, rolls_figure(difference)))
    return filled(
        "comparison.html",
        told=difference_as_json(difference),
        champion=about_champion(difference.first),
        figures=embedded(figures),
    )


_SCORES = (
    "Left: both scores (blue the first, red the second). Right: the second less the first; a bar holds the difference "
    "of two unheard performances of one excerpt in 90 of 100 cases, and is dark where it leaves out 0."
)
_MOVED = (
    "What each aspect of the playing and the music adds to the difference; the aspects of a row add up to it. "
    "Blue: the second is lower, red: higher."
)
_ROLLS = "Notes by key and time, the louder the darker, with the sustain pedal: the first above the second."


def scores_figure(difference: Difference) -> "Figure":
    """19 rows between two poles: both scores, and their difference with its interval."""
    figure, axes = _figure(11.5, 7.2, 1, 2, sharey=True, width_ratios=[1, 1])
    left, right = axes[0]
    y = np.arange(len(DIMENSIONS))[::-1]
    first, second = difference.first.value, difference.second.value
    left.hlines(y, np.minimum(first, second), np.maximum(first, second), color=GREY, linewidth=5, zorder=0)
    left.scatter(first, y, color=SCORE, s=30, label=difference.first.recording.name)
    left.scatter(second, y, color=LOOKUP, s=30, label=difference.second.recording.name)
    left.set_yticks(y, [f"{d.low} - {d.high}" for d in DIMENSIONS], fontsize=9)
    left.set_xlim(0, 1)
    left.set_xticks(np.arange(1, 8) / 7, [str(k) for k in range(1, 8)], fontsize=8)
    left.set_xlabel("mean rating, 1 to 7", fontsize=9)
    figure.legend(loc="outside upper center", ncols=2, fontsize=8, frameon=False)
    for apart, colour in ((False, "#9aa5b1"), (True, INK)):
        rows = difference.told_apart == apart
        error = [(difference.value - difference.low)[rows], (difference.high - difference.value)[rows]]
        right.errorbar(difference.value[rows], y[rows], xerr=error, fmt="o", color=colour, markersize=5, elinewidth=1.4)
    right.axvline(0, color=GREY, linewidth=1, zorder=0)
    right.set_xlabel("difference, on the scale of 0 to 1", fontsize=9)
    for axis in (left, right):
        axis.spines["left"].set_visible(False)
        axis.tick_params(axis="y", length=0)
    return figure


def moved_figure(difference: Difference) -> "Figure":
    """19 x aspects: what makes the difference, as a heat map with numbers."""
    return heat(difference.moved, difference.first.aspects)


def rolls_figure(difference: Difference) -> "Figure":
    """Both piano rolls with their pedals, on one scale of time."""
    both = [s.recording.performance for s in (difference.first, difference.second)]
    played = [p for p in both if p is not None]
    figure, axes = _figure(12, 7.2, 4, 1, height_ratios=[5, 1] * 2)
    keys = min(int(p.pitch.min()) for p in played) - 2, max(int(p.pitch.max()) for p in played) + 3
    end = max(p.duration_s for p in played)
    for k, (one, scores) in enumerate(zip(played, (difference.first, difference.second), strict=True)):
        roll(axes[2 * k, 0], axes[2 * k + 1, 0], one, 0.0, end, keys)
        axes[2 * k, 0].set_title(scores.recording.name, fontsize=9)
    axes[-1, 0].set_xlabel("seconds", fontsize=9)
    return figure
