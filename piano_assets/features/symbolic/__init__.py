"""Note-level features: what can be measured from the notes and pedals of a performance, without its sound.

Families are functions of a `Reading`; each names its features after itself. A performance may be set beside the
deadpan rendition of the same excerpt: those features end in `_vs_deadpan`. They are undefined (NaN, stored as NULL)
for a recording without a deadpan rendition. Nothing else is borrowed: no feature looks at other performances.

What the notes say of the music itself, mode and chords among it, is a source of its own (`music`).
"""

from collections.abc import Callable, Mapping, Sequence
from math import isfinite

import numpy as np
import pandas as pd

from piano_assets.corpus.performance import Performance
from piano_assets.features.symbolic.articulation import articulation
from piano_assets.features.symbolic.asynchrony import asynchrony
from piano_assets.features.symbolic.dynamics import dynamics
from piano_assets.features.symbolic.music import music_features, music_names
from piano_assets.features.symbolic.pedal import pedal, soft_pedal
from piano_assets.features.symbolic.reading import Reading
from piano_assets.features.symbolic.relative import SUFFIX, Pairing, aligned, differences
from piano_assets.features.symbolic.summary import NAN
from piano_assets.features.symbolic.texture import texture
from piano_assets.features.symbolic.timing import timing
from piano_assets.features.symbolic.tonality import tonality

FAMILIES: dict[str, Callable[[Reading], dict[str, float]]] = {
    "timing": timing,
    "asynchrony": asynchrony,
    "articulation": articulation,
    "dynamics": dynamics,
    "pedal": pedal,
    "soft_pedal": soft_pedal,
    "tonality": tonality,
    "texture": texture,
}

# Tonality and texture are the score's own: both renditions share them, up to wrong notes.
COMPARED = ("timing", "asynchrony", "articulation", "dynamics", "pedal", "soft_pedal")


_NOTHING = Performance(
    onset_s=np.zeros(0),
    offset_s=np.zeros(0),
    pitch=np.zeros(0, np.int16),
    velocity=np.zeros(0, np.int16),
    control_time_s=np.zeros(0),
    controller=np.zeros(0, np.int16),
    control_value=np.zeros(0, np.int16),
)


def symbolic_features(performance: Performance, deadpan: Performance | None = None) -> dict[str, float]:
    """All note-level features of one performance; NaN where undefined, never infinite.

    Without `deadpan` the features relative to it are NaN, under the same names.
    """
    return _features(Reading(performance), None if deadpan is None else Reading(deadpan), None)


def symbolic_names() -> tuple[str, ...]:
    """Names of all note-level features, in order."""
    return tuple(symbolic_features(_NOTHING))


def _features(
    reading: Reading, deadpan: Reading | None, of_deadpan: dict[str, dict[str, float]] | None
) -> dict[str, float]:
    own = absolute(reading)
    compared = {name: value for family in COMPARED for name, value in own[family].items()}
    found = {name: value for family in own.values() for name, value in family.items()}
    if deadpan is None:
        nothing = aligned(Pairing(Reading(_NOTHING), Reading(_NOTHING)))
        found |= dict.fromkeys((*(name + SUFFIX for name in compared), *nothing), NAN)
    else:
        other = of_deadpan if of_deadpan is not None else absolute(deadpan)
        found |= differences(compared, {n: v for family in COMPARED for n, v in other[family].items()})
        found |= aligned(Pairing(reading, deadpan))
    return {name: float(value) if isfinite(value) else NAN for name, value in found.items()}


def absolute(reading: Reading) -> dict[str, dict[str, float]]:
    """Features by family, without a look at the deadpan rendition."""
    return {name: family(reading) for name, family in FAMILIES.items()}


def deadpan_of(clips: pd.DataFrame) -> dict[str, str]:
    """Clip -> the deadpan clip of its excerpt; the first by player name (Score before Score2) where there are two.

    Excerpts without one do not occur in the result. A deadpan clip may be its own reference: it adds nothing to itself.
    """
    chosen = clips[clips["deadpan"]].sort_values("player").drop_duplicates("excerpt").set_index("excerpt")["clip"]
    pairs = clips[clips["excerpt"].isin(chosen.index)]
    return dict(zip(pairs["clip"], pairs["excerpt"].map(chosen), strict=True))


def symbolic_feature_table(
    performances: Mapping[str, Performance],
    clips: pd.DataFrame,
    progress: Callable[[int, int], None] | None = None,
    rendering: str = "midi",
) -> pd.DataFrame:
    """The table `features` for all `performances` (source `symbolic`), long, NULL where undefined.

    Args:
        clips: at least the columns clip, excerpt, player, deadpan of the table `clips`.
        progress: called with (done, total) after each clip.
        rendering: `midi`, or what the performances were heard in.
    Raises:
        KeyError: a performance that `clips` does not know.
    """
    unknown = sorted(set(performances) - set(clips["clip"]))
    if unknown:
        raise KeyError(f"table 'clips' lacks {len(unknown)} performance(s), first {unknown[0]!r}")
    reference = deadpan_of(clips[clips["clip"].isin(performances)])
    readings = {clip: Reading(performances[clip]) for clip in sorted(set(reference.values()))}
    of_reference = {clip: absolute(reading) for clip, reading in readings.items()}
    rows = {}
    for done, (clip, performance) in enumerate(performances.items(), start=1):
        other = reference.get(clip)
        rows[clip] = _features(
            Reading(performance),
            None if other is None else readings[other],
            None if other is None else of_reference[other],
        )
        if progress is not None:
            progress(done, len(performances))
    return _long(rows, symbolic_names(), "symbolic", rendering)


def music_feature_table(
    performances: Mapping[str, Performance],
    progress: Callable[[int, int], None] | None = None,
    rendering: str = "midi",
) -> pd.DataFrame:
    """The table `features` of what the notes say of the music (source `music`), long.

    Args:
        progress: called with (done, total) after each clip.
        rendering: `midi`, or what the performances were heard in.
    """
    rows = {}
    for done, (clip, performance) in enumerate(performances.items(), start=1):
        rows[clip] = music_features(performance)
        if progress is not None:
            progress(done, len(performances))
    return _long(rows, music_names(), "music", rendering)


def _long(rows: dict[str, dict[str, float]], names: Sequence[str], source: str, rendering: str) -> pd.DataFrame:
    wide = pd.DataFrame.from_dict(rows, orient="index", columns=list(names), dtype="float64")
    long = pd.DataFrame(
        {
            "clip": wide.index.repeat(wide.shape[1]),
            "rendering": rendering,
            "feature": list(wide.columns) * len(wide),
            "value": wide.to_numpy().ravel(),
            "source": source,
        }
    )
    return long.reset_index(drop=True)
