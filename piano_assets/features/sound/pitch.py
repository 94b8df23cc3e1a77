"""Pitch as key bands show it: register, lines, thickness, harmony, mode, and the blur of what rings on."""

import numpy as np

from piano_assets.features.harmony import key_correlations
from piano_assets.features.sound.hearing import HOP_LENGTH, KEY_FRAME_S, KEY_HOP, LOWEST_KEY, Hearing
from piano_assets.features.symbolic.summary import autocorrelation, correlation, entropy, mean, quantiles, sd

AUDIBLE_DB = 25.0
"""A key band counts as sounding while it is less than this below the frame's loudest."""
LAGS_S = (0.25, 0.5, 1.0, 2.0)


def register(h: Hearing) -> dict[str, float]:
    """Where the sound lies: mean key, highest and lowest sounding band, balance of bass and treble, thickness."""
    power, level = h.keys, h.key_level
    keys = LOWEST_KEY + np.arange(power.shape[1])
    centre = (power @ keys) / (power.sum(axis=1) + 1e-12)
    sounding = level > level.max(axis=1, keepdims=True) - AUDIBLE_DB
    highest = LOWEST_KEY + power.shape[1] - 1 - np.argmax(sounding[:, ::-1], axis=1)
    lowest = LOWEST_KEY + np.argmax(sounding, axis=1)
    count = sounding.sum(axis=1).astype(float)
    bass, treble = (10 * np.log10(power[:, use].sum(axis=1) + 1e-10) for use in (keys < 55, keys >= 67))
    found: dict[str, float] = {}
    for name, x in (("centre", centre), ("highest", highest), ("lowest", lowest), ("count", count)):
        x = x.astype(float)
        p10, p50, p90 = quantiles(x, 0.1, 0.5, 0.9)
        found |= {
            f"register_{name}_mean": mean(x),
            f"register_{name}_sd": sd(x),
            f"register_{name}_p10": p10,
            f"register_{name}_median": p50,
            f"register_{name}_p90": p90,
            f"register_{name}_step": mean(np.abs(np.diff(x))),
        }
    balance = treble - bass
    strikes = _strikes(h)
    return found | {
        "register_balance_mean_db": mean(balance),
        "register_balance_sd_db": sd(balance),
        "register_bass_treble_r": correlation(bass, treble),
        "register_bass_sd_db": sd(bass),
        "register_treble_sd_db": sd(treble),
        "register_peak_prominence_db": mean(level.max(axis=1) - np.median(level, axis=1)),
        "register_struck_mean": mean(strikes),
        "register_struck_sd": sd(strikes),
        "register_struck_p90": quantiles(strikes, 0.9)[0],
        "register_struck_autocorrelation": autocorrelation(strikes, 1) if strikes.size > 3 else np.nan,
    }


def _strikes(h: Hearing) -> np.ndarray:
    """(n_onsets,) key bands that rise by 6 dB or more at an onset and then count as sounding: thickness of chords."""
    at = h.onsets * HOP_LENGTH // KEY_HOP
    last = len(h.key_level) - 1
    after, before = h.key_level[np.minimum(at + 4, last)], h.key_level[np.maximum(at - 3, 0)]
    heard = after > after.max(axis=1, keepdims=True) - AUDIBLE_DB if len(after) else after > 0
    return ((after - before > 6) & heard).sum(axis=1).astype(float)


def harmony(h: Hearing) -> dict[str, float]:
    """Pitch classes: concentration, key and mode, interval classes, likeness over time, what outlasts an onset."""
    chroma = _pitch_classes(h)
    share_ = chroma / (chroma.sum(axis=1, keepdims=True) + 1e-12)
    whole = share_.mean(axis=0)
    strength = key_correlations(whole)
    spread = np.array([entropy(row) for row in share_])
    major, minor = float(np.max(strength[0])), float(np.max(strength[1]))
    found = {
        "harmony_entropy": entropy(whole),
        "harmony_frame_entropy_mean": mean(spread),
        "harmony_frame_entropy_sd": sd(spread),
        "harmony_major_strength": major,
        "harmony_minor_strength": minor,
        "harmony_mode": major - minor,
    }
    for k in range(1, 7):
        shares = (share_ * np.roll(share_, k, axis=1)).sum(axis=1)
        found[f"harmony_interval_class_{k}"] = mean(shares)
    unit = share_ / np.linalg.norm(share_, axis=1, keepdims=True)
    for lag in LAGS_S:
        step = round(lag / KEY_FRAME_S)
        likeness = (unit[step:] * unit[:-step]).sum(axis=1)
        found[f"harmony_likeness_{lag:g}s_mean"] = mean(likeness)
        found[f"harmony_likeness_{lag:g}s_sd"] = sd(likeness)
    return found | _blur(h)


def _pitch_classes(h: Hearing) -> np.ndarray:
    """(n_key_frames, 12) amplitude by pitch class, C first; amplitudes, so that the loudest key is not all there is."""
    amplitude = np.sqrt(h.keys)
    pitch_class = (LOWEST_KEY + np.arange(amplitude.shape[1])) % 12
    return amplitude @ np.eye(12)[pitch_class]


def _blur(h: Hearing) -> dict[str, float]:
    """How much of what sounded before an onset still sounds after it: pedal, legato, or a repeated harmony."""
    at = h.onsets * HOP_LENGTH // KEY_HOP
    last = len(h.keys) - 1
    before, after = (np.sqrt(h.keys[np.clip(at + shift, 0, last)]) for shift in (-3, 5))
    common = np.minimum(before, after).sum(axis=1) / (before.sum(axis=1) + 1e-9)
    p10, p50, p90 = quantiles(common, 0.1, 0.5, 0.9)
    return {
        "harmony_left_over_mean": mean(common),
        "harmony_left_over_sd": sd(common),
        "harmony_left_over_p10": p10,
        "harmony_left_over_median": p50,
        "harmony_left_over_p90": p90,
    }
