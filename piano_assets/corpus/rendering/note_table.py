"""The sound of one key at a few hardnesses, synthesised once per process.

All partials of one key keep their frequencies and phases whatever the velocity, so that the crossfade of two layers
is exactly the note with the interpolated amplitudes: a few layers are enough and nothing cancels.
"""

import threading
from functools import cache

import numpy as np

from piano_assets.corpus.rendering import partials

LAYERS = (10, 30, 50, 75, 100, 127)
"""Velocities whose brightness is stored."""
LONGEST_S = 8.0
FADE_S = 2.0
"""A note that would ring longer than `LONGEST_S` fades over its last `FADE_S`."""
_INAUDIBLE = 10 ** (-70 / 20)
_BLOCK = 256
_KNOCK = 0.12
_synthesising = threading.Lock()


def note_table(pitch: int, sample_rate: int) -> np.ndarray:
    """The sound of one key, undamped, at every layer.

    Returns:
        float32 (n_layers, n_samples), about unit power over the first half second. Read-only, kept for the process.
    """
    with _synthesising:
        return _note_table(pitch, sample_rate)


@cache
def _note_table(pitch: int, sample_rate: int) -> np.ndarray:
    from threadpoolctl import threadpool_limits

    frequency = partials.frequencies(pitch, sample_rate)
    # One BLAS thread: the order of summation, hence every bit, must not depend on the number of threads.
    with threadpool_limits(limits=1, user_api="blas"):
        table = _strings(pitch, frequency, sample_rate)
    knock = _knock(pitch, sample_rate)
    count = min(len(knock), table.shape[1])
    for row, velocity in zip(table, LAYERS, strict=True):
        row[:count] += _KNOCK * (velocity / partials.REFERENCE_VELOCITY) ** 0.3 * knock[:count]
        rise = _rise(velocity, sample_rate)
        row[: len(rise)] *= rise
    table.setflags(write=False)
    return table


def ringing_s(pitch: int, frequency: np.ndarray) -> float:
    """Seconds until the aftersound of a key's longest partial has fallen by 70 dB, at most `LONGEST_S`."""
    slowest = partials.SLOW_RATIO * partials.decay_rate(pitch, frequency[:1]).sum()
    if slowest == 0:
        return 0.5
    return float(min(LONGEST_S, np.log(partials.SLOW_SHARE / _INAUDIBLE) / slowest))


def _strings(pitch: int, frequency: np.ndarray, sample_rate: int) -> np.ndarray:
    """Sum of decaying sinusoids as one product of block phases and phases within a block."""
    ringing = ringing_s(pitch, frequency)
    n_blocks = int(np.ceil(ringing * sample_rate / _BLOCK))
    rate = partials.decay_rate(pitch, frequency)
    detuned = frequency * 2 ** (partials.SLOW_DETUNING_CENTS / 1200)
    exponent = np.concatenate([
        -rate + 2j * np.pi * frequency,
        -partials.SLOW_RATIO * rate + 2j * np.pi * detuned,
    ]) / sample_rate  # fmt: skip
    n = np.arange(len(frequency))
    # Quadratic phases: a low crest factor (Schroeder 1970, IEEE Trans. Inf. Theory 16:85), as a soundboard's disorder.
    phase = np.exp(1j * np.pi * np.tile(n * n / max(len(n), 1), 2))
    within = np.exp(np.outer(exponent, np.arange(_BLOCK)))
    blocks = phase * np.exp(np.outer(np.arange(n_blocks) * _BLOCK, exponent))
    right = np.concatenate([within.real, within.imag]).astype(np.float32)
    table = np.empty((len(LAYERS), n_blocks * _BLOCK), np.float32)
    for row, velocity in zip(table, LAYERS, strict=True):
        strength = partials.strengths(pitch, frequency, velocity)
        scaled = blocks * np.concatenate([strength, partials.SLOW_SHARE * strength])
        left = np.concatenate([scaled.real, -scaled.imag], axis=1).astype(np.float32)
        np.matmul(left, right, out=row.reshape(n_blocks, _BLOCK))
    fade = min(int(FADE_S * sample_rate), table.shape[1])
    table[:, table.shape[1] - fade :] *= np.cos(np.linspace(0, np.pi / 2, fade, dtype=np.float32)) ** 2
    return table


def _knock(pitch: int, sample_rate: int) -> np.ndarray:
    """The thump of hammer and key bed: band-limited noise of unit power, gone in 60 ms; a fixed property of the key."""
    from scipy.signal import butter, sosfilt

    count = int(0.06 * sample_rate)
    noise = np.random.default_rng(pitch).standard_normal(count)
    band = butter(2, [60, 1200], btype="bandpass", fs=sample_rate, output="sos")
    burst = sosfilt(band, noise) * np.exp(-np.arange(count) / (0.012 * sample_rate))
    return (burst / np.sqrt(np.mean(burst**2))).astype(np.float32)


def _rise(velocity: float, sample_rate: int) -> np.ndarray:
    """The blow's gradual onset: a soft hammer stays on the string longer (4 ms at velocity 10, 1.1 ms at 127)."""
    count = max(2, int(0.004 * (10 / velocity) ** 0.5 * sample_rate))
    return (0.5 - 0.5 * np.cos(np.pi * np.arange(1, count + 1) / count)).astype(np.float32)
