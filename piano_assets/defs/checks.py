"""Asset checks: one per table from its declaration, and those that a declaration cannot say."""

import dagster as dg
import numpy as np
import pandas as pd

from piano_assets.defs import current
from piano_assets.defs.data import PianoData
from piano_assets.defs.features import TABULAR
from piano_assets.schemas import TABLES, TableError

ASSET_OF = {
    "features": TABULAR,
    "quarantine": ("clips",),
}
"""Tables whose rows come from assets of other names."""

CHECKED = (
    *("clips", "notes", "controls", "clusters", "ratings", "labels", "noise_ceiling", "splits", "leaks", "audio"),
    *("features", "quarantine", "trials", "comparisons", "arms", "published"),
    *("subjects", "scores", "calibration", "tests"),
)


def schema_check(table: str, asset: str) -> dg.AssetChecksDefinition:
    """The check of one table's declaration: types, ranges, nulls and keys of the parts as they lie on the disk."""

    @dg.asset_check(
        asset=asset,
        name=f"{table}_as_declared",
        blocking=True,
        description=f"Every row of `{table}` keeps the types, ranges and key of its declaration.",
    )
    def check(piano: PianoData) -> dg.AssetCheckResult:
        store = piano.store()
        frame = store.read(table)
        try:
            TABLES[table].conform(frame)
        except TableError as error:
            return dg.AssetCheckResult(passed=False, metadata={"violations": str(error)})
        return dg.AssetCheckResult(passed=True, metadata={"rows": len(frame)})

    return check


@dg.asset_check(asset="splits", blocking=True, description="No split leaks what it promises not to.")
def no_promised_leak(piano: PianoData) -> dg.AssetCheckResult:
    from piano_assets.corpus.leaks import leak_violations

    found = leak_violations(piano.store().read("leaks"))
    return dg.AssetCheckResult(passed=not found, metadata={"violations": found})


@dg.asset_check(
    asset="labels",
    blocking=True,
    additional_deps=["clips", "notes", "controls"],
    description="Labels belong to their clips: known signs hold within excerpts, which a shifted column would break.",
)
def labels_join_their_clips(piano: PianoData) -> dg.AssetCheckResult:
    from piano_assets.corpus.labels import label_join_violations

    store = piano.store()
    found = label_join_violations(
        store.read("labels", "clean"), store.read("clips", "all"), store.read("notes", "all"), store.read("controls")
    )
    return dg.AssetCheckResult(passed=not found, metadata={"violations": found})


@dg.asset_check(
    asset="scores",
    additional_deps=["predictions"],
    blocking=True,
    description="Every prediction is finite; offending subjects are named.",
)
def finite_predictions(piano: PianoData) -> dg.AssetCheckResult:
    store = piano.store()
    bad = {}
    for part in current.result_parts(store)["predictions"]:
        value = store.read("predictions", part.name, ["value"])["value"].to_numpy()
        if not np.isfinite(value).all():
            bad[part.name] = int((~np.isfinite(value)).sum())
    return dg.AssetCheckResult(passed=not bad, metadata={"not_finite": bad})


@dg.asset_check(
    asset="scores",
    additional_deps=["checkpoints"],
    blocking=True,
    description="Every kept network has finite weights; offending checkpoints are named.",
)
def finite_weights(piano: PianoData) -> dg.AssetCheckResult:
    from piano_assets.store.checkpoints import load_checkpoint, networks

    bad, n = [], 0
    for folder in networks(piano.store().root):
        n += 1
        if not all(np.isfinite(tensor).all() for tensor in load_checkpoint(folder)[1].values()):
            bad.append(str(folder))
    return dg.AssetCheckResult(passed=not bad, metadata={"checkpoints": n, "not_finite": bad})


@dg.asset_check(
    asset="scores",
    additional_deps=["predictions"],
    description="Every subject predicts exactly its split's test clips; incomplete ones are named, never averaged.",
)
def complete_subjects(piano: PianoData) -> dg.AssetCheckResult:
    from piano_assets.analysis.panel import completeness, units

    store = piano.store()
    listed = completeness(
        current.read_predictions(store), store.read("splits"), units(store.read("clips", "all"), store.read("labels"))
    )
    wrong = listed[~listed["complete"]]
    return dg.AssetCheckResult(
        passed=wrong.empty,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"subjects": len(listed), "incomplete": _markdown(wrong)},
    )


@dg.asset_check(asset="leaderboard", description="No score lies above the ceiling: that would be a leak.")
def below_the_ceiling(piano: PianoData) -> dg.AssetCheckResult:
    store = piano.store()
    board, ceiling = store.read("leaderboard_trials"), store.read("noise_ceiling")
    top = ceiling[(ceiling["method"] == "split_half") & (ceiling["dimension"] == "mean")]
    top = top[(top["population"] == "all") & (top["level"] == "global")].set_index("rule")["ci_high"]
    above = board[board["r2_pooled"] > board["rule"].map(top)]
    return dg.AssetCheckResult(passed=above.empty, metadata={"above": above["subject"].tolist()})


def _markdown(frame: pd.DataFrame) -> dg.MarkdownMetadataValue:
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in frame.head(50).itertuples(index=False)]
    head = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * len(frame.columns)] if lines else ["none"]
    return dg.MetadataValue.md("\n".join([*head, *lines]))


CHECKS = [
    *(schema_check(t, a) for t in CHECKED for a in ASSET_OF.get(t, (t,))),
    no_promised_leak,
    labels_join_their_clips,
    finite_predictions,
    finite_weights,
    complete_subjects,
    below_the_ceiling,
]
