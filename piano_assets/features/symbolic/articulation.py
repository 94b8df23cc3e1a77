"""Articulation: how long keys are held, against the clock and against the next note of the same voice."""

import numpy as np

from piano_assets.features.symbolic.reading import Reading
from piano_assets.features.symbolic.summary import (
    NAN,
    autocorrelation,
    correlation,
    mean,
    median,
    quantiles,
    ratio,
    sd,
    share,
    slope,
)

STACCATO = 0.5
# A next note after more than this many times a line's median interval is a new phrase, not a connection.
PHRASE = 4.0
SHORT_S = 0.1
_LONGEST_RATIO = 4.0


def articulation(reading: Reading) -> dict[str, float]:
    """Durations in s. Ratios are key-down time over inter-onset interval, 1 = legato (Repp 1995, JASA 97:3862)."""
    duration = reading.duration
    p10, middle, p90 = quantiles(duration, 0.1, 0.5, 0.9)
    found = {
        "articulation_duration_mean_s": mean(duration),
        "articulation_duration_median_s": middle,
        "articulation_duration_sd_s": sd(duration),
        "articulation_duration_p10_s": p10,
        "articulation_duration_p90_s": p90,
        "articulation_duration_cv": ratio(sd(duration), mean(duration)),
        "articulation_short_share": share(duration < SHORT_S),
        "articulation_duration_velocity_r": correlation(duration, reading.velocity),
        "articulation_duration_pitch_r": correlation(duration, reading.pitch),
        "articulation_key_coverage": _coverage(reading.onset, reading.offset, reading.end),
        "articulation_sound_coverage": _coverage(reading.onset, reading.silent, reading.end),
        "articulation_release_spread_mean_s": _release_spread(reading),
        "articulation_repeat_gap_median_s": _repeat_gap(reading),
        **_chords(reading),
    }
    for voice, notes in reading.voices.items():
        if voice != "inner":
            found |= _line(f"articulation_{voice}", reading, notes)
        found[f"articulation_{voice}_duration_mean_s"] = mean(duration[notes])
    found["articulation_melody_over_bass"] = (
        found["articulation_melody_ratio_median"] - found["articulation_bass_ratio_median"]
    )
    return found


def _line(name: str, reading: Reading, notes: np.ndarray) -> dict[str, float]:
    """Overlap (s) and duration/IOI of successive notes of one voice."""
    onset, offset = reading.onset[notes], reading.offset[notes]
    ioi = np.diff(onset)
    # Notes of one chord are no succession.
    next_ = (np.diff(reading.chord[notes]) > 0) & (ioi > 0)
    next_ &= ioi <= PHRASE * median(ioi[next_])
    overlap = (offset[:-1] - onset[1:])[next_]
    held = np.minimum((offset[:-1] - onset[:-1])[next_] / ioi[next_], _LONGEST_RATIO)
    p10, middle, p90 = quantiles(held, 0.1, 0.5, 0.9)
    return {
        f"{name}_ratio_mean": mean(held),
        f"{name}_ratio_median": middle,
        f"{name}_ratio_sd": sd(held),
        f"{name}_ratio_p10": p10,
        f"{name}_ratio_p90": p90,
        f"{name}_overlap_mean_s": mean(overlap),
        f"{name}_overlap_median_s": median(overlap),
        f"{name}_legato_share": share(overlap >= 0),
        f"{name}_staccato_share": share(held < STACCATO),
        f"{name}_ratio_autocorrelation": autocorrelation(held, 1),
        f"{name}_ratio_slope": slope(reading.onset[notes][:-1][next_] / (reading.end or 1.0), held),
    }


def _chords(reading: Reading) -> dict[str, float]:
    """Every note against the interval to the next chord; keys only, and as it sounds with the pedal."""
    follows = reading.chord < len(reading.chord_start) - 1
    if not follows.any():
        names = ("ratio_mean", "ratio_median", "ratio_sd", "legato_share", "staccato_share", "pedalled_ratio_mean")
        return dict.fromkeys((f"articulation_{n}" for n in names), NAN)
    wait = reading.chord_onset[reading.chord[follows] + 1] - reading.onset[follows]
    held = np.minimum(reading.duration[follows] / wait, _LONGEST_RATIO)
    sound = np.minimum((reading.silent - reading.onset)[follows] / wait, _LONGEST_RATIO)
    return {
        "articulation_ratio_mean": mean(held),
        "articulation_ratio_median": median(held),
        "articulation_ratio_sd": sd(held),
        "articulation_legato_share": share(held >= 1),
        "articulation_staccato_share": share(held < STACCATO),
        "articulation_pedalled_ratio_mean": mean(sound),
    }


def _coverage(onset: np.ndarray, until: np.ndarray, end: float) -> float:
    """Share of the time in which at least one note lasts; NaN for an instant."""
    if not end > 0:
        return NAN
    reached = np.concatenate(([0.0], np.maximum.accumulate(until)[:-1]))
    return float(np.maximum(until - np.maximum(onset, reached), 0).sum() / end)


def _release_spread(reading: Reading) -> float:
    """Mean standard deviation of the note-offs of a chord, in seconds."""
    several = reading.chord_size > 1
    if not several.any():
        return NAN
    size = reading.chord_size
    centre = reading.per_chord(np.add, reading.offset) / size
    square = reading.per_chord(np.add, (reading.offset - centre[reading.chord]) ** 2) / size
    return mean(np.sqrt(square[several]))


def _repeat_gap(reading: Reading) -> float:
    """Median time for which a key that is struck again soon stays up before it, in seconds."""
    order = np.lexsort((reading.onset, reading.pitch))
    same = np.flatnonzero(reading.pitch[order[1:]] == reading.pitch[order[:-1]])
    gap = reading.onset[order[same + 1]] - reading.offset[order[same]]
    near = reading.chord[order[same + 1]] - reading.chord[order[same]] <= 2
    return median(gap[near])
