"""Bent spectrograms against the stored ones, torchaudio's phase vocoder, librosa's effects and pure tones."""

import librosa
import numpy as np
import pytest
import torch
import torchaudio

from piano_assets.features.spectrograms import SPECTROGRAMS, spectrogram
from piano_assets.training import sound

RATE, HOP = 22050, 441
LOG_MEL = SPECTROGRAMS["log_mel_128"]
MELS = [name for name, spec in SPECTROGRAMS.items() if spec.transform == "mel"]


def played(tempo: float = 1.0, semitones: float = 0.0) -> np.ndarray:
    """Five seconds (at tempo 1) of struck notes of eight decaying partials each, peak about 0.4."""
    rng = np.random.default_rng(1)
    t = np.arange(round(5 * RATE / tempo)) / RATE
    y = np.zeros_like(t)
    for onset, pitch in zip(rng.uniform(0, 4.5, 20), rng.integers(40, 80, 20), strict=True):
        since = np.maximum(t - onset / tempo, 0)
        for h in range(1, 9):
            envelope = 0.08 / h * np.exp(-(1.5 + 0.4 * h) * tempo * since) * np.minimum(tempo * since / 0.005, 1)
            y += envelope * np.sin(2 * np.pi * h * 440 * 2 ** ((pitch + semitones - 69) / 12) * since)
    return y.astype(np.float32)


@pytest.fixture(scope="module")
def piano() -> np.ndarray:
    return played()


def bent(y: np.ndarray, first: int, n: int, ratio, semitones, spec=LOG_MEL, largest: float = 0.25) -> np.ndarray:
    """The crop of `y` from frame `first` on, once for every pair of ratio and shift: (b, n, n_bands)."""
    margin, rows = sound.samples_needed(n, largest, spec)
    padded = np.pad(y, (margin * HOP, rows * HOP))
    samples = torch.from_numpy(padded[first * HOP : (first + rows) * HOP]).expand(len(ratio), -1)
    return sound.bent_log_mel(samples, torch.tensor(ratio), torch.tensor(semitones), n, margin, spec).numpy()


@pytest.mark.parametrize("name", MELS)
@pytest.mark.parametrize("first", [0, 60])
def test_unbent_crops_are_those_of_the_stored_spectrogram(piano, name, first):
    spec = SPECTROGRAMS[name]
    got = bent(piano, first, 100, [1.0], [0.0], spec)[0]
    want = spectrogram(piano, spec)[first : first + 100]
    # Two float32 transforms differ by about 1e-7 of the loudest bin, which shows where a cell is near the floor of
    # -100 dB, and filters by 1e-5 of their height.
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=0.01 if spec.decibel else 1e-5 * want.max())
    assert want.std() > 1, "the crop must hold something"


def test_tempo_is_torchaudios_phase_vocoder(piano):
    margin, ratio, n = 3, torch.tensor([0.75, 0.9, 1.0, 1.13, 1.25]), 100
    found = sound.magnitudes(torch.from_numpy(piano)[None], margin, LOG_MEL)
    got = sound.stretched(found.expand(5, -1, -1), ratio, n)
    spectrum = torchaudio.functional.spectrogram(
        torch.from_numpy(piano), 0, torch.hann_window(2048), 2048, HOP, 2048, None, normalized=False
    )[:, margin:]
    stretch = torchaudio.transforms.TimeStretch(HOP, 1025)
    for mine, r in zip(got, ratio.tolist(), strict=True):
        # torchaudio counts time in float32: at frame 100 to within 4e-6 of a frame.
        torch.testing.assert_close(mine, stretch(spectrum, r).abs().T[:n], rtol=1e-4, atol=1e-4 * found.max().item())


@pytest.mark.parametrize(("ratio", "semitones"), [(0.8, 0.0), (1.25, 0.0), (1.0, -3.0), (1.0, 2.5), (1.25, -3.0)])
def test_bent_sound_is_the_piece_played_otherwise(piano, ratio, semitones):
    first, n = 60, 100
    at = slice(round(first / ratio), round(first / ratio) + n)
    truth = spectrogram(played(ratio, semitones), LOG_MEL)[at]
    loud = truth > truth.max() - 40
    y = librosa.effects.pitch_shift(piano, sr=RATE, n_steps=semitones) if semitones else piano
    peer = spectrogram(librosa.effects.time_stretch(y, rate=ratio) if ratio != 1 else y, LOG_MEL)[at]
    got = bent(piano, first, n, [ratio], [semitones])[0]
    plain = bent(piano, at.start, n, [1.0], [0.0])[0]
    ours, theirs, unbent = (np.abs(x - truth)[loud].mean() for x in (got, peer, plain))
    # Attacks last as long as a window whatever the tempo, and beats between partials follow it: this costs 1 to 1.5 dB
    # here. librosa goes back to samples, whose phases smear, and comes 5 to 9 dB near; doing nothing leaves 10 to 16.
    assert ours < 2
    assert ours < theirs / 2
    assert ours < unbent / 5
    assert np.corrcoef(got.ravel(), truth.ravel())[0, 1] > 0.99
    assert np.corrcoef(got.ravel(), peer.ravel())[0, 1] > 0.95


@pytest.mark.parametrize("frequency", [440.0, 1000.0, 3520.0])
@pytest.mark.parametrize("semitones", [-12.0, -2.3, 0.7, 12.0])
def test_a_pure_tone_moves_to_the_tone_it_becomes(frequency, semitones):
    t = np.arange(RATE) / RATE
    tones = [0.3 * np.sin(2 * np.pi * f * t).astype(np.float32) for f in (frequency, frequency * 2 ** (semitones / 12))]
    got = bent(tones[0], 10, 10, [1.0], [semitones])[0].mean(0)
    want = bent(tones[1], 10, 10, [1.0], [0.0])[0].mean(0)
    near = want > want.max() - 15
    # The same energy in the same bands. The line's own width of 43 Hz is scaled with its place, up to twofold at an
    # octave, which moves some of it between neighbours where bands are no wider than that.
    total = [10 * np.log10(np.sum(10 ** (x / 10) * band_widths())) for x in (got, want)]
    assert total[0] == pytest.approx(total[1], abs=0.2)
    assert np.abs(got - want)[near].max() < (2 if abs(semitones) < 12 else 5)
    assert got.argmax() == want.argmax()


def band_widths() -> np.ndarray:
    edges = librosa.mel_frequencies(130, fmin=20, fmax=11025)
    return edges[2:] - edges[:-2]


@pytest.mark.parametrize("name", MELS)
def test_banks_are_triangles_read_at_shifted_frequencies(name):
    spec = SPECTROGRAMS[name]
    semitones = torch.tensor([0.0, -2.3, 3.0, 12.0])
    got = sound.shifted_banks(semitones, spec).numpy()
    plain = librosa.filters.mel(sr=RATE, n_fft=2048, n_mels=spec.n_bands, fmin=spec.fmin, fmax=spec.fmax).T
    np.testing.assert_allclose(got[0], plain, atol=1e-5 * plain.max())
    np.testing.assert_allclose(got[3][:513], plain[::2], atol=1e-5 * plain.max())
    assert (got[3][513:] == 0).all()
    edges = librosa.mel_frequencies(spec.n_bands + 2, fmin=spec.fmin, fmax=spec.fmax)
    hz = np.arange(1025) * RATE / 2048
    for bank, shift in zip(got, semitones.numpy(), strict=True):
        moved = hz * 2 ** (shift / 12)
        heights = 2 / (edges[2:] - edges[:-2])
        want = [h * np.interp(moved, edges[i : i + 3], [0, 1, 0]) for i, h in enumerate(heights)]
        # A table of steps of 0.34 Hz: 0.17 Hz of a slope that is 10 Hz long at its steepest.
        assert np.abs(bank / heights - np.array(want).T / heights).max() < 0.02


def test_each_crop_is_bent_by_its_own_draw(piano):
    ratio, semitones = [0.8, 1.0, 1.2, 1.0], [0.0, 2.0, -1.5, 0.0]
    together = bent(piano, 30, 60, ratio, semitones)
    for mine, r, s in zip(together, ratio, semitones, strict=True):
        np.testing.assert_allclose(mine, bent(piano, 30, 60, [r], [s])[0], atol=1e-3)
    assert np.abs(np.diff(together, axis=0)).mean() > 0.5


@pytest.mark.parametrize("largest", [0.0, 0.05, 0.2, 0.5])
def test_samples_needed_are_enough_and_hardly_more(largest):
    for n in (1, 2, 150, 500):
        margin, rows = sound.samples_needed(n, largest, LOG_MEL)
        ratio, flat = torch.tensor([1 + largest]), torch.zeros(1)
        silent = torch.zeros(1, rows * HOP)
        assert sound.bent_log_mel(silent, ratio, flat, n, margin, LOG_MEL).shape == (1, n, 128)
    with pytest.raises(IndexError):
        sound.bent_log_mel(silent[:, : -3 * HOP], ratio, flat, n, margin, LOG_MEL)


def test_silence_is_the_floor_and_other_transforms_are_refused():
    assert bent(np.zeros(RATE, np.float32), 5, 10, [1.1], [1.0]).max() == pytest.approx(-100, abs=1e-4)
    with pytest.raises(ValueError, match="'cqt'"):
        bent(np.zeros(RATE, np.float32), 5, 10, [1.0], [0.0], SPECTROGRAMS["cqt"])
