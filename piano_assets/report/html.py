"""The report: one HTML file that opens without a network."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from piano_assets.report.board import HEAD, board_rows, has_caveat, protocols
from piano_assets.report.error_plots import worst_clips
from piano_assets.report.plots import data_uri, protocol_forest
from piano_assets.report.result_plots import Plot
from piano_assets.report.templates import filled


def render(
    corpus: str, tables: Mapping[str, pd.DataFrame], plots: list[Plot], recordings: Mapping[str, Path] | None = None
) -> str:
    """The report as HTML. recordings: clip -> sound file, for the clips that error analyses name."""
    board, clips, quarantine = tables["leaderboard"], tables["clips"], tables["quarantine"]
    return filled(
        "template.html",
        corpus=corpus,
        n_clips=len(clips),
        n_humans=int((~clips["deadpan"]).sum()),
        n_excerpts=clips["excerpt"].nunique(),
        n_clusters=clips["cluster"].nunique(),
        n_quarantined=len(quarantine),
        head=HEAD,
        boards=[_block(title, rows) for title, rows in protocols(board)],
        plots=[{"title": p.title, "note": p.note, "uri": data_uri(p.figure)} for p in plots],
        worst=_worst(tables, recordings or {}),
        tables=[_tests(tables["tests"]), _leaks(tables["leaks"]), _quarantine(quarantine)],
    )


def _worst(tables: Mapping[str, pd.DataFrame], recordings: Mapping[str, Path]) -> list[dict[str, str]]:
    """The worst clips of every subject whose errors were analysed, with their sound."""
    errors = tables["diagnostics"][tables["diagnostics"]["probe"] == "error_analysis"]
    return [
        {"title": f"The clips that {subject} gets most wrong", "html": worst_clips(rows, tables["clips"], recordings)}
        for subject, rows in errors.groupby("subject", sort=True)
    ]


def _block(title: str, rows: pd.DataFrame) -> dict[str, Any]:
    metric = "r2_pooled" if rows["aggregation"].iloc[0] == "pooled" else "r2_fold_mean"
    plot = data_uri(protocol_forest(rows, metric, title)) if rows[metric].notna().any() else None
    caveats = [(r.subject, r.caveat) for r in rows.itertuples() if has_caveat(r.caveat)]
    return {"title": title, "rows": board_rows(rows), "plot": plot, "caveats": caveats}


def _tests(tests: pd.DataFrame) -> dict[str, Any]:
    primary = tests[tests["is_primary"]]
    rows = [
        (
            r.comparison,
            r.arm,
            r.reference,
            f"{r.estimate:+.3f}" + ("" if pd.isna(r.ci_low) else f" [{r.ci_low:+.3f}, {r.ci_high:+.3f}]"),
            f"{r.p_holm:.3f}",
            "" if pd.isna(r.mde) else f"{r.mde:.3f}",
            r.verdict,
        )
        for r in primary.itertuples()
    ]
    return {
        "title": "Tests",
        "note": "Arm minus reference in mean r: two-way clustered t, Holm within the comparison. "
        "mde: the difference that 80 % of such studies would detect.",
        "head": ("comparison", "arm", "reference", "difference [95 %]", "p (Holm)", "mde", "verdict"),
        "rows": rows,
    }


def _leaks(leaks: pd.DataFrame) -> dict[str, Any]:
    wide = leaks.pivot_table(index="split", columns="kind", values="share")
    shares = zip(wide.index, wide.to_numpy(float), strict=True)
    rows = [(split, *("" if pd.isna(v) else f"{100 * v:.0f} %" for v in row)) for split, row in shares]
    return {
        "title": "What each split leaks",
        "note": "Mean share of test clips with a relative in training, by kind of kinship.",
        "head": ("split", *wide.columns),
        "rows": rows,
    }


def _quarantine(quarantine: pd.DataFrame) -> dict[str, Any]:
    counts = quarantine.groupby(["source", "rule"], sort=True)
    rows = [(source, rule, str(len(g)), str(g["item"].iloc[0])) for (source, rule), g in counts]
    return {
        "title": "Quarantine",
        "note": "What was set aside, by rule; every item is in the table of that name.",
        "head": ("source", "rule", "items", "first"),
        "rows": rows,
    }
