"""A note-level index of how hard an excerpt is to play."""

import numpy as np
import pandas as pd

CHORD_S = 0.03
"""Notes that start within this time of the previous one are struck together."""


def difficulty(clips: pd.DataFrame, notes: pd.DataFrame) -> pd.Series:
    """Difficulty of every excerpt: the mean of four standardised quantities, indexed by excerpt.

    Per clip: `density` (notes per second), `polyphony` (keys held at a note's onset, mean), `leaps` (mean absolute
    interval between successive chords, of their top and bottom notes, semitones) and `hand_span` (mean over chords of
    the wider of two hands, when a chord is divided at its widest gap, semitones). Each is the median over the clips of
    an excerpt, standardised over excerpts; a quantity that does not vary counts 0.

    The choice of quantities is this project's own: it orders excerpts, it is not a validated scale.
    """
    table = note_quantities(notes)
    table["density"] = table.pop("n_notes") / clips.set_index("clip")["duration_s"].clip(lower=0.1)
    by_excerpt = table.groupby(clips.set_index("clip")["excerpt"].reindex(table.index)).median()
    spread = by_excerpt.std(ddof=0)
    return ((by_excerpt - by_excerpt.mean()) / spread.where(spread > 0, 1.0)).mean(axis=1).sort_index()


def note_quantities(notes: pd.DataFrame) -> pd.DataFrame:
    """Per clip: n_notes, polyphony, leaps (NaN-free: 0 with one chord) and hand_span; indexed by clip."""
    ordered = notes.sort_values(["clip", "onset_s", "pitch"], kind="stable")
    clip, onset = ordered["clip"].to_numpy(), ordered["onset_s"].to_numpy(np.float64)
    new_clip = np.r_[True, clip[1:] != clip[:-1]]
    chord = np.cumsum(new_clip | np.r_[True, np.diff(onset) > CHORD_S]) - 1
    pitch = ordered["pitch"].to_numpy(np.int64)
    by_pitch = np.lexsort((pitch, chord))
    chord_pitch, starts = pitch[by_pitch], np.flatnonzero(np.r_[True, np.diff(chord) > 0])
    ends = np.r_[starts[1:], len(chord)] - 1
    bottom, top = chord_pitch[starts], chord_pitch[ends]
    chord_clip = clip[starts]
    same = np.r_[False, chord_clip[1:] == chord_clip[:-1]]
    leap = np.where(same, (np.abs(np.diff(top, prepend=0)) + np.abs(np.diff(bottom, prepend=0))) / 2, np.nan)
    chords = pd.DataFrame({"leaps": leap, "hand_span": _wider_hand(chord_pitch, chord, starts, ends)})
    table = chords.groupby(chord_clip).mean()
    table["leaps"] = table["leaps"].fillna(0.0)
    table["polyphony"] = pd.Series(_sounding(ordered), index=ordered.index).groupby(clip).mean()
    table["n_notes"] = ordered.groupby("clip").size()
    return table


def _wider_hand(pitch: np.ndarray, chord: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Spread of the wider hand of each chord; `pitch` ascends within a chord. A chord of one or two notes has 0."""
    gap = np.where(np.r_[chord[1:] == chord[:-1], False], np.diff(pitch, append=0), -1)
    widest = np.maximum.reduceat(gap, starts)
    at = np.minimum.reduceat(np.where(gap == widest[chord], np.arange(len(gap)), len(gap)), starts)
    left = pitch[at] - pitch[starts]
    right = pitch[ends] - pitch[np.minimum(at + 1, ends)]
    return np.maximum(left, right)


def _sounding(ordered: pd.DataFrame) -> np.ndarray:
    """Number of keys held at each onset, the new one included."""
    held = []
    for _, group in ordered.groupby("clip", sort=False):
        onset, offset = group["onset_s"].to_numpy(np.float64), np.sort(group["offset_s"].to_numpy(np.float64))
        begun = np.searchsorted(onset, onset, side="right")
        held.append(np.maximum(begun - np.searchsorted(offset, onset, side="right"), 1))
    return np.concatenate(held)
