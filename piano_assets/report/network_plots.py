"""Figures of what goes on inside a trained network, from its rows in the table `diagnostics`: of one subject each."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from piano_assets.report.plots import CEILING, INK, LOOKUP, SCORE, _figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LOSSES = {"train_loss": ("training crops", SCORE), "valid_loss": ("validation clips", LOOKUP)}
PLANE = "beta="
WIDE = 20.0
"""From this ratio of the largest to the least loss on, its axis is logarithmic."""
SHORTEST_S = 0.03
"""Shorter notes are drawn as long as this, to be seen."""


def loss_landscape(rows: pd.DataFrame, title: str) -> "Figure":
    """The loss along one direction, and over the plane of two, on what was trained on and on what was not.

    Args:
        rows: those of the probe `loss_landscape`.
    """
    figure, axes = _figure(11.5, 3.7, 1, 3, width_ratios=(1.1, 1, 1))
    curves = rows[~rows["condition"].str.startswith(PLANE)].sort_values("step")
    for metric, (words, colour) in LOSSES.items():
        mine = curves[curves["metric"] == metric]
        axes[0, 0].plot(mine["step"], mine["value"], color=colour, marker=".", linewidth=1.3, label=words)
    axes[0, 0].axvline(0, color="#999999", linewidth=0.8)
    axes[0, 0].set_yscale("log" if curves["value"].max() > WIDE * curves["value"].min() > 0 else "linear")
    axes[0, 0].set_xlabel("way along one direction (1 = as long as the weights)", fontsize=8)
    axes[0, 0].set_ylabel("loss", fontsize=9)
    figure.legend(fontsize=8, frameon=False, loc="outside lower left", ncols=2)
    plane = rows[rows["condition"].str.startswith(PLANE)]
    plane = plane.assign(beta=plane["condition"].str.removeprefix(PLANE).astype(float))
    for axis, (metric, (words, _)) in zip(axes[0, 1:], LOSSES.items(), strict=True):
        _contours(figure, axis, plane[plane["metric"] == metric])
        axis.set_title(words, fontsize=9, color=INK)
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def _contours(figure: "Figure", axis: "Axes", plane: pd.DataFrame) -> None:
    from matplotlib.colors import LogNorm

    wide = plane.pivot(index="beta", columns="step", values="value").sort_index().sort_index(axis=1)
    loss = wide.to_numpy(float)
    least, most = np.nanmin(loss), np.nanmax(loss)
    logarithmic = most > WIDE * least > 0
    levels = np.geomspace(least, most, 14) if logarithmic else np.linspace(least, most, 14)
    if least < most:  # else there is nothing to draw a contour around
        norm = LogNorm(least, most) if logarithmic else None
        filled = axis.contourf(wide.columns, wide.index, loss, levels=levels, cmap="viridis", norm=norm)
        axis.contour(wide.columns, wide.index, loss, levels=levels, colors="white", linewidths=0.4)
        bar = figure.colorbar(filled, ax=axis, shrink=0.9, pad=0.02, format="%.3g")
        bar.ax.tick_params(labelsize=7)
        bar.ax.minorticks_off()
    axis.plot([0], [0], "+", color=LOOKUP, markersize=10, markeredgewidth=2)
    axis.set_aspect("equal")
    axis.set_xlabel("first direction", fontsize=8)
    axis.set_ylabel("second direction", fontsize=8)


def gradient_flow(rows: pd.DataFrame, title: str) -> "Figure":
    """How strongly each layer is pulled for its size, and how many clips a batch takes until its pull is no more noise.

    Layers from the input (top) to the head. An interval without an upper end runs out of the panel; a layer without
    a mark pulls too little to be told from noise. The dashed line and its band are the whole network's.

    Args:
        rows: those of the probe `gradients`.
    """
    layers = rows[rows["step"].notna()].sort_values("step")
    names = list(dict.fromkeys(layers["condition"]))
    wide = layers.pivot(index="condition", columns="metric", values="value").reindex(names)
    figure, axes = _figure(10.5, 1.5 + 0.21 * len(names), 1, 2, sharey=True)
    y = np.arange(len(names))
    flow, noise = axes[0]
    shown = wide["relative_gradient"].where(wide["relative_gradient"] > 0)
    flow.barh(y, shown, color=SCORE, alpha=0.8, height=0.65)
    flow.set_xscale("log")
    flow.set_xlim(left=shown.min() / 2)
    flow.set_xlabel("norm of the gradient / norm of the weights", fontsize=9)
    flow.set_yticks(y, names, fontsize=7)
    flow.invert_yaxis()
    scale = layers[layers["metric"] == "noise_scale"].set_index("condition").reindex(names)
    whole = rows[rows["step"].isna() & (rows["metric"] == "noise_scale")].iloc[0]
    ends = pd.concat([scale[["value", "ci_low", "ci_high"]], whole[["value", "ci_low", "ci_high"]].to_frame().T])
    seen = ends.astype(float).to_numpy()
    seen = seen[np.isfinite(seen) & (seen > 0)]
    left, right = (seen.min() / 2, seen.max() * 2) if len(seen) else (0.5, 2.0)
    for at, (value, low, high) in enumerate(scale[["value", "ci_low", "ci_high"]].to_numpy(float)):
        if np.isfinite(value):
            span = [max(np.nan_to_num(low), left), high if np.isfinite(high) else right]
            noise.plot(span, [at, at], color=SCORE, linewidth=1.4)
            noise.plot([value], [at], "o", color=SCORE, markersize=4)
    if np.isfinite(whole["value"]):
        high = whole["ci_high"] if np.isfinite(whole["ci_high"]) else right
        low = max(np.nan_to_num(whole["ci_low"]), left)
        noise.axvspan(low, high, color=CEILING, alpha=0.12, linewidth=0)
        words = f"whole network: {whole['value']:,.0f} clips"
        noise.axvline(whole["value"], color=CEILING, linestyle="--", linewidth=1.2, label=words)
        figure.legend(fontsize=8, frameon=False, loc="outside lower right")
    noise.set_xscale("log")
    noise.set_xlim(left, right)
    noise.set_xlabel("noise scale in clips, 95 % interval", fontsize=9)
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def attention_over_notes(rows: pd.DataFrame, notes: pd.DataFrame, title: str) -> "Figure":
    """Attention over the piano roll of each clip: notes in its colours, its course above, its bands beside.

    1 is what attention to all tokens alike would be: patches of time and bands, or notes. A note of a spectrogram has
    the mean between its onset and its release.

    Args:
        rows: those of the probe `attention_rollout`. notes: the table `notes`; clips that are not in it are refused.
    Raises:
        ValueError: a clip has no notes.
    """
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    clips = list(dict.fromkeys(rows["condition"]))
    figure, axes = _figure(
        11, 2.9 * len(clips), 2 * len(clips), 2, width_ratios=(12, 1), height_ratios=(1, 3) * len(clips)
    )
    found = [_relative(rows[rows["condition"] == clip], _notes_of(notes, clip)) for clip in clips]
    norm = Normalize(0, max(2.0, max(float(np.quantile(of_note, 0.99)) for _, _, of_note, _ in found)))
    for i, (clip, (time, course, of_note, bands)) in enumerate(zip(clips, found, strict=True)):
        (above, corner), (roll, beside) = axes[2 * i], axes[2 * i + 1]
        mine = _notes_of(notes, clip)
        corner.axis("off")
        above.plot(time, course, color=SCORE, linewidth=1, drawstyle="steps-mid" if len(bands) else "default")
        above.axhline(1, color="#999999", linewidth=0.8, linestyle=":")
        above.set_ylim(0, max(2.0, 1.05 * float(course.max())))
        above.tick_params(labelbottom=False)
        above.set_title(clip, fontsize=8, color=INK, loc="left")
        length = (mine["offset_s"] - mine["onset_s"]).clip(lower=SHORTEST_S)
        roll.barh(mine["pitch"], length, left=mine["onset_s"], height=0.9, linewidth=0.2, edgecolor="#555555",
                  color=colormaps["YlOrRd"](norm(of_note)))  # fmt: skip
        roll.set_ylabel("MIDI pitch", fontsize=8)
        end = float(mine["offset_s"].max())
        for axis in (above, roll):
            axis.set_xlim(-0.01 * end, 1.01 * end)
        if len(bands):
            beside.barh(np.arange(len(bands)), bands, color=SCORE, alpha=0.8, height=0.8)
            beside.axvline(1, color="#999999", linewidth=0.8, linestyle=":")
            beside.set_yticks([0, len(bands) - 1], ["low", "high"], fontsize=7)
            beside.set_title("bands", fontsize=7, color=INK)
        else:
            beside.axis("off")
    axes[-1, 0].set_xlabel("seconds from the first onset", fontsize=9)
    bar = figure.colorbar(ScalarMappable(norm, "YlOrRd"), ax=axes, shrink=0.5, pad=0.01, aspect=30, extend="max")
    bar.set_label("attention (1: all alike)", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    figure.suptitle(title, fontsize=10, color=INK)
    return figure


def _notes_of(notes: pd.DataFrame, clip: str) -> pd.DataFrame:
    mine = notes[notes["clip"] == clip]
    if mine.empty:
        raise ValueError(f"clip={clip!r} has attention but no notes to draw it over")
    return mine


def _relative(rows: pd.DataFrame, notes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(seconds (n,), attention there (n,), of each note (n_notes,), of each band or none), over that to all alike."""
    of = {str(metric): mine.sort_values("step") for metric, mine in rows.groupby("metric")}

    def over_even(metric: str) -> np.ndarray:
        return of[metric]["value"].to_numpy(float) / of[f"{metric}_even"]["value"].to_numpy(float)

    time, course = of["attention"]["step"].to_numpy(float), over_even("attention")
    if "attention_note" in of:
        return time, course, over_even("attention_note"), np.empty(0)
    # Stretches are equally long but for the last; their middles say how long.
    ends = np.append(2 * time[0] * np.arange(len(time)), 0.0)
    ends[-1] = 2 * time[-1] - ends[-2]
    total = np.concatenate([[0.0], np.cumsum(course * np.diff(ends))])
    start = np.minimum(notes["onset_s"].to_numpy(float), ends[-1] - SHORTEST_S)
    stop = np.maximum(notes["offset_s"].to_numpy(float), start + SHORTEST_S).clip(max=ends[-1])
    of_note = (np.interp(stop, ends, total) - np.interp(start, ends, total)) / (stop - start)
    bands = of["attention_band"]["value"].to_numpy(float)
    return time, course, of_note, bands * len(bands)
