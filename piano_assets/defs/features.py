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
    """The 65 traditional audio features of every clip, in each rendering."""
    from piano_assets.features.traditional import traditional_table

    store, made = piano.store(), False
    for rendering in piano.renderings:

        def make(rendering: str = rendering) -> pd.DataFrame:
            told = progress(context, f"audio features, {rendering}")
            return traditional_table(sound_files(store, rendering), store.root, rendering, progress=told)

        wanted = key("audio", *content(store, ("audio", rendering)))
        made = store.ensure("features", f"audio.{rendering}", wanted, make)[1] or made
    yield many(store, "features", [f"audio.{r}" for r in piano.renderings], made, asset="audio_features")


def sound_files(store: Store, rendering: str) -> dict[str, Path]:
    """Path of each clip's audio file, relative to the corpus folder, by clip."""
    rows = store.read("audio", rendering)
    return {clip: Path(path) for clip, path in zip(rows["clip"], rows["path"], strict=True)}


@dg.multi_asset(
    specs=[spec("spectrograms", group=GROUP, deps=["audio"])],
    partitions_def=dg.StaticPartitionsDefinition(SPECTROGRAM_NAMES),
    name="spectrograms",
)
def spectrograms(context: dg.AssetExecutionContext, piano: PianoData):
    """Compute one spectrogram of every clip into one memory-mapped array, for each rendering."""
    from piano_assets.features.spectrograms import spectrogram_file, write_spectrograms

    store, name, made = piano.store(), context.partition_key, False
    for rendering in piano.renderings:

        def make(rendering: str = rendering) -> pd.DataFrame:
            told = progress(context, f"clips of {name}, {rendering}")
            return write_spectrograms(sound_files(store, rendering), store.root, name, rendering, progress=told)

        wanted = key("spectrograms", name, *content(store, ("audio", rendering)))
        part, one = store.ensure("spectrograms", f"{name}.{rendering}", wanted, make)
        if not one and not spectrogram_file(store.root, name, rendering).is_file():
            store.write("spectrograms", make(), key=wanted, name=part.name)
            one = True
        made = made or one
    yield many(store, "spectrograms", [f"{name}.{r}" for r in piano.renderings], made)


ASSETS = [symbolic_features, audio_features, spectrograms]
