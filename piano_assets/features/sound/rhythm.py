"""When onsets come: rate, intervals, regularity, the curve of pace; and how sharply they come."""

import numpy as np

from piano_assets.features.sound.hearing import FRAME_S, REGISTERS, Hearing, peaks
from piano_assets.features.sound.loudness import PARTS, contour
from piano_assets.features.symbolic.summary import (
    autocorrelation,
    correlation,
    entropy,
    mean,
    quantiles,
    ratio,
    rms,
    sd,
    share,
    skewness,
)

LAGS_S = (0.15, 2.5)
"""Shortest and longest period that is looked for in the onset envelope."""


def rhythm(h: Hearing) -> dict[str, float]:
    """Intervals between onsets on a logarithmic scale; pace over parts of the clip; periodicity; onsets by register."""
    gap = np.log(np.maximum(h.intervals, 0.02))
    step = np.diff(gap)
    p10, p25, p50, p75, p90 = quantiles(gap, 0.1, 0.25, 0.5, 0.75, 0.9)
    duration = h.n_frames * FRAME_S
    # Pairs of neighbours as a share of their mean: the normalised pairwise variability index (Grabe and Low 2002).
    pairs = np.abs(np.diff(h.intervals)) / ((h.intervals[1:] + h.intervals[:-1]) / 2)
    found = {
        "rhythm_rate": len(h.onsets) / duration,
        "rhythm_duration_s": duration,
        "rhythm_interval_mean": mean(gap),
        "rhythm_interval_sd": sd(gap),
        "rhythm_interval_p10": p10,
        "rhythm_interval_p25": p25,
        "rhythm_interval_median": p50,
        "rhythm_interval_p75": p75,
        "rhythm_interval_p90": p90,
        "rhythm_interval_skewness": skewness(gap),
        "rhythm_interval_entropy": entropy(np.histogram(gap, np.linspace(-3.5, 1.5, 26))[0].astype(float)),
        "rhythm_interval_step": rms(step),
        "rhythm_interval_autocorrelation_1": autocorrelation(gap, 1) if gap.size > 3 else np.nan,
        "rhythm_interval_autocorrelation_2": autocorrelation(gap, 2) if gap.size > 4 else np.nan,
        "rhythm_npvi": mean(pairs),
        "rhythm_even_share": share(np.abs(step) < 0.1),
        "rhythm_uneven_share": share((np.abs(step) > 0.1) & (np.abs(step) < 0.45)),
        "rhythm_pause_share": share(h.intervals > 1.0),
        "rhythm_last_interval": float(gap[-1] - p50) if gap.size else np.nan,
        "rhythm_longest_interval": float(gap.max() - p50) if gap.size else np.nan,
    }
    for parts in PARTS[:3]:
        found |= contour(f"rhythm_pace_{parts}", _pace(h, parts), parts)
    return found | _periodicity(h) | _registers(h)


def _pace(h: Hearing, parts: int) -> np.ndarray:
    """Log of seconds per onset over equal counts of onsets, in units of the whole; nothing with too few onsets."""
    if len(h.onsets) <= parts:
        return np.zeros(0)
    time = h.onsets * FRAME_S
    lasts = np.diff(np.interp(np.linspace(0, len(time) - 1, parts + 1), np.arange(len(time)), time))
    return np.log(lasts * parts / lasts.sum())


def _periodicity(h: Hearing) -> dict[str, float]:
    """The envelope's autocorrelation: its strongest period, how much it stands out, and how it moves over the clip."""
    low, high = (round(s / FRAME_S) for s in LAGS_S)
    lag, strength = _period(h.envelope, low, high)
    width, periods, strengths = round(6 / FRAME_S), [], []
    for start in range(0, max(len(h.envelope) - width, 0) + 1, width // 3):
        one, strong = _period(h.envelope[start : start + width], low, high)
        periods.append(np.log(one))
        strengths.append(strong)
    local = np.array(periods)[np.isfinite(periods)]
    return {
        "rhythm_period": float(np.log(lag * FRAME_S)) if np.isfinite(lag) else np.nan,
        "rhythm_period_strength": strength,
        "rhythm_local_period_sd": sd(local),
        "rhythm_local_period_strength": mean(np.array(strengths)[np.isfinite(strengths)]),
    }


def _period(envelope: np.ndarray, low: int, high: int) -> tuple[float, float]:
    """(lag in frames, normalised autocorrelation there) of the strongest peak; NaN where there is none."""
    x = envelope - envelope.mean()
    energy = float(x @ x)
    if len(x) <= high or not energy > 0:
        return np.nan, np.nan
    spectrum = np.abs(np.fft.rfft(x, 2 * len(x))) ** 2
    r = np.fft.irfft(spectrum)[: high + 1] / energy
    inside = r[low : high + 1]
    best = int(np.argmax(inside))
    return float(low + best), float(inside[best])


def _registers(h: Hearing) -> dict[str, float]:
    """Onset strength and rate by register, how often registers come together, and the shape of the envelope's peaks."""
    duration, found, at = h.n_frames * FRAME_S, {}, {}
    strength = h.envelope[h.onsets]
    p10, p50, p90 = quantiles(strength, 0.1, 0.5, 0.9)
    for name in REGISTERS:
        level = h.register_level[name]
        rise = np.maximum(level - np.concatenate([level[:1], level[:1], level[:-2]]), 0)
        at[name] = peaks(rise, threshold=3.0)
        found[f"rhythm_{name}_rate"] = len(at[name]) / duration
        found[f"rhythm_{name}_rise_db"] = mean(rise[at[name]])
    together = np.logical_or.reduce(np.isin(at["low"][:, None] + np.arange(-3, 4), at["high"]), axis=1)
    return found | {
        "rhythm_low_with_high_share": share(np.asarray(together)),
        "rhythm_low_rate_share": ratio(found["rhythm_low_rate"], found["rhythm_high_rate"]),
        "rhythm_strength_mean_db": mean(strength),
        "rhythm_strength_sd_db": sd(strength),
        "rhythm_strength_p10_db": p10,
        "rhythm_strength_median_db": p50,
        "rhythm_strength_p90_db": p90,
        "rhythm_strength_autocorrelation_1": autocorrelation(strength, 1) if strength.size > 3 else np.nan,
        "rhythm_strength_interval_r": correlation(strength[:-1], np.log(np.maximum(h.intervals, 0.02))),
        "rhythm_sharpness": ratio(mean(strength), mean(h.envelope)),
    }
