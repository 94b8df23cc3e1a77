"""What a musician sees of a scored recording: 19 scores between their poles, and the playing that they rest on."""

from typing import TYPE_CHECKING

import numpy as np

from piano_assets.corpus.performance import SUSTAIN, Performance
from piano_assets.dimensions import DIMENSIONS
from piano_assets.report.plots import GREY, INK, LOOKUP, PALE, SCORE, _figure, data_uri
from piano_assets.report.templates import filled
from piano_assets.scoring.score import Scores
from piano_assets.scoring.tell import about_champion, as_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROLL_MOST_S = 120.0
"""Seconds of music in one row of a piano roll."""
_MOST_ROLLS = 4
_WORDS_ABOVE = 16
"""Keys above the highest note, where words stand."""


def page(scores: Scores, beside: Scores | None = None) -> str:
    """One HTML file that opens without a network. beside: what another champion says of the recording."""
    figures = [("How listeners would rate it", _SCORES, scores_figure(scores))]
    figures.append(("What in the playing moved each score", _MOVED, moved_figure(scores)))
    if len(scores.windows) > 1:
        figures.append(("From window to window", _WINDOWS, windows_figure(scores)))
    if scores.recording.performance is not None:
        figures.append(("The playing", _ROLL, roll_figure(scores.recording.performance, scores)))
    if scores.passages and scores.recording.performance is not None:
        figures.append(("Where it is heard", _PASSAGES, passages_figure(scores.recording.performance, scores)))
    return filled(
        "recording.html",
        told=as_json(scores, beside),
        champion=about_champion(scores),
        figures=embedded(figures),
    )


def embedded(figures: "Sequence[tuple[str, str, Figure]]") -> list[dict[str, str]]:
    """(title, note, figure) as the template of pages about playing shows them."""
    return [{"title": title, "note": note, "uri": data_uri(figure)} for title, note, figure in figures]


_SCORES = (
    "Dots are scores, bars hold the rating of an unheard clip in 90 of 100 cases. The pale band is the middle half of "
    "people's performances in the corpus."
)
_MOVED = (
    "What each aspect of the playing and the music moved a score by, against the median human performance of the "
    "corpus; the aspects of a row add up to the whole difference. Blue: down, red: up."
)
_WINDOWS = "Scores of each window; the recording is cut at gaps, into windows as long as the clips that were rated."
_ROLL = (
    "Notes by key and time, the louder the darker; below them the sustain pedal, and what listeners would hear in each "
    "stretch: the three scores that stand out most from the median performance."
)
_PASSAGES = (
    "The scores that depart most from the median performance, and the notes that make them so: what playing each "
    "passage adds to the score (red) or takes from it (blue), against the rest without it."
)


def scores_figure(scores: Scores) -> "Figure":
    """19 rows between two poles: score, interval, where people's performances lie, percentile."""
    figure, axes = _figure(9.5, 7.2)
    axis, y = axes[0, 0], np.arange(len(DIMENSIONS))[::-1]
    low, high = np.quantile(scores.heard, [0.25, 0.75], axis=0)
    axis.barh(y, high - low, left=low, height=0.62, color=GREY, alpha=0.7, zorder=0)
    error = [scores.value - scores.low, scores.high - scores.value]
    axis.errorbar(scores.value, y, xerr=error, fmt="o", color=SCORE, ecolor=SCORE, markersize=5, elinewidth=1.4)
    axis.set_yticks(y, [d.low for d in DIMENSIONS], fontsize=9)
    axis.set_xlim(0, 1)
    axis.set_xticks(np.arange(1, 8) / 7, [str(k) for k in range(1, 8)], fontsize=8)
    axis.set_xlabel("mean rating, 1 to 7 (in brackets: how many of 100 performances score lower)", fontsize=9)
    axis.grid(axis="x", color="#eeeeee", zorder=-1)
    right = axis.twinx()
    right.set_ylim(axis.get_ylim())
    right.set_yticks(y, [f"{d.high} ({p:.0f})" for d, p in zip(DIMENSIONS, scores.percentile, strict=True)], fontsize=9)
    for side in (axis, right):
        side.spines[["left", "right", "top"]].set_visible(False)
        side.tick_params(axis="y", length=0, colors=INK)
    return figure


def moved_figure(scores: Scores) -> "Figure":
    """19 x aspects: what moved each score, as a heat map with numbers."""
    return heat(scores.moved, scores.aspects)


def heat(moved: np.ndarray, aspects: tuple[str, ...]) -> "Figure":
    """(n_aspects, 19) as a heat map with numbers, a row a dimension."""
    figure, axes = _figure(9.5, 6.6)
    axis = axes[0, 0]
    most = max(0.05, float(np.abs(moved).max()))
    axis.imshow(moved.T, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    axis.set_xticks(range(len(aspects)), list(aspects), fontsize=9)
    axis.xaxis.tick_top()
    axis.set_yticks(range(len(DIMENSIONS)), [f"{d.low} - {d.high}" for d in DIMENSIONS], fontsize=8)
    for (a, k), value in np.ndenumerate(moved):
        if abs(value) >= 0.005:
            colour = "white" if abs(value) > 0.6 * most else INK
            axis.text(a, k, f"{value:+.2f}", ha="center", va="center", fontsize=7.5, color=colour)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    return figure


def windows_figure(scores: Scores) -> "Figure":
    """Scores over the windows of a long recording, one small panel a dimension."""
    figure, axes = _figure(12, 7.5, 4, 5, sharex=True, sharey=True)
    edges = np.array([w.start_s for w in scores.windows] + [scores.windows[-1].end_s])
    for k, (axis, of) in enumerate(zip(axes.flat, DIMENSIONS, strict=False)):
        axis.stairs(scores.by_window[:, k], edges, color=SCORE, baseline=None)
        axis.axhline(scores.value[k], color=LOOKUP, linewidth=0.8)
        axis.set_title(f"{of.low} - {of.high}", fontsize=7.5, color=INK)
        axis.set_ylim(0, 1)
    for axis in list(axes.flat)[len(DIMENSIONS) :]:
        axis.axis("off")
    figure.supxlabel("seconds (red: the whole recording)", fontsize=9)
    return figure


def roll_figure(played: Performance, scores: Scores) -> "Figure":
    """The piano roll with the sustain pedal, in rows of at most two minutes, and the scores of each window."""
    rows = max(1, int(np.ceil(played.duration_s / _ROLL_MOST_S)))
    span = played.duration_s / rows
    figure, axes = _figure(12, 3.6 * rows, 2 * rows, 1, height_ratios=[5, 1] * rows)
    low, high = int(played.pitch.min()) - 2, int(played.pitch.max()) + _WORDS_ABOVE
    for row in range(rows):
        start, end = row * span, (row + 1) * span
        roll(axes[2 * row, 0], axes[2 * row + 1, 0], played, start, end, (low, high))
        for window, value in zip(scores.windows, scores.by_window, strict=True):
            if start <= window.start_s < end:
                _words(axes[2 * row, 0], window.start_s, value - scores.reference_value, high)
    axes[-1, 0].set_xlabel("seconds", fontsize=9)
    return figure


def passages_figure(played: Performance, scores: Scores) -> "Figure":
    """A piano roll for each of the scores that depart most, notes coloured by what their passage moves it by."""
    from matplotlib import colormaps

    departure = scores.value - scores.reference_value
    shown = np.argsort(-np.abs(departure), kind="stable")[:_MOST_ROLLS]
    figure, axes = _figure(12, 2.4 * len(shown), len(shown), 1, sharex=True)
    keys = int(played.pitch.min()) - 2, int(played.pitch.max()) + 3
    starts = np.array([p.start_s for p in scores.passages])
    # A note belongs to the passage that it begins in; passages follow one another.
    of = np.clip(np.searchsorted(starts, played.onset_s, side="right") - 1, 0, None)
    most = max(0.01, float(np.abs(scores.by_passage[:, shown]).max()))
    for axis, k in zip(axes[:, 0], shown, strict=True):
        moved = scores.by_passage[of, k]
        _notes(axis, played, 0.0, played.duration_s, keys, colormaps["RdBu_r"](0.5 + 0.5 * moved / most))
        for start in starts:
            axis.axvline(start, color="#999999", linewidth=0.4, linestyle=":")
        towards = DIMENSIONS[k].high if departure[k] > 0 else DIMENSIONS[k].low
        axis.set_title(f"{towards}: {DIMENSIONS[k].low} - {DIMENSIONS[k].high} {scores.value[k]:.2f}", fontsize=9)
        axis.set_facecolor("#f1f1f1")  # so that notes that move nothing are seen
    axes[-1, 0].tick_params(labelbottom=True)
    axes[-1, 0].set_xlabel(f"seconds (full red or blue: {most:.2f})", fontsize=9)
    return figure


def roll(notes: "Axes", pedal: "Axes", played: Performance, start: float, end: float, keys: tuple[int, int]) -> None:
    """A stretch of a performance: notes by key and time, the louder the darker, and the sustain pedal below."""
    _notes(notes, played, start, end, keys, _loud(played))
    _pedal(pedal, played, start, end)


def _loud(played: Performance) -> np.ndarray:
    """(n_notes, 4) colours: the louder the darker."""
    from matplotlib import colormaps

    return np.asarray(colormaps["Blues"](0.25 + 0.75 * played.velocity / 127))


def _notes(
    axis: "Axes", played: Performance, start: float, end: float, keys: tuple[int, int], colours: np.ndarray
) -> None:
    from matplotlib.collections import LineCollection

    chosen = (played.onset_s < end) & (played.offset_s > start)
    ends = zip(played.onset_s[chosen], played.offset_s[chosen], played.pitch[chosen], strict=True)
    lines = [[(on, p), (off, p)] for on, off, p in ends]
    axis.add_collection(LineCollection(lines, colors=colours[chosen], linewidths=3.2))
    axis.set_xlim(start, end)
    axis.set_ylim(*keys)
    c = [p for p in range(0, 128, 12) if keys[0] <= p <= keys[1]]
    axis.set_yticks(c, [f"C{p // 12 - 1}" for p in c], fontsize=8)
    axis.tick_params(labelbottom=False)


def _pedal(axis: "Axes", played: Performance, start: float, end: float) -> None:
    time, value = played.pedal(SUSTAIN)
    edges = np.concatenate([[0.0], time, [played.duration_s]])
    depth = np.concatenate([[0.0], value]) / 127
    axis.stairs(depth, edges, fill=True, color=PALE, baseline=0)
    axis.set_xlim(start, end)
    axis.set_ylim(0, 1)
    axis.set_yticks([0.5], ["pedal"], fontsize=8)


def _words(axis: "Axes", at: float, departure: np.ndarray, high: int) -> None:
    """The three poles towards which a window departs most."""
    strongest = np.argsort(-np.abs(departure))[:3]
    said = [DIMENSIONS[k].high if departure[k] > 0 else DIMENSIONS[k].low for k in strongest]
    axis.axvline(at, color="#999999", linewidth=0.6, linestyle=":")
    axis.text(at, high, "\n".join(said), fontsize=6.5, va="top", ha="left", color=LOOKUP, clip_on=True)
