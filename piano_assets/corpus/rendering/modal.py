"""The built-in piano: partials of struck strings, mixed from note tables under the dampers' envelope.

A clip is the sum of its notes: a crossfade of two layers of the key's table times an envelope that falls while the
damper touches the string. That envelope needs one curve per clip, the integral of damper contact over time.
"""

import threading
from collections.abc import Callable
from functools import cache

import numpy as np

from piano_assets.corpus.performance import Performance
from piano_assets.corpus.rendering import partials, pedals
from piano_assets.corpus.rendering.note_table import LAYERS, note_table
from piano_assets.corpus.rendering.timing import check_sample_rate, n_samples

GAIN = 0.05
"""Fixed for all clips, so that loudness differences between clips survive; the loudest real clip stays below 0.9."""
KNEE = 0.9
"""Above it the soft guard bends the waveform; below it nothing is changed."""
BLOCK = 64
"""Samples between two points of the dampers' envelope, which runs straight between them."""
RESTRIKE_S = 0.05
"""A hammer that strikes a sounding string stops the old vibration: 60 dB in this time."""
_END_FADE_S = 0.01
_INAUDIBLE = 3e-5
_compiling = threading.Lock()


def render_modal(performance: Performance, sample_rate: int = 22050) -> np.ndarray:
    """Render a performance, first onset to last note-off + tail.

    Velocity makes a note louder and brighter; una corda (CC67 at the blow) softer and darker; a note-off lets the
    damper fall unless the sustain pedal (CC64, continuous) keeps it off the strings, wholly or in part; the upper
    18 keys have no dampers. Bit-identical from run to run on one machine.

    Returns:
        float32 (n_samples,) in [-1, 1], mono; a silent tail for a performance without notes.

    Raises:
        ValueError: `sample_rate` is out of range.
    """
    check_sample_rate(sample_rate)
    out = np.zeros(n_samples(performance, sample_rate), np.float32)
    start = np.rint(performance.onset_s * sample_rate).astype(np.int64)
    release = np.minimum(pedals.held_until(performance) * sample_rate, len(out))
    n_blocks = -(-len(out) // BLOCK)
    contact = pedals.contact_integral(performance, n_blocks, BLOCK / sample_rate)
    released = np.interp(release, np.arange(n_blocks + 1) * BLOCK, contact)
    soft = pedals.soft_share(performance)
    lower, weights = _layers(performance.velocity * (1 - (1 - pedals.SOFT_HARDNESS) * soft))
    loudness = GAIN * (1 - (1 - pedals.SOFT_LEVEL) * soft)
    with _compiling:
        mix = _mixer()
    for pitch in np.unique(performance.pitch):
        k = np.flatnonzero(performance.pitch == pitch)
        amplitude = loudness[k] * partials.level(pitch, performance.velocity[k])
        mix(
            out,
            note_table(int(pitch), sample_rate),
            start[k],
            np.append(start[k][1:], len(out)),
            lower[k],
            (weights[:, k] * amplitude).astype(np.float32),
            release[k],
            released[k],
            partials.damping_rate(int(pitch)),
            np.log(1000) / (RESTRIKE_S * sample_rate),
            contact,
        )
    fade = min(int(_END_FADE_S * sample_rate), len(out))
    out[len(out) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return guard(out)


def guard(samples: np.ndarray) -> np.ndarray:
    """Bend what lies above `KNEE` smoothly below 1; return the samples unchanged where nothing does."""
    excess = np.abs(samples) - np.float32(KNEE)
    if excess.max(initial=0) <= 0:
        return samples
    bent = np.sign(samples) * (KNEE + (1 - KNEE) * np.tanh(np.maximum(excess, 0) / (1 - KNEE)))
    return np.where(excess > 0, bent, samples).astype(np.float32)


def _layers(hardness: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lower of the two layers around each velocity, (n,), and the weights of both, (2, n)."""
    position = np.interp(hardness, LAYERS, np.arange(len(LAYERS)))
    lower = np.minimum(position.astype(np.int64), len(LAYERS) - 2)
    upper_weight = position - lower
    return lower, np.stack([1 - upper_weight, upper_weight])


@cache
def _mixer() -> Callable[..., None]:
    """Compile the mixing loop at its first use (not at import, and not from a cache that may not be writable)."""
    import numba

    @numba.njit(nogil=True, fastmath={"contract", "nsz"})
    def mix(out, table, start, struck_again, lower, weights, release, released, damping, stopping, contact):
        """Add all notes of one key to `out`; times in samples, `damping` per second, `stopping` per sample."""
        for k in range(len(start)):
            first, second = table[lower[k]], table[lower[k] + 1]
            w_first, w_second = weights[0, k], weights[1, k]
            begin = start[k]
            length = min(table.shape[1], len(out) - begin)
            i, gain = 0, np.float32(1)
            while i < length and gain > _INAUDIBLE:
                boundary = (begin + i) // BLOCK + 1
                now = boundary * BLOCK
                end = min(now - begin, length)
                fall = stopping * max(0, now - struck_again[k])
                if now > release[k]:
                    fall += damping * max(0.0, contact[boundary] - released[k])
                after = np.float32(np.exp(-fall))
                step = (after - gain) / np.float32(end - i)
                for j in range(end - i):
                    out[begin + i + j] += (w_first * first[i + j] + w_second * second[i + j]) * (
                        gain + step * np.float32(j)
                    )
                i, gain = end, after

    return mix
