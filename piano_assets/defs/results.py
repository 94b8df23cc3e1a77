"""Assets of the results: from stored predictions to scores, tests, the leaderboard, the report and the warehouse."""

import dagster as dg
import pandas as pd

from piano_assets.catalogue.comparisons import catalogue
from piano_assets.defs.corpus import content, key
from piano_assets.defs.data import PianoData, result, spec
from piano_assets.defs.planner import current_parts, owed
from piano_assets.ensembles.recipes import RECIPES
from piano_assets.store.parts import read_part

GROUP = "results"

# Below partitions that arrive one by one, `eager` would never fire: some partition is always missing.
AUTOMATION = (
    dg.AutomationCondition.any_deps_updated().since_last_handled()
    & ~dg.AutomationCondition.any_deps_in_progress()
    & ~dg.AutomationCondition.in_progress()
)


def rules_in_use() -> list[tuple[str, str]]:
    """The (split, label rule) pairs on which the catalogue has trials."""
    return sorted({(t.split, t.label_rule) for t in catalogue().values()})


@dg.multi_asset(
    specs=[spec(t, group=GROUP, deps=["predictions"]) for t in ("trials", "comparisons", "arms", "published")],
    name="catalogue",
)
def catalogue_tables():
    """Write down the catalogue: every trial, comparison and arm, and the published results to stand beside."""
    raise NotImplementedError


@dg.multi_asset(
    specs=[spec("predictions", name="lookups", group="ensembles", deps=["labels", "splits", "clips"])], name="lookups"
)
def lookups(context: dg.AssetExecutionContext, piano: PianoData):
    """Predictions of those who hear nothing: means by excerpt, performer and both, on every protocol in use."""
    from piano_assets.corpus.lookups import LOOKUPS, lookup_predictions

    store = piano.store()
    clips = store.read("clips", "all")
    made, rows = False, 0
    for split, rule in rules_in_use():
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
        spec("predictions", name="ensembles", group="ensembles", deps=["predictions"]),
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
