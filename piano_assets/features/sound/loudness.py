"""How loud, and how loudness moves: over frames, over onsets and over the phrase."""

import numpy as np

from piano_assets.features.sound.hearing import FRAME_S, Hearing
from piano_assets.features.symbolic.summary import (
    arch,
    autocorrelation,
    correlation,
    mean,
    quantiles,
    rms,
    sd,
    share,
    skewness,
    slope,
)

PARTS = (4, 8, 16, 32)
LAGS_S = (0.25, 0.5, 1.0, 2.0, 4.0)


def loudness(h: Hearing) -> dict[str, float]:
    """Quantiles, spread and memory of the level; its curve over equal parts of the clip; levels of onsets."""
    level = h.level
    p5, p25, p50, p75, p95 = quantiles(level, 0.05, 0.25, 0.5, 0.75, 0.95)
    found = {
        "loudness_mean_db": mean(level),
        "loudness_sd_db": sd(level),
        "loudness_p5_db": p5,
        "loudness_p25_db": p25,
        "loudness_median_db": p50,
        "loudness_p75_db": p75,
        "loudness_p95_db": p95,
        "loudness_range_db": p95 - p5,
        "loudness_skewness": skewness(level),
        "loudness_peak_above_median_db": float(level.max()) - p50,
    }
    for lag in LAGS_S:
        step = round(lag / FRAME_S)
        change = level[step:] - level[:-step]
        found[f"loudness_autocorrelation_{lag:g}s"] = autocorrelation(level, step) if change.size else np.nan
        found[f"loudness_change_{lag:g}s_db"] = mean(np.abs(change))
    for parts in PARTS:
        found |= contour(f"loudness_{parts}", in_parts(level, parts), parts)
    return found | _of_onsets(h)


def in_parts(x: np.ndarray, parts: int) -> np.ndarray:
    """Means of a series over equal parts of its length, (parts,); nothing where the series is shorter."""
    if len(x) < parts:
        return np.zeros(0)
    edges = np.linspace(0, len(x), parts + 1).astype(int)
    total = np.concatenate(([0.0], np.cumsum(x, dtype=np.float64)))
    return np.diff(total[edges]) / np.diff(edges)


def contour(name: str, curve: np.ndarray, parts: int) -> dict[str, float]:
    """The shape of a curve over equal parts of a clip, (parts,) or empty where the clip is too short for it."""
    where = (np.arange(len(curve)) + 0.5) / max(len(curve), 1)
    found = {
        f"{name}_sd": sd(curve),
        f"{name}_range": float(np.ptp(curve)) if curve.size else np.nan,
        f"{name}_roughness": rms(np.diff(curve)),
        f"{name}_start": float(curve[0] - curve.mean()) if curve.size else np.nan,
        f"{name}_end": float(curve[-1] - curve.mean()) if curve.size else np.nan,
    }
    if parts >= 8:
        found |= {
            f"{name}_slope": slope(where, curve),
            f"{name}_arch": arch(where, curve),
            f"{name}_autocorrelation": autocorrelation(curve, 1) if curve.size else np.nan,
        }
    return found


def _of_onsets(h: Hearing) -> dict[str, float]:
    """Levels just after onsets: what dynamics are made of, without the decay between them."""
    at = np.minimum(h.onsets + 4, len(h.level) - 1)
    level = h.level[at]
    p10, p50, p90 = quantiles(level, 0.1, 0.5, 0.9)
    step = np.diff(level)
    gap = np.log(np.maximum(h.intervals, 0.02))
    return {
        "loudness_onset_mean_db": mean(level),
        "loudness_onset_sd_db": sd(level),
        "loudness_onset_p10_db": p10,
        "loudness_onset_median_db": p50,
        "loudness_onset_p90_db": p90,
        "loudness_onset_step_db": mean(np.abs(step)),
        "loudness_onset_rise_share": share(step > 0),
        "loudness_onset_accent_share": share(level > p50 + 6),
        "loudness_onset_autocorrelation_1": autocorrelation(level, 1) if level.size > 3 else np.nan,
        "loudness_onset_autocorrelation_2": autocorrelation(level, 2) if level.size > 4 else np.nan,
        "loudness_onset_interval_r": correlation(level[:-1], gap),
    }
