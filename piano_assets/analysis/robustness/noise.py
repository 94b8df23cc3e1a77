"""Noise beside the music, from faint to as strong as the music itself.

Robustness to corruption as a curve over its severity: Hendrycks & Dietterich (2019), "Benchmarking neural network
robustness to common corruptions and perturbations", arXiv:1903.12261, sec. 3. A clip meets the same noise at every
strength, only louder, so that a curve does not jump with luck.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from piano_assets.analysis.robustness.hearing import Alteration, Progress, heard_sound, recordings, stream
from piano_assets.features.traditional import SAMPLE_RATE
from piano_assets.store.parts import Store
from piano_assets.training.data import TrialData

if TYPE_CHECKING:
    from piano_assets.training.fitted import Fitted

PROBE = "noise"
SNR_DB = (40, 30, 20, 10, 0)
"""Signal-to-noise ratios over the whole clip, faintest noise first."""
LOWEST_HZ = 20.0
"""Below it coloured noise has no power: what nobody hears should not use up the noise's power."""
MAINS_HZ, MAINS_PARTIALS = 50, 8


def white(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise with the same power at all frequencies, (n_samples,)."""
    return rng.standard_normal(n_samples)


def pink(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise whose power falls as 1/f from 20 Hz on: 3 dB an octave, (n_samples,)."""
    return _coloured(n_samples, 1.0, rng)


def hum(n_samples: int, rng: np.random.Generator) -> np.ndarray:
    """The hum of an empty room, (n_samples,): half its power mains hum, half ventilation.

    Mains hum: 50 Hz and its partials up to 400 Hz, amplitude 1/k, phases at random. Ventilation: power falling as 1/f^2
    from 20 Hz on, 6 dB an octave.
    """
    period = SAMPLE_RATE // MAINS_HZ  # a whole number of samples
    k = np.arange(1, MAINS_PARTIALS + 1)
    angle = 2 * np.pi * np.outer(k, np.arange(period)) / period + rng.uniform(0, 2 * np.pi, (MAINS_PARTIALS, 1))
    mains = np.resize((np.cos(angle) / k[:, None]).sum(0), n_samples)
    air = _coloured(n_samples, 2.0, rng)
    return mains / np.sqrt(np.mean(mains**2)) + air / np.sqrt(np.mean(air**2))


KINDS: dict[str, Callable[[int, np.random.Generator], np.ndarray]] = {"white": white, "pink": pink, "hum": hum}


def with_noise(samples: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Samples with noise at a signal-to-noise ratio 10 log10(P_signal / P_noise) over the clip, float64, not clipped.

    samples, noise: (n_samples,).

    Raises:
        ValueError: either is silent, so that there is no ratio.
    """
    samples = np.asarray(samples, np.float64)
    signal, own = np.mean(samples**2), np.mean(noise**2)
    if not (signal > 0 and own > 0):
        raise ValueError(f"a signal-to-noise ratio needs signal and noise (found powers {signal:g} and {own:g})")
    return samples + noise * np.sqrt(signal / own * 10 ** (-snr_db / 10))


def hear_noise(
    of: "Fitted", store: Store, rows: np.ndarray, progress: Progress = None, *, kind: str, snr_db: float, seed: int = 0
) -> TrialData:
    """The subject's data with noise of a kind in the sound of the clips at `rows`, each clip with its own."""
    original = recordings(of, store)

    def samples(clip: str) -> np.ndarray:
        y = original(clip)
        return with_noise(y, KINDS[kind](len(y), stream(PROBE, kind, clip, seed)), snr_db)

    return heard_sound(of, rows, samples, progress)


NOISE: tuple[Alteration, ...] = tuple(
    Alteration(PROBE, kind, snr_db, partial(hear_noise, kind=kind, snr_db=snr_db))
    for kind in KINDS
    for snr_db in SNR_DB
)


def _coloured(n_samples: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise whose power falls as 1/f^exponent from `LOWEST_HZ` on, (n_samples,)."""
    from scipy.fft import irfft, next_fast_len, rfftfreq

    n = next_fast_len(max(n_samples, SAMPLE_RATE // 2), real=True)
    f = rfftfreq(n, 1 / SAMPLE_RATE)
    amplitude = np.where(f >= LOWEST_HZ, np.maximum(f, LOWEST_HZ) ** (-exponent / 2), 0.0)
    spectrum = amplitude * (rng.standard_normal(len(f)) + 1j * rng.standard_normal(len(f)))
    return irfft(spectrum, n)[:n_samples]
