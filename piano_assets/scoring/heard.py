"""What a champion is told of each window of a recording: the features it learnt from, by the code that made them."""

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from piano_assets.corpus.performance import Performance
from piano_assets.corpus.rendering.registry import RENDERERS
from piano_assets.corpus.rendering.timing import TAIL_S
from piano_assets.corpus.rendering.write import as_pcm
from piano_assets.features.sets import (
    FROM_NOTES,
    SOURCES,
    SYMBOLIC_RENDERING,
    design_matrix,
    renderings,
    sound_of,
    told_notes,
)
from piano_assets.scoring.recordings import SAMPLE_RATE, Recording
from piano_assets.scoring.windows import Lengths, cut_points, gaps_of_notes, gaps_of_sound, part_of, without


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of a recording, scored as one clip.

    start_s, end_s: in the recording's music. performance: its notes, the first at 0; None where none are known.
    samples: (n,) its sound, from the first onset on; None: to be rendered.
    """

    start_s: float
    end_s: float
    performance: Performance | None
    samples: np.ndarray | None


def windows_of(recording: Recording, lengths: Lengths) -> list[Window]:
    """Cut a recording at gaps in its music, see `windows.cut_points`. A stretch in which no note begins is left out."""
    played, sound = recording.performance, recording.samples
    if played is None:
        assert sound is not None
        cuts = cut_points(*gaps_of_sound(sound, SAMPLE_RATE), recording.duration_s, lengths)
        spans = itertools.pairwise(cuts)
        return [Window(a, b, None, sound[round(a * SAMPLE_RATE) : round(b * SAMPLE_RATE)]) for a, b in spans]
    cuts = cut_points(*gaps_of_notes(played), played.duration_s, lengths)
    found = []
    for a, b in itertools.pairwise(cuts):
        begun = played.onset_s[(played.onset_s >= a) & (played.onset_s < b)]
        if len(begun):
            part = part_of(played, a, b)
            heard = None if sound is None else _sound_of(sound, float(begun[0]), part)
            found.append(Window(float(begun[0]), float(b), part, heard))
    return found


def _sound_of(sound: np.ndarray, start_s: float, part: Performance) -> np.ndarray:
    """The sound of a part, as long as its rendering would be."""
    first = round(start_s * SAMPLE_RATE)
    return sound[first : first + round((part.duration_s + TAIL_S) * SAMPLE_RATE)]


def features_of(windows: Sequence[Window], feature_set: str, rendering: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The matrix (n_windows, n_features) of a named set and its columns, as a model of that set reads them.

    Args:
        rendering: how windows without sound are rendered, and the rendering that the set's features are named after.
    Raises:
        KeyError: an unknown set, rendering, or source of features.
        ValueError: a set of notes, and a window without notes.
    """
    return matrix_of([measured(window, feature_set, rendering) for window in windows], feature_set, rendering)


def measured(window: Window, feature_set: str, rendering: str, sources: Collection[str] = ()) -> pd.DataFrame:
    """Rows feature, value, source and rendering of what a set measures in a window, of all its sources or of some."""
    of = renderings(rendering)
    asked = [source for source in SOURCES[feature_set] if not sources or source in sources]
    if window.samples is None and set(asked) - set(FROM_NOTES):
        window = _rendered(window, rendering)
    if window.performance is not None:
        window = replace(window, performance=told_notes(window.performance, rendering))
    rows = []
    for source in asked:
        values = MEASURES[source](window)
        rows.append(
            pd.DataFrame({"feature": list(values), "value": list(values.values())}).assign(
                source=source, rendering=of.get(source, SYMBOLIC_RENDERING)
            )
        )
    return pd.concat(rows, ignore_index=True)


def matrix_of(tables: Sequence[pd.DataFrame], feature_set: str, rendering: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """The matrix (n_tables, n_features) of what was `measured`, and its columns."""
    names = [f"row{k:05d}" for k in range(len(tables))]
    table = pd.concat([t.assign(clip=name) for t, name in zip(tables, names, strict=True)], ignore_index=True)
    return design_matrix(table, feature_set, names, rendering)


@dataclass(frozen=True)
class Passage:
    """A stretch of a recording, from one onset to another; window: number of the window that it lies in."""

    window: int
    start_s: float
    end_s: float


def passages_of(windows: Sequence[Window], most: int) -> list[Passage]:
    """Each window with notes in at most `most` passages that last about as long as one another, cut at onsets.

    start_s, end_s are in the recording's music.
    """
    found = []
    for number, window in enumerate(windows):
        if window.performance is None:
            continue
        onset = np.unique(window.performance.onset_s)
        wanted = np.linspace(0.0, window.end_s - window.start_s, most + 1)[1:-1]
        cuts = np.unique(onset[np.minimum(np.searchsorted(onset, wanted), len(onset) - 1)])
        edges = [0.0, *cuts[cuts > 0].tolist(), window.end_s - window.start_s]
        if len(edges) > 2:  # of one passage nothing would be left
            found += [Passage(number, window.start_s + a, window.start_s + b) for a, b in itertools.pairwise(edges)]
    return found


def features_without(
    passages: Sequence[Passage],
    windows: Sequence[Window],
    tables: Sequence[pd.DataFrame],
    feature_set: str,
    rendering: str,
) -> np.ndarray:
    """(n_passages, n_features) what is measured in a window when one of its passages is left out.

    Only features of notes change: those of the sound stay as they are.

    Args:
        tables: what was `measured` in each window.
    """
    notes = [source for source in SOURCES[feature_set] if source in FROM_NOTES]
    altered = []
    for passage in passages:
        window, whole = windows[passage.window], tables[passage.window]
        assert window.performance is not None
        span = passage.start_s - window.start_s, passage.end_s - window.start_s
        rest = replace(window, performance=without(window.performance, *span))
        sounding = whole[~whole["source"].isin(notes)]
        altered.append(pd.concat([measured(rest, feature_set, rendering, notes), sounding], ignore_index=True))
    return matrix_of(altered, feature_set, rendering)[0]


def _rendered(window: Window, rendering: str) -> Window:
    """With its rendering, as a file would keep it: a champion learnt from such files."""
    assert window.performance is not None
    samples = as_pcm(RENDERERS[sound_of(rendering)](window.performance, SAMPLE_RATE)) / np.float32(2**15)
    return replace(window, samples=samples)


def _notes(measure: Callable[[Performance], Mapping[str, float]]) -> Callable[[Window], Mapping[str, float]]:
    def of(window: Window) -> Mapping[str, float]:
        if window.performance is None:
            raise ValueError("features of notes need notes: transcribe the recording, or bring MIDI")
        return measure(window.performance)

    return of


def _symbolic(performance: Performance) -> Mapping[str, float]:
    from piano_assets.features.symbolic import symbolic_features

    return symbolic_features(performance)


def _music(performance: Performance) -> Mapping[str, float]:
    from piano_assets.features.symbolic import music_features

    return music_features(performance)


def _audio(window: Window) -> Mapping[str, float]:
    from piano_assets.features.traditional import traditional_features

    assert window.samples is not None
    return traditional_features(window.samples)


def _sound(window: Window) -> Mapping[str, float]:
    from piano_assets.features.sound import sound_features

    assert window.samples is not None
    return sound_features(window.samples)


MEASURES: dict[str, Callable[[Window], Mapping[str, float]]] = {
    "symbolic": _notes(_symbolic),
    "music": _notes(_music),
    "audio": _audio,
    "sound": _sound,
}
"""Source of features -> what measures them in a window."""
