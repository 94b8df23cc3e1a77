"""What a model rests on, where it errs and how far data would take it, as figures; its worst clips, to listen to.

Every function takes the rows of one subject and probe of the table `diagnostics`.
"""

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from piano_assets.analysis.diagnostics.data_size import DOUBLED, EPOCH, LAW, SIZE
from piano_assets.analysis.diagnostics.error_analysis import GROUPINGS, TERCILES
from piano_assets.analysis.diagnostics.feature_importance import INTACT, WITHIN
from piano_assets.corpus.audio import read_audio
from piano_assets.dimensions import NAMES
from piano_assets.report.plots import CEILING, GREY, INK, LOOKUP, PALE, SCORE, _figure
from piano_assets.statistics.mixed import REST

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAMPLE_RATE = 22050
BLOCK = 4096
THIRD = {1: "lowest", 2: "middle", 3: "highest"}
SHARE_COLOURS = {"excerpt": SCORE, "performer": LOOKUP, REST: GREY}


def importance_figure(rows: pd.DataFrame, title: str) -> "Figure":
    """Drop of mean r by family with intervals, exchanged over all clips and within excerpts; and by dimension.

    Families by their drop, the largest on top; below them, on a scale of their own, the whole sources.
    """
    rows = rows[(rows["population"] == "all") & (rows["metric"] == "pearson_mean_drop")]
    mean = rows[rows["dimension"] == "mean"].set_index("condition")
    plain = mean[~mean.index.str.endswith(WITHIN) & (mean.index != INTACT)].sort_values("value", ascending=False)
    wide = rows[rows["dimension"].isin(NAMES)].pivot(index="condition", columns="dimension", values="value")
    blocks = [[n for n in plain.index if "." in n], [n for n in plain.index if "." not in n]]
    blocks = [names for names in blocks if names]
    sizes = [len(names) + 0.3 for names in blocks]
    figure, axes = _figure(13, 2.6 + 0.34 * sum(sizes), len(blocks), 2, width_ratios=[1, 1.7], height_ratios=sizes)
    for (bars, heat), names in zip(axes, blocks, strict=True):
        _drops(bars, mean, names)
        _drops_by_dimension(heat, wide.reindex(index=names, columns=list(NAMES)).to_numpy(float))
    axes[0, 1].set_title("drop of r by dimension, over all clips", fontsize=8, color=INK)
    axes[-1, 0].set_xlabel("drop of mean r when exchanged, 95 % interval", fontsize=8)
    axes[-1, 1].set_xticks(range(len(NAMES)), list(NAMES), rotation=60, ha="right", fontsize=7)
    axes[0, 0].legend(fontsize=7, frameon=False, loc="lower right")  # the smallest drops leave room there
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def _drops(axis: "Axes", mean: pd.DataFrame, names: list[str]) -> None:
    y = np.arange(len(names))
    for ending, colour, at, label in (("", SCORE, -0.19, "over all clips"), (WITHIN, PALE, 0.19, "within excerpts")):
        found = mean.reindex([name + ending for name in names])
        axis.barh(y + at, found["value"], color=colour, height=0.36, label=label)
        _whiskers(axis, found, y + at)
    axis.set_yticks(y, [_with_number(name, mean) for name in names], fontsize=8)
    axis.set_ylim(len(names) - 0.5, -0.5)
    axis.axvline(0, color="#999999", linewidth=0.8)


def _drops_by_dimension(axis: "Axes", grid: np.ndarray) -> None:
    limit = max(float(np.nanmax(abs(grid))), 1e-9)
    axis.imshow(grid, cmap="RdBu", vmin=-limit, vmax=limit, aspect="auto")
    for (y, x), value in np.ndenumerate(grid):
        if abs(value) >= 0.005:
            colour = "white" if abs(value) > 0.6 * limit else INK
            axis.text(x, y, f"{value:.2f}".replace("0.", "."), ha="center", va="center", fontsize=6, color=colour)
    axis.set_xticks([])
    axis.set_yticks([])


def _with_number(name: str, mean: pd.DataFrame) -> str:
    n = mean.loc[name, "step"]
    return name if pd.isna(n) else f"{name} ({n:.0f})"


def _whiskers(axis: "Axes", rows: pd.DataFrame, y: np.ndarray, colour: str = INK) -> None:
    low, high = rows["ci_low"].to_numpy(float), rows["ci_high"].to_numpy(float)
    axis.hlines(y, low, high, color=colour, linewidth=0.9)


def error_figure(rows: pd.DataFrame, title: str) -> "Figure":
    """What goes with a clip's error, whose the residuals are, and the mean error of groups of clips."""
    figure, axes = _figure(12, 9, 2, 2)
    _forest(axes[0, 0], rows)
    _variance_shares(axes[0, 1], rows)
    means = rows[(rows["metric"] == "mean_rmse") & (rows["dimension"] == "mean")]
    _group_means(axes[1, 0], means)
    _ranked_means(axes[1, 1], means)
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def _forest(axis: "Axes", rows: pd.DataFrame) -> None:
    slopes = rows[(rows["metric"] == "rmse_slope") & rows["value"].notna()].iloc[::-1]
    y = np.arange(len(slopes))
    _whiskers(axis, slopes, y, SCORE)
    axis.plot(slopes["value"], y, "o", color=SCORE, markersize=5)
    axis.axvline(0, color="#999999", linewidth=0.8)
    axis.set_yticks(y, [name.replace("_", " ") for name in slopes["condition"]], fontsize=8)
    axis.set_ylim(-0.6, max(len(slopes) - 0.4, 0.6))
    axis.set_xlabel("change of a clip's error with one standard deviation, 95 % interval", fontsize=8)
    axis.set_title("What goes with the error (mixed model)", fontsize=9, color=INK)


def _variance_shares(axis: "Axes", rows: pd.DataFrame) -> None:
    error = rows[rows["metric"] == "rmse_share"].assign(dimension="error (rmse)")
    residual = rows[rows["metric"] == "residual_share"].replace({"dimension": {"mean": "mean residual"}})
    wide = pd.concat([error, residual]).pivot(index="dimension", columns="condition", values="value")
    dimensions = wide.reindex(list(NAMES)).sort_values("rest", ascending=True).index
    order = [*dimensions[::-1], "mean residual", "error (rmse)"]
    wide = wide.reindex(order)
    y, left = np.arange(len(order)), np.zeros(len(order))
    for part, colour in SHARE_COLOURS.items():
        value = wide[part].fillna(0).to_numpy(float)
        axis.barh(y, value, left=left, color=colour, height=0.75, label=part)
        left = left + value
    axis.axhline(len(dimensions) - 0.5, color=INK, linewidth=0.8)
    axis.set_yticks(y, order, fontsize=7)
    axis.set_xlim(0, 1)
    axis.set_ylim(-0.5, len(order) - 0.5)
    axis.set_xlabel("share of the variance that the slopes leave", fontsize=8)
    axis.set_title("Whose errors are they?", fontsize=9, color=INK, loc="left")
    axis.legend(fontsize=7, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.99), ncols=3)


def _group_means(axis: "Axes", means: pd.DataFrame) -> None:
    parts = [means[means["condition"].isin(("all", "people", "deadpan"))]]
    for condition in TERCILES.values():
        found = means[means["condition"] == condition].sort_values("step")
        name = condition.removeprefix("tercile of ")
        parts.append(found.assign(condition=[f"{name}: {THIRD[int(k)]} third" for k in found["step"]]))
    shown = pd.concat(parts).iloc[::-1]
    y = np.arange(len(shown))
    _whiskers(axis, shown, y, SCORE)
    axis.plot(shown["value"], y, "o", color=SCORE, markersize=5)
    axis.axvline(float(shown["value"].iloc[-1]), color="#999999", linewidth=0.8, linestyle=":")
    axis.set_yticks(y, list(shown["condition"]), fontsize=8)
    axis.set_xlabel("mean error (rmse over dimensions, ratings on 0..1), 95 % interval", fontsize=8)
    axis.set_title("Mean error by group", fontsize=9, color=INK)


def _ranked_means(axis: "Axes", means: pd.DataFrame) -> None:
    """Every excerpt and, beside these, every performer in the order of its mean error; the ends are named."""
    shown = means[means["condition"].str.contains("=")]
    for start, grouping in zip((0.0, 1.15), GROUPINGS, strict=True):
        chosen = shown[shown["condition"].str.startswith(f"{grouping}=")].sort_values("value")
        colour, x = SHARE_COLOURS[grouping], start + (np.arange(len(chosen)) + 0.5) / max(len(chosen), 1)
        axis.vlines(x, chosen["ci_low"].astype(float), chosen["ci_high"].astype(float), color=colour, alpha=0.3)
        axis.plot(x, chosen["value"], "o", color=colour, markersize=3.5, label=f"{len(chosen)} {grouping}s")
        for at, side, up in ((0, "left", -40), (-1, "right", 40)) if len(chosen) > 1 else ():
            name = str(chosen["condition"].iloc[at]).partition("=")[2]
            axis.annotate(
                name, (x[at], chosen["value"].iloc[at]), (0, up), textcoords="offset points", ha=side, va="center",
                fontsize=7, color=colour, arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6},
            )  # fmt: skip
    if len(shown):  # intervals of two clips would leave no room for the others
        axis.set_ylim(0, 1.45 * float(shown["value"].max()))
    axis.set_xticks([])
    axis.set_xlabel("from the easiest to the hardest", fontsize=8)
    axis.set_ylabel("mean error, 95 % interval", fontsize=8)
    axis.set_title("Mean error by excerpt and performer", fontsize=9, color=INK)
    axis.legend(fontsize=7, frameon=False, loc="upper left", ncols=2)


def size_figure(rows: pd.DataFrame, title: str) -> "Figure":
    """Learning curves: loss and validation r over epochs (networks), scores over clips with their law and its end."""
    epochs, sizes = rows[rows["condition"] == EPOCH], rows[rows["condition"] == SIZE]
    n_panels = (2 if len(epochs) else 0) + (1 if len(sizes) else 0)
    if not n_panels:
        raise ValueError("neither epochs nor sizes to draw")
    figure, (axes,) = _figure(4.4 * n_panels + 0.6, 3.8, 1, n_panels)
    if len(epochs):
        wide = epochs.pivot(index="step", columns="metric", values="value").sort_index()
        for metric, style, label in (("train_loss", "-", "training"), ("valid_loss", ":", "inner validation")):
            axes[0].plot(wide.index + 1, wide[metric], style, color=SCORE, marker=".", label=label)
        axes[0].set_ylabel("loss", fontsize=8)
        axes[0].legend(fontsize=7, frameon=False)
        axes[1].plot(wide.index + 1, wide["valid_r"], color=SCORE, marker=".")
        axes[1].set_ylabel("mean r on inner validation", fontsize=8)
        for axis in axes[:2]:
            axis.set_xlabel("epoch", fontsize=8)
    if len(sizes):
        _over_size(axes[-1], rows)
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def _over_size(axis: "Axes", rows: pd.DataFrame) -> None:
    from matplotlib.ticker import NullLocator

    whole = rows[(rows["population"] == "all") & (rows["dimension"] == "mean")]
    for metric, colour, label in (("pearson_mean", SCORE, "mean r"), ("r2_pooled", CEILING, "R2")):
        of = whole[whole["metric"] == metric]
        points = of[of["condition"] == SIZE].sort_values("step")
        ahead = of[of["condition"] == DOUBLED]
        axis.plot(points["step"], points["value"], "o", color=colour, markersize=5, label=label)
        axis.vlines(points["step"], points["ci_low"], points["ci_high"], color=colour, linewidth=1)
        law = whole[whole["condition"] == LAW].set_index("metric")["value"]
        if len(ahead) and f"{metric}_a" in law:
            a, b, c = (law[f"{metric}_{name}"] for name in "abc")
            n = np.geomspace(points["step"].min(), float(ahead["step"].iloc[0]), 80)
            axis.plot(n, a - b * n**-c, color=colour, linewidth=1, linestyle="--")
            axis.plot(ahead["step"], ahead["value"], "o", color=colour, mfc="white", markersize=6)
            axis.vlines(ahead["step"], ahead["ci_low"], ahead["ci_high"], color=colour, linewidth=1, alpha=0.6)
    axis.set_xscale("log", base=2)
    steps = whole[whole["condition"].str.startswith(SIZE)]["step"].unique()
    axis.set_xticks(sorted(steps), [f"{s:.0f}" for s in sorted(steps)])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("clips learnt from (hollow: predicted by the law)", fontsize=8)
    axis.set_ylabel("score on the same test clips, 95 % interval", fontsize=8)
    axis.legend(fontsize=7, frameon=False, loc="lower right")


def worst_clips(rows: pd.DataFrame, clips: pd.DataFrame, recordings: Mapping[str, Path]) -> str:
    """An HTML fragment: the clips of the largest error, each with its sound and its three worst dimensions.

    Args:
        rows: of `error_analysis`. clips: table `clips`. recordings: clip -> sound file; a clip without one is shown
            without sound, and says so.
    """
    of = clips.set_index("clip")
    ranked = rows[(rows["metric"] == "rmse") & rows["step"].notna()].sort_values("step")
    items = []
    for worst in ranked.itertuples():
        clip = str(worst.condition)
        mine = rows[(rows["condition"] == clip) & rows["metric"].isin(("predicted", "rated"))]
        wide = mine.pivot(index="dimension", columns="metric", values="value")
        wide = wide.loc[(wide["predicted"] - wide["rated"]).abs().sort_values(ascending=False).index]
        lines = "".join(_line(str(name), r["predicted"], r["rated"]) for name, r in wide.iterrows())
        whose = f"{of.at[clip, 'performer']}, {of.at[clip, 'duration_s']:.0f} s, {of.at[clip, 'n_notes']} notes"
        sound = _player(recordings[clip]) if clip in recordings else "<p><em>no recording here</em></p>"
        items.append(
            f"<li><strong>{html.escape(clip)}</strong> error {worst.value:.3f} ({html.escape(whose)})"
            f"{sound}<table>{lines}</table></li>"
        )
    return (
        '<div class="worst-clips"><p>Ring: rated by listeners. Dot: predicted. Scale 0 to 1.</p>'
        f"<ol>{''.join(items)}</ol></div>"
    )


def _line(dimension: str, predicted: float, rated: float) -> str:
    """A table row: both values on a line from 0 to 1, and in figures."""
    width, height = 220, 14
    x, y = (round(8 + (width - 16) * float(np.clip(v, 0, 1)), 1) for v in (predicted, rated))
    mark = (
        f'<svg width="{width}" height="{height}" aria-hidden="true">'
        f'<line x1="8" x2="{width - 8}" y1="7" y2="7" stroke="{GREY}"/>'
        f'<line x1="{x}" x2="{y}" y1="7" y2="7" stroke="{INK}"/>'
        f'<circle cx="{y}" cy="7" r="4.5" fill="white" stroke="{LOOKUP}" stroke-width="2"/>'
        f'<circle cx="{x}" cy="7" r="4" fill="{SCORE}"/></svg>'
    )
    told = f"rated {rated:.2f}, predicted {predicted:.2f}"
    return f"<tr><td>{html.escape(dimension)}</td><td>{mark}</td><td>{told}</td></tr>"


def _player(path: Path) -> str:
    kind, sound = encoded(read_audio(path, SAMPLE_RATE))
    return f'<br><audio controls preload="none" src="data:{kind};base64,{base64.b64encode(sound).decode()}"></audio>'


def encoded(samples: np.ndarray) -> tuple[str, bytes]:
    """(media type, file) of mono samples at 22.05 kHz: Ogg Vorbis, or FLAC where libsndfile writes no Vorbis."""
    import soundfile

    vorbis = "OGG" in soundfile.available_formats() and "VORBIS" in soundfile.available_subtypes("OGG")
    container, subtype, kind = ("OGG", "VORBIS", "audio/ogg") if vorbis else ("FLAC", "PCM_16", "audio/flac")
    sink = io.BytesIO()
    with soundfile.SoundFile(sink, "w", SAMPLE_RATE, 1, subtype=subtype, format=container) as file:
        # libsndfile's Vorbis encoder keeps what it is handed at once on the stack, which a minute of sound overflows.
        for start in range(0, len(samples), BLOCK):
            file.write(samples[start : start + BLOCK])
    return kind, sink.getvalue()
