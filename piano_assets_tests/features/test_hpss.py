import librosa
import numpy as np
import pytest
from scipy.ndimage import median_filter

from piano_assets.features.hpss import harmonic_mask, median_frequency, median_time
from piano_assets.features.stft import stft
from piano_assets_tests.features.tones import RATE, music


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (5, 128), (14, 129), (31, 300), (200, 257), (140, 30)])
@pytest.mark.parametrize("width", [3, 31])
def test_median_is_scipys_to_the_last_bit(shape, width):
    x = np.random.default_rng(shape[0] * 1000 + shape[1]).random(shape).astype(np.float32)
    np.testing.assert_array_equal(median_time(x, width), median_filter(x, size=(width, 1), mode="reflect"))
    np.testing.assert_array_equal(median_frequency(x, width), median_filter(x, size=(1, width), mode="reflect"))


def test_median_with_ties_zeros_and_a_wide_range():
    rng = np.random.default_rng(1)
    x = rng.integers(0, 3, (90, 150)).astype(np.float32) * 10.0 ** rng.integers(-30, 30, (90, 150)).astype(np.float32)
    np.testing.assert_array_equal(median_time(x), median_filter(x, size=(31, 1), mode="reflect"))
    np.testing.assert_array_equal(median_frequency(x), median_filter(x, size=(1, 31), mode="reflect"))


@pytest.mark.parametrize("width", [0, 1, 2, 30])
def test_an_even_width_has_no_median(width):
    with pytest.raises(ValueError, match=f"width={width} must be odd"):
        median_time(np.zeros((9, 9), np.float32), width)


def test_mask_is_librosas():
    magnitude = np.abs(stft(music(np.random.default_rng(2), 3)))
    magnitude[10:60, 100:200] = 0
    want = librosa.decompose.hpss(magnitude.T, mask=True)[0].T
    np.testing.assert_allclose(harmonic_mask(magnitude), want, atol=1e-6)


def test_silence_is_split_evenly_a_tone_is_harmonic_a_click_is_not():
    assert (harmonic_mask(np.zeros((40, 50), np.float32)) == 0.5).all()
    sine = np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE).astype(np.float32)
    click = np.zeros(3 * RATE, np.float32)
    click[RATE] = 1
    for y, low, high in ((sine, 0.95, 1.0), (click, 0.0, 0.05)):
        magnitude = np.abs(stft(y))
        share = np.average(harmonic_mask(magnitude), weights=magnitude**2)
        assert low <= share <= high
