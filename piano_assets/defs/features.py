"""Assets of the features: what a model may be told about a clip."""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path

import dagster as dg
import pandas as pd

from piano_assets.catalogue.comparisons import built_in
from piano_assets.catalogue.trial import Trial
from piano_assets.corpus.performance import Performance
from piano_assets.corpus.transcription import AS_HEARD
from piano_assets.defs.corpus import content, key, many
from piano_assets.defs.data import PianoData, progress, publish, spec
from piano_assets.features import note_events
from piano_assets.features.spectrogram_specs import SPECTROGRAMS
from piano_assets.features.spectrograms import spectrogram_file
from piano_assets.store.parts import Store, digest
from piano_assets.training.data import SYMBOLIC_RENDERING, VIEWED, feature_variants, sequence_names

GROUP = "features"
TABULAR = ("symbolic_features", "music_features", "as_heard_features", "audio_features", "sound_features")
"""Assets of table `features` that every corpus has."""


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
            name="music_features",
            description="What the notes of every clip say of the music itself: mode, chords, lines, intervals.",
            group=GROUP,
            deps=["notes", "controls"],
        )
    ],
    name="music_features",
)
def music_features(context: dg.AssetExecutionContext, piano: PianoData):
    """What the notes of every clip say of the music itself."""
    from piano_assets.corpus.performance import performances as assemble
    from piano_assets.features.symbolic import music_feature_table

    store = piano.store()

    def make() -> pd.DataFrame:
        played = assemble(store.read("notes", "all"), store.read("controls", "all"))
        return music_feature_table(played, progress(context, "features of the music"))

    wanted = key("music", *content(store, ("notes", "all"), ("controls", "all")))
    yield publish(store, "features", wanted, make, "music", "music_features")


@dg.multi_asset(
    specs=[
        spec(
            "features",
            name="as_heard_features",
            description="Note-level features of every clip as a transcriber would have heard it: pedals down or up, "
            "notes as long as the pedal holds them. Models of recordings learn from these.",
            group=GROUP,
            deps=["notes", "controls", "clips"],
        )
    ],
    name="as_heard_features",
)
def as_heard_features(context: dg.AssetExecutionContext, piano: PianoData):
    """Note-level features of every clip as a transcriber would have heard it, and its deadpan rendition alike."""
    from piano_assets.corpus.performance import performances as assemble
    from piano_assets.corpus.transcription.likeness import as_heard
    from piano_assets.features.sets import notes_of

    store, rendering = piano.store(), notes_of(AS_HEARD)
    inputs = content(store, ("notes", "all"), ("controls", "all"), ("clips", "all"))

    def heard() -> dict[str, Performance]:
        played = assemble(store.read("notes", "all"), store.read("controls", "all"))
        return {clip: as_heard(performance) for clip, performance in played.items()}

    makers, made = note_feature_makers(store, rendering, heard, progress(context, "features of what is heard")), False
    for source, make in makers.items():
        wanted = digest(key(source, *inputs), key("as_heard"))
        made = store.ensure("features", f"{source}.{rendering}", wanted, make)[1] or made
    yield many(store, "features", [f"{source}.{rendering}" for source in makers], made, asset="as_heard_features")


def note_feature_makers(
    store: Store,
    rendering: str,
    performances: Callable[[], dict[str, Performance]],
    told: Callable[[int, int], None],
) -> dict[str, Callable[[], pd.DataFrame]]:
    """Source -> a function that makes its features of performances that stand beside the true ones.

    Args:
        rendering: what the rows are named after. performances: called once, and only where features are made.
    """
    from piano_assets.features.symbolic import music_feature_table, symbolic_feature_table

    of = cache(performances)
    return {
        "symbolic": lambda: symbolic_feature_table(of(), store.read("clips", "all"), told, rendering=rendering),
        "music": lambda: music_feature_table(of(), told, rendering=rendering),
    }


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

    yield of_recordings(context, piano, "audio", traditional_table)


@dg.multi_asset(
    specs=[
        spec(
            "features",
            name="sound_features",
            description="Features of the sound beside the 65: loudness, rhythm, decay, timbre, register, harmony and "
            "bands.",
            group=GROUP,
            deps=["audio"],
        )
    ],
    name="sound_features",
)
def sound_features(context: dg.AssetExecutionContext, piano: PianoData):
    """What the sound says of loudness, rhythm, decay, timbre, register and harmony, in each rendering."""
    from piano_assets.features.sound import sound_table

    yield of_recordings(context, piano, "sound", sound_table)


def of_recordings(
    context: dg.AssetExecutionContext, piano: PianoData, source: str, table: Callable[..., pd.DataFrame]
) -> dg.MaterializeResult:
    """Make sure that the features of a source of recordings stand in each rendering, parts `<source>.<rendering>`."""
    store, made = piano.store(), False
    for rendering in piano.renderings:

        def make(rendering: str = rendering) -> pd.DataFrame:
            told = progress(context, f"{source} features, {rendering}")
            return table(sound_files(store, rendering), store.root, rendering, progress=told)

        # The recipe of the sound, not its samples: processors differ in their last bits, and nobody hears that.
        wanted = key(source, store.require("audio", rendering).key)
        made = store.ensure("features", f"{source}.{rendering}", wanted, make)[1] or made
    return many(store, "features", [f"{source}.{r}" for r in piano.renderings], made, asset=f"{source}_features")


def sound_files(store: Store, rendering: str) -> dict[str, Path]:
    """Path of each clip's audio file, relative to the corpus folder, by clip."""
    rows = store.read("audio", rendering)
    return {clip: Path(path) for clip, path in zip(rows["clip"], rows["path"], strict=True)}


def make_feature_variant(
    store: Store, variant: str, told: Callable[[str], Callable[[int, int], None]]
) -> tuple[str, bool]:
    """Make sure that the note-level features of every clip's variant stand: (name of the part, whether it was made).

    Deadpan renditions are altered with the others, so that what is relative to them stays so.
    """
    from piano_assets.corpus.performance import performances as assemble
    from piano_assets.features.symbolic import symbolic_feature_table
    from piano_assets.features.variants import altered

    name = f"{VIEWED}+{variant}"

    def make() -> pd.DataFrame:
        played = assemble(store.read("notes", "all"), store.read("controls", "all"))
        played = {clip: altered(performance, variant) for clip, performance in played.items()}
        table = symbolic_feature_table(played, store.read("clips", "all"), told(f"features of {variant}"))
        return table.assign(rendering=f"{SYMBOLIC_RENDERING}+{variant}")

    wanted = key("symbolic", variant, *content(store, ("notes", "all"), ("controls", "all"), ("clips", "all")))
    part, made = store.ensure("features", name, wanted, make)
    return part.name, made


def feature_variants_of(trials: Iterable[Trial]) -> list[str]:
    """Variants of clips whose features the trials read."""
    return list(dict.fromkeys(variant for trial in trials for variant in feature_variants(trial)))


def sequences_of(trials: Iterable[Trial]) -> list[str]:
    """Names of what the trials read that runs in time: spectrograms, note events, variants; without renderings."""
    return list(dict.fromkeys(name.rpartition(".")[0] for trial in trials for name in sequence_names(trial)))


SEQUENCES = tuple(dict.fromkeys([*SPECTROGRAMS, note_events.NAME, *sequences_of(built_in().full.values())]))
"""What can be materialized by a click: every named spectrogram, note events, and the variants of the catalogue."""


@dg.multi_asset(
    specs=[spec("spectrograms", group=GROUP, deps=["audio", "notes", "controls"])],
    partitions_def=dg.StaticPartitionsDefinition(SEQUENCES),
    name="spectrograms",
)
def spectrograms(context: dg.AssetExecutionContext, piano: PianoData):
    """Compute what runs in time of every clip into one memory-mapped array, for each rendering."""
    store, name = piano.store(), context.partition_key
    parts, made = make_sequence(store, name, piano.renderings, lambda what: progress(context, what))
    yield many(store, "spectrograms", parts, made)


def make_sequence(
    store: Store, name: str, renderings: Sequence[str], told: Callable[[str], Callable[[int, int], None]]
) -> tuple[list[str], bool]:
    """Make sure that a sequence of every clip stands in each rendering: (names of its parts, whether one was made).

    Args:
        name: key of `SPECTROGRAMS`, or `note_events`, whose one rendering is `midi`; with `+<variant>`, of the
            performances altered and rendered again.
        told: what is being done -> progress callback.
    """
    found, made = [], False
    for rendering in [SYMBOLIC_RENDERING] if name.startswith(note_events.NAME) else renderings:
        if rendering == SYMBOLIC_RENDERING:
            inputs = content(store, ("notes", "all"), ("controls", "all"))
        else:
            # The recipe of the sound says all that a rendering depends on, and so all that a variant's does.
            inputs = [store.require("audio", rendering).key]

        def make(rendering: str = rendering) -> pd.DataFrame:
            return _write_sequence(store, name, rendering, told(f"clips of {name}, {rendering}"))

        wanted = key("spectrograms", name, *inputs)
        part, one = store.ensure("spectrograms", f"{name}.{rendering}", wanted, make)
        if not one and not spectrogram_file(store.root, name, rendering).is_file():
            store.write("spectrograms", make(), key=wanted, name=part.name)
            one = True
        found.append(part.name)
        made = made or one
    return found, made


def _write_sequence(store: Store, name: str, rendering: str, told: Callable[[int, int], None]) -> pd.DataFrame:
    from piano_assets.corpus.performance import performances as assemble
    from piano_assets.features.spectrograms import write_spectrograms
    from piano_assets.features.variants import write_variant

    base, altered, variant = name.partition("+")
    if not altered and base != note_events.NAME:
        return write_spectrograms(sound_files(store, rendering), store.root, name, rendering, progress=told)
    played = assemble(store.read("notes", "all"), store.read("controls", "all"))
    if altered:
        return write_variant(played, store.root, base, variant, rendering, told)
    return note_events.write_note_events(played, store.root, rendering, told)


ASSETS = [symbolic_features, music_features, as_heard_features, audio_features, sound_features, spectrograms]
