"""Assets that people read: the report and the warehouse."""

from pathlib import Path

import dagster as dg
import pandas as pd

from piano_assets.defs.current import PROBED, probe_parts, read_predictions, result_parts
from piano_assets.defs.data import OWNERS, PianoData
from piano_assets.defs.features import TABULAR
from piano_assets.defs.results import AUTOMATION, GROUP
from piano_assets.schemas import TABLES
from piano_assets.schemas.probes import DIAGNOSTICS, ROBUSTNESS
from piano_assets.store.parts import Store, read_part

PROBE_ASSETS = (*ROBUSTNESS, *DIAGNOSTICS)

REPORTED = (
    *(
        "clips",
        "labels",
        "noise_ceiling",
        "leaks",
        "quarantine",
        "trials",
        "comparisons",
        "arms",
        "halted",
        "published",
    ),
    *("subjects", "scores", "calibration", "tests", "leaderboard_trials", "adaptation_curves"),
)


@dg.asset(
    group_name=GROUP,
    kinds={"html"},
    owners=OWNERS,
    deps=["leaderboard", "calibration", "tests", "history", "adaptation_curves", *PROBE_ASSETS],
    automation_condition=AUTOMATION,
)
def report(context: dg.AssetExecutionContext, piano: PianoData) -> dg.MaterializeResult:
    """The report: one HTML file that opens without a network; its plots also as files of their own."""
    from piano_assets.report.html import render
    from piano_assets.report.plots import png, thumbnail
    from piano_assets.report.result_plots import result_plots
    from piano_assets.store.parts import write_file

    store = piano.store()
    parts = result_parts(store)
    tables = {t: store.read(t) for t in REPORTED}
    board = tables["leaderboard_trials"]
    tables["leaderboard"] = board[board["kind"] != "trial"]
    tables["predictions"] = read_predictions(store)
    for table in ("history", "runs", *PROBED):
        found = [read_part(p).to_pandas() for p in parts[table]]
        tables[table] = pd.concat(found, ignore_index=True) if found else TABLES[table].empty()
    if len(tables["diagnostics"]):
        tables["notes"] = store.read("notes", "all")
    plots = result_plots(tables)
    page = render(store.corpus, tables, plots, _recordings(store))
    path = write_file(store.root / "report.html", page.encode())
    metadata: dict = {"report": dg.MetadataValue.path(str(path.resolve())), "plots": len(plots)}
    for number, plot in enumerate(plots, 1):
        context.log.info(f"plot {number} of {len(plots)}: {plot.name}")
        file = write_file(store.root / "plots" / f"{plot.name}.png", png(plot.figure))
        metadata[plot.name] = dg.MetadataValue.path(str(file.resolve()))
        metadata[f"{plot.name}.preview"] = dg.MetadataValue.md(f"![{plot.title}]({thumbnail(plot.figure)})")
    return dg.MaterializeResult(metadata=metadata)


def _recordings(store: Store) -> dict[str, Path]:
    """Clip -> its sound file in the first rendering."""
    audio = store.read("audio")
    first = audio[audio["rendering"] == audio["rendering"].iloc[0]] if len(audio) else audio
    return {clip: store.root / path for clip, path in zip(first["clip"], first["path"], strict=True)}


@dg.asset(
    group_name=GROUP,
    kinds={"duckdb"},
    owners=OWNERS,
    deps=["leaderboard", "tests", "adaptation_curves", *TABULAR, *PROBE_ASSETS],
    automation_condition=AUTOMATION,
    pool="snapshot",
)
def warehouse(piano: PianoData) -> dg.MaterializeResult:
    """One self-contained, read-only DuckDB file of all tables, swapped in under whoever reads."""
    from piano_assets.features.sets import FEATURE_SETS
    from piano_assets.store.warehouse import build_snapshot

    store = piano.store()
    named = store.read("features", columns=["feature", "source"]).drop_duplicates()
    sets = {
        name: [f for f, source in zip(named["feature"], named["source"], strict=True) if chosen(source, f)]
        for name, chosen in FEATURE_SETS.items()
    }
    parts = result_parts(store)
    parts["predictions"] += probe_parts(store, "predictions")
    snapshot = build_snapshot(store, parts, sets)
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(snapshot.path.resolve())),
            "hash": snapshot.hash,
            "rows": snapshot.rows,
            "seconds": snapshot.seconds,
            "rebuilt": snapshot.rebuilt,
            "quarantined": [str(p) for p in snapshot.quarantined],
        },
        data_version=dg.DataVersion(snapshot.hash),
    )


ASSETS = [report, warehouse]
