"""Brightness, and brightness for its loudness: what is left of touch once loudness is accounted for."""

import numpy as np

from piano_assets.features.sound.hearing import Hearing
from piano_assets.features.sound.loudness import contour, in_parts
from piano_assets.features.symbolic.summary import autocorrelation, correlation, mean, quantiles, sd, slope


def timbre(h: Hearing) -> dict[str, float]:
    """Brightness (centroid in octaves) over frames and at onsets, its regression on level, tilt of the bands."""
    use = h.sounding
    centroid, level = h.centroid[use], h.level[use]
    p10, p50, p90 = quantiles(centroid, 0.1, 0.5, 0.9)
    at = np.minimum(h.onsets + 3, len(h.level) - 1)
    bright, loud = h.centroid[at], h.level[at]
    onset10, onset50, onset90 = quantiles(bright, 0.1, 0.5, 0.9)
    tilt = (h.register_level["high"] - h.register_level["low"])[use]
    presence = (h.register_level["high"] - h.register_level["middle"])[use]
    found = {
        "timbre_brightness_mean": mean(centroid),
        "timbre_brightness_sd": sd(centroid),
        "timbre_brightness_p10": p10,
        "timbre_brightness_median": p50,
        "timbre_brightness_p90": p90,
        "timbre_brightness_autocorrelation": autocorrelation(centroid, 43) if len(centroid) > 46 else np.nan,
        "timbre_onset_brightness_mean": mean(bright),
        "timbre_onset_brightness_sd": sd(bright),
        "timbre_onset_brightness_p10": onset10,
        "timbre_onset_brightness_median": onset50,
        "timbre_onset_brightness_p90": onset90,
    }
    for name, x, loudness in (("frames", centroid, level), ("onsets", bright, loud)):
        found |= _regression(f"timbre_{name}_brightness", loudness, x)
    for name, x in (("tilt", tilt), ("presence", presence)):
        low, middle, high = quantiles(x, 0.1, 0.5, 0.9)
        found |= {
            f"timbre_{name}_mean_db": mean(x),
            f"timbre_{name}_sd_db": sd(x),
            f"timbre_{name}_p10_db": low,
            f"timbre_{name}_median_db": middle,
            f"timbre_{name}_p90_db": high,
        }
        found |= _regression(f"timbre_{name}", level, x)
        found |= contour(f"timbre_{name}_8", in_parts(x, 8), 8)
    return found


def _regression(name: str, level: np.ndarray, x: np.ndarray) -> dict[str, float]:
    """Slope per dB, value expected at -20 dB, and correlation of x with the level."""
    steep = slope(level, x)
    return {
        f"{name}_per_db": steep,
        f"{name}_at_minus_20_db": mean(x) + steep * (-20 - mean(level)),
        f"{name}_level_r": correlation(level, x),
    }
