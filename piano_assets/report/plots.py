"""Plots of results as matplotlib figures. A score stands beside its protocol, interval, lookup and ceiling."""

import base64
import io
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from piano_assets.dimensions import NAMES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, SCORE, LOOKUP, CEILING = "#222831", "#2a6f97", "#c8553d", "#6a994e"
PALE, GREY = "#a9c6d9", "#d5d8dc"
CEILING_ROW = "(ceiling)"
MOST_NAMED = 25
"""Lines that a legend names."""


def _figure(width: float, height: float, rows: int = 1, columns: int = 1, **more) -> tuple["Figure", np.ndarray]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **more)
    for axis in axes.flat:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8, colors=INK)
    return figure, axes


_drawn: "WeakKeyDictionary[Figure, dict[int, bytes]]" = WeakKeyDictionary()


def png(figure: "Figure", dpi: int = 110) -> bytes:
    """The finished figure as PNG bytes. It is drawn once: a plot goes into a page, a file and a preview."""
    drawn = _drawn.setdefault(figure, {})
    if dpi not in drawn:
        sink = io.BytesIO()
        figure.savefig(sink, format="png", dpi=dpi, metadata={"Software": None})
        drawn[dpi] = sink.getvalue()
    return drawn[dpi]


def data_uri(figure: "Figure") -> str:
    """The figure as a data URI, for HTML and Markdown that open without a network."""
    return "data:image/png;base64," + base64.b64encode(png(figure)).decode()


def thumbnail(figure: "Figure", limit: int = 10_000) -> str:
    """The figure as a data URI of at most `limit` characters: as large as that allows, with few colours.

    Raises:
        ValueError: it does not fit even at a tenth of its size.
    """
    from PIL import Image

    whole = Image.open(io.BytesIO(png(figure))).convert("RGB")
    for tenths in range(8, 0, -1):
        size = (max(whole.width * tenths // 10, 1), max(whole.height * tenths // 10, 1))
        small = whole.resize(size, Image.Resampling.LANCZOS)
        for colours in (16, 6):
            sink = io.BytesIO()
            small.quantize(colours, dither=Image.Dither.NONE).save(sink, "PNG", optimize=True)
            uri = "data:image/png;base64," + base64.b64encode(sink.getvalue()).decode()
            if len(uri) <= limit:
                return uri
    raise ValueError(f"the figure takes {len(uri)} characters at a tenth of its size, the limit is {limit}")


def predicted_against_rated(pred: pd.DataFrame, target: pd.DataFrame, title: str) -> "Figure":
    """One panel per dimension: out-of-fold prediction against label, people filled, deadpan hollow.

    Args:
        pred, target: (n_clips, 19), index clip, columns the dimensions, on the 0..1 scale. `target` may hold a further
            boolean column `deadpan`.
    """
    figure, axes = _figure(12, 9.6, 4, 5, sharex=True, sharey=True)
    deadpan = target["deadpan"].to_numpy(bool) if "deadpan" in target else np.zeros(len(target), bool)
    for axis, name in zip(axes.flat, NAMES, strict=False):
        x, y = target[name].to_numpy(float), pred[name].to_numpy(float)
        axis.plot([0.1, 1], [0.1, 1], color="#bbbbbb", linewidth=0.8, zorder=0)
        axis.scatter(x[~deadpan], y[~deadpan], s=4, color=SCORE, alpha=0.45, linewidths=0)
        axis.scatter(x[deadpan], y[deadpan], s=7, facecolors="none", edgecolors=LOOKUP, linewidths=0.5)
        fine = np.isfinite(x) & np.isfinite(y)
        r = np.corrcoef(x[fine], y[fine])[0, 1] if fine.sum() > 2 else np.nan
        axis.set_title(f"{name}\nr = {r:.2f}", fontsize=7.5, color=INK)
        axis.set_xlim(0.1, 1)
        axis.set_ylim(0.1, 1)
    for axis in list(axes.flat)[len(NAMES) :]:
        axis.axis("off")
    figure.supxlabel("mean rating / 7 (blue: people, red rings: deadpan renditions)", fontsize=9)
    figure.supylabel("out-of-fold prediction", fontsize=9)
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def dimension_bars(rows: pd.DataFrame, title: str) -> "Figure":
    """Bars per dimension with intervals, a red mark for the best lookup and a green one for the ceiling.

    Args:
        rows: columns dimension, value, ci_low, ci_high, lookup, ceiling; one row per dimension.
    """
    rows = rows.sort_values("value", ascending=True)
    figure, axes = _figure(8.5, 5.6)
    axis, y = axes[0, 0], np.arange(len(rows))
    axis.barh(y, rows["value"], color=SCORE, alpha=0.8, height=0.65)
    low, high = (rows["value"] - rows["ci_low"]).clip(lower=0), (rows["ci_high"] - rows["value"]).clip(lower=0)
    axis.errorbar(rows["value"], y, xerr=[low.fillna(0), high.fillna(0)], fmt="none", ecolor=INK, elinewidth=0.9)
    axis.plot(rows["lookup"], y, "|", color=LOOKUP, markersize=13, markeredgewidth=2, label="best lookup")
    axis.plot(rows["ceiling"], y, "|", color=CEILING, markersize=13, markeredgewidth=2, label="ceiling")
    axis.set_yticks(y, rows["dimension"], fontsize=8)
    axis.axvline(0, color="#999999", linewidth=0.8)
    axis.set_xlabel("correlation with the label, 95 % interval", fontsize=9)
    figure.legend(fontsize=8, frameon=False, loc="outside lower right", ncols=2)  # inside, it would hide marks
    axis.set_title(title, fontsize=10, color=INK)
    return figure


def learning_curves(history: pd.DataFrame, title: str) -> "Figure":
    """Loss and validation r by epoch, one colour an arm: means over its folds, seeds and search points.

    A member that has stopped keeps its last value, so that a mean is always one over all members. Losses of different
    kinds share no scale: each arm's is divided by its first training loss.

    Args:
        history: rows of the table `history` with a column `arm`.
    """
    from matplotlib import colormaps

    figure, axes = _figure(9, 3.6, 1, 2)
    curves = {str(arm): _mean_curve(rows) for arm, rows in history.groupby("arm", sort=True)}
    for i, (arm, curve) in enumerate(curves.items()):
        epoch, colour = curve.index + 1, colormaps["tab20"](i % 20)
        first = curve["train_loss"].iloc[0]
        axes[0, 0].plot(epoch, curve["train_loss"] / first, color=colour, marker=".", linewidth=1)
        axes[0, 0].plot(epoch, curve["valid_loss"] / first, color=colour, marker=".", linewidth=1, linestyle=":")
        axes[0, 1].plot(epoch, curve["valid_r"], color=colour, marker=".", linewidth=1, label=arm)
    axes[0, 0].set_ylabel("loss / first training loss (dotted: validation)", fontsize=8)
    axes[0, 1].set_ylabel("mean r on inner validation", fontsize=8)
    for axis in axes.flat:
        axis.set_xlabel("epoch", fontsize=8)
    if len(curves) <= MOST_NAMED:
        figure.legend(fontsize=7, frameon=False, loc="outside right upper")
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def _mean_curve(history: pd.DataFrame) -> pd.DataFrame:
    """Means over members by epoch, (n_epochs, 3)."""
    columns = ["train_loss", "valid_loss", "valid_r"]
    member = ["trial", "seed", "fold", "inner_fold", "search_point"]
    wide = history.assign(inner_fold=history["inner_fold"].fillna(-1)).pivot(
        index="epoch", columns=member, values=columns
    )
    return wide.sort_index().ffill().T.groupby(level=0).mean().T[columns]


def dimension_heat(rows: pd.DataFrame, title: str) -> "Figure":
    """Correlation of every subject on every dimension, best subject on top, dimensions as the ratings have them.

    Args:
        rows: subject, dimension, value; subjects are ordered by their mean. The rows named `CEILING_ROW` come last.
    """
    wide = rows.pivot(index="subject", columns="dimension", values="value").reindex(columns=list(NAMES))
    order = wide.mean(1).sort_values(ascending=False).index
    wide = wide.loc[[*(s for s in order if s != CEILING_ROW), *(s for s in order if s == CEILING_ROW)]]
    figure, axes = _figure(11, 1.9 + 0.24 * len(wide))
    axis = axes[0, 0]
    image = axis.imshow(wide.to_numpy(float), cmap="viridis", vmin=0, vmax=1, aspect="auto")
    for (y, x), value in np.ndenumerate(wide.to_numpy(float)):
        if np.isfinite(value):
            axis.text(
                x, y, f"{value:.2f}".removeprefix("0"), ha="center", va="center", fontsize=6,
                color="white" if value < 0.65 else INK,
            )  # fmt: skip
    axis.set_xticks(range(len(NAMES)), list(NAMES), rotation=60, ha="right", fontsize=7)
    axis.set_yticks(range(len(wide)), list(wide.index), fontsize=7)
    figure.colorbar(image, ax=axis, shrink=0.8, pad=0.01).ax.tick_params(labelsize=7)
    axis.set_title(title, fontsize=10, color=INK)
    return figure


def coverage_curves(rows: pd.DataFrame, title: str) -> "Figure":
    """How often intervals held the label, over what they promised; on the diagonal they keep their word.

    Args:
        rows: subject, probe, step (the level promised), value, ci_low, ci_high.
    """
    from matplotlib import colormaps

    figure, axes = _figure(7.5, 4.6)
    axis = axes[0, 0]
    axis.plot([0, 1], [0, 1], color="#999999", linewidth=0.8)
    for i, ((subject, probe), one) in enumerate(rows.groupby(["subject", "probe"], sort=True)):
        one, colour = one.sort_values("step"), colormaps["tab20"](i % 20)
        axis.plot(one["step"], one["value"], color=colour, marker="o", markersize=3.5, linewidth=1.2,
                  linestyle="-" if probe == "conformal" else "--", label=f"{subject}, {probe}")  # fmt: skip
        axis.vlines(one["step"], one["ci_low"], one["ci_high"], color=colour, linewidth=0.8, alpha=0.6)
    axis.set_xlim(0.4, 1)
    axis.set_ylim(0, 1)
    axis.set_xlabel("level promised", fontsize=9)
    axis.set_ylabel("share of labels held, 95 % interval", fontsize=9)
    figure.legend(fontsize=7, frameon=False, loc="outside right upper")
    axis.set_title(title, fontsize=10, color=INK)
    return figure


def protocol_forest(board: pd.DataFrame, metric: str, title: str) -> "Figure":
    """Every subject of one protocol with its interval, over the best lookup (red) and the ceiling (green).

    Args:
        board: rows of `leaderboard` of one split and rule. metric: the column to draw, with `_low` and `_high` if any.
    """
    rows = board[board[metric].notna()].iloc[::-1]
    figure, axes = _figure(8.5, 1.1 + 0.27 * max(len(rows), 3))
    axis, y = axes[0, 0], np.arange(len(rows))
    colours = {"published": "#8d6a9f", "lookup": LOOKUP, "ensemble": "#1b4965"}
    for i, row in zip(y, rows.itertuples(), strict=True):
        colour = colours.get(str(row.kind), SCORE)
        value = getattr(row, metric)
        low, high = getattr(row, f"{metric}_low", np.nan), getattr(row, f"{metric}_high", np.nan)
        if np.isfinite([low, high]).all():
            axis.plot([low, high], [i, i], color=colour, linewidth=1.6)
        axis.plot([value], [i], "o", color=colour, markersize=4.5, mfc=colour if row.kind != "published" else "white")
    for column, colour, text in (("lookup_r2", LOOKUP, "best lookup"), ("ceiling_r2", CEILING, "ceiling")):
        found = rows[column].dropna() if metric.startswith("r2") else pd.Series(dtype=float)
        if len(found):
            axis.axvline(float(found.iloc[0]), color=colour, linestyle="--", linewidth=1, label=text)
    axis.set_yticks(y, rows["subject"], fontsize=8)
    intervals = rows.get(f"{metric}_low", pd.Series(dtype=float)).notna().any()
    axis.set_xlabel(f"{metric}, 95 % interval" if intervals else metric, fontsize=9)
    if axis.get_legend_handles_labels()[0]:
        figure.legend(fontsize=8, frameon=False, loc="outside lower right", ncols=2)
    axis.set_title(title, fontsize=10, color=INK)
    return figure
