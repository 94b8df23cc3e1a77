"""Tonality: how clearly the notes point to a key, in which mode, and how consonant they are.

Nothing here depends on which key it is: transposing the music changes no value.
"""

import numpy as np

from piano_assets.features.symbolic.pedal import roughness
from piano_assets.features.symbolic.reading import Reading
from piano_assets.features.symbolic.summary import NAN, entropy, mean, quantiles, sd

# Probe-tone profiles of Krumhansl and Kessler (1982), Psychological Review 89:334.
MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
N_WINDOWS = 4


def _standard(profile: np.ndarray) -> np.ndarray:
    return (profile - profile.mean()) / profile.std()


# (24, 12): twelve major keys from C, then twelve minor ones.
KEYS = np.stack([np.roll(_standard(p), k) for p in (MAJOR, MINOR) for k in range(12)])


def key_strengths(weights: np.ndarray) -> np.ndarray:
    """Correlation of pitch-class weights (n, 12) with the 24 key profiles: (n, 24), major C..B, then minor.

    NaN where a row has no spread.
    """
    centred = weights - weights.mean(axis=1, keepdims=True)
    spread = weights.std(axis=1, keepdims=True)
    z = np.divide(centred, spread, out=np.full_like(centred, np.nan), where=spread > 1e-12)
    return z @ KEYS.T / 12


def tonality(reading: Reading) -> dict[str, float]:
    """Key strength, mode, entropy of pitch classes, intervals and consonance; durations weigh the pitch classes."""
    weights = reading.duration @ reading.pitch_class if reading.n else np.zeros(12)
    strength = key_strengths(weights[None, :])[0]
    first, second = (np.sort(strength)[[-1, -2]]).tolist()
    best = int(strength.argmax()) if np.isfinite(first) else 0
    # Relative weight of the third of the best key: a dark or a bright mixture.
    tonic = best % 12
    major_third, minor_third = weights[(tonic + 4) % 12], weights[(tonic + 3) % 12]
    thirds = major_third + minor_third
    return {
        "tonality_key_strength": first,
        "tonality_key_margin": first - second,
        "tonality_mode": float(strength[:12].max() - strength[12:].max()),
        "tonality_major_third_share": float(major_third / thirds) if thirds > 0 else NAN,
        "tonality_pitch_class_entropy": entropy(weights),
        "tonality_chromatic_share": _chromatic(weights, best) if np.isfinite(first) else NAN,
        **_windows(reading),
        **_intervals(reading),
    }


def _chromatic(weights: np.ndarray, key: int) -> float:
    """Share of the sounding time that lies outside the scale of the key (natural and harmonic minor united)."""
    scale = [0, 2, 4, 5, 7, 9, 11] if key < 12 else [0, 2, 3, 5, 7, 8, 10, 11]
    inside = weights[[(key + s) % 12 for s in scale]].sum()
    return float(1 - inside / weights.sum())


def _windows(reading: Reading) -> dict[str, float]:
    """Key strength and change of pitch classes over quarters of the excerpt."""
    if not reading.end > 0:
        names = ("window_key_strength", "window_key_strength_sd", "window_mode", "window_change")
        return dict.fromkeys((f"tonality_{n}" for n in names), NAN)
    quarter = np.minimum((reading.onset / reading.end * N_WINDOWS + 1e-9).astype(np.int64), N_WINDOWS - 1)
    weights = np.zeros((N_WINDOWS, 12))
    np.add.at(weights, (quarter, reading.pitch.astype(np.int64) % 12), reading.duration)
    strength = key_strengths(weights)
    strength = strength[np.isfinite(strength[:, 0])]
    norm = np.linalg.norm(weights, axis=1)
    unit = weights[norm > 0] / norm[norm > 0, None]
    best = strength.max(axis=1)
    return {
        "tonality_window_key_strength": mean(best),
        "tonality_window_key_strength_sd": sd(best),
        "tonality_window_mode": mean(strength[:, :12].max(axis=1) - strength[:, 12:].max(axis=1)),
        "tonality_window_change": mean(1 - (unit[1:] * unit[:-1]).sum(axis=1)),
    }


def _intervals(reading: Reading) -> dict[str, float]:
    """Roughness and interval classes between keys held together, and melodic intervals."""
    held = reading.sounding(reading.offset).astype(np.float64) @ reading.pitch_class
    rough = roughness(held)
    present = (held > 0).astype(np.float64)
    counts = np.array([(present * np.roll(present, -k, axis=1)).sum() for k in range(1, 7)])
    # A tritone meets itself under the shift of 6.
    counts[5] /= 2
    total = counts.sum()
    found = {
        "tonality_roughness_mean": mean(rough),
        "tonality_roughness_p90": quantiles(rough, 0.9)[0],
        "tonality_interval_entropy": entropy(counts),
    }
    for k in range(6):
        found[f"tonality_interval_class_{k + 1}_share"] = float(counts[k] / total) if total > 0 else NAN
    return found
