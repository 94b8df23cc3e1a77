"""Assets that ask trained models: six probes of robustness and six diagnostics, each partitioned by configuration.

A partition is materialized by a click or by `piano probe`; what a probe predicts of altered clips is kept as
predictions under their conditions, so that a new metric asks no model again.
"""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pandas as pd

from piano_assets.analysis.diagnostics.data_size import SHARES
from piano_assets.analysis.diagnostics.registry import DIAGNOSTICS, SEED, Asked
from piano_assets.analysis.robustness.cross import CROSS
from piano_assets.catalogue.trial import Trial, vary
from piano_assets.defs.corpus import content, key
from piano_assets.defs.current import PROBES
from piano_assets.defs.data import PianoData, progress, result, spec
from piano_assets.defs.planner import known
from piano_assets.defs.training import CONFIGS
from piano_assets.schemas import TABLES
from piano_assets.schemas.probes import ADVERSARIAL, ROBUSTNESS, TRANSCRIBED
from piano_assets.store.parts import Part, Store, read_part

DESCRIPTIONS: dict[str, str] = {
    "noise": "Scores on clips with white and pink noise and hum, by signal-to-noise ratio.",
    "tempo": "Scores on clips played faster and slower: notes rendered again, and sound stretched.",
    "cross_composer": "Scores on a composer's clips of models that heard the other composers only.",
    "cross_performer": "Scores on clips of performers that the models never heard.",
    "recording_quality": "Scores on clips of another piano, of narrow bands, rooms, codecs and levels.",
    "adversarial": "Scores on clips altered against the network, beside random alterations of the same size.",
    "transcribed": "Scores on clips whose notes were transcribed from their sound, of models of true notes.",
}


OF_PREDICTIONS = ("error_analysis", "learning_curves")
"""Diagnostics that ask no model: they look at what is stored, or train anew."""


class Sample(dg.Config):
    """How many test clips are probed, spread over clusters; 0 for all."""

    n_clips: int = 400


class FewClips(dg.Config):
    """As `Sample`: an adversary takes many times as long as a prediction."""

    n_clips: int = 40


class Sizes(dg.Config):
    """Shares of the training clips that the learning curve over size trains on; none leaves it out."""

    shares: list[float] = list(SHARES)  # noqa: RUF012  (pydantic copies it)


def asked_of(context: Any, store: Store, **settings: object) -> Asked:
    """The subject of a partition."""
    import torch

    config = context.partition_key
    device = "cuda" if torch.cuda.is_available() else "cpu"
    trial = known(store).trials[config]
    return Asked(config, trial, store, device, settings, progress(context, f"{context.asset_key.path[-1]} of {config}"))


def refuse(name: str, config: str, reason: str | None) -> None:
    """Say why a probe cannot be asked of a subject.

    Raises:
        dagster.Failure: there is a reason.
    """
    if reason:
        raise dg.Failure(f"{name} cannot be asked of {config}: {reason}", allow_retries=False)


def whose(rows: pd.DataFrame, asked: Asked, tuning: str, probe: str, table: str) -> pd.DataFrame:
    """Rows of a probe with the columns that say whose they are, as the table declares them."""
    told = {"subject": f"{asked.config}|{SEED}", "split": asked.trial.split, "rule": asked.trial.label_rule}
    return rows.assign(**told, tuning=tuning, probe=probe)[list(TABLES[table].columns)]


def tuning_of(trial: Trial) -> str:
    from piano_assets.training.members import FIXED, TUNED, search_points

    return TUNED if search_points(trial) else FIXED


def applicable(name: str, trial: Trial, store: Store) -> str | None:
    """Why a probe cannot be asked of a trial here; None where it can."""
    if trial.several and name not in (*CROSS, *OF_PREDICTIONS):
        return "its predictions are of several networks or views together; ask the trial that has one"
    if name in DIAGNOSTICS:
        return DIAGNOSTICS[name].why_not(trial)
    if name in CROSS:
        return f"its own split is {trial.split}" if trial.split == CROSS[name] else None
    from piano_assets.analysis.robustness.probes import why_not
    from piano_assets.analysis.robustness.transcribed import not_transcribed

    return why_not(name, trial) or (not_transcribed(trial, store) if name == TRANSCRIBED else None)


def asset_config(name: str, n_clips: int | None, shares: list[float] | None) -> dict[str, Any]:
    """Run config of a probe's asset; None leaves its default."""
    given: dict[str, Any] = {"shares": shares} if name == "learning_curves" else {"n_clips": n_clips}
    if None in given.values() or name in (*CROSS, TRANSCRIBED) or (name in DIAGNOSTICS and name != "learning_curves"):
        return {}
    return {"ops": {name: {"config": given}}}


def diagnostic_asset(name: str) -> dg.AssetsDefinition:
    """The asset of one diagnostic."""
    diagnostic = DIAGNOSTICS[name]

    def body(context: dg.AssetExecutionContext, piano: PianoData, **settings: object):
        store = piano.store()
        asked = asked_of(context, store, **settings)
        refuse(name, asked.config, applicable(name, asked.trial, store))
        told = sorted((k, list(v) if isinstance(v, list | tuple) else v) for k, v in settings.items())
        wanted = key("diagnostics", name, asked.run.key, told, *content(store, ("labels", asked.trial.label_rule)))

        def make() -> pd.DataFrame:
            return whose(diagnostic.rows(asked), asked, tuning_of(asked.trial), name, "diagnostics")

        part, made = store.ensure("diagnostics", f"{name}/{asked.config}", wanted, make, run=asked.run.key)
        yield _shown(store, part, made, name)

    declared = spec(
        "diagnostics", name=name, description=diagnostic.description, group="diagnostics", deps=["predictions"]
    )
    decorate = dg.multi_asset(specs=[declared], partitions_def=CONFIGS, name=name)
    if name == "learning_curves":

        @decorate
        def learning_curves(context: dg.AssetExecutionContext, piano: PianoData, config: Sizes):
            yield from body(context, piano, shares=tuple(config.shares))

        return learning_curves

    @decorate
    def plain(context: dg.AssetExecutionContext, piano: PianoData):
        yield from body(context, piano)

    return plain


def robustness_asset(name: str) -> dg.AssetsDefinition:
    """The asset of one probe of robustness."""
    declared = spec(
        "robustness", name=name, description=DESCRIPTIONS[name], group="robustness", deps=["predictions", "audio"]
    )
    decorate = dg.multi_asset(specs=[declared], partitions_def=CONFIGS, name=name)

    def curves(
        store: Store, asked: Asked, predictions: Part, make: Callable[[], pd.DataFrame], **metadata: Any
    ) -> dg.MaterializeResult:
        labels = content(store, ("labels", asked.trial.label_rule))
        wanted = key("robustness", name, predictions.content_hash, asked.run.key, *labels)
        part, made = store.ensure("robustness", f"{name}/{asked.config}", wanted, make, run=asked.run.key)
        return _shown(store, part, made, name, **metadata)

    if name in CROSS:

        @decorate
        def cross(context: dg.AssetExecutionContext, piano: PianoData):
            from piano_assets.analysis.robustness.cross import cross_rows
            from piano_assets.training.data import way_of
            from piano_assets.training.run import run_trial

            store = piano.store()
            asked, split = asked_of(context, store), CROSS[name]
            refuse(name, asked.config, applicable(name, asked.trial, store))
            precision, device = way_of(asked.run)
            trial = vary(asked.trial, {"split": split})
            held = run_trial(
                trial,
                f"{PROBES}/{name}/{asked.config}",
                SEED,
                store,
                asked.device if device == asked.device.split(":")[0] else device,
                precision="float32" if trial.optimisation is None else precision,
                on_fold=lambda partition, n, folds: context.log.info(f"{partition}: {n} of {folds} folds"),
            )
            part = store.require("predictions", held.part_name)
            tuning = tuning_of(asked.trial)

            def make() -> pd.DataFrame:
                own, other = asked.stored("predictions"), read_part(part).to_pandas()
                own, other = (rows[rows["tuning"] == tuning] for rows in (own, other))
                splits = pd.concat([store.read("splits", s) for s in dict.fromkeys((asked.trial.split, split))])
                clips = store.read("clips", "all")
                rows = cross_rows(name, own, other, splits, clips, asked.known, asked.trial.label_rule)
                return whose(rows, asked, tuning, name, "robustness")

            yield curves(store, asked, part, make)

        return cross

    def altered(context: dg.AssetExecutionContext, piano: PianoData, n_clips: int):
        from piano_assets.analysis.robustness.curves import by_condition, curve_rows
        from piano_assets.analysis.robustness.probes import clean, probed

        store = piano.store()
        asked = asked_of(context, store)
        refuse(name, asked.config, applicable(name, asked.trial, store))
        heard = heard_contents(store, asked.trial) if name == TRANSCRIBED else []
        wanted = key("robustness", name, asked.run.key, n_clips, *heard)
        part = store.part("predictions", f"{PROBES}/{name}/{asked.config}", key=wanted)
        if part is None:
            found = probed(name, asked.fitted, store, asked.known, n_clips or None, asked.progress)
            told = {"run": asked.run.key, "skipped": dict(found.skipped)}
            part = store.write(
                "predictions", found.predictions, key=wanted, name=f"{PROBES}/{name}/{asked.config}", **told
            )

        def make() -> pd.DataFrame:
            conditions = by_condition(read_part(part).to_pandas(), asked.known)
            plain = conditions.pop(clean(name))
            rows = curve_rows(plain, conditions, asked.known, asked.trial.label_rule, ("all", "humans"))
            return whose(rows, asked, tuning_of(asked.trial), name, "robustness")

        yield curves(store, asked, part, make, skipped=part.record["skipped"])

    if name == TRANSCRIBED:

        @decorate
        def transcribed(context: dg.AssetExecutionContext, piano: PianoData):
            yield from altered(context, piano, 0)

        return transcribed

    if name == ADVERSARIAL:

        @decorate
        def adversarial(context: dg.AssetExecutionContext, piano: PianoData, config: FewClips):
            yield from altered(context, piano, config.n_clips)

        return adversarial

    @decorate
    def probe(context: dg.AssetExecutionContext, piano: PianoData, config: Sample):
        yield from altered(context, piano, config.n_clips)

    return probe


def heard_contents(store: Store, trial: Trial) -> list[str]:
    """Content hashes of what was heard, in order of clips."""
    from piano_assets.corpus.transcription.parts import heard_parts
    from piano_assets.features.sets import sound_of

    parts = heard_parts(store, sound_of(trial.inputs.rendering))
    return [parts[clip].content_hash for clip in sorted(parts)]


def _shown(store: Store, part: Part, made: bool, name: str, **metadata: Any) -> dg.MaterializeResult:
    """The event of a probe's part, with its plot small."""
    from piano_assets.report.plots import thumbnail
    from piano_assets.report.probe_plots import WORDS, diagnostic_figure, robustness_figure

    rows = read_part(part).to_pandas()
    notes = {"notes": store.read("notes", "all")} if name == "attention_rollout" else {}
    figure = robustness_figure(rows) if part.table == "robustness" else diagnostic_figure(rows, notes)
    preview = dg.MetadataValue.md(f"![{WORDS[name].title}]({thumbnail(figure)})")
    return result(part, made, name, preview=preview, **metadata)


ASSETS = [*(robustness_asset(name) for name in ROBUSTNESS), *(diagnostic_asset(name) for name in DIAGNOSTICS)]
