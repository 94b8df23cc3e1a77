"""A performance beside the deadpan rendition of the same excerpt: what the player added to the score.

The deadpan rendition comes from notation software in strict tempo, so its onsets are score time and its durations
are written durations.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from piano_assets.features.symbolic.alignment import align
from piano_assets.features.symbolic.reading import Reading
from piano_assets.features.symbolic.summary import (
    NAN,
    arch,
    autocorrelation,
    correlation,
    mean,
    median,
    moving_mean,
    quantiles,
    rms,
    sd,
    share,
    slope,
)

SUFFIX = "_vs_deadpan"
# Resolutions of the tempo curve, in parts of the excerpt: phrase, bar and beat of an eight-bar excerpt, about.
PARTS = (4, 8, 16, 32)
_LARGE = 1.5
LOG_COMPARED = ("timing_", "articulation_", "dynamics_")


@dataclass(frozen=True, eq=False)
class Pairing:
    """Two readings and their matched notes; positions are the reference's chords that hold a matched note."""

    performance: Reading
    reference: Reading

    @cached_property
    def notes(self) -> tuple[np.ndarray, np.ndarray]:
        return align(self.performance, self.reference)

    @cached_property
    def position(self) -> np.ndarray:
        """(n_matched,) position of each matched note, counted from 0 without gaps."""
        return np.unique(self.reference.chord[self.notes[1]], return_inverse=True)[1]

    def per_position(self, x: np.ndarray) -> np.ndarray:
        """Mean of a quantity of the matched notes at each position."""
        return np.bincount(self.position, weights=x) / np.bincount(self.position)

    @cached_property
    def times(self) -> tuple[np.ndarray, np.ndarray]:
        """(played_s, written_s) of the positions whose played times increase."""
        i, j = self.notes
        if not len(i):
            return np.zeros(0), np.zeros(0)
        played, written = self.per_position(self.performance.onset[i]), self.per_position(self.reference.onset[j])
        # A position that comes before an earlier one is a wrong match or a crossed grace note.
        forward = np.concatenate(([True], played[1:] > np.maximum.accumulate(played)[:-1] + 1e-3))
        return played[forward], written[forward]


def aligned(pairing: Pairing) -> dict[str, float]:
    """Deviations of matched notes from the score: completeness, tempo curve, chords, dynamics, articulation."""
    i, j = pairing.notes
    found = {
        "aligned_matched_share": len(i) / max(pairing.performance.n, pairing.reference.n, 1),
        "aligned_added_share": 1 - len(i) / pairing.performance.n if pairing.performance.n else NAN,
        "aligned_missing_share": 1 - len(j) / pairing.reference.n if pairing.reference.n else NAN,
        **_tempo(pairing),
        **_intervals(pairing),
        **_chords(pairing),
        **_velocities(pairing),
        **_durations(pairing),
    }
    return {name + SUFFIX: value for name, value in found.items()}


def _tempo(pairing: Pairing) -> dict[str, float]:
    """Log of seconds played per second written, over equal parts of the score. Positive = slower than the deadpan."""
    played, written = pairing.times
    enough = len(played) > 2
    overall = math.log((played[-1] - played[0]) / (written[-1] - written[0])) if enough else NAN
    found = {"aligned_tempo": overall}
    where = (written - written[0]) / (written[-1] - written[0]) if enough else written
    for parts in PARTS:
        if enough:
            lasts = np.diff(np.interp(np.linspace(0, 1, parts + 1), where, played))
            curve = np.log(lasts * parts / lasts.sum())
        else:
            curve = np.zeros(0)
        centre = (np.arange(len(curve)) + 0.5) / parts
        name = f"aligned_tempo_{parts}"
        found |= {
            f"{name}_sd": sd(curve),
            f"{name}_range": float(np.ptp(curve)) if curve.size else NAN,
            f"{name}_roughness": rms(np.diff(curve)),
            f"{name}_end": float(curve[-1]) if curve.size else NAN,
            f"{name}_start": float(curve[0]) if curve.size else NAN,
        }
        if parts >= 8:
            found |= {f"{name}_slope": slope(centre, curve), f"{name}_arch": arch(centre, curve)}
            found[f"{name}_autocorrelation"] = autocorrelation(curve, 1)
            found[f"{name}_bend"] = rms(np.diff(curve, 2))
    return found


def _intervals(pairing: Pairing) -> dict[str, float]:
    """Each interval between successive positions against its written length, after the overall tempo is taken out."""
    played, written = pairing.times
    ratio = np.log(np.diff(played) / np.diff(written))
    middle = median(ratio)
    ratio = np.clip(ratio - middle, -_LARGE, _LARGE)
    weight = np.diff(written)
    long_ = weight > median(weight) * 1.4
    p10, p90 = quantiles(ratio, 0.1, 0.9)
    line = np.polyval(np.polyfit(written, played, 2), written) if len(played) > 5 else played[:0]
    residual = (played - line) if line.size else line
    return {
        "aligned_interval_sd": sd(ratio),
        "aligned_interval_range": p90 - p10,
        "aligned_interval_step": mean(np.abs(np.diff(ratio))),
        "aligned_interval_autocorrelation": autocorrelation(ratio, 1),
        "aligned_interval_last": float(ratio[-1]) if ratio.size else NAN,
        "aligned_interval_longest": float(ratio.max()) if ratio.size else NAN,
        "aligned_interval_local_sd": sd(ratio - moving_mean(ratio, 7)),
        "aligned_interval_smooth_sd": sd(moving_mean(ratio, 7)),
        "aligned_interval_long_minus_short": mean(ratio[long_]) - mean(ratio[~long_]),
        "aligned_interval_hesitation_share": share(ratio > 0.3),
        "aligned_interval_rush_share": share(ratio < -0.3),
        "aligned_onset_residual_s": rms(residual),
        "aligned_tempo_autocorrelation_local": autocorrelation(ratio - moving_mean(ratio, 7), 1),
    }


def _chords(pairing: Pairing) -> dict[str, float]:
    """Spread and leads within chords that are written as simultaneous, in seconds, however far they are rolled."""
    i, j = pairing.notes
    if not len(i):
        leads = ("melody_lead_mean", "melody_lead_sd", "bass_lead_mean", "bass_lead_sd")
        names = ("spread_mean", "spread_median", "spread_sd", "spread_p90", *leads)
        return dict.fromkeys((*(f"aligned_{n}_s" for n in names), "aligned_rolled_share"), NAN)
    onset, pitch, position = pairing.performance.onset[i], pairing.reference.pitch[j], pairing.position
    order = np.lexsort((pitch, position))
    start = np.flatnonzero(np.concatenate(([True], np.diff(position[order]) > 0)))
    size = np.diff(np.append(start, len(order)))
    several = size > 1
    t = onset[order]
    spread = (np.maximum.reduceat(t, start) - np.minimum.reduceat(t, start))[several]
    total, low, top = np.add.reduceat(t, start), t[start], t[start + size - 1]
    rest = np.maximum(size - 1, 1)
    melody, bass = ((total - x) / rest - x for x in (top, low))
    middle, p90 = quantiles(spread, 0.5, 0.9)
    return {
        "aligned_spread_mean_s": mean(spread),
        "aligned_spread_median_s": middle,
        "aligned_spread_sd_s": sd(spread),
        "aligned_spread_p90_s": p90,
        "aligned_melody_lead_mean_s": mean(melody[several]),
        "aligned_melody_lead_sd_s": sd(melody[several]),
        "aligned_bass_lead_mean_s": mean(bass[several]),
        "aligned_bass_lead_sd_s": sd(bass[several]),
        "aligned_rolled_share": share(spread > 0.05),
    }


def _velocities(pairing: Pairing) -> dict[str, float]:
    """Played against deadpan velocity, note by note: level, spread, voices (of the score), and ties with timing."""
    i, j = pairing.notes
    velocity = pairing.performance.velocity[i]
    change = velocity - pairing.reference.velocity[j]
    found = {
        "aligned_velocity_change_mean": mean(change),
        "aligned_velocity_change_sd": sd(change),
        "aligned_velocity_r": correlation(velocity, pairing.reference.velocity[j]),
    }
    for voice in ("melody", "bass", "inner"):
        found[f"aligned_velocity_{voice}"] = mean(velocity[getattr(pairing.reference, voice)[j]]) - mean(velocity)
    per_position = pairing.per_position(velocity) if len(i) else np.zeros(0)
    local = per_position - moving_mean(per_position, 9)
    found["aligned_velocity_local_sd"] = sd(local)
    found["aligned_velocity_smooth_sd"] = sd(moving_mean(per_position, 9))
    found["aligned_velocity_bass_position_accent"] = mean(local[_strong(pairing)]) if len(i) else NAN
    written = pairing.reference.duration[j]
    found["aligned_velocity_written_duration_r"] = correlation(velocity, np.log(np.maximum(written, 0.02)))
    played, score = pairing.times
    if len(played) > 8:
        grid = np.linspace(score[0], score[-1], 33)
        tempo = np.diff(np.interp(grid, score, played))
        when = pairing.per_position(pairing.reference.onset[j])
        loud = np.interp((grid[1:] + grid[:-1]) / 2, when, moving_mean(per_position, 5))
        found["aligned_tempo_velocity_r"] = correlation(np.log(tempo), loud)
    else:
        found["aligned_tempo_velocity_r"] = NAN
    return found


def _strong(pairing: Pairing) -> np.ndarray:
    """(n_positions,) True where the score's bass enters: a stand-in for metrical weight, which MIDI does not give."""
    bass = pairing.reference.bass[pairing.notes[1]].astype(np.float64)
    return pairing.per_position(bass) > 0


def _durations(pairing: Pairing) -> dict[str, float]:
    """Log of played over written key-down time, in units of the overall tempo: negative = shorter than written."""
    i, j = pairing.notes
    played, written = pairing.times
    tempo = (played[-1] - played[0]) / (written[-1] - written[0]) if len(played) > 2 else NAN
    use = (pairing.reference.duration[j] > 0.02) & (pairing.performance.duration[i] > 0)
    i, j = i[use], j[use]
    held = np.log(pairing.performance.duration[i] / (pairing.reference.duration[j] * tempo))
    held = np.clip(held, -3, 3) if np.isfinite(tempo) else held[:0]
    sound = (pairing.performance.silent - pairing.performance.onset)[i]
    rings = np.log(np.maximum(sound, 1e-3) / (pairing.reference.duration[j] * tempo))
    rings = np.clip(rings, -3, 3) if np.isfinite(tempo) else rings[:0]
    p10, p50, p90 = quantiles(held, 0.1, 0.5, 0.9)
    found = {
        "aligned_duration_mean": mean(held),
        "aligned_duration_median": p50,
        "aligned_duration_sd": sd(held),
        "aligned_duration_p10": p10,
        "aligned_duration_p90": p90,
        "aligned_duration_half_share": share(held < math.log(0.5)),
        "aligned_duration_longer_share": share(held > math.log(1.1)),
        "aligned_duration_written_r": correlation(held, np.log(pairing.reference.duration[j])[: len(held)]),
        "aligned_sound_mean": mean(rings),
        "aligned_sound_median": median(rings),
        "aligned_sound_longer_share": share(rings > math.log(1.5)),
    }
    for voice in ("melody", "bass", "inner"):
        found[f"aligned_duration_{voice}"] = mean(held[getattr(pairing.reference, voice)[j][: len(held)]])
    return found


def differences(own: dict[str, float], deadpan: dict[str, float]) -> dict[str, float]:
    """Each feature minus the deadpan rendition's; the log ratio for durations in seconds and rates of notes.

    Pedal and asynchrony are subtracted even where they are in seconds: a deadpan rendition mostly has none.
    NaN where either is undefined, or where a log ratio needs a positive value and finds none.
    """
    found = {}
    for name, value in own.items():
        other = deadpan[name]
        if name.startswith(LOG_COMPARED) and name.endswith("_s") and "overlap" not in name and "gap" not in name:
            found[name + SUFFIX] = math.log(value / other) if value > 0 and other > 0 else NAN
        else:
            found[name + SUFFIX] = value - other
    return found
