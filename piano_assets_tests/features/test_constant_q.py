import librosa
import numpy as np
import pytest

from piano_assets.corpus.rendering.modal import render_modal
from piano_assets.features.constant_q import constant_q_power, frequencies, quality
from piano_assets_tests.features.notes import line, performance
from piano_assets_tests.features.tones import RATE, music

FMIN, BANDS, TO_THE_OCTAVE = 27.5, 207, 24
F = frequencies(FMIN, BANDS, TO_THE_OCTAVE)


def amplitude(y: np.ndarray, hop: int = 441, fmin: float = FMIN, n_bands: int = BANDS) -> np.ndarray:
    return np.sqrt(constant_q_power(y, RATE, hop, fmin, n_bands, TO_THE_OCTAVE))


def librosas(y: np.ndarray, hop: int, fmin: float = FMIN, n_bands: int = BANDS) -> np.ndarray:
    """Its magnitudes are inner products with windows of sum 1, times the root of their length."""
    c = librosa.cqt(
        y,
        sr=RATE,
        hop_length=hop,
        fmin=fmin,
        n_bins=n_bands,
        bins_per_octave=TO_THE_OCTAVE,
        tuning=0.0,
        sparsity=0.0,
        res_type="soxr_hq",
    )
    length = quality(TO_THE_OCTAVE) * RATE / frequencies(fmin, n_bands, TO_THE_OCTAVE)
    return 2 * np.abs(c).T / np.sqrt(length)


def sine(hz: float, duration_s: float = 2.0, level: float = 1.0) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(int(duration_s * RATE)) / RATE)).astype(np.float32)


def assert_near(got: np.ndarray, want: np.ndarray, share: float = 4e-3) -> None:
    """Amplitudes within a share of the loudest; 99 of 100 that are not 60 dB softer also within 1.5 dB."""
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=share * want.max(), rtol=0)
    heard = want > 1e-3 * want.max()
    assert np.quantile(np.abs(20 * np.log10(got[heard] / want[heard])), 0.99) < 1.5


@pytest.mark.parametrize("octave", range(9))
def test_each_octave_is_librosas_at_our_hop(octave):
    # An octave alone needs no recursion, so that librosa takes any hop: every fifth frame of ours.
    y, fmin = music(np.random.default_rng(octave), 2.0), FMIN * 2**octave
    n = min(24, BANDS - 24 * octave)
    # librosa's windows have a whole number of samples and lie up to one off centre: at the top they have 72.
    share = 0.03 if octave == 8 else 4e-3
    assert_near(amplitude(y)[::5, 24 * octave : 24 * octave + n], librosas(y, 5 * 441, fmin, n), share)


def test_seven_octaves_of_a_rendered_clip_are_librosas_at_its_hop_and_at_common_times():
    """Not more than seven: where bands reach half the sample rate, librosa's resampling swallows the upper ones."""
    y = render_modal(performance(line([33, 45, 52, 57, 61, 64, 69, 81] * 2, ioi=0.25, duration=1.0, velocity=80)))
    assert_near(amplitude(y, 512, n_bands=168), librosas(y, 512, n_bands=168))
    # Every 64 x 441 samples both have a frame.
    got, want = amplitude(y, n_bands=168)[::64], librosas(y, 64, n_bands=168)[::441]
    assert len(got) >= 4
    assert_near(got, want[: len(got)], 1e-2)


def test_frames_are_inner_products_with_windowed_sinusoids():
    """Brown (1991), eq. 5, sample by sample and without decimation."""
    y = music(np.random.default_rng(1), 2.0)
    got = amplitude(y)
    for band in (5, 62, 63, 100, 130, 131, 200):
        length = quality(TO_THE_OCTAVE) * RATE / F[band]
        for frame in (0, 37, len(got) - 1):
            t = np.arange(len(y)) - 441 * frame
            all_t = np.arange(-int(length / 2), int(length / 2) + 1)
            window = np.where(np.abs(t) < length / 2, 0.5 + 0.5 * np.cos(2 * np.pi * t / length), 0)
            total = np.sum(0.5 + 0.5 * np.cos(2 * np.pi * all_t / length))
            want = 2 * np.abs(np.sum(window * y * np.exp(-2j * np.pi * F[band] / RATE * t))) / total
            # The decimating filters let through 1e-4 of what they stop; samples lie up to 1.
            assert got[frame, band] == pytest.approx(want, rel=1e-3, abs=1e-5), (band, frame)


@pytest.mark.parametrize("band", [0, 24, 62, 63, 64, 130, 131, 132, 160, 206])
def test_a_full_scale_sine_is_1_in_its_band_and_leaks_as_hanns_window_does(band):
    middle = amplitude(sine(F[band]))[50]
    assert middle.argmax() == band
    assert middle[band] == pytest.approx(1, abs=3e-3)
    for neighbour in {max(band - 1, 0), min(band + 1, BANDS - 1)} - {band}:
        apart = (F[band] / F[neighbour] - 1) * quality(TO_THE_OCTAVE)
        assert middle[neighbour] == pytest.approx(np.sinc(apart) / (1 - apart**2), abs=5e-3)
    assert (np.delete(middle, slice(max(band - 6, 0), band + 7)) < 0.02).all()


def test_what_lies_above_a_decimated_range_does_not_fold_into_it():
    # 3150 - 300 Hz is 300 Hz after decimation by 7, 450 - 100 Hz is 100 Hz after 49.
    for hz, ghost in ((2850, 300), (350, 100), (6600, 300)):
        heard = amplitude(sine(hz))[30:70]
        near = np.abs(np.log2(F / ghost)) < 0.2
        # -60 dB: Hann's own side lobes reach as far.
        assert heard[:, near].max() < 1e-3, hz


def test_loudness_is_kept_and_silence_is_zero():
    y = music(np.random.default_rng(2), 1.0)
    np.testing.assert_allclose(amplitude(y / 8), amplitude(y) / 8, rtol=1e-4, atol=1e-8)
    assert not amplitude(np.zeros(RATE, np.float32)).any()


@pytest.mark.parametrize("n", [2048, 441 * 7 - 1, 441 * 7])
def test_one_frame_a_hop(n):
    assert amplitude(np.zeros(n, np.float32)).shape == (1 + n // 441, BANDS)


def test_one_band_more_would_not_fit():
    with pytest.raises(ValueError, match=r"n_bands=208 from fmin=27.5 reach 11\d{3} Hz: must be <= 11025"):
        amplitude(sine(440), n_bands=208)
