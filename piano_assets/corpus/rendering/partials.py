"""What a struck string does: frequencies, decay and strength of its partials, key by key.

The constants without a source were set so that decay, loudness and spectral centroid of single notes lie where those
of sampled grand pianos do (`benchmarks/rendering.py` measures them side by side).
"""

import numpy as np

A4_HZ, A4_PITCH = 440.0, 69
REFERENCE_VELOCITY = 64
SLOW_SHARE = 0.15
"""Amplitude of the aftersound relative to the prompt sound at the strike (-16 dB)."""
SLOW_RATIO = 0.25
"""Decay rate of the aftersound relative to that of the prompt sound."""
SLOW_DETUNING_CENTS = 0.6
"""Mistuning of the unison strings, which makes the aftersound beat against the prompt sound."""
LOUDNESS_EXPONENT = 1.85
"""Amplitude grows as velocity to this power: 15 dB from velocity 50 to 127."""
HARDNESS_EXPONENT = 1.3
"""The hammer's corner frequency grows as velocity to this power (felt stiffens under compression)."""
FIRST_UNDAMPED = 91
"""The upper 18 keys (G6..C8) have no dampers."""


def fundamental(pitch: int) -> float:
    """Frequency in Hz of the ideal string of a key, equal temperament, A4 = 440 Hz."""
    return A4_HZ * 2.0 ** ((pitch - A4_PITCH) / 12)


def inharmonicity(pitch: int) -> float:
    """Inharmonicity coefficient B of a key: a bass and a treble branch, each log-linear in the key number.

    Rigaud, David & Daudet (2013), J. Acoust. Soc. Am. 133:3107: the two-bridge model with the mean
    asymptotes of the pianos measured there.
    """
    return float(np.exp(9.26e-2 * pitch - 13.64) + np.exp(-8.47e-2 * pitch - 5.82))


def frequencies(pitch: int, sample_rate: int, most: int = 96) -> np.ndarray:
    """Partials in Hz, f_n = n f0 sqrt(1 + B n^2), up to 0.45 of the sample rate, at most `most` of them.

    Fletcher (1964), J. Acoust. Soc. Am. 36:203. Empty where the key's fundamental lies above.
    """
    n = np.arange(1, most + 1)
    f = n * fundamental(pitch) * np.sqrt(1 + inharmonicity(pitch) * n**2)
    return f[f < 0.45 * sample_rate]


def decay_rate(pitch: int, frequency: np.ndarray) -> np.ndarray:
    """Decay rate of the prompt sound in 1/s (amplitude falls as exp(-rate t)): higher partials and keys die sooner.

    The aftersound decays at `SLOW_RATIO` of it: two-stage decay, Weinreich (1977), J. Acoust. Soc. Am. 62:1474.
    """
    return 0.11 * np.sqrt(fundamental(pitch)) + 2e-7 * frequency**2


def strengths(pitch: int, frequency: np.ndarray, velocity: float) -> np.ndarray:
    """Amplitudes of the partials of a blow, of unit power over its first half second (loudness is `level`'s).

    Striking point x hammer (a low-pass whose corner rises with velocity) x radiation (weak below 100 Hz).
    """
    n = np.arange(1, len(frequency) + 1)
    struck_at = 1 / 8 - (1 / 8 - 1 / 14) * np.clip((pitch - 48) / 60, 0, 1)
    corner = 430 * 2 ** ((pitch - 60) / 72) * (velocity / REFERENCE_VELOCITY) ** HARDNESS_EXPONENT
    # 0.15: no partial vanishes altogether, since a hammer is not a point.
    blow = (0.15 + np.abs(np.sin(np.pi * n * struck_at))) * (1 + (frequency / corner) ** 2) ** -1.25
    amplitude = blow / (1 + (90 / frequency) ** 2)
    rate = decay_rate(pitch, frequency)
    power = np.sum(amplitude**2 * -np.expm1(-rate) / (2 * rate)) if len(n) else 1.0
    return amplitude / np.sqrt(power)


def level(pitch: int, velocity: np.ndarray) -> np.ndarray:
    """Amplitude of a blow relative to velocity 127 in the middle register, which sounds loudest."""
    register_db = -0.2 * np.maximum(pitch - 76, 0) - 0.1 * np.maximum(48 - pitch, 0)
    return 10 ** (register_db / 20) * (velocity / 127) ** LOUDNESS_EXPONENT


def damping_rate(pitch: int) -> float:
    """Additional decay rate in 1/s with the damper fully on the strings: 60 dB in 0.5 s (bass) to 0.1 s; 0 undamped."""
    if pitch >= FIRST_UNDAMPED:
        return 0.0
    return float(np.log(1000) / (0.5 * 2 ** (-(pitch - 28) / 28)))
