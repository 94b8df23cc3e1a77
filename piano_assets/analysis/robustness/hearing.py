"""What a fitted subject hears of altered clips.

An alteration gives other samples or other notes for a clip; everything that the trial reads of them (frames, note
events, features) is then made by the code that made the originals and takes their place in `TrialData`. Altered sound
is clipped to [-1, 1], as a recording would be, but not rounded to 16 bits: that noise lies 90 dB below full scale.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING

import numpy as np

from piano_assets.catalogue.trial import Trial
from piano_assets.corpus.audio import read_audio
from piano_assets.corpus.performance import Performance, performances
from piano_assets.corpus.rendering.registry import RENDERERS
from piano_assets.features.note_events import note_events
from piano_assets.features.ordered import ordered_map
from piano_assets.features.sets import feature_set, sound_of, told_notes
from piano_assets.features.sound import sound_features, sound_names
from piano_assets.features.spectrograms import spec_of, spectrogram, stored
from piano_assets.features.symbolic import deadpan_of, music_features, music_names, symbolic_features, symbolic_names
from piano_assets.features.traditional import SAMPLE_RATE, TRADITIONAL, compile_once, traditional_features
from piano_assets.features.variants import as_read
from piano_assets.store.parts import Store, digest
from piano_assets.training.data import Frames, TrialData

if TYPE_CHECKING:
    from piano_assets.training.fitted import Fitted

Progress = Callable[[int, int], None] | None
Samples = Callable[[str], np.ndarray]
"""clip -> its samples, mono at 22.05 kHz, (n_samples,)."""
Alter = Callable[[str, Performance], Performance]
Hear = Callable[["Fitted", Store, np.ndarray, Progress], TrialData]


def why_not(trial: Trial) -> str | None:
    """Why alterations of sound cannot be asked of a trial; None where it hears sound."""
    sound = trial.inputs.spectrogram or hears(trial, "audio") or hears(trial, "sound")
    return None if sound else "it hears notes only, no sound"


def always(trial: Trial) -> str | None:
    """What every trial can be asked: None."""
    return None


@dataclass(frozen=True)
class Alteration:
    """One way of altering clips at one strength (None where there is nothing to be more or less of).

    hear: (fitted, store, rows, progress) -> data in which the clips at `rows` are altered; why_not: trial -> the reason
    why it cannot be asked of it, or here, or None.
    """

    probe: str
    kind: str
    strength: float | None
    hear: Hear
    why_not: Callable[[Trial], str | None] = why_not

    @property
    def condition(self) -> str:
        """`<probe>.<kind>:<strength>`, under which predictions are published."""
        return f"{self.probe}.{self.kind}" + ("" if self.strength is None else f":{self.strength:g}")


def recordings(of: "Fitted", store: Store) -> Samples:
    """The samples that the subject's frames and audio features were made from."""
    audio = store.read("audio", sound_of(of.trial.inputs.rendering))
    paths = dict(zip(audio["clip"], audio["path"], strict=True))
    return lambda clip: read_audio(store.root / paths[clip], SAMPLE_RATE)


def played(of: "Fitted", store: Store, rows: np.ndarray) -> tuple[dict[str, Performance], dict[str, Performance]]:
    """Of the clips at `rows`: clip -> performance, and clip -> deadpan rendition of its excerpt, where there is one."""
    notes, controls = store.read("notes", "all"), store.read("controls", "all")
    clips = store.read("clips", "all")
    reference = deadpan_of(clips[clips["clip"].isin(notes["clip"])])
    wanted = {str(clip) for clip in of.data.clips[rows]}
    reference = {clip: other for clip, other in reference.items() if clip in wanted}
    needed = wanted | set(reference.values())
    found = performances(notes[notes["clip"].isin(needed)], controls[controls["clip"].isin(needed)])
    return {clip: found[clip] for clip in wanted}, {clip: found[other] for clip, other in reference.items()}


def stream(*names: str | int) -> np.random.Generator:
    """A random stream of its own for each purpose, the same on every machine."""
    return np.random.default_rng(int(digest(*names), 16))


def heard_sound(
    of: "Fitted", rows: np.ndarray, samples: Samples, progress: Progress = None, workers: int = 2
) -> TrialData:
    """The subject's data in which what it hears of the sound of the clips at `rows` is made from other samples.

    Frames and audio features are made again, features of notes stay. Other clips stay as they are.

    Args:
        samples: called from several threads.
    Raises:
        ValueError: the subject hears no sound, or samples that are no sound of at least a frame.
    """
    reason = why_not(of.trial)
    if reason:
        raise ValueError(f"{of.subject}: its sound cannot be altered: {reason}")
    if hears(of.trial, "audio"):
        compile_once()

    def one(row: int) -> "_Heard":
        return _of_sound(of.trial, samples(str(of.data.clips[row])))

    return _altered(of.data, rows, ordered_map(one, _checked(rows, of.data).tolist(), workers, progress))


def heard_notes(
    of: "Fitted",
    store: Store,
    rows: np.ndarray,
    alter: Alter,
    progress: Progress = None,
    workers: int = 2,
    sound: bool = True,
) -> TrialData:
    """The subject's data in which the notes and pedals of the clips at `rows` are others, and all that follows of them.

    Note-level features (relative to the deadpan rendition as it is), note events, and frames and audio features of the
    altered performance as the trial's renderer plays it: a clip with a real recording is heard through the renderer.

    Args:
        alter: (clip, performance) -> the performance in its place; called from several threads.
        sound: whether it is rendered again; else features of sound stay as they are.
    """
    own, deadpan = played(of, store, _checked(rows, of.data))
    trial = of.trial
    if hears(trial, "audio"):
        compile_once()

    def one(row: int) -> "_Heard":
        clip = str(of.data.clips[row])
        performance = alter(clip, own[clip])
        heard = _Heard({}, None)
        if sound and why_not(trial) is None:
            heard = _of_sound(trial, as_read(RENDERERS[sound_of(trial.inputs.rendering)](performance, SAMPLE_RATE)))
        known, score = told_notes(performance, trial.inputs.rendering), deadpan.get(clip)
        score = None if score is None else told_notes(score, trial.inputs.rendering)
        features = symbolic_features(known, score) if hears(trial, "symbolic") else {}
        features |= music_features(known) if hears(trial, "music") else {}
        frames = note_events(performance) if trial.inputs.notes else heard.frames
        return _Heard(heard.features | features, frames)

    return _altered(of.data, rows, ordered_map(one, rows.tolist(), workers, progress))


@dataclass(frozen=True)
class _Heard:
    """What is read of one altered clip: features by name, and frames (n, width) as they are stored, or None."""

    features: dict[str, float]
    frames: np.ndarray | None


@cache
def _names() -> dict[str, tuple[str, ...]]:
    """The features that can be made, by source."""
    return {
        "audio": TRADITIONAL,
        "sound": sound_names(),
        "symbolic": symbolic_names(),
        "music": music_names(),
    }


def hears(trial: Trial, source: str) -> bool:
    """Whether the trial's feature set holds features of a source."""
    if not trial.inputs.features:
        return False
    belongs = feature_set(trial.inputs.features)
    return any(belongs(source, name) for name in _names()[source])


def _of_sound(trial: Trial, samples: np.ndarray) -> _Heard:
    y = np.clip(np.asarray(samples, np.float32), -1, 1)
    features = traditional_features(y) if hears(trial, "audio") else {}
    features |= sound_features(y) if hears(trial, "sound") else {}
    if not trial.inputs.spectrogram:
        return _Heard(features, None)
    spec = spec_of(trial.inputs.spectrogram)
    return _Heard(features, stored(spectrogram(y, spec), spec.dtype))


def _checked(rows: np.ndarray, data: TrialData) -> np.ndarray:
    """`rows`, if they are different clips of the data."""
    if len(np.unique(rows)) < len(rows) or not np.isin(rows, np.arange(len(data.clips))).all():
        raise ValueError(f"rows must be different clips of 0..{len(data.clips) - 1} (found {np.sort(rows)})")
    return rows


def _altered(data: TrialData, rows: np.ndarray, heard) -> TrialData:
    """`data` with what was heard in the place of the clips at `rows`.

    What only training reads (samples and variants of the originals) is left out.
    """
    found: list[_Heard] = list(heard)
    features, sequence = data.features, data.sequence
    if features is not None:
        known = {name for names in _names().values() for name in names}
        strange = [name for name in data.feature_names if name not in known]
        if strange:
            raise ValueError(
                f"feature {strange[0]!r} is neither a feature of sound nor a note-level one: it cannot be made"
            )
        features = features.copy()
        for row, one in zip(rows, found, strict=True):
            columns = [i for i, name in enumerate(data.feature_names) if name in one.features]
            features[row, columns] = [one.features[data.feature_names[i]] for i in columns]
    if sequence is not None:
        sequence = _replaced(sequence, rows, [one.frames for one in found if one.frames is not None])
    return replace(data, features=features, sequence=sequence, sound=None, variants=())


def _replaced(frames: Frames, rows: np.ndarray, others: Sequence[np.ndarray]) -> Frames:
    """Frames with those of the clips at `rows` replaced, clips one after the other in memory."""
    new = dict(zip(rows.tolist(), others, strict=True))
    n_frames = frames.n_frames.copy()
    n_frames[rows] = [len(x) for x in others]
    start = np.cumsum(n_frames) - n_frames
    values = np.empty((int(n_frames.sum()), frames.values.shape[1]), frames.values.dtype)
    for row, (to, n) in enumerate(zip(start.tolist(), n_frames.tolist(), strict=True)):
        own = new.get(row)
        if own is None:
            own = frames.values[frames.start[row] : frames.start[row] + n]
        if own.dtype != values.dtype:
            raise ValueError(f"frames of clip {row} must be stored as {values.dtype} (found {own.dtype})")
        values[to : to + n] = own
    return Frames(values, start, n_frames)
