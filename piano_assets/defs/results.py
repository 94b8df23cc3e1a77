"""Assets of the results: from stored predictions to scores, tests, the leaderboard, the report and the warehouse."""

import dagster as dg
import numpy as np
import pandas as pd

from piano_assets.catalogue.derived import derived_arm_table, derived_comparison_table
from piano_assets.catalogue.tables import arm_table, comparison_table, trial_table
from piano_assets.defs.corpus import key
from piano_assets.defs.current import other_ways, read_predictions, result_parts
from piano_assets.defs.data import PianoData, progress, publish, result, spec
from piano_assets.defs.derived import DERIVED
from piano_assets.defs.planner import known, owed
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Store, digest, read_part

GROUP = "results"

# Below partitions that arrive one by one, `eager` would never fire: some partition is always missing.
AUTOMATION = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
)


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
        "comparisons": _joined(comparison_table(found), derived_comparison_table(DERIVED)),
        "arms": _joined(arm_table(found), derived_arm_table(DERIVED)),
        "published": published_table(),
    }
    for table, frame in frames.items():
        wanted = digest(table, frame.to_csv(index=False))
        yield publish(store, table, wanted, frame.copy)


def _joined(of_trials: pd.DataFrame, made_of_trials: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([of_trials, made_of_trials], ignore_index=True) if len(made_of_trials) else of_trials


def evaluated(store: Store, *tables: str) -> str:
    """Part key of what is computed from all current predictions and from `tables`."""
    parts = result_parts(store)
    inputs = [(p.table, p.name, p.content_hash) for t in ("predictions", *tables) for p in parts[t]]
    return key("evaluation", inputs)


BELOW_PREDICTIONS = ["predictions", "lookups", "ensembles", "adaptation"]


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
    others = other_ways(store, owed(store))
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
            others=[(machine, read_part(part).to_pandas()) for machine, part in others],
            progress=progress(context, "pairs tested"),
        )
        untested.extend(" / ".join(str(v) for v in row if v is not None) for row in not_tested.itertuples(index=False))
        return found

    wanted = evaluated(store, "labels", "clips", "splits", "comparisons", "arms", "trials", "runs")
    wanted = key("evaluation", wanted, [part.content_hash for _, part in others])
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


ASSETS = [catalogue_tables, scores, calibration, tests, leaderboard]
