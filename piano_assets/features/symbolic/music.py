"""What the notes say of the music itself, whoever plays it: mode, chords, what stands above the bass, registers.

Listeners rate a piece in minor as darker however it is played; features of the playing cannot tell them why. All values
come from the performance's own notes, none from a score, and transposing the music changes none but the registers'.
"""

from collections.abc import Callable
from functools import cache

import numpy as np

from piano_assets.corpus.performance import Performance
from piano_assets.features.symbolic.reading import Reading
from piano_assets.features.symbolic.summary import NAN, mean, quantiles, sd
from piano_assets.features.symbolic.tonality import MAJOR, MINOR

PREFIX = "music_"

# Weights of the twelve degrees in major and minor. Krumhansl and Kessler's are listeners' ratings; the others come from
# what music does, and tell minor from its relative major more surely: Temperley (2001), The Cognition of Basic Musical
# Structures, ch. 7; Albrecht and Shanahan (2013), Music Perception 31:59, counts in 490 pieces.
PROFILES: dict[str, tuple[np.ndarray, np.ndarray]] = {
    "krumhansl": (MAJOR, MINOR),
    "temperley": (
        np.array([5, 2, 3.5, 2, 4.5, 4, 2, 4.5, 2, 3.5, 1.5, 4]),
        np.array([5, 2, 3.5, 4.5, 2, 4, 2, 4.5, 3.5, 2, 1.5, 4]),
    ),
    "albrecht": (
        np.array([0.238, 0.006, 0.111, 0.006, 0.137, 0.094, 0.016, 0.214, 0.009, 0.080, 0.008, 0.081]),
        np.array([0.220, 0.006, 0.104, 0.123, 0.019, 0.103, 0.012, 0.214, 0.062, 0.022, 0.061, 0.052]),
    ),
}
CHORDS: dict[str, tuple[int, ...]] = {
    "major": (0, 4, 7),
    "minor": (0, 3, 7),
    "diminished": (0, 3, 6),
    "augmented": (0, 4, 8),
    "dominant_seventh": (0, 4, 7, 10),
    "minor_seventh": (0, 3, 7, 10),
}
"""Kind of chord -> semitones above its root."""

N_MOMENTS = 64
"""Moments of a clip at which its chords are read, evenly spaced."""
WINDOW = 9
"""Moments in a window of which the mode is taken: a seventh of the clip."""
SHARPNESS = 8.0
"""Of the softmax over key strengths: keys a tenth apart in r are as 1 to 2.2."""
FINGER_S = 0.15
"""A short note still counts for a moment within this time of its onset, and any within LINGER_S of its end: the ear
does not lose a chord between two detached ones."""
LINGER_S = 0.1
HELD_S = (0.05, 3.0)
"""A note weighs by its key-down time, within these limits."""
FLAT = 1e-12


def _rotations(profile: np.ndarray) -> np.ndarray:
    standard = (profile - profile.mean()) / profile.std()
    return np.stack([np.roll(standard, k) for k in range(12)])


KEYS = {name: np.concatenate([_rotations(major), _rotations(minor)]) for name, (major, minor) in PROFILES.items()}
"""Profile -> (24, 12), standardised: twelve major keys, then twelve minor ones."""


def _templates() -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors of all chords (n, 12), and which kind each is."""
    rows, kinds = [], []
    for kind, steps in enumerate(CHORDS.values()):
        for root in range(12):
            row = np.zeros(12)
            row[[(root + step) % 12 for step in steps]] = 1 / np.sqrt(len(steps))
            rows.append(row)
            kinds.append(kind)
    return np.array(rows), np.array(kinds)


TEMPLATES, KIND = _templates()


def _sounding(reading: Reading) -> np.ndarray:
    """(N_MOMENTS, n_notes) True where a note counts at a moment."""
    edges = np.linspace(0, reading.end, N_MOMENTS + 1)
    now = ((edges[1:] + edges[:-1]) / 2)[:, None]
    until = np.maximum(reading.offset, reading.onset + FINGER_S) + LINGER_S
    return (reading.onset <= now) & (now < until)


def strengths(weights: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """Correlation of pitch-class weights (n, 12) with 24 standardised profiles, (n, 24); 0 where a row is flat."""
    centred = weights - weights.mean(axis=1, keepdims=True)
    spread = weights.std(axis=1, keepdims=True)
    return np.divide(centred, spread, out=np.zeros_like(centred), where=spread > FLAT) @ keys.T / 12


def _lead(strength: np.ndarray) -> np.ndarray:
    """(n,) how much better the best major key fits than the best minor one."""
    return strength[:, :12].max(axis=1) - strength[:, 12:].max(axis=1)


def mode(reading: Reading, moments: np.ndarray) -> dict[str, float]:
    """Major against minor over the whole clip, by profile, pitch classes weighted by time, by count and by loudness."""
    held = np.clip(reading.duration, *HELD_S)
    kinds = {"time": held, "count": np.ones(reading.n), "loud": held * reading.velocity}
    found = {}
    for name, keys in KEYS.items():
        for kind, weight in kinds.items():
            strength = strengths((weight @ reading.pitch_class)[None], keys)
            odds = np.exp(SHARPNESS * strength[0])
            found[f"mode_{name}_{kind}"] = float(_lead(strength)[0])
            found[f"key_{name}_{kind}"] = float(strength.max())
            found[f"minor_{name}_{kind}"] = float(odds[12:].sum() / odds.sum())
    return found


def windowed_mode(reading: Reading, moments: np.ndarray) -> dict[str, float]:
    """Major against minor in windows: where the music is darkest and brightest, how it begins and ends."""
    smooth = np.stack([np.convolve(column, np.ones(WINDOW) / WINDOW, "same") for column in moments.T], axis=1)
    smooth = smooth[smooth.sum(axis=1) > 0]
    edge = max(1, len(smooth) // 8)
    found: dict[str, float] = {}
    for name, keys in KEYS.items():
        lead = _lead(strengths(smooth, keys))
        found |= {
            f"window_mode_{name}_mean": mean(lead),
            f"window_mode_{name}_min": float(lead.min()),
            f"window_mode_{name}_max": float(lead.max()),
            f"window_mode_{name}_minor_share": mean((lead < 0).astype(np.float64)),
            f"window_mode_{name}_start": mean(lead[:edge]),
            f"window_mode_{name}_end": mean(lead[-edge:]),
        }
    return found


def chords(reading: Reading, moments: np.ndarray) -> dict[str, float]:
    """How often each kind of chord fits best, and how well it fits on average (cosine with the best of its roots)."""
    sounding = moments[moments.sum(axis=1) > 0]
    fit = sounding @ TEMPLATES.T / np.linalg.norm(sounding, axis=1, keepdims=True)
    best = KIND[fit.argmax(axis=1)]
    found = {}
    for number, name in enumerate(CHORDS):
        found[f"chord_{name}_share"] = mean((best == number).astype(np.float64))
        found[f"chord_{name}_fit"] = mean(fit[:, number == KIND].max(axis=1))
    found["chord_minor_less_major_share"] = found["chord_minor_share"] - found["chord_major_share"]
    found["chord_minor_less_major_fit"] = found["chord_minor_fit"] - found["chord_major_fit"]
    return found


def fourier(reading: Reading, moments: np.ndarray) -> dict[str, float]:
    """Magnitudes of the Fourier transform of the pitch classes: chromaticity (1), triads (3), diatonicity (5) ...

    Quinn (2006), Perspectives of New Music 44:114; Yust (2016), Journal of Music Theory 60:213.
    """
    found: dict[str, float] = {}
    for kind, weight in (("time", np.clip(reading.duration, *HELD_S)), ("count", np.ones(reading.n))):
        classes = weight @ reading.pitch_class
        sizes = np.abs(np.fft.fft(classes / classes.sum()))
        found |= {f"fourier_{k}_{kind}": float(sizes[k]) for k in range(1, 7)}
    return found


def lines(reading: Reading, moments: np.ndarray) -> dict[str, float]:
    """The lowest and highest sounding notes, what stands above the bass, and where the pitches lie, in semitones."""
    sounding = _sounding(reading)
    heard = sounding.any(axis=1)
    low = np.where(sounding, reading.pitch, np.inf).min(axis=1)[heard]
    high = np.where(sounding, reading.pitch, -np.inf).max(axis=1)[heard]
    held = np.clip(reading.duration, *HELD_S)
    edge = max(1, len(high) // 4)
    steps = np.arange(12)
    above = np.stack([row[(steps + int(bass)) % 12] > 0 for row, bass in zip(moments[heard], low, strict=True)])
    p10, p50, p90 = quantiles(reading.pitch, 0.1, 0.5, 0.9)
    found = {f"above_bass_{step}_share": mean(above[:, step].astype(np.float64)) for step in range(1, 12)}
    found["above_bass_minor_less_major_third"] = found["above_bass_3_share"] - found["above_bass_4_share"]
    found["above_bass_minor_less_major_sixth"] = found["above_bass_8_share"] - found["above_bass_9_share"]
    return found | {
        "bass_mean": mean(low),
        "bass_p10": quantiles(low, 0.1)[0],
        "top_mean": mean(high),
        "top_sd": sd(high),
        "top_max": float(high.max()),
        "top_rise": mean(high[-edge:]) - mean(high[:edge]),
        "pitch_mean": mean(reading.pitch),
        "pitch_mean_by_time": float(reading.pitch @ held / held.sum()),
        "pitch_sd": sd(reading.pitch),
        "pitch_p10": p10,
        "pitch_p50": p50,
        "pitch_p90": p90,
    }


def intervals(reading: Reading, moments: np.ndarray) -> dict[str, float]:
    """Pairs of pitch classes that sound together, by interval class, per moment."""
    present = (moments[moments.sum(axis=1) > 0] > 0).astype(np.float64)
    # A tritone meets itself under the shift of 6.
    pairs = {k: (present * np.roll(present, -k, axis=1)).sum(axis=1) / (2 if k == 6 else 1) for k in range(1, 7)}
    return {f"interval_{k}": mean(of) for k, of in pairs.items()}


FAMILIES: dict[str, Callable[[Reading, np.ndarray], dict[str, float]]] = {
    "mode": mode,
    "windowed_mode": windowed_mode,
    "chords": chords,
    "fourier": fourier,
    "lines": lines,
    "intervals": intervals,
}
"""Family -> its features of a reading and of the pitch classes at its moments."""


def music_names() -> tuple[str, ...]:
    """Names of all features, in order."""
    return tuple(_families())


def family_of_music(feature: str) -> str | None:
    """The family of a feature of the music; None where it is none."""
    return _families().get(feature)


@cache
def _families() -> dict[str, str]:
    one = np.zeros(1)
    lone = Performance(
        onset_s=one,
        offset_s=one + 1,
        pitch=np.full(1, 60, np.int16),
        velocity=np.full(1, 64, np.int16),
        control_time_s=np.zeros(0),
        controller=np.zeros(0, np.int16),
        control_value=np.zeros(0, np.int16),
    )
    reading, moments = _read(lone)
    return {PREFIX + name: family for family, make in FAMILIES.items() for name in make(reading, moments)}


def music_features(performance: Performance) -> dict[str, float]:
    """All of it for one performance; NaN everywhere where there is no note."""
    if not performance.n_notes:
        return dict.fromkeys(music_names(), NAN)
    reading, moments = _read(performance)
    return {PREFIX + name: value for family in FAMILIES.values() for name, value in family(reading, moments).items()}


def _read(performance: Performance) -> tuple[Reading, np.ndarray]:
    reading = Reading(performance)
    return reading, _sounding(reading).astype(np.float64) @ reading.pitch_class
