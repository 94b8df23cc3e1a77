"""Assets of adaptation: each method's predictions, and the curves that are computed from them."""

import dagster as dg
import pandas as pd

from piano_assets.adaptation.methods import METHODS
from piano_assets.defs.corpus import content, key
from piano_assets.defs.data import PianoData, progress, publish, result, spec
from piano_assets.defs.results import AUTOMATION
from piano_assets.defs.results import GROUP as RESULTS
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Part, Store, read_part

GROUP = "adaptation"
FOLDER = "adaptation"
"""Predictions are parts `adaptation/<method>`."""
METHOD_PARTITIONS = dg.StaticPartitionsDefinition(list(METHODS))


@dg.multi_asset(
    specs=[
        spec(
            "predictions",
            name="adaptation",
            description="Predictions of networks that were adapted: to new performers by a few rated clips of theirs, "
            "to works that are heard but not rated, to groups of dimensions one after another.",
            group=GROUP,
            deps=["clips", "labels", "splits", "leaks", "symbolic_features"],
        )
    ],
    partitions_def=METHOD_PARTITIONS,
    name="adaptation",
)
def adaptation(context: dg.AssetExecutionContext, piano: PianoData):
    """Train and adapt by one method on every fold of its split."""
    from piano_assets.adaptation.harness import groups_of, run_method
    from piano_assets.training.data import load

    store, name = piano.store(), context.partition_key
    method = METHODS[name]

    def make() -> pd.DataFrame:
        data = load(method.trial, store)
        groups = groups_of(store.read("clips", "all"), data)
        return run_method(name, method, data, groups, progress(context, f"folds of {name}"))

    part, made = store.ensure("predictions", f"{FOLDER}/{name}", method_key(store, name), make)
    yield result(part, made, "adaptation", method=method.description)


def method_key(store: Store, name: str) -> str:
    """Part key of a method's predictions: what it is, and the parts that it reads."""
    from piano_assets.training.data import data_version

    method = METHODS[name]
    settings = sorted((k, list(v) if isinstance(v, tuple) else v) for k, v in method.settings.items())
    return key("adaptation", name, method.learner, settings, method.protocol.support, data_version(method.trial, store))


def method_parts(store: Store) -> list[Part]:
    """The methods' predictions that are there."""
    found = (store.part("predictions", f"{FOLDER}/{name}") for name in METHODS)
    return [part for part in found if part is not None]


@dg.multi_asset(
    specs=[
        spec(
            "adaptation_curves",
            group=RESULTS,
            deps=["adaptation", "labels", "clips", "splits"],
            automation_condition=AUTOMATION,
        )
    ],
    name="adaptation_curves",
)
def adaptation_curves(piano: PianoData):
    """Scores over the number of rated clips, and what is forgotten, from the methods' predictions."""
    from piano_assets.analysis.adaptation import curve_table

    store = piano.store()
    parts = method_parts(store)
    splits = sorted({m.protocol.split for m in METHODS.values()})
    splits = [split for split in splits if store.part("splits", split) is not None]

    def make() -> pd.DataFrame:
        if not parts:
            return TABLES["adaptation_curves"].empty()
        rows = pd.concat([read_part(part).to_pandas() for part in parts], ignore_index=True)
        folds = pd.concat([store.read("splits", split) for split in splits])
        return curve_table(rows, store.read("labels"), store.read("clips", "all"), folds)

    rules = sorted({m.protocol.label_rule for m in METHODS.values()})
    inputs = content(store, ("clips", "all"), *(("labels", r) for r in rules), *(("splits", s) for s in splits))
    yield publish(store, "adaptation_curves", key("evaluation", [p.content_hash for p in parts], inputs), make)


ASSETS = [adaptation, adaptation_curves]
