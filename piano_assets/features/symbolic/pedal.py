"""Pedalling: depth and changes of the sustain pedal, their timing against the notes, and the blur they make."""

import numpy as np

from piano_assets.corpus.performance import SOFT
from piano_assets.features.symbolic.reading import DECAY_S, PEDAL_DOWN, Reading
from piano_assets.features.symbolic.summary import NAN, mean, median, quantiles, ratio, sd, share

# Positions that neither lift all dampers nor let all of them rest (Lehtonen et al. 2009, JASA 126:EL49).
HALF = (30, 100)
FULL = 110
TOUCHED = 8
LATE_S = 0.4


def pedal(reading: Reading) -> dict[str, float]:
    """Sustain pedal: positions are 0..1, shares are of the time from first onset to last note-off."""
    when, value = reading.sustain
    lasts = np.diff(np.append(when, max(reading.end, when[-1])))
    total = float(lasts.sum())
    if not reading.n:
        lasts = np.zeros_like(lasts)
    down = value >= PEDAL_DOWN
    presses, lifts = _changes(when, down)
    depth_mean = _time_mean(value / 127, lasts)
    at_onset = reading.sustain_at(reading.onset) / 127
    at_chord = reading.sustain_at(reading.per_chord(np.maximum, reading.onset)) / 127
    return {
        "pedal_down_share": _time_mean(down.astype(np.float64), lasts),
        "pedal_touched_share": _time_mean((value > TOUCHED).astype(np.float64), lasts),
        "pedal_half_share": _time_mean(((value >= HALF[0]) & (value < HALF[1])).astype(np.float64), lasts),
        "pedal_full_share": _time_mean((value >= FULL).astype(np.float64), lasts),
        "pedal_depth_mean": depth_mean,
        "pedal_depth_sd": float(np.sqrt(_time_mean((value / 127 - depth_mean) ** 2, lasts))),
        "pedal_depth_when_down": _time_mean(value / 127, np.where(down, lasts, 0)),
        "pedal_depth_when_up": _time_mean(value / 127, np.where(down, 0, lasts)),
        "pedal_depth_at_onset_mean": mean(at_onset),
        "pedal_depth_at_chord_sd": sd(at_chord),
        "pedal_down_at_onset_share": share(at_onset * 127 >= PEDAL_DOWN),
        "pedal_down_at_release_share": share(reading.sustain_at(reading.offset) >= PEDAL_DOWN),
        "pedal_down_at_end": float(down[-1]) if reading.n else NAN,
        "pedal_changes_per_s": ratio(len(presses) + len(lifts), total) if total > 0 else NAN,
        "pedal_presses_per_chord": ratio(len(presses), len(reading.chord_start)) if reading.n else NAN,
        "pedal_travel_per_s": ratio(float(np.abs(np.diff(value)).sum()) / 127, total) if total > 0 else NAN,
        "pedal_movements_per_s": ratio(len(when) - 1, total) if total > 0 else NAN,
        **_durations(reading, presses, lifts, bool(down[0])),
        **_lags(reading, presses, lifts),
        **_blur(reading),
    }


def soft_pedal(reading: Reading) -> dict[str, float]:
    """Soft pedal (una corda): depth 0..1 and shares of time."""
    when, value = reading.pedal(SOFT)
    lasts = np.diff(np.append(when, max(reading.end, when[-1])))
    total = float(lasts.sum())
    return {
        "soft_pedal_down_share": _time_mean((value >= PEDAL_DOWN).astype(np.float64), lasts),
        "soft_pedal_touched_share": _time_mean((value > TOUCHED).astype(np.float64), lasts),
        "soft_pedal_depth_mean": _time_mean(value / 127, lasts),
        "soft_pedal_depth_max": float(value.max()) / 127,
        "soft_pedal_travel_per_s": ratio(float(np.abs(np.diff(value)).sum()) / 127, total) if total > 0 else NAN,
        "soft_pedal_sd": float(np.sqrt(_time_mean((value / 127 - _time_mean(value / 127, lasts)) ** 2, lasts))),
    }


def _time_mean(x: np.ndarray, lasts: np.ndarray) -> float:
    """Mean of a step function whose steps last `lasts` seconds; NaN where they last no time."""
    total = float(lasts.sum())
    return float(x @ lasts) / total if total > 0 else NAN


def _changes(when: np.ndarray, down: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times at which the pedal goes down and up through the middle, in seconds."""
    step = np.diff(down.astype(np.int8))
    return when[1:][step > 0], when[1:][step < 0]


def _durations(reading: Reading, presses: np.ndarray, lifts: np.ndarray, starts_down: bool) -> dict[str, float]:
    """How long the pedal stays down and up between changes, and how much music one press holds."""
    started = np.concatenate(([0.0], presses)) if starts_down and reading.n else presses
    ended = np.append(lifts, reading.end) if len(started) > len(lifts) else lifts
    held = ended - started
    gaps = presses - (lifts[: len(presses)] if starts_down else np.append(-np.inf, lifts)[: len(presses)])
    gaps = gaps[np.isfinite(gaps)]
    notes = np.searchsorted(reading.onset, ended) - np.searchsorted(reading.onset, started)
    return {
        "pedal_press_mean_s": mean(held),
        "pedal_press_median_s": median(held),
        "pedal_press_sd_s": sd(held),
        "pedal_gap_median_s": median(gaps),
        "pedal_quick_change_share": share(gaps < LATE_S),
        "pedal_notes_per_press": mean(notes),
    }


def _lags(reading: Reading, presses: np.ndarray, lifts: np.ndarray) -> dict[str, float]:
    """Seconds from the latest chord to each press and lift: a syncopated (legato) pedal lifts and presses late."""
    press, lift = (_after(reading.chord_onset, t) for t in (presses, lifts))
    return {
        "pedal_press_lag_median_s": median(press),
        "pedal_press_lag_sd_s": sd(press),
        "pedal_lift_lag_median_s": median(lift),
        "pedal_lift_lag_sd_s": sd(lift),
        "pedal_syncopated_share": share(press < LATE_S),
    }


def _after(onset: np.ndarray, time: np.ndarray) -> np.ndarray:
    if not len(onset):
        return np.zeros(0)
    return time - onset[np.maximum(np.searchsorted(onset, time, side="right") - 1, 0)]


# Roughness of interval classes 0..6: seconds first, then the tritone (after Hutchinson and Knopoff 1978, coarsened).
_ROUGHNESS = np.array([0.0, 1.0, 0.5, 0.1, 0.1, 0.0, 0.3])
_CLASS = np.abs(np.arange(12)[:, None] - np.arange(12)[None, :])
ROUGH = _ROUGHNESS[np.minimum(_CLASS, 12 - _CLASS)]


def roughness(weights: np.ndarray) -> np.ndarray:
    """Mean roughness of pairs of pitch classes, (n, 12) weights -> (n,); 0 where nothing sounds."""
    total = weights.sum(axis=1)
    pairs = ((weights @ ROUGH) * weights).sum(axis=1)
    return np.divide(pairs, total**2, out=np.zeros_like(total), where=total > 0)


def _blur(reading: Reading) -> dict[str, float]:
    """What sounds at each new chord with the pedal, against the keys alone."""
    keys, sound = reading.sounding(reading.offset), reading.sounding(reading.silent)
    now = reading.per_chord(np.maximum, reading.onset)
    age = np.maximum(now[:, None] - reading.onset[None, :], 0)
    faded = np.where(sound, reading.velocity[None, :] * np.exp(-age / DECAY_S), 0.0)
    own = reading.chord[None, :] == np.arange(len(reading.chord_start))[:, None]
    old_classes = np.where(own, 0.0, faded) @ reading.pitch_class
    new_classes = np.where(own, faded, 0.0) @ reading.pitch_class
    n_sound, n_keys = sound.sum(axis=1).astype(np.float64), keys.sum(axis=1).astype(np.float64)
    classes = (faded @ reading.pitch_class > 0).sum(axis=1).astype(np.float64)
    rough, dry = roughness(faded @ reading.pitch_class), roughness(np.where(keys, 1.0, 0.0) @ reading.pitch_class)
    clash = ((new_classes @ ROUGH) * old_classes).sum(axis=1)
    weight = new_classes.sum(axis=1) * (old_classes.sum(axis=1) + new_classes.sum(axis=1))
    lingering = old_classes.sum(axis=1) / (old_classes.sum(axis=1) + new_classes.sum(axis=1))
    p90, p90_classes = quantiles(n_sound, 0.9)[0], quantiles(classes, 0.9)[0]
    extended = reading.silent - reading.offset
    return {
        "pedal_polyphony_mean": mean(n_sound),
        "pedal_polyphony_p90": p90,
        "pedal_polyphony_over_keys": mean(n_sound - n_keys),
        "pedal_pitch_classes_mean": mean(classes),
        "pedal_pitch_classes_p90": p90_classes,
        "pedal_roughness_mean": mean(rough),
        "pedal_roughness_p90": quantiles(rough, 0.9)[0],
        "pedal_roughness_over_keys": mean(rough - dry),
        "pedal_clash_mean": mean(clash / weight),
        "pedal_lingering_mean": mean(lingering),
        "pedal_lingering_sd": sd(lingering),
        "pedal_bass_lingering_mean": mean(
            (sound & ~own & (reading.pitch < 55)[None, :]).sum(axis=1).astype(np.float64)
        ),
        "pedal_extension_mean_s": mean(extended),
        "pedal_extension_median_s": median(extended),
        "pedal_extended_share": share(extended > 0.05),
    }
