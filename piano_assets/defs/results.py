"""Assets of the results: from stored predictions to scores, tests, the leaderboard, the report and the warehouse."""

import dagster as dg
import numpy as np
import pandas as pd

from piano_assets.catalogue.tables import arm_table, comparison_table, trial_table
from piano_assets.defs.corpus import content, key
from piano_assets.defs.data import OWNERS, PianoData, progress, publish, result, spec
from piano_assets.defs.planner import current_parts, known, owed, read_predictions, result_parts
from piano_assets.ensembles.recipes import RECIPES
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Store, digest, read_part

GROUP = "results"

# Below partitions that arrive one by one, `eager` would never fire: some partition is always missing.
AUTOMATION = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
)


def rules_in_use(store: Store) -> list[tuple[str, str]]:
    """The (split, label rule) pairs on which the catalogue has trials."""
    return sorted({(t.split, t.label_rule) for t in known(store).full.values()})


@dg.multi_asset(
    specs=[spec(t, group=GROUP) for t in ("trials", "comparisons", "arms", "published")],
    name="catalogue",
)
def catalogue_tables(piano: PianoData):
    """Write down the catalogue: every trial, comparison and arm, and the published results to stand beside."""
    from piano_assets.analysis.published import published_table
    from piano_assets.training.size import n_params

    store = piano.store()
    found = known(store)
    frames = {
        "trials": trial_table(found.trials, lambda trial: n_params(trial, store)),
        "comparisons": comparison_table(found),
        "arms": arm_table(found),
        "published": published_table(),
    }
    for table, frame in frames.items():
        wanted = digest(table, frame.to_csv(index=False))
        yield publish(store, table, wanted, frame.copy)


@dg.multi_asset(
    specs=[
        spec(
            "predictions",
            name="lookups",
            description="Predictions of those who hear nothing: global, excerpt, performer, excerpt + performer means.",
            group="ensembles",
            deps=["labels", "splits", "clips"],
        )
    ],
    name="lookups",
)
def lookups(context: dg.AssetExecutionContext, piano: PianoData):
    """Predictions of those who hear nothing: means by excerpt, performer and both, on every protocol in use."""
    from piano_assets.corpus.lookups import LOOKUPS, lookup_predictions

    store = piano.store()
    clips = store.read("clips", "all")
    made, rows = False, 0
    for split, rule in rules_in_use(store):
        if store.part("splits", split) is None:
            continue
        inputs = content(store, ("clips", "all"), ("labels", rule), ("splits", split))

        def make(split: str = split, rule: str = rule) -> pd.DataFrame:
            context.log.info(f"lookups on {split}, {rule} labels")
            folds, labels = store.read("splits", split), store.read("labels", rule)
            frames = [lookup_predictions(name, folds, clips, labels) for name in LOOKUPS]
            together = pd.concat(frames, ignore_index=True)
            return together.assign(subject=[lookup_subject(s, rule) for s in together["subject"]])

        part, one = store.ensure("predictions", f"lookups/{split}.{rule}", key("lookup", *inputs), make)
        made, rows = made or one, rows + part.n_rows
    yield dg.MaterializeResult("lookups", metadata={"dagster/row_count": rows, "reused": not made})


def lookup_subject(name: str, rule: str) -> str:
    """A lookup learns from one rule's labels, and is scored by that rule alone."""
    return name if rule == "clean" else f"{name}@{rule}"


ENSEMBLE_PARTITIONS = dg.StaticPartitionsDefinition(list(RECIPES))


@dg.multi_asset(
    specs=[
        spec(
            "predictions",
            name="ensembles",
            description="Combined predictions of several arms, by recipe; nothing is retrained.",
            group="ensembles",
            deps=["predictions"],
        ),
        spec("ensemble_weights", group="ensembles", deps=["predictions"]),
    ],
    partitions_def=ENSEMBLE_PARTITIONS,
    name="ensembles",
)
def ensembles(context: dg.AssetExecutionContext, piano: PianoData):
    """Combine stored predictions by a recipe; nothing is retrained."""
    from piano_assets.ensembles.combine import mean_of_members

    store, recipe = piano.store(), RECIPES[context.partition_key]
    name = f"ensemble.{context.partition_key}"
    parts = {m: current_parts(store, owed(store, [m]))["predictions"] for m in recipe.members}
    absent = [m for m, p in parts.items() if not p]
    if absent:
        raise dg.Failure(f"{name}: no predictions of {', '.join(absent)} yet; train them first (piano sweep)")
    wanted = key("ensemble", recipe.members, recipe.combine, [p.content_hash for ps in parts.values() for p in ps])
    found = store.part("predictions", f"{name}/all", key=wanted)
    made = found is None
    if found is None:
        members = {m: pd.concat([read_part(p).to_pandas() for p in ps]) for m, ps in parts.items()}
        predictions, weights = mean_of_members(name, members)
        store.write("ensemble_weights", weights, key=wanted, name=f"{name}/all")
        found = store.write("predictions", predictions, key=wanted, name=f"{name}/all")
    yield result(found, made, "ensembles", members=list(recipe.members))
    yield result(store.require("ensemble_weights", f"{name}/all"), made)


def evaluated(store: Store, *tables: str) -> str:
    """Part key of what is computed from all current predictions and from `tables`."""
    parts = result_parts(store)
    inputs = [(p.table, p.name, p.content_hash) for t in ("predictions", *tables) for p in parts[t]]
    return key("evaluation", inputs)


BELOW_PREDICTIONS = ["predictions", "lookups", "ensembles"]


@dg.multi_asset(
    specs=[
        spec(
            "subjects", group=GROUP, deps=[*BELOW_PREDICTIONS, "trials", "published"], automation_condition=AUTOMATION
        ),
        spec(
            "scores",
            group=GROUP,
            deps=[*BELOW_PREDICTIONS, "labels", "clips", "splits", "noise_ceiling", "trials"],
            automation_condition=AUTOMATION,
        ),
    ],
    name="scores",
)
def scores(context: dg.AssetExecutionContext, piano: PianoData):
    """Score every complete subject on its protocol: every metric, population and level, with intervals."""
    from piano_assets.analysis.scores import score_table
    from piano_assets.analysis.subjects import subject_table

    store = piano.store()
    trials = store.read("trials", "all")
    wanted = evaluated(store, "labels", "clips", "splits", "noise_ceiling", "trials", "published")

    def subjects() -> pd.DataFrame:
        names = read_predictions(store)["subject"].unique()
        return subject_table(names, trials, store.read("published", "all"))

    yield publish(store, "subjects", wanted, subjects)

    def make() -> pd.DataFrame:
        return score_table(
            read_predictions(store),
            store.read("labels"),
            store.read("clips", "all"),
            store.read("splits"),
            store.read("subjects", "all"),
            trials,
            ceiling=store.read("noise_ceiling", "all"),
            ensemble_weights=store.read("ensemble_weights"),
            progress=progress(context, "subjects scored"),
        )

    yield publish(store, "scores", wanted, make)


@dg.multi_asset(
    specs=[
        spec(
            "calibration", group=GROUP, deps=["subjects", "labels", "clips", "splits"], automation_condition=AUTOMATION
        )
    ],
    name="calibration",
)
def calibration(context: dg.AssetExecutionContext, piano: PianoData):
    """Predictive intervals of every arm and ensemble: how often they hold the label, and how wide they are."""
    from piano_assets.analysis.calibration import calibration_table

    store = piano.store()

    def make() -> pd.DataFrame:
        return calibration_table(
            read_predictions(store),
            store.read("labels"),
            store.read("clips", "all"),
            store.read("splits"),
            store.read("subjects", "all"),
            store.read("trials", "all"),
            ensemble_weights=store.read("ensemble_weights"),
            progress=progress(context, "arms calibrated"),
        )

    yield publish(store, "calibration", evaluated(store, "labels", "clips", "splits", "trials"), make)


@dg.multi_asset(
    specs=[spec("tests", group=GROUP, deps=["subjects", "arms", "comparisons"], automation_condition=AUTOMATION)],
    name="tests",
)
def tests(context: dg.AssetExecutionContext, piano: PianoData):
    """Test every arm against its comparison's reference; what cannot be tested is named with its reason."""
    from piano_assets.analysis.tests import comparison_tests

    store = piano.store()
    untested: list[str] = []

    def make() -> pd.DataFrame:
        tables = {t: store.read(t, "all") for t in ("comparisons", "arms", "trials", "subjects", "clips")}
        tables["comparisons"] = tables["comparisons"][tables["comparisons"]["tested"]]
        runs = [read_part(p).to_pandas() for p in result_parts(store)["runs"]]
        found, not_tested = comparison_tests(
            **tables,
            runs=pd.concat(runs, ignore_index=True) if runs else TABLES["runs"].empty(),
            predictions=read_predictions(store),
            labels=store.read("labels"),
            splits=store.read("splits"),
            rng=np.random.default_rng(0),
            progress=progress(context, "pairs tested"),
        )
        untested.extend(" / ".join(str(v) for v in row if v is not None) for row in not_tested.itertuples(index=False))
        return found

    wanted = evaluated(store, "labels", "clips", "splits", "comparisons", "arms", "trials", "runs")
    yield publish(store, "tests", wanted, make, untested=untested)


@dg.multi_asset(
    specs=[
        spec("leaderboard_trials", name="leaderboard", group=GROUP, deps=["scores"], automation_condition=AUTOMATION)
    ],
    name="leaderboard",
)
def leaderboard(piano: PianoData):
    """One row per subject and protocol: score, interval, lookup, ceiling, published results beside."""
    from piano_assets.analysis.leaderboard import leaderboard as rank
    from piano_assets.analysis.panel import completeness, units
    from piano_assets.corpus.splits import SPLITS
    from piano_assets.report.board import board_markdown
    from piano_assets.report.plots import protocol_forest, thumbnail

    store = piano.store()

    def make() -> pd.DataFrame:
        known = units(store.read("clips", "all"), store.read("labels"))
        return rank(
            store.read("scores", "all"),
            store.read("subjects", "all"),
            store.read("trials", "all"),
            store.read("published", "all"),
            store.read("noise_ceiling", "all"),
            completeness(read_predictions(store), store.read("splits"), known),
            {name: split.aggregation for name, split in SPLITS.items()},
        )

    wanted = evaluated(store, "scores", "subjects", "trials", "published", "noise_ceiling", "splits")
    part, made = store.ensure("leaderboard_trials", "all", wanted, make)
    board = store.read("leaderboard_trials", "all")
    first = board[(board["kind"] != "trial") & (board["split"] == "cluster")]
    forest = thumbnail(protocol_forest(first, "r2_pooled", "split cluster, clean labels"))
    yield result(
        part,
        made,
        "leaderboard",
        board=dg.MetadataValue.md(board_markdown(first)),
        forest=dg.MetadataValue.md(f"![leaderboard]({forest})"),
    )


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
    *("subjects", "scores", "calibration", "tests", "leaderboard_trials"),
)


@dg.asset(
    group_name=GROUP,
    kinds={"html"},
    owners=OWNERS,
    deps=["leaderboard", "calibration", "tests", "history"],
    automation_condition=AUTOMATION,
)
def report(context: dg.AssetExecutionContext, piano: PianoData) -> dg.MaterializeResult:
    """The report: one HTML file that opens without a network; its plots also as files of their own."""
    from piano_assets.report.html import render, result_plots
    from piano_assets.report.plots import png, thumbnail
    from piano_assets.store.parts import write_file

    store = piano.store()
    parts = result_parts(store)
    tables = {t: store.read(t) for t in REPORTED}
    board = tables["leaderboard_trials"]
    tables["leaderboard"] = board[board["kind"] != "trial"]
    tables["predictions"] = read_predictions(store)
    for table in ("history", "runs"):
        found = [read_part(p).to_pandas() for p in parts[table]]
        tables[table] = pd.concat(found, ignore_index=True) if found else TABLES[table].empty()
    plots = result_plots(tables)
    path = write_file(store.root / "report.html", render(store.corpus, tables, plots).encode())
    metadata: dict = {"report": dg.MetadataValue.path(str(path.resolve())), "plots": len(plots)}
    for number, plot in enumerate(plots, 1):
        context.log.info(f"plot {number} of {len(plots)}: {plot.name}")
        file = write_file(store.root / "plots" / f"{plot.name}.png", png(plot.figure))
        metadata[plot.name] = dg.MetadataValue.path(str(file.resolve()))
        metadata[f"{plot.name}.preview"] = dg.MetadataValue.md(f"![{plot.title}]({thumbnail(plot.figure)})")
    return dg.MaterializeResult(metadata=metadata)


@dg.asset(
    group_name=GROUP,
    kinds={"duckdb"},
    owners=OWNERS,
    deps=["leaderboard", "tests", "symbolic_features", "audio_features"],
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
    snapshot = build_snapshot(store, result_parts(store), sets)
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


ASSETS = [catalogue_tables, lookups, ensembles, scores, calibration, tests, leaderboard, report, warehouse]
