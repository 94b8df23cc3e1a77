"""A recording's 19 scores: how listeners would rate it, how sure that is, and what in the playing says so."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.ensembles.champion_files import Holder, Learnt, load_champion, load_learnt
from piano_assets.features.families import aspect_of
from piano_assets.features.sets import FROM_NOTES, SOURCES
from piano_assets.scoring.domain import Domain, domain_in, is_held
from piano_assets.scoring.explain import effects, shapley
from piano_assets.scoring.heard import (
    Passage,
    Window,
    features_of,
    features_without,
    matrix_of,
    measured,
    passages_of,
    windows_of,
)
from piano_assets.scoring.recordings import Recording
from piano_assets.scoring.windows import Lengths

BEYOND = 1.0
"""An aspect is beyond what was heard where no training clip lies as far from other music."""
PASSAGES = 8
"""In which a window is explained: some two bars each."""


@dataclass(frozen=True, eq=False)
class Ear:
    """What a champion of sound has heard: of a strange sound a champion of notes knows nothing."""

    learnt: Learnt
    domain: Domain


@dataclass(frozen=True, eq=False)
class Scorer:
    """A champion, ready to score.

    ear: for the sound beside the notes of a recording.
    reference: (d,) the median human performance of its corpus, against which scores are explained.
    heard: (n_people, 19) rising, what members that had not learnt from them say of people's performances.
    """

    holder: Holder
    lengths: Lengths
    domain: Domain
    reference: np.ndarray
    heard: np.ndarray
    ear: Ear | None = None

    @property
    def aspects(self) -> tuple[str, ...]:
        return self.domain.aspects


@dataclass(frozen=True, eq=False)
class Scores:
    """What a champion says of one recording.

    value, low, high, percentile: (19,) overall scores on the 0..1 scale, ends of the intervals, and the share of
    people's performances in the corpus that score lower, in percent.
    windows: what was scored as a clip each; by_window: (n_windows, 19).
    moved: (n_aspects, 19) what each aspect moved the overall score by, against `reference_value` (19,), the score of
    the median human performance. effects: (d, 19) the same for single features, each by itself.
    held_windows: (n_windows,) True where recorded sound is held, see `domain.is_held`; none is for MIDI.
    features: (n_windows, d). share_nearer: (n_windows, n_judged) of the aspects `judged`, see `Domain`: those of the
    champion, and those that only an ear knows.
    heard: (n_people, 19) rising, scores of people's performances in the corpus.
    passages: of windows with notes; by_passage: (n_passages, 19) what a window's score would lose without each.
    """

    recording: Recording
    champion: dict[str, Any]
    value: np.ndarray
    low: np.ndarray
    high: np.ndarray
    percentile: np.ndarray
    windows: tuple[Window, ...]
    by_window: np.ndarray
    aspects: tuple[str, ...]
    moved: np.ndarray
    reference_value: np.ndarray
    feature_names: tuple[str, ...]
    features: np.ndarray
    effects: np.ndarray
    judged: tuple[str, ...]
    share_nearer: np.ndarray
    heard: np.ndarray
    passages: tuple[Passage, ...]
    by_passage: np.ndarray
    held_windows: np.ndarray

    @property
    def beyond(self) -> tuple[str, ...]:
        """Aspects in which the recording is further from everything heard than any training clip is."""
        worst = self.weights @ (self.share_nearer >= BEYOND)
        return tuple(aspect for aspect, share in zip(self.judged, worst, strict=True) if share >= 0.5)

    @property
    def held(self) -> bool:
        """Whether most of what was recorded is held, as no struck string is: bowed, blown or sung."""
        return bool(self.weights @ self.held_windows >= 0.5)

    @property
    def in_domain(self) -> bool:
        return not self.beyond and not self.held

    @property
    def weights(self) -> np.ndarray:
        """(n_windows,) how much each window counts: its share of the music's time."""
        return _shares_of_time(self.windows)


def scorer_of(folder: Path, ear: Path | None = None) -> Scorer:
    """Read a champion and make it ready.

    Args:
        ear: folder of a champion of sound, for one that hears none.
    Raises:
        FileNotFoundError, CheckpointError, ValueError: see `champion_files.load_champion`.
    """
    holder = load_champion(folder)
    people = holder.human
    return Scorer(
        holder=holder,
        lengths=Lengths.of_clips(holder.duration_s),
        domain=domain_in(folder, holder),
        reference=np.nanmedian(holder.features[people], axis=0),
        heard=np.sort(holder.out_of_fold[people], axis=0),
        ear=None if ear is None else _ear_of(ear),
    )


def _ear_of(folder: Path) -> Ear:
    learnt = load_learnt(folder)
    return Ear(learnt, domain_in(folder, learnt))


def score(recording: Recording, scorer: Scorer) -> Scores:
    """Score a recording: each window as a clip, and overall their mean by time.

    Intervals are those of a clip. For several windows they promise at least as much: errors of windows partly cancel,
    but how far they do no corpus of rated clips can say.

    Raises:
        ValueError: the champion reads notes and the recording has none, or the features of a window are not those
            that it learnt from.
    """
    holder = scorer.holder
    windows = tuple(windows_of(recording, scorer.lengths))
    heard = holder.feature_set, holder.rendering
    tables = [measured(window, *heard) for window in windows]
    x, names = matrix_of(tables, *heard)
    if names != holder.feature_names:
        differing = sorted(set(names) ^ set(holder.feature_names))
        raise ValueError(f"features differ from those that the champion learnt from: {differing[:5]}")
    by_window = np.clip(holder.predict(x), 0, 1)
    weights = _shares_of_time(windows)
    value = weights @ by_window
    groups = _columns_by_aspect(names, scorer.aspects)
    moved = np.tensordot(weights, np.stack([shapley(holder.predict, row, scorer.reference, groups) for row in x]), 1)
    alone = np.tensordot(weights, np.stack([effects(holder.predict, row, scorer.reference) for row in x]), 1)
    reads_notes = set(SOURCES[holder.feature_set]) & set(FROM_NOTES)
    passages = passages_of(windows, PASSAGES) if reads_notes else []
    judged, share_nearer = _judged(scorer, windows, x)
    half = holder.half_widths
    below = [np.searchsorted(scorer.heard[:, k], value[k], side="left") for k in range(N_DIMENSIONS)]
    return Scores(
        recording=recording,
        champion=holder.record,
        value=value,
        low=np.clip(value - half, 0, 1),
        high=np.clip(value + half, 0, 1),
        percentile=100 * np.array(below) / len(scorer.heard),
        windows=windows,
        by_window=by_window,
        aspects=scorer.aspects,
        moved=moved,
        reference_value=holder.predict(scorer.reference[None])[0],
        feature_names=names,
        features=x,
        effects=alone,
        judged=judged,
        share_nearer=share_nearer,
        heard=scorer.heard,
        passages=tuple(passages),
        by_passage=_by_passage(passages, windows, tables, by_window, holder),
        held_windows=np.array([w.samples is not None and is_held(w.samples) for w in windows], bool),
    )


def _judged(scorer: Scorer, windows: tuple[Window, ...], x: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """(aspects, share of training clips that are nearer) of the champion, and of its ear where sound was recorded."""
    judged, share, ear = scorer.aspects, scorer.domain.share_nearer(x), scorer.ear
    if ear is None or any(window.samples is None for window in windows):
        return judged, share
    heard = ear.domain.share_nearer(features_of(windows, ear.learnt.feature_set, ear.learnt.rendering)[0])
    more = [k for k, aspect in enumerate(ear.domain.aspects) if aspect not in judged]
    return (*judged, *(ear.domain.aspects[k] for k in more)), np.hstack([share, heard[:, more]])


def _by_passage(
    passages: list[Passage], windows: tuple[Window, ...], tables: list[pd.DataFrame], scores: np.ndarray, holder: Holder
) -> np.ndarray:
    if not passages:
        return np.zeros((0, N_DIMENSIONS))
    without = features_without(passages, windows, tables, holder.feature_set, holder.rendering)
    return scores[[p.window for p in passages]] - np.clip(holder.predict(without), 0, 1)


def _shares_of_time(windows: tuple[Window, ...]) -> np.ndarray:
    seconds = np.array([w.end_s - w.start_s for w in windows])
    return seconds / seconds.sum()


def _columns_by_aspect(names: tuple[str, ...], aspects: tuple[str, ...]) -> list[np.ndarray]:
    of = np.array([aspect_of(name) for name in names], object)
    return [np.flatnonzero(of == aspect) for aspect in aspects]
