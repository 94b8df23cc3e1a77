"""Small recordings for the tests of audio features: decaying tones with harmonics, chords, scales and clicks."""

import numpy as np

RATE = 22050


def tone(pitch: float, duration_s: float, amplitude: float = 0.2, decay: float = 3.0) -> np.ndarray:
    """A struck tone of eight harmonics, MIDI pitch, float32."""
    t = np.arange(int(duration_s * RATE)) / RATE
    f = 440 * 2 ** ((pitch - 69) / 12)
    partials = [
        np.sin(2 * np.pi * k * f * t) * np.exp(-decay * k**0.5 * t) / k for k in range(1, 9) if k * f < RATE / 2
    ]
    return (amplitude * np.sum(partials, axis=0)).astype(np.float32)


def music(rng: np.random.Generator, duration_s: float = 8.0, notes_per_s: float = 6.0) -> np.ndarray:
    """Random tones and a little noise, so that no feature is degenerate."""
    y = rng.normal(0, 1e-3, int(duration_s * RATE)).astype(np.float32)
    for _ in range(int(duration_s * notes_per_s)):
        start = int(rng.integers(0, max(1, len(y) - RATE // 2)))
        sound = tone(rng.integers(36, 90), 1.5, rng.uniform(0.02, 0.15), rng.uniform(2, 8))
        end = min(len(y), start + len(sound))
        y[start:end] += sound[: end - start]
    return np.clip(y, -1, 1)


def clicks(times_s: np.ndarray, duration_s: float) -> np.ndarray:
    """Short tones at given times over a faint noise, which hides their ends."""
    y = np.random.default_rng(0).normal(0, 1e-3, int(duration_s * RATE)).astype(np.float32)
    for start in times_s:
        sound = tone(84, 0.2, 0.5, 40)
        y[int(start * RATE) : int(start * RATE) + len(sound)] += sound
    return y
