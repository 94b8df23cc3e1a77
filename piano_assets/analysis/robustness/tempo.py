"""The same performance, faster or slower.

`rerendered`: the times of notes and pedals are divided by the ratio and all is made again from them; exact, and it
leaves pitch and the decay of strings alone. `stretched`: a phase vocoder bends the sound (Flanagan & Golden 1966, Bell
Syst. Tech. J. 45:1493): decays are stretched too, attacks smeared.

Listeners rated pace, among others, so a faster performance has other labels, which nobody knows: errors against the
old labels mean little here. What should be asked is whether predictions move as they ought to: `mean_shift` of
`tempo_fast_slow` (high = slow) must fall with the ratio.
"""

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from piano_assets.analysis.robustness.hearing import (
    Alteration,
    Progress,
    always,
    heard_notes,
    heard_sound,
    recordings,
)
from piano_assets.features.stft import checked, istft, stft
from piano_assets.features.traditional import HOP_LENGTH, N_FFT
from piano_assets.features.variants import altered
from piano_assets.store.parts import Store
from piano_assets.training.data import TrialData

if TYPE_CHECKING:
    from piano_assets.training.fitted import Fitted

PROBE = "tempo"
RATIOS = (0.7, 0.8, 0.9, 1.1, 1.25, 1.5)
"""Tempo ratios: 1.5 is half again as fast."""


def stretched(samples: np.ndarray, ratio: float) -> np.ndarray:
    """Samples played `ratio` times as fast at the same pitch, float32 (round(n_samples / ratio),).

    Equal to `librosa.effects.time_stretch` of the samples in float64, in less than a third of its time.

    Raises:
        ValueError: a ratio that is not positive, or samples of less than a frame.
    """
    if not ratio > 0:
        raise ValueError(f"ratio={ratio} must be > 0")
    y = checked(np.asarray(samples, np.float32), N_FFT)
    return istft(phase_vocoder(stft(y, N_FFT, HOP_LENGTH), ratio), round(len(y) / ratio), N_FFT, HOP_LENGTH)


def phase_vocoder(spectrum: np.ndarray, ratio: float) -> np.ndarray:
    """The spectrum of sound that is `ratio` times as fast: (n_frames, n_bins) -> (ceil(n_frames / ratio), n_bins).

    Frame i has the magnitudes of frame i * ratio, interpolated, and the phases of the frame before, advanced by what
    they advance there from one frame to the next (Flanagan & Golden 1966; Laroche & Dolson 1999, IEEE Trans. Speech
    Audio Proc. 7:323, eq. 2 to 5). Advances are products of unit phasors: what is usually subtracted, wrapped and
    added again are whole turns.
    """
    at = np.arange(0, len(spectrum), ratio)
    first = at.astype(np.int64)
    share = (at - first).astype(spectrum.real.dtype)[:, None]
    # Silence follows the last frame, and silence has phase 0.
    spectrum = np.concatenate([spectrum, np.zeros_like(spectrum[:2])])
    magnitude = np.abs(spectrum)
    phasor = np.ones_like(spectrum)
    np.divide(spectrum, magnitude, out=phasor, where=magnitude > 0)
    advance = phasor[1:] * phasor[:-1].conj()
    turned = np.cumprod(np.concatenate([phasor[:1], advance[first[:-1]]]), axis=0)
    return (magnitude[first] + share * (magnitude[first + 1] - magnitude[first])) * turned


def hear_rerendered(
    of: "Fitted", store: Store, rows: np.ndarray, progress: Progress = None, *, ratio: float
) -> TrialData:
    """The subject's data with the notes of the clips at `rows` played `ratio` times as fast."""
    return heard_notes(of, store, rows, lambda _, performance: altered(performance, f"tempo{ratio:g}"), progress)


def hear_stretched(
    of: "Fitted", store: Store, rows: np.ndarray, progress: Progress = None, *, ratio: float
) -> TrialData:
    """The subject's data with the sound of the clips at `rows` made `ratio` times as fast."""
    original = recordings(of, store)
    return heard_sound(of, rows, lambda clip: stretched(original(clip), ratio), progress)


TEMPO: tuple[Alteration, ...] = (
    *(Alteration(PROBE, "rerendered", r, partial(hear_rerendered, ratio=r), always) for r in RATIOS),
    *(Alteration(PROBE, "stretched", r, partial(hear_stretched, ratio=r)) for r in RATIOS),
)
