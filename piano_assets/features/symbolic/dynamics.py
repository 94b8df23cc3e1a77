"""Dynamics: key velocities overall, by voice, by register and over time."""

import numpy as np

from piano_assets.features.symbolic.reading import Reading
from piano_assets.features.symbolic.summary import (
    NAN,
    arch,
    autocorrelation,
    correlation,
    entropy,
    mean,
    moving_mean,
    quantiles,
    rms,
    sd,
    share,
    skewness,
    slope,
)

LOUD, SOFT_TOUCH = 80, 40
ACCENT = 10
REGISTERS = {"low": (0, 48), "middle": (48, 72), "high": (72, 128)}
VOICES = ("melody", "bass", "inner")


def dynamics(reading: Reading) -> dict[str, float]:
    """MIDI velocities (1..127): level, spread, balance of voices and registers, shape and accents."""
    v = reading.velocity
    p5, p10, p25, p50, p75, p90, p95 = quantiles(v, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
    return {
        "dynamics_mean": mean(v),
        "dynamics_sd": sd(v),
        "dynamics_median": p50,
        "dynamics_p5": p5,
        "dynamics_p10": p10,
        "dynamics_p90": p90,
        "dynamics_p95": p95,
        "dynamics_max": float(v.max()) if v.size else NAN,
        "dynamics_range_p95_p5": p95 - p5,
        "dynamics_range_p75_p25": p75 - p25,
        "dynamics_skewness": skewness(v),
        "dynamics_entropy": entropy(np.bincount(v.astype(np.int64) // 8).astype(np.float64)),
        "dynamics_loud_share": share(v >= LOUD),
        "dynamics_soft_share": share(v < SOFT_TOUCH),
        "dynamics_pitch_r": correlation(v, reading.pitch),
        "dynamics_duration_weighted_mean": _weighted_mean(v, reading.duration),
        "dynamics_sound_weighted_mean": _weighted_mean(v, reading.silent - reading.onset),
        **_balance(reading, v),
        **_shape(reading, v),
        **_accents(reading, v),
    }


def _weighted_mean(v: np.ndarray, weight: np.ndarray) -> float:
    total = float(weight.sum())
    return float(v @ weight) / total if total > 0 else NAN


def _balance(reading: Reading, v: np.ndarray) -> dict[str, float]:
    """Means and spreads by voice and register, and how far the voices stand apart."""
    found = {}
    for voice, notes in reading.voices.items():
        found[f"dynamics_{voice}_mean"] = mean(v[notes])
        found[f"dynamics_{voice}_sd"] = sd(v[notes])
        found[f"dynamics_{voice}_step"] = mean(np.abs(np.diff(v[notes])))
    for a, b in (("melody", "bass"), ("melody", "inner"), ("bass", "inner")):
        found[f"dynamics_{a}_minus_{b}"] = found[f"dynamics_{a}_mean"] - found[f"dynamics_{b}_mean"]
    for register, (low, high) in REGISTERS.items():
        found[f"dynamics_{register}_mean"] = mean(v[(reading.pitch >= low) & (reading.pitch < high)])
    several = reading.chord_size > 1
    squares = reading.per_chord(np.add, v * v) / reading.chord_size
    spread = np.sqrt(np.maximum(squares - (reading.per_chord(np.add, v) / reading.chord_size) ** 2, 0))
    found["dynamics_within_chord_sd"] = mean(spread[several])
    found["dynamics_chord_loudest_over_mean"] = mean(
        (reading.per_chord(np.maximum, v) - reading.per_chord(np.add, v) / reading.chord_size)[several]
    )
    melody = reading.voices["melody"]
    found["dynamics_melody_pitch_r"] = correlation(v[melody], reading.pitch[melody])
    return found


def _shape(reading: Reading, v: np.ndarray) -> dict[str, float]:
    """The loudness curve over the excerpt: loudest note of each chord against time."""
    loudest, where = reading.per_chord(np.maximum, v), reading.position
    found = {
        "dynamics_chord_mean": mean(loudest),
        "dynamics_chord_sd": sd(loudest),
        "dynamics_slope": slope(where, loudest),
        "dynamics_arch": arch(where, loudest),
        "dynamics_first_quarter": mean(loudest[where <= 0.25]) - mean(loudest),
        "dynamics_last_quarter": mean(loudest[where >= 0.75]) - mean(loudest),
        "dynamics_last_chord": float(loudest[-1]) - mean(loudest) if loudest.size else NAN,
        "dynamics_peak_position": float(where[moving_mean(loudest, 5).argmax()]) if loudest.size > 2 else NAN,
        "dynamics_autocorrelation_1": autocorrelation(loudest, 1),
        "dynamics_autocorrelation_2": autocorrelation(loudest, 2),
        "dynamics_autocorrelation_4": autocorrelation(loudest, 4),
    }
    for width in (5, 11, 21):
        smooth = moving_mean(loudest, width)
        p5, p95 = quantiles(smooth, 0.05, 0.95)
        found[f"dynamics_curve_range_{width}"] = p95 - p5
        found[f"dynamics_curve_residual_{width}"] = rms(loudest - smooth)
    return found


def _accents(reading: Reading, v: np.ndarray) -> dict[str, float]:
    """Chords that stand out from their neighbours, and the size of the steps between chords."""
    loudest = reading.per_chord(np.maximum, v)
    rise = loudest - moving_mean(loudest, 7)
    step = np.diff(loudest)
    return {
        "dynamics_step_mean": mean(np.abs(step)),
        "dynamics_step_p90": quantiles(np.abs(step), 0.9)[0],
        "dynamics_accent_share": share(rise > ACCENT),
        "dynamics_accent_skewness": skewness(rise),
        "dynamics_ioi_r": correlation(loudest[:-1], np.log(reading.ioi)),
        "dynamics_velocity_per_s": float(v.sum()) / reading.end if reading.end > 0 else NAN,
    }
