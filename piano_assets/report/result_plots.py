"""The plots of the report: which figures a corpus' results have, each with its title and what it shows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from piano_assets.dimensions import NAMES
from piano_assets.report.adaptation_plots import sequence_figure, support_figure
from piano_assets.report.differences import differences_plot, is_plotted
from piano_assets.report.outcomes import outcomes
from piano_assets.report.plots import (
    CEILING_ROW,
    coverage_curves,
    dimension_bars,
    dimension_heat,
    learning_curves,
    predicted_against_rated,
)
from piano_assets.report.probe_plots import WORDS, probe_plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plot:
    """A figure with its title and what it shows."""

    name: str
    title: str
    note: str
    figure: "Figure"


def best_subject(board: pd.DataFrame, split: str = "cluster", rule: str = "clean") -> str | None:
    """The first ranked subject of a protocol; None where nothing is ranked."""
    ranked = board[(board["split"] == split) & (board["rule"] == rule) & board["rank"].notna()]
    return None if ranked.empty else str(ranked.sort_values("rank")["subject"].iloc[0])


def result_plots(tables: Mapping[str, pd.DataFrame]) -> list[Plot]:
    """The plots of the best subject, of the leaderboard's first, of every comparison, and of networks as they learn.

    Args:
        tables: leaderboard (without single seeds), predictions, labels, clips, notes, subjects, history, calibration,
            robustness, diagnostics and adaptation_curves, and those of `outcomes.READ`.
    """
    plots = []
    subject = best_subject(tables["leaderboard"])
    if subject is not None:
        plots += [_scatter(subject, tables), _bars(subject, tables), _heat(tables)]
    plots += _comparisons(tables) + _coverage(tables) + _curves(tables)
    return plots + _adaptation(tables["adaptation_curves"]) + _probes(tables)


def _adaptation(rows: pd.DataFrame) -> list[Plot]:
    """What rated clips of a new performer bring, and what is forgotten; nothing where nothing was adapted."""
    found, there = [], set(rows["curve"])
    if "support" in there:
        note = "Split performer: every clip predicted from rated clips of the same performer and of other music."
        title = "Rated clips of a new performer"
        found.append(Plot("adaptation.support", title, note, support_figure(rows)))
    if "sequence" in there:
        note = (
            "Groups of dimensions learnt one after another with one encoder; each panel begins with its group's stage."
        )
        found.append(Plot("adaptation.sequence", "What is forgotten", note, sequence_figure(rows)))
    return found


def _probes(tables: Mapping[str, pd.DataFrame]) -> list[Plot]:
    """Every probe of robustness with its subjects, and every diagnostic of every subject that was asked."""
    found = probe_plots(tables["robustness"], tables["diagnostics"], tables)
    return [
        Plot(f"{p.probe}.{p.subject}" if p.subject else p.probe, p.title, WORDS[p.probe].note, p.figure) for p in found
    ]


def _best(tables: Mapping[str, pd.DataFrame], n: int) -> list[str]:
    """The first ranked subjects of our own protocol."""
    board = tables["leaderboard"]
    ranked = board[(board["split"] == "cluster") & (board["rule"] == "clean") & board["rank"].notna()]
    return list(ranked.sort_values("rank")["subject"].head(n))


def _comparisons(tables: Mapping[str, pd.DataFrame]) -> list[Plot]:
    """The differences of each comparison's arms to its reference."""
    return [
        Plot(f"comparison.{o.name}", f"Comparison: {o.name}", o.hypothesis, differences_plot(o))
        for o in outcomes(tables)
        if is_plotted(o)
    ]


def _heat(tables: Mapping[str, pd.DataFrame]) -> Plot:
    where = {"split": "cluster", "rule": "clean", "population": "all", "level": "global", "metric": "pearson_mean"}
    rows = _where(tables["scores"], where)
    rows = rows[rows["subject"].isin(_best(tables, 20)) & rows["dimension"].isin(NAMES)]
    rows = rows.sort_values("tuning").drop_duplicates(["subject", "dimension"], keep="last")
    ceiling = _where(tables["noise_ceiling"], {k: where[k] for k in ("rule", "population", "level")})
    ceiling = ceiling[(ceiling["method"] == "split_half") & ceiling["dimension"].isin(NAMES)]
    top = ceiling.rename(columns={"max_r": "value"}).assign(subject=CEILING_ROW)[["subject", "dimension", "value"]]
    figure = dimension_heat(
        pd.concat([rows[top.columns], top]), "correlation by dimension, split cluster, clean labels"
    )
    note = "The 20 first subjects of the leaderboard. Last row: what the raters' agreement allows."
    return Plot("dimension_heat", "Subjects by dimension", note, figure)


def _coverage(tables: Mapping[str, pd.DataFrame]) -> list[Plot]:
    where = {"split": "cluster", "rule": "clean", "population": "all", "dimension": "mean", "metric": "coverage"}
    rows = _where(tables["calibration"], where | {"condition": "all"})
    rows = rows[rows["subject"].isin(_best(tables, 8))].sort_values("tuning")
    rows = rows.drop_duplicates(["subject", "probe", "step"], keep="last")
    if rows.empty:
        return []
    note = "Conformal: from residuals on inner validation clips. Gaussian: from the spread that the subject gives."
    figure = coverage_curves(rows, "predictive intervals, split cluster, clean labels")
    return [Plot("coverage", "Do the intervals hold?", note, figure)]


def _where(frame: pd.DataFrame, values: Mapping[str, str]) -> pd.DataFrame:
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def _curves(tables: Mapping[str, pd.DataFrame]) -> list[Plot]:
    """Learning curves: a figure for each comparison with two trained networks or more, and one for all others."""
    history, others = tables["history"], set(tables["history"]["trial"])
    note = "Means over folds, seeds and search points. Of each member the epoch with the best validation r is kept."
    plots = []
    for name, arms in tables["arms"].groupby("comparison", sort=True):
        rows = history.merge(arms[["trial", "arm"]].drop_duplicates("trial"), on="trial")
        if rows["trial"].nunique() >= 2:
            others -= set(rows["trial"])
            figure = learning_curves(rows, f"{name}, {_seeds(rows)}")
            plots.append(Plot(f"learning_curves.{name}", f"Learning curves: {name}", note, figure))
    if others:
        named = tables["trials"].drop_duplicates("trial").set_index("trial")["config"]
        rows = history[history["trial"].isin(others)]
        rows = rows.assign(arm=rows["trial"].map(named).fillna(rows["trial"]))
        figure = learning_curves(rows, f"networks beside the comparisons, {_seeds(rows)}")
        plots.append(Plot("learning_curves.others", "Learning curves: other networks", note, figure))
    return plots


def _seeds(history: pd.DataFrame) -> str:
    n = history["seed"].nunique()
    return "1 seed" if n == 1 else f"up to {n} seeds"


def _scatter(subject: str, tables: Mapping[str, pd.DataFrame]) -> Plot:
    subjects = tables["subjects"]
    mine = {subject, *subjects["subject"][(subjects["config"] == subject) & (subjects["seed"] == 0)]}
    chosen = tables["predictions"]
    tested = (chosen["role"] == "test") & chosen["inner_fold"].isna() & (chosen["condition"] == "clean")
    chosen = chosen[chosen["subject"].isin(mine) & tested & (chosen["split"] == "cluster")]
    chosen = chosen[
        (chosen["repeat"] == chosen["repeat"].min()) & chosen["tuning"].isin(sorted(chosen["tuning"].unique())[-1:])
    ]
    pred = chosen.pivot_table(index="clip", columns="dimension", values="value", observed=True)
    pred = pred.reindex(columns=list(NAMES))
    labels = tables["labels"]
    target = labels[labels["rule"] == "clean"].pivot(index="clip", columns="dimension", values="value")
    target = target.reindex(pred.index)
    target["deadpan"] = tables["clips"].set_index("clip")["deadpan"].reindex(pred.index)
    title = f"{subject}: split cluster, clean labels, first repeat, {len(pred)} clips"
    note = "Every clip was predicted by a model that never saw its music."
    return Plot(
        "predicted_against_rated", "Predicted against rated", note, predicted_against_rated(pred, target, title)
    )


def _bars(subject: str, tables: Mapping[str, pd.DataFrame]) -> Plot:
    scores = tables["scores"]
    where = (
        (scores["split"] == "cluster")
        & (scores["rule"] == "clean")
        & (scores["population"] == "all")
        & (scores["level"] == "global")
        & (scores["metric"] == "pearson_mean")
        & scores["dimension"].isin(NAMES)
    )
    kind = tables["subjects"].set_index("subject")["kind"]
    rows = scores[where]
    mine = rows[rows["subject"] == subject].sort_values("tuning").drop_duplicates("dimension", keep="last")
    lookups = rows[rows["subject"].map(kind) == "lookup"].groupby("dimension")["value"].max()
    ceiling = tables["noise_ceiling"]
    ceiling = ceiling[
        (ceiling["method"] == "split_half")
        & (ceiling["rule"] == "clean")
        & (ceiling["population"] == "all")
        & (ceiling["level"] == "global")
    ].set_index("dimension")["max_r"]
    mine = mine.assign(lookup=mine["dimension"].map(lookups), ceiling=mine["dimension"].map(ceiling))
    title = f"{subject}: correlation by dimension, split cluster, clean labels"
    note = "Red: the best predictor that hears nothing. Green: what the raters' agreement allows."
    return Plot("dimensions", "By dimension", note, dimension_bars(mine, title))
