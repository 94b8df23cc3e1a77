"""Timing: inter-onset intervals, the pulse they suggest, and the tempo curve against it."""

import numpy as np

from piano_assets.features.symbolic.reading import Reading
from piano_assets.features.symbolic.summary import (
    NAN,
    arch,
    autocorrelation,
    entropy,
    log_ratio,
    mean,
    median,
    moving_mean,
    quantiles,
    ratio,
    rms,
    sd,
    share,
    skewness,
    slope,
)

# Two neighbouring intervals whose ratio stays within this are taken as the same written value.
SAME_VALUE = np.log(1.4)
_PERIODS = np.geomspace(0.2, 1.5, 64)
_FREQUENCIES = np.geomspace(0.2, 2.2, 64)


def timing(reading: Reading) -> dict[str, float]:
    """Intervals between chords in seconds, their irregularity, and a tempo curve at several scales."""
    ioi, t = reading.ioi, reading.chord_onset
    logs = np.log(ioi)
    step = np.diff(logs)
    even = step[np.abs(step) < SAME_VALUE]
    p10, middle, p90 = quantiles(ioi, 0.1, 0.5, 0.9)
    span = float(t[-1] - t[0]) if len(t) > 1 else NAN
    return {
        "timing_span_s": span,
        "timing_ioi_mean_s": mean(ioi),
        "timing_ioi_median_s": middle,
        "timing_ioi_sd_s": sd(ioi),
        "timing_ioi_p10_s": p10,
        "timing_ioi_p90_s": p90,
        "timing_ioi_cv": ratio(sd(ioi), mean(ioi)),
        "timing_ioi_log_sd": sd(logs),
        "timing_ioi_skewness": skewness(logs),
        "timing_npvi": npvi(ioi),
        "timing_ioi_autocorrelation_1": autocorrelation(logs, 1),
        "timing_ioi_autocorrelation_2": autocorrelation(logs, 2),
        "timing_ioi_autocorrelation_4": autocorrelation(logs, 4),
        "timing_jitter": rms(even),
        "timing_jitter_mean_absolute": mean(np.abs(even)),
        "timing_even_share": share(np.abs(step) < SAME_VALUE),
        "timing_longest_ratio": ratio(float(ioi.max()) if ioi.size else NAN, middle),
        "timing_pause_share": ratio(float(ioi[ioi > 2.5 * middle].sum()) if ioi.size else NAN, span),
        "timing_last_ioi_log_ratio": log_ratio(float(ioi[-1]) if ioi.size else NAN, middle),
        **_tempo_curve(reading, ioi),
        **_pulse(t, middle),
        **_density(reading),
    }


def npvi(ioi: np.ndarray) -> float:
    """Normalised pairwise variability index, 0..200 (Grabe and Low 2002)."""
    return 200 * mean(np.abs(np.diff(ioi)) / (ioi[1:] + ioi[:-1]))


def tatum(ioi: np.ndarray) -> tuple[float, np.ndarray]:
    """The shortest regular unit that the intervals are multiples of: (period_s, (n_intervals,) multiples).

    The period minimises the mean absolute log deviation from the nearest multiple, plus a price on large multiples,
    without which a very short period would fit anything. NaN without intervals.
    """
    if not ioi.size:
        return NAN, np.zeros(0)
    periods = median(ioi) * _PERIODS
    multiple = np.maximum(np.rint(ioi[None, :] / periods[:, None]), 1)
    deviation = np.abs(np.log(ioi[None, :] / (multiple * periods[:, None])))
    cost = np.minimum(deviation, 0.5).mean(axis=1) + 0.08 * np.log(multiple).mean(axis=1)
    best = int(cost.argmin())
    return float(periods[best]), multiple[best]


def _tempo_curve(reading: Reading, ioi: np.ndarray) -> dict[str, float]:
    """Log of local slowness: each interval over its multiple of the tatum. Positive = slower."""
    period, multiple = tatum(ioi)
    curve = np.log(ioi / (multiple * period)) if ioi.size else ioi
    curve = np.clip(curve, -1, 1)
    where = reading.position[:-1]
    found = {
        "timing_tatum_s": period,
        "timing_tatum_deviation": sd(curve),
        "timing_tempo_slope": slope(where, curve),
        "timing_tempo_arch": arch(where, curve),
        "timing_tempo_start": mean(curve[where < 0.15]) - mean(curve),
        "timing_tempo_end": mean(curve[where >= 0.85]) - mean(curve),
        "timing_tempo_autocorrelation": autocorrelation(curve, 1),
    }
    for width in (3, 7, 15):
        smooth = moving_mean(curve, width)
        p5, p95 = quantiles(smooth, 0.05, 0.95)
        found[f"timing_tempo_range_{width}"] = p95 - p5
        found[f"timing_tempo_roughness_{width}"] = rms(np.diff(smooth))
        found[f"timing_tempo_residual_{width}"] = rms(curve - smooth)
    return found


def _pulse(t: np.ndarray, middle: float) -> dict[str, float]:
    """How sharply the onsets fall on one regular pulse: the spectrum of the onset train, relative to the median IOI."""
    if len(t) < 3:
        return {"timing_pulse_clarity": NAN, "timing_pulse_rate_per_s": NAN, "timing_pulse_entropy": NAN}
    frequency = _FREQUENCIES / middle
    strength = np.abs(np.exp(-2j * np.pi * frequency[:, None] * t[None, :]).sum(axis=1)) / len(t)
    best = int(strength.argmax())
    return {
        "timing_pulse_clarity": float(strength[best]),
        "timing_pulse_rate_per_s": float(frequency[best]),
        "timing_pulse_entropy": entropy(strength**2),
    }


def _density(reading: Reading) -> dict[str, float]:
    """Chords in eighths of the excerpt: how unevenly the events are spread, and whether they thin out at the end."""
    if len(reading.chord_start) < 8:
        return {"timing_density_cv": NAN, "timing_density_slope": NAN, "timing_density_end": NAN}
    # The small addition keeps a chord that lies on a border, up to rounding, on one side of it.
    eighth = np.minimum((reading.position * 8 + 1e-9).astype(np.int64), 7)
    counts = np.bincount(eighth, minlength=8) / len(reading.chord_start)
    return {
        "timing_density_cv": ratio(sd(counts), mean(counts)),
        "timing_density_slope": slope(np.arange(8.0), counts),
        "timing_density_end": float(counts[-1] - counts[:-1].mean()),
    }
