"""Assets of what is made from stored predictions: lookups, ensembles, procedures and the ledger of looks at them."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import dagster as dg
import pandas as pd

from piano_assets.defs.corpus import content, key
from piano_assets.defs.current import current_parts
from piano_assets.defs.data import PianoData, result, spec
from piano_assets.defs.planner import known, owed
from piano_assets.ensembles.procedures import PROCEDURES
from piano_assets.ensembles.recipes import PREFIX, RECIPES, combined
from piano_assets.store.parts import Part, Store, read_part

GROUP = "ensembles"


def rules_in_use(store: Store) -> list[tuple[str, str]]:
    """The (split, label rule) pairs on which the catalogue has trials."""
    return sorted({(t.split, t.label_rule) for t in known(store).full.values()})


@dg.multi_asset(
    specs=[
        spec(
            "predictions",
            name="lookups",
            description="Predictions of those who hear nothing: global, excerpt, performer, excerpt + performer means.",
            group=GROUP,
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


def predictions_of(store: Store, configs: Iterable[str], name: str) -> dict[str, list[Part]]:
    """Config -> its current parts of predictions, for `name`, which is made of them.

    Raises:
        dagster.Failure: a config has none yet.
    """
    parts = {config: current_parts(store, owed(store, [config]))["predictions"] for config in configs}
    absent = [config for config, found in parts.items() if not found]
    if absent:
        raise dg.Failure(f"{name}: no predictions of {', '.join(absent)} yet; train them first (piano sweep)")
    return parts


def rows_of(parts: Mapping[str, list[Part]]) -> dict[str, pd.DataFrame]:
    """Config -> all rows of its parts of predictions, those of one seed below those of another."""
    return {config: pd.concat([read_part(p).to_pandas() for p in of]) for config, of in parts.items()}


ENSEMBLE_PARTITIONS = dg.StaticPartitionsDefinition(list(RECIPES))


@dg.multi_asset(
    specs=[
        spec(
            "predictions",
            name="ensembles",
            description="Combined predictions of several arms, by recipe; nothing is retrained.",
            group=GROUP,
            deps=["predictions", "labels"],
        ),
        spec("ensemble_weights", group=GROUP, deps=["predictions", "labels"]),
    ],
    partitions_def=ENSEMBLE_PARTITIONS,
    name="ensembles",
)
def ensembles(context: dg.AssetExecutionContext, piano: PianoData):
    """Combine stored predictions by a recipe; nothing is retrained."""
    store, recipe = piano.store(), RECIPES[context.partition_key]
    name, place = f"{PREFIX}{context.partition_key}", f"ensembles/{context.partition_key}"
    parts = predictions_of(store, recipe.members, name)
    rule = known(store).trials[recipe.members[0]].label_rule
    # What makes another result: labels teach weights, and only those.
    more = [] if recipe.combine == "mean" else content(store, ("labels", rule))
    more += [str(x) for x in (recipe.split, recipe.seeds) if x]
    hashes = [p.content_hash for ps in parts.values() for p in ps]
    wanted = key("ensemble", recipe.members, recipe.combine, hashes, *more)
    found = store.part("predictions", place, key=wanted)
    made = found is None
    if found is None:
        predictions, weights = combined(name, recipe, rows_of(parts), store.read("labels", rule))
        store.write("ensemble_weights", weights, key=wanted, name=place)
        found = store.write("predictions", predictions, key=wanted, name=place)
    yield result(found, made, "ensembles", members=list(recipe.members))
    yield result(store.require("ensemble_weights", place), made)


PROCEDURE_PARTITIONS = dg.StaticPartitionsDefinition(list(PROCEDURES))


@dg.multi_asset(
    specs=[
        spec(
            "predictions",
            name="procedures",
            description="Predictions of procedures that choose among trials, by inner folds alone.",
            group=GROUP,
            deps=["predictions", "labels"],
        )
    ],
    partitions_def=PROCEDURE_PARTITIONS,
    name="procedures",
)
def procedures(context: dg.AssetExecutionContext, piano: PianoData):
    """Let a procedure choose in every outer fold, and take what the chosen predicts of it."""
    from piano_assets.ensembles.procedures import PREFIX, run_procedure

    store, name = piano.store(), context.partition_key
    place = f"procedures/{name}"
    procedure = PROCEDURES[name]
    trials = known(store).trials
    parts = predictions_of(store, procedure.candidates, f"{PREFIX}{name}")
    rule = trials[procedure.candidates[0]].label_rule
    hashes = [p.content_hash for of in parts.values() for p in of]
    wanted = key("ensemble", procedure.candidates, procedure.rule, hashes, content(store, ("labels", rule)))
    part = store.part("predictions", place, key=wanted)
    made = part is None
    if part is None:
        predictions, weights = run_procedure(name, procedure, rows_of(parts), store.read("labels", rule))
        store.write("ensemble_weights", weights, key=wanted, name=place)
        part = store.write("predictions", predictions, key=wanted, name=place)
    yield result(part, made, "procedures", candidates=list(procedure.candidates))


class Look(dg.Config):
    """Why the outer score is looked at; it stands in the ledger."""

    reason: str


@dg.multi_asset(
    specs=[spec("evaluation_ledger", group=GROUP, deps=["procedures", "splits", "clips", "labels"])],
    partitions_def=PROCEDURE_PARTITIONS,
    name="evaluation_ledger",
)
def evaluation_ledger(context: dg.AssetExecutionContext, piano: PianoData, config: Look):
    """Look at a procedure's nested score, and write down that it was looked at; the same look twice is one line."""
    from piano_assets.analysis.ledger import enter, entered, look
    from piano_assets.ensembles.procedures import PREFIX
    from piano_assets.training.provenance import git_state

    store, name = piano.store(), f"{PREFIX}{context.partition_key}"
    trial = known(store).trials[PROCEDURES[context.partition_key].candidates[0]]
    part = store.require("predictions", f"procedures/{context.partition_key}")
    line, made = entered(store, name, part.key, config.reason), False
    if line is None:
        rows = look(
            read_part(part).to_pandas(),
            store.read("splits", trial.split),
            store.read("clips", "all"),
            store.read("labels"),
            rule=trial.label_rule,
            part_key=part.key,
            reason=config.reason,
            at=datetime.now(UTC),
            git_commit=git_state()[0],
        )
        line, made = enter(store, rows)
    seen = read_part(line).to_pandas().set_index("metric")
    yield result(line, made, "evaluation_ledger", **{m: float(seen.at[m, "value"]) for m in seen.index})


ASSETS = [lookups, ensembles, procedures, evaluation_ledger]
