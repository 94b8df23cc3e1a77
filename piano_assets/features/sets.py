"""Named feature sets, and the matrix that a model learns from."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from piano_assets.corpus.performance import Performance
from piano_assets.corpus.transcription import AS_HEARD, TRANSCRIBED
from piano_assets.corpus.transcription.likeness import as_heard
from piano_assets.features import traditional

SYMBOLIC_RENDERING = "midi"
FROM_NOTES = ("symbolic", "music")
"""Sources that are read from the notes, whatever the sound."""
PRETRAINED = "pretrained"
"""What a network that was trained on other music finds in the notes."""
STATES = "state_"
"""Prefix of those that are its pooled states."""
RELATIVE_SUFFIX = "_vs_deadpan"
HEARD_WELL = ("timing_", "asynchrony_", "texture_", "tonality_")
"""Families whose features a transcription gives about as the notes do (median r over clips .85 to .99); of dynamics,
articulation and pedal it gives .6 to .8. The set `recording` takes these from the sound itself."""

TRANSCRIBABLE = (
    *("timing_", "asynchrony_", "articulation_", "texture_", "tonality_"),
    *("dynamics_arch", "dynamics_slope", "dynamics_first_quarter", "dynamics_last_quarter"),
    *("dynamics_pitch_r", "dynamics_ioi_r"),
    *("dynamics_melody_minus_", "dynamics_bass_minus_"),
    *("pedal_bass_lingering_", "pedal_pitch_classes_", "pedal_polyphony_mean", "pedal_polyphony_p90"),
)
"""What a transcription says of the playing whatever the piano and the microphone: of dynamics their course and the
balance of voices, but no level and no range, and nothing that is weighted by loudness; of the pedal what sounds
together, but not where it stands."""
_BY_LOUDNESS = "_loud"
"""Suffix of features of the music that are weighted by loudness."""

SPECTRAL = tuple(name for name in traditional.SPECTRAL if name.startswith("spectral_"))
"""Mean and spread of centroid, rolloff and bandwidth: without the zero-crossing rate."""
MFCC, HARMONIC, TEMPORAL = traditional.MFCC, traditional.HARMONIC, ("tempo", "onset_rate", "beat_consistency")
_MOST_NAMED = 5


class FeaturesMissing(ValueError):
    """A feature table that lacks what a set needs; the message names clips and features."""


def _audio(*names: str) -> Callable[[str, str], bool]:
    wanted = frozenset(names)
    return lambda source, feature: source == "audio" and feature in wanted


def _departs(source: str, feature: str) -> bool:
    """How far a clip departs from what the pretrained network expects, without the network's pooled states.

    Beside note-level features and departures the 256 states bring kernel ridge nothing (`docs/data.md`).
    """
    return source == PRETRAINED and not feature.startswith(STATES)


FEATURE_SETS: dict[str, Callable[[str, str], bool]] = {
    "spectral_only": _audio(*SPECTRAL),
    "mfcc_only": _audio(*MFCC),
    "temporal_only": _audio(*TEMPORAL),
    "harmonic_only": _audio(*HARMONIC),
    "all_traditional": _audio(*traditional.TRADITIONAL),
    "symbolic": lambda source, feature: source == "symbolic",
    "symbolic_absolute": lambda source, feature: source == "symbolic" and not feature.endswith(RELATIVE_SUFFIX),
    "symbolic_music": lambda source, feature: source in FROM_NOTES,
    "symbolic_music_absolute": lambda source, feature: source in FROM_NOTES and not feature.endswith(RELATIVE_SUFFIX),
    "all": lambda source, feature: source in ("audio", "symbolic"),
    "all_music": lambda source, feature: source in ("audio", *FROM_NOTES),
    "all_music_absolute": lambda source, feature: (
        source in ("audio", *FROM_NOTES) and not feature.endswith(RELATIVE_SUFFIX)
    ),
    "audio_rich": lambda source, feature: source in ("audio", "sound"),
    "pretrained": lambda source, feature: source == PRETRAINED,
    "symbolic_pretrained": lambda source, feature: source == "symbolic" or _departs(source, feature),
    "all_music_pretrained": lambda source, feature: source in ("audio", *FROM_NOTES) or _departs(source, feature),
    "transcribable": lambda source, feature: (
        (source == "music" and not feature.endswith(_BY_LOUDNESS))
        or (source == "symbolic" and feature.startswith(TRANSCRIBABLE) and not feature.endswith(RELATIVE_SUFFIX))
    ),
    "recording": lambda source, feature: (
        source in ("audio", "sound", "music")
        or (source == "symbolic" and feature.startswith(HEARD_WELL) and not feature.endswith(RELATIVE_SUFFIX))
    ),
}
"""Set -> does it hold the feature of this (source, name)? `all_traditional` has 65 features."""

# What must be there for a set to be whole; the sets of all features of a source take what the table holds.
REQUIRED: dict[str, tuple[str, ...]] = {
    "spectral_only": SPECTRAL,
    "mfcc_only": MFCC,
    "temporal_only": TEMPORAL,
    "harmonic_only": HARMONIC,
    "all_traditional": traditional.TRADITIONAL,
}
# Sources without which a set would silently be another one.
SOURCES: dict[str, tuple[str, ...]] = {
    "all_traditional": ("audio",),
    "symbolic": ("symbolic",),
    "symbolic_absolute": ("symbolic",),
    "symbolic_music": FROM_NOTES,
    "all": ("audio", "symbolic"),
    "all_music": ("audio", *FROM_NOTES),
    "all_music_absolute": ("audio", *FROM_NOTES),
    "symbolic_music_absolute": FROM_NOTES,
    "audio_rich": ("audio", "sound"),
    "pretrained": (PRETRAINED,),
    "symbolic_pretrained": ("symbolic", PRETRAINED),
    "all_music_pretrained": ("audio", *FROM_NOTES, PRETRAINED),
    "transcribable": FROM_NOTES,
    "recording": ("audio", "sound", *FROM_NOTES),
}


def sound_of(rendering: str) -> str:
    """The sound that a trial hears where it names `rendering`."""
    return rendering.removeprefix(TRANSCRIBED).removeprefix(AS_HEARD)


def notes_of(rendering: str) -> str:
    """The rendering of note-level features where a trial names `rendering`."""
    if rendering.startswith(TRANSCRIBED):
        return rendering
    return AS_HEARD.rstrip(".") if rendering.startswith(AS_HEARD) else SYMBOLIC_RENDERING


def told_notes(performance: Performance, rendering: str) -> Performance:
    """What of a performance note-level features are made from, where a trial names `rendering`."""
    return as_heard(performance) if rendering.startswith(AS_HEARD) else performance


def renderings(rendering: str) -> dict[str, str]:
    """Source -> the rendering whose rows a set takes, where a trial names `rendering`.

    `modal`: features of that sound and note-level features of the performance (`midi`). `transcribed.modal`: features
    of that sound, and note-level features of what was heard in it. `as_heard.modal`: features of that sound, and
    note-level features of the performance as a transcriber would have heard it (`as_heard`).
    """
    sound, notes = sound_of(rendering), notes_of(rendering)
    return (
        dict.fromkeys(("audio", "sound"), sound) | dict.fromkeys(FROM_NOTES, notes) | {PRETRAINED: SYMBOLIC_RENDERING}
    )


def parts(set_name: str, rendering: str) -> list[str]:
    """Names of the parts of table `features` that a set reads: `<source>.<rendering>`, `<source>` of true notes."""
    of = renderings(rendering)
    names = ((source, of[source]) for source in SOURCES.get(set_name, ("audio",)))
    return [source if own == SYMBOLIC_RENDERING else f"{source}.{own}" for source, own in names]


def feature_set(name: str) -> Callable[[str, str], bool]:
    """The membership rule (source, feature) -> bool of a set.

    Raises:
        KeyError: an unknown name; the message lists the known ones.
    """
    if name not in FEATURE_SETS:
        raise KeyError(f"unknown feature set {name!r}; known: {', '.join(FEATURE_SETS)}")
    return FEATURE_SETS[name]


def design_matrix(
    features: pd.DataFrame, set_name: str, clips: Sequence[str], rendering: str = "modal"
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Pivot the long table `features` into a matrix of one set: (X (n_clips, n_features) float64, names).

    Rows follow `clips`, columns are sorted by source and name; NULL becomes NaN. Which rendering each source is taken
    from is decided by `renderings`. Other clips and renderings are ignored.

    Raises:
        KeyError: an unknown set.
        FeaturesMissing: a clip lacks a row of a feature, a feature of the set is not in the table at all, or a
            feature has two rows for one clip.
    """
    belongs = feature_set(set_name)
    source_code, sources = pd.factorize(features["source"])
    feature_code, names = pd.factorize(features["feature"])
    rendering_code, known_renderings = pd.factorize(features["rendering"])
    kind = feature_code.astype(np.int64) * len(sources) + source_code
    present = np.unique(kind)
    # By source, then name, so that the order of rows in a file decides nothing.
    wanted = sorted((str(sources[k % len(sources)]), str(names[k // len(sources)]), int(k)) for k in present)
    wanted = [w for w in wanted if belongs(w[0], w[1])]
    _check_set(set_name, wanted, rendering)

    column_of = np.full(len(names) * len(sources), -1, np.int64)
    column_of[[k for _, _, k in wanted]] = np.arange(len(wanted))
    of = renderings(rendering)
    wanted_rendering = known_renderings.get_indexer([of.get(str(source)) for source in sources])
    right = wanted_rendering[source_code] == rendering_code
    column = np.where(right, column_of[kind], -1)
    use = np.flatnonzero(column >= 0)
    column = column[use]
    clip_code, known = pd.factorize(features["clip"])
    row = pd.Index(clips).get_indexer(pd.Index(known))[clip_code[use]]
    inside = row >= 0
    row, column, use = row[inside], column[inside], use[inside]

    x = np.full((len(clips), len(wanted)), np.nan)
    rows_found = np.bincount(row * len(wanted) + column, minlength=x.size).reshape(x.shape)
    _check_rows(rows_found, list(clips), [w[1] for w in wanted], set_name, rendering)
    x[row, column] = features["value"].to_numpy(np.float64, na_value=np.nan)[use]
    return x, tuple(name for _, name, _ in wanted)


def _check_set(set_name: str, wanted: list[tuple[str, str, int]], rendering: str) -> None:
    found = {name for _, name, _ in wanted}
    missing = [name for name in REQUIRED.get(set_name, ()) if name not in found]
    missing += [f"any {source} feature" for source in SOURCES.get(set_name, ()) if source not in {w[0] for w in wanted}]
    if missing:
        raise FeaturesMissing(
            f"feature set {set_name!r} (rendering {rendering!r}): the table lacks {_some(missing, 'feature(s)')}"
        )


def _check_rows(rows_found: np.ndarray, clips: list[str], names: list[str], set_name: str, rendering: str) -> None:
    for wrong, words in ((rows_found == 0, "lacks"), (rows_found > 1, "has more than one row of")):
        if wrong.any():
            which_clips = [clips[k] for k in np.flatnonzero(wrong.any(axis=1))]
            which_names = [names[k] for k in np.flatnonzero(wrong.any(axis=0))]
            raise FeaturesMissing(
                f"feature set {set_name!r} (rendering {rendering!r}): the table {words} "
                f"{_some(which_names, 'feature(s)')} for {_some(which_clips, 'clip(s)')}"
            )


def _some(items: list[str], noun: str) -> str:
    more = ", ..." if len(items) > _MOST_NAMED else ""
    return f"{len(items)} {noun} ({', '.join(items[:_MOST_NAMED])}{more})"
