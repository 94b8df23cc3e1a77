"""What happens between onsets: how sound decays, is damped or held, and how abruptly it starts against how it ends."""

import numpy as np

from piano_assets.features.sound.hearing import FRAME_S, Hearing
from piano_assets.features.symbolic.summary import correlation, mean, quantiles, ratio, sd, share, skewness

SHORTEST_S = 0.12
"""Intervals between onsets that are long enough to hear a decay in."""


def decay(h: Hearing) -> dict[str, float]:
    """Drops and slopes of the level between onsets, whole and by register; rises against falls of all bands."""
    found = _falls(h)
    at, until = h.onsets[:-1], h.onsets[1:]
    long_ = (until - at) * FRAME_S > SHORTEST_S
    at, until = at[long_], until[long_]
    series = {"all": h.level, **h.register_level}
    for name, level in series.items():
        top = np.array([level[a : a + 6].max() for a in at])
        low = np.array([level[max(u - 5, a + 1) : u - 1].min() for a, u in zip(at, until, strict=True)])
        drop = top - low
        rate = drop / ((until - at) * FRAME_S)
        p10, p50, p90 = quantiles(drop, 0.1, 0.5, 0.9)
        found |= {
            f"decay_{name}_drop_mean_db": mean(drop),
            f"decay_{name}_drop_p10_db": p10,
            f"decay_{name}_drop_median_db": p50,
            f"decay_{name}_drop_p90_db": p90,
            f"decay_{name}_rate_median": quantiles(rate, 0.5)[0],
            f"decay_{name}_rate_p90": quantiles(rate, 0.9)[0],
        }
        if name == "all":
            found["decay_drop_interval_r"] = correlation(drop, np.log((until - at) * FRAME_S))
            found["decay_detached_share"] = share(drop > 20)
            found["decay_held_share"] = share(drop < 6)
            found["decay_lowest_below_median_db"] = quantiles(level, 0.5)[0] - (low.min() if low.size else np.nan)
    return found


def slopes(h: Hearing) -> np.ndarray:
    """(n_frames / 2,) how fast the level changes, in dB per second, over two frames each."""
    return np.diff(h.level[::2]) / (2 * FRAME_S)


def _falls(h: Hearing) -> dict[str, float]:
    """Rises against falls of bands over two frames (asymmetry of spectral flux), and falls too fast to be a decay."""
    change = h.bands[2:] - h.bands[:-2]
    rise, fall = np.maximum(change, 0).mean(axis=1), np.maximum(-change, 0).mean(axis=1)
    level = slopes(h)
    high, low = change[:, 20:].mean(axis=1), change[:, :10].mean(axis=1)
    return {
        "decay_rise_mean_db": mean(rise),
        "decay_rise_sd_db": sd(rise),
        "decay_rise_skewness": skewness(rise),
        "decay_fall_mean_db": mean(fall),
        "decay_fall_sd_db": sd(fall),
        "decay_fall_skewness": skewness(fall),
        "decay_fall_p95_db": quantiles(fall, 0.95)[0],
        "decay_rise_fall_ratio": ratio(sd(rise), sd(fall)),
        "decay_slope_median": quantiles(level, 0.5)[0],
        "decay_slope_p10": quantiles(level, 0.1)[0],
        "decay_damped_share": share(level < -60),
        "decay_high_low_change_r": correlation(high, low),
    }
