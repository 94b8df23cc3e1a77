"""The differences of a comparison's arms to their reference, drawn."""

from typing import TYPE_CHECKING

from piano_assets.report.outcomes import Outcome
from piano_assets.report.plots import CEILING, INK, LOOKUP, SCORE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = {"better": SCORE, "worse": LOOKUP, "equivalent": CEILING, "inconclusive": "#8a8f98"}


def is_plotted(outcome: Outcome) -> bool:
    """Whether there are two differences or more to see."""
    return outcome.run and sum(a.difference is not None for a in outcome.arms) > 1


def differences_plot(outcome: Outcome) -> "Figure":
    """Each tested arm's difference in mean r with its 95 % interval, coloured by verdict, over the band of the margin.

    Raises:
        ValueError: no arm was tested.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    tested = [(a.name, a.difference) for a in outcome.arms if a.difference][::-1]
    if not tested:
        raise ValueError(f"{outcome.name}: no arm was tested")
    figure = Figure(figsize=(7.5, 1.1 + 0.22 * len(tested)), layout="constrained")
    axis = figure.subplots()
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8, colors=INK)
    axis.axvspan(-outcome.margin, outcome.margin, color="#eef1f4", zorder=0)
    axis.axvline(0, color="#999999", linewidth=0.8)
    for y, (_, d) in enumerate(tested):
        axis.plot([d.ci_low, d.ci_high], [y, y], color=COLOURS[d.verdict], linewidth=1.6)
        axis.plot([d.estimate], [y], "o", color=COLOURS[d.verdict], markersize=4.5)
    axis.set_yticks(range(len(tested)), [name for name, _ in tested])
    axis.set_xlabel(f"mean r less that of {outcome.reference}, 95 % interval; band: the margin", fontsize=8, color=INK)
    shown = [v for v in COLOURS if any(d.verdict == v for _, d in tested)]
    handles = [Line2D([], [], color=COLOURS[v], marker="o", markersize=4.5, label=v) for v in shown]
    figure.legend(handles=handles, fontsize=8, frameon=False, loc="outside upper right", ncols=len(shown))
    return figure
