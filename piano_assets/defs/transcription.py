"""Assets of transcription: what is heard in the sound of clips, how well, and the features of what was heard.

Not part of `make run`: it takes most of an hour on two cores and needs the extra `transcribe`.
"""

import os
import time
from collections.abc import Callable, Iterable
from functools import partial

import dagster as dg
import numpy as np
import pandas as pd

from piano_assets.corpus.audio import read_audio
from piano_assets.corpus.transcription import TRANSCRIBED
from piano_assets.corpus.transcription.parts import heard_parts, heard_performances, part_key, part_name
from piano_assets.corpus.transcription.subset import N_CLIPS, subset
from piano_assets.defs.corpus import content, key, many
from piano_assets.defs.data import PianoData, progress, spec
from piano_assets.defs.features import note_feature_makers, sound_files
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Part, Store, digest, read_part

GROUP = "transcription"
VARIABLE = "PIANO_TRANSCRIBE"


def clips_to_hear(store: Store, asked: str | None, gpu: bool) -> list[str]:
    """The clips that are transcribed: of those with labels all on a GPU, elsewhere the fixed subset.

    Args:
        asked: value of `PIANO_TRANSCRIBE`: `all`, a number of clips, or None.
    Raises:
        ValueError: another value; it is named.
    """
    clips, labels = store.read("clips", "all"), store.read("labels", "clean", ["clip"])
    labelled = clips[clips["clip"].isin(labels["clip"])]
    if asked == "all" or (asked is None and gpu):
        return subset(labelled, len(labelled))
    if asked is not None and not (asked.isdecimal() and int(asked)):
        raise ValueError(f"{VARIABLE}={asked!r} must be 'all' or a number of clips of at least 1")
    return subset(labelled, N_CLIPS if asked is None else int(asked))


def transcribe(
    store: Store,
    rendering: str,
    clips: Iterable[str],
    transcriber: Callable[[], Callable[[np.ndarray], pd.DataFrame]],
    machine: str,
    told: Callable[[int, int], None],
) -> int:
    """Transcribe the clips that are not yet, each published by itself: a killed run loses the one in hand.

    Args:
        transcriber: makes the function samples -> rows; only called where a clip is missing. machine: kept beside.
    Returns:
        How many clips were transcribed.
    """
    clips, sound, files = list(clips), store.require("audio", rendering).key, sound_files(store, rendering)
    hear, made = None, 0
    for done, clip in enumerate(clips, start=1):
        name, wanted = part_name(rendering, clip), part_key(sound, clip)
        if store.part("transcriptions", name, key=wanted) is None:
            hear = hear or transcriber()
            samples, started = read_audio(store.root / files[clip]), time.perf_counter()
            rows = hear(samples).assign(clip=clip, rendering=rendering)
            seconds = round(time.perf_counter() - started, 3)
            store.write("transcriptions", rows, key=wanted, name=name, seconds=seconds, machine=machine)
            made += 1
        told(done, len(clips))
    return made


@dg.multi_asset(specs=[spec("transcriptions", group=GROUP, deps=["audio", "clips", "labels"])], name="transcriptions")
def transcriptions(context: dg.AssetExecutionContext, piano: PianoData):
    """Transcribe the sound of clips, clip by clip; what is transcribed is left as it is.

    On the CPU a fixed subset, on a GPU every clip with labels; `PIANO_TRANSCRIBE` asks for `all` or a number of clips.
    """
    import torch

    from piano_assets.corpus.transcription.transcriber import transcriber
    from piano_assets.training.provenance import precision_that_gains

    store, device = piano.store(), "cuda" if torch.cuda.is_available() else "cpu"
    precision = precision_that_gains(device)
    clips = clips_to_hear(store, os.environ.get(VARIABLE), device == "cuda")
    names, made = [], 0
    for rendering in piano.renderings:
        told = progress(context, f"clips transcribed, {rendering}")
        made += transcribe(
            store, rendering, clips, lambda: transcriber(device, precision), f"{precision}-{device}", told
        )
        names += [part_name(rendering, clip) for clip in clips]
    yield many(store, "transcriptions", names, made > 0, transcribed_now=made)


def quality_rows(store: Store, rendering: str, parts: dict[str, Part]) -> pd.DataFrame:
    """Rows of `transcription_quality` for the clips that were heard."""
    from piano_assets.corpus.performance import performances
    from piano_assets.corpus.transcription.quality import quality

    notes, controls = (t[t["clip"].isin(parts)] for t in (store.read("notes", "all"), store.read("controls", "all")))
    played = performances(notes, controls)
    duration = store.read("audio", rendering).set_index("clip")["duration_s"]
    rows = [
        {
            "clip": clip,
            "rendering": rendering,
            "duration_s": float(duration[clip]),
            "seconds": part.record["seconds"],
            "machine": part.record["machine"],
            **quality(played[clip], read_part(part).to_pandas()),
        }
        for clip, part in sorted(parts.items())
    ]
    return pd.DataFrame(rows, columns=list(TABLES["transcription_quality"].columns))


@dg.multi_asset(
    specs=[spec("transcription_quality", group=GROUP, deps=["transcriptions", "notes"])], name="transcription_quality"
)
def transcription_quality(piano: PianoData):
    """How well each clip was transcribed."""
    store, made, names = piano.store(), False, []
    for rendering in piano.renderings:
        parts = heard_parts(store, rendering)
        wanted = key("transcription", "quality", *content(store, ("notes", "all")), *_contents(parts))

        def make(rendering: str = rendering, parts: dict[str, Part] = parts) -> pd.DataFrame:
            return quality_rows(store, rendering, parts)

        made = store.ensure("transcription_quality", rendering, wanted, make)[1] or made
        names.append(rendering)
    yield many(store, "transcription_quality", names, made)


@dg.multi_asset(
    specs=[
        spec(
            "features",
            name="transcribed_features",
            description="Note-level features of what was heard in the sound, by the code of `symbolic_features` and "
            "`music_features`; those relative to the deadpan rendition are NULL where its sound was not transcribed.",
            group=GROUP,
            deps=["transcriptions", "clips"],
        )
    ],
    name="transcribed_features",
)
def transcribed_features(context: dg.AssetExecutionContext, piano: PianoData):
    """Note-level features of what was heard; nothing of the true notes enters."""
    store, made, names = piano.store(), False, []
    for rendering in piano.renderings:
        parts = heard_parts(store, rendering)
        wanted = key("symbolic", TRANSCRIBED, *content(store, ("clips", "all")), *_contents(parts))
        for source, make in feature_makers(
            store, rendering, parts, progress(context, f"features, {rendering}")
        ).items():
            names.append(f"{source}.{TRANSCRIBED}{rendering}")
            made = store.ensure("features", names[-1], digest(wanted, source), make)[1] or made
    yield many(store, "features", names, made, asset="transcribed_features")


def feature_makers(
    store: Store, rendering: str, parts: dict[str, Part], told: Callable[[int, int], None]
) -> dict[str, Callable[[], pd.DataFrame]]:
    """Source -> a function that makes its features of what was heard."""
    return note_feature_makers(store, TRANSCRIBED + rendering, partial(heard_performances, parts), told)


def _contents(parts: dict[str, Part]) -> list[str]:
    return [parts[clip].content_hash for clip in sorted(parts)]


ASSETS = [transcriptions, transcription_quality, transcribed_features]
