"""Mel spectrograms of crops whose tempo and pitch are bent, made from samples in one batch on their device.

A phase vocoder (Flanagan & Golden 1966; Laroche & Dolson 1999) interpolates magnitudes over time and then finds phases
that fit. Mel bands know no phases, so magnitudes are all that is made here: tempo is their interpolation over time,
pitch the mel filter bank read at other frequencies. What this leaves out is the smear of a vocoder's way back to
samples and to a spectrogram again.
"""

import math
from functools import cache
from typing import TYPE_CHECKING

import torch
import torchaudio.functional as audio
from torch import Tensor

if TYPE_CHECKING:
    from piano_assets.features.spectrogram_specs import SpectrogramSpec

_FINE = 32
"""Rows of the tabulated filter bank to a bin of the transform: 0.3 Hz, a hundredth of the narrowest bands."""


def samples_needed(n_frames: int, largest_stretch: float, spec: "SpectrogramSpec") -> tuple[int, int]:
    """Samples that a crop of `n_frames` takes at most, in rows of `hop_length`: (rows before its first frame, rows).

    largest_stretch: largest relative change of tempo. No frame then reaches beyond the samples, so that a crop's edges
    are no different from its middle.
    """
    margin = math.ceil(spec.n_fft / 2 / spec.hop_length)
    return margin, margin + math.ceil((n_frames - 1) * (1 + largest_stretch)) + 1 + margin


def bent_log_mel(
    samples: Tensor, ratio: Tensor, semitones: Tensor, n_frames: int, margin: int, spec: "SpectrogramSpec"
) -> Tensor:
    """Mel bands of each crop played `ratio` times as fast and `semitones` higher.

    Args:
        samples: (b, n_samples) in [-1, 1], as many as `samples_needed` says; zeros before and after a clip.
        ratio, semitones: (b,). n_frames: of the result, whose frame i is centred at sample
            (margin + ratio * i) * hop_length.
        spec: a spectrogram whose transform is `mel`; its scale decides between decibels and powers.
    Returns:
        (b, n_frames, n_bands), equal to `features.spectrograms.spectrogram` where nothing is bent. Shifted down, the
        highest bands are empty: they hear what lay above half the sampling rate.

    Raises:
        ValueError: another transform.
        IndexError: too few samples for the largest ratio.
    """
    if spec.transform != "mel":
        raise ValueError(f"only spectrograms of transform 'mel' can be bent, not of {spec.transform!r}")
    magnitude = magnitudes(samples, margin, spec)
    mel = stretched(magnitude, ratio, n_frames).square_() @ shifted_banks(semitones, spec)
    if not spec.decibel:
        return mel
    floor = spec.reference * 10 ** (-spec.floor_db / 10)
    return mel.clamp_(min=floor).div_(spec.reference).log10_().mul_(10)


def magnitudes(samples: Tensor, margin: int, spec: "SpectrogramSpec") -> Tensor:
    """Spectral magnitudes (b, n, n_bins), frame i centred at sample (margin + i) * hop_length."""
    start = margin * spec.hop_length - spec.n_fft // 2
    window = torch.hann_window(spec.n_fft, device=samples.device)
    found = audio.spectrogram(
        samples[:, start:], 0, window, spec.n_fft, spec.hop_length, spec.n_fft, 1.0, normalized=False, center=False
    )
    return found.mT


def stretched(magnitude: Tensor, ratio: Tensor, n_frames: int) -> Tensor:
    """The magnitudes of a phase vocoder: frame i is the source's at ratio * i, interpolated. (b, n_frames, n_bins)."""
    at = ratio.double()[:, None] * torch.arange(n_frames, device=ratio.device)
    first = at.long()
    row = torch.arange(len(ratio), device=ratio.device)[:, None]
    share = (at - first).to(magnitude.dtype)[..., None]
    return torch.lerp(magnitude[row, first], magnitude[row, first + 1], share)


def shifted_banks(semitones: Tensor, spec: "SpectrogramSpec") -> Tensor:
    """For each shift the filter bank that hears every frequency where the shift takes it: (b, n_bins, n_bands)."""
    fine = _fine_bank(spec, semitones.device)
    bins = torch.arange(1 + spec.n_fft // 2, device=semitones.device)
    at = 2 ** (semitones.double()[:, None] / 12) * bins * _FINE
    return fine[at.round().long().clamp(max=len(fine) - 1)]


@cache
def _fine_bank(spec: "SpectrogramSpec", device: torch.device) -> Tensor:
    """Slaney's mel filters, tabulated finely over frequency: (_FINE * n_fft / 2 + 1, n_bands)."""
    rows = 1 + _FINE * spec.n_fft // 2
    bank = audio.melscale_fbanks(rows, spec.fmin, spec.fmax, spec.n_bands, spec.sample_rate, "slaney", "slaney")
    # The last row also stands for everything above half the sampling rate.
    bank[-1] = 0
    return bank.to(device)
