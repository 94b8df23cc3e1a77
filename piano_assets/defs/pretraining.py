"""Assets of the pretraining: unlabelled music, a network that learns playing from it, and what it says of each clip.

Asked for by name: no other asset is made of these unless a trial names a feature set with `pretrained` in it.
"""

from pathlib import Path

import dagster as dg
import pandas as pd

from piano_assets.defs.corpus import content, key, source_folder
from piano_assets.defs.data import OWNERS, PianoData, progress, publish, result, spec
from piano_assets.store.checkpoints import checkpoint_folder, work_folder
from piano_assets.store.parts import Store, digest, file_sha256

GROUP = "adaptation"
NAME = "pretrained/encoder"
"""Of the folder of checkpoints."""


def music_folder(context: dg.AssetExecutionContext, store: Store) -> Path:
    """The folder of the pretraining music: given by the environment, or downloaded."""
    from piano_assets.corpus.pretraining.maestro import obtain

    return obtain(store.root.parent, progress(context, "bytes of MAESTRO"))


@dg.multi_asset(
    specs=[spec("pretraining_clips", group=GROUP, deps=["clips", "notes", "controls"])], name="pretraining_clips"
)
def pretraining_clips(context: dg.AssetExecutionContext, piano: PianoData):
    """Read the pretraining music; exclude whatever contains music that models are evaluated on, and say why."""
    from piano_assets.corpus.clusters import read_scores, score_pitches
    from piano_assets.corpus.performance import performances
    from piano_assets.corpus.pretraining.folders import SUFFIXES
    from piano_assets.corpus.pretraining.loading import SOURCE, load
    from piano_assets.corpus.source import SCORES

    store = piano.store()
    folder = music_folder(context, store)
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in (*SUFFIXES, ".csv"))
    inputs = content(store, ("clips", "all"), ("notes", "all"), ("controls", "all"))
    wanted = key("pretraining", [(p.relative_to(folder).as_posix(), file_sha256(p)) for p in files], *inputs)

    def make() -> pd.DataFrame:
        clips, notes = store.read("clips", "all"), store.read("notes", "all")
        scores = score_pitches(clips, notes, read_scores(source_folder(store) / SCORES, clips))
        played = performances(notes, store.read("controls", "all"))
        loaded = load(folder, scores, played, progress(context, "performances"))
        store.write("quarantine", loaded.quarantine, key=wanted, name=SOURCE)
        return loaded.clips

    part, made = store.ensure("pretraining_clips", "all", wanted, make)
    rows, refused = store.read("pretraining_clips", "all"), store.read("quarantine", SOURCE)
    yield result(
        part,
        made,
        folder=dg.MetadataValue.path(str(folder)),
        roles=rows["role"].value_counts().to_dict(),
        excluded_by_rule=rows["rule"].value_counts().to_dict(),
        quarantined_by_rule=refused["rule"].value_counts().to_dict(),
    )


@dg.asset(group_name=GROUP, kinds={"torch"}, owners=OWNERS, deps=["pretraining_clips"])
def pretrained_encoder(context: dg.AssetExecutionContext, piano: PianoData) -> dg.MaterializeResult:
    """Train a transformer that guesses hidden attributes of notes; a killed training goes on after its last epoch.

    On ASAP 15 minutes on one idle core that multiplies bfloat16 fast (`PIANO_PRECISION=bfloat16`), three times as long
    in float32.
    """
    import shutil

    from piano_assets.corpus.pretraining.loading import used
    from piano_assets.training.pretraining import loop
    from piano_assets.training.pretraining.run import pretrain, recipe_json, stands
    from piano_assets.training.provenance import precision_that_gains

    store, recipe = piano.store(), loop.RECIPE
    wanted = key("pretraining", recipe_json(recipe), content(store, ("pretraining_clips", "all")))
    folder, work = checkpoint_folder(store.root, NAME), work_folder(store.root, wanted)
    record = stands(folder, wanted)
    made = record is None
    if record is None:
        music, clips = music_folder(context, store), store.read("pretraining_clips", "all")
        record = pretrain(
            folder,
            work,
            wanted,
            recipe,
            {role: used(music, clips, role) for role in ("train", "valid")},
            precision_that_gains("cpu"),
            progress(context, "steps of the pretraining"),
            context.log.info,
            n_clips=clips["role"].value_counts().to_dict(),
        )
        shutil.rmtree(work, ignore_errors=True)
    return dg.MaterializeResult(
        metadata={
            "path": dg.MetadataValue.path(str(folder)),
            "part_key": wanted,
            "reused": not made,
            "valid_nats": record["history"][-1]["valid_nats"] or float("nan"),
            "seconds": sum(row["seconds"] for row in record["history"]),
        },
        data_version=dg.DataVersion(wanted),
    )


@dg.multi_asset(
    specs=[
        spec(
            "features",
            name="pretrained_features",
            description="What the pretrained network says of every clip: departures from what it expects, surprise, "
            "pooled states.",
            group=GROUP,
            deps=["pretrained_encoder", "notes", "controls"],
        )
    ],
    name="pretrained_features",
)
def pretrained_features(context: dg.AssetExecutionContext, piano: PianoData):
    """Ask the pretrained network about every clip; its weights are not changed."""
    from piano_assets.corpus.performance import performances
    from piano_assets.store.checkpoints import read_record
    from piano_assets.training.pretraining.features import feature_table
    from piano_assets.training.pretraining.run import load_network

    store = piano.store()
    folder = checkpoint_folder(store.root, NAME)
    encoder = read_record(folder)["part_key"]

    def make() -> pd.DataFrame:
        network, _ = load_network(folder, part_key=encoder)
        played = performances(store.read("notes", "all"), store.read("controls", "all"))
        return feature_table(network, played, progress(context, "clips asked about"))

    wanted = digest(
        "pretrained_features", key("pretraining", encoder), content(store, ("notes", "all"), ("controls", "all"))
    )
    yield publish(store, "features", wanted, make, "pretrained", "pretrained_features")


ASSETS = [pretraining_clips, pretrained_encoder, pretrained_features]
