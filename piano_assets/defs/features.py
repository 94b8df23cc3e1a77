"""Assets of the features: what a model may be told about a clip."""

from pathlib import Path

import dagster as dg
import pandas as pd

from piano_assets.defs.corpus import content, key, many
from piano_assets.defs.data import PianoData, progress, publish, spec
from piano_assets.store.parts import Store

GROUP = "features"
SPECTROGRAM_NAMES = ("mel_128", "log_mel_128")


@dg.multi_asset(
    specs=[
        spec(
            "features",
            name="symbolic_features",
            description="Note-level features of every clip: timing, touch, dynamics, pedal, texture, tonality; "
            "each also relative to the same excerpt's deadpan rendition.",
            group=GROUP,
            deps=["notes", "controls", "clips"],
        )
    ],
    name="symbolic_features",
)
def symbolic_features(context: dg.AssetExecutionContext, piano: PianoData):
    """Note-level features of every clip, each also relative to the same excerpt's deadpan rendition."""
    from piano_assets.corpus.performance import performances as assemble
    from piano_assets.features.symbolic import symbolic_feature_table

    store = piano.store()

    def make() -> pd.DataFrame:
        played = assemble(store.read("notes", "all"), store.read("controls", "all"))
        return symbolic_feature_table(played, store.read("clips", "all"), progress(context, "note-level features"))

    wanted = key("symbolic", *content(store, ("notes", "all"), ("controls", "all"), ("clips", "all")))
    yield publish(store, "features", wanted, make, "symbolic", "symbolic_features")


@dg.multi_asset(
    specs=[
        spec(
            "features",
            name="audio_features",
            description="The 65 traditional audio features of every clip: MFCC, spectral, harmonic, temporal.",
            group=GROUP,
            deps=["audio"],
        )
    ],
    name="audio_features",
)
def audio_features(context: dg.AssetExecutionContext, piano: PianoData):
    """The 65 traditional audio features of every clip."""
    from piano_assets.features.traditional import traditional_table

    store = piano.store()

    def make() -> pd.DataFrame:
        return traditional_table(sound_files(store), store.root, "modal", progress=progress(context, "audio features"))

    wanted = key("audio", *content(store, ("audio", "modal")))
    yield publish(store, "features", wanted, make, "audio.modal", "audio_features")


def sound_files(store: Store) -> dict[str, Path]:
    """Path of each clip's audio file, relative to the corpus folder, by clip."""
    rows = store.read("audio", "modal")
    return {clip: Path(path) for clip, path in zip(rows["clip"], rows["path"], strict=True)}


@dg.multi_asset(
    specs=[spec("spectrograms", group=GROUP, deps=["audio"])],
    partitions_def=dg.StaticPartitionsDefinition(SPECTROGRAM_NAMES),
    name="spectrograms",
)
def spectrograms(context: dg.AssetExecutionContext, piano: PianoData):
    """Compute one spectrogram of every clip into one memory-mapped array."""
    from piano_assets.features.spectrograms import write_spectrograms

    store, name = piano.store(), context.partition_key

    def make() -> pd.DataFrame:
        return write_spectrograms(
            sound_files(store), store.root, name, "modal", progress=progress(context, f"clips of {name}")
        )

    wanted = key("spectrograms", name, *content(store, ("audio", "modal")))
    _, made = store.ensure("spectrograms", f"{name}.modal", wanted, make)
    yield many(store, "spectrograms", [f"{name}.modal"], made)


ASSETS = [symbolic_features, audio_features, spectrograms]
