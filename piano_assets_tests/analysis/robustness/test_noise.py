"""Noise is as strong and as coloured as it says, and a clip meets the same noise at every strength."""

from itertools import pairwise

import numpy as np
import pytest
from scipy import stats
from scipy.signal import welch

from piano_assets.analysis.robustness import noise
from piano_assets.analysis.robustness.hearing import recordings
from piano_assets.analysis.robustness.noise import KINDS, NOISE, SNR_DB, hear_noise, hum, pink, white, with_noise
from piano_assets_tests.analysis.robustness.sounding import CLIPS
from piano_assets_tests.features.tones import RATE, music

pytestmark = pytest.mark.xdist_group("sounding")  # one worker makes what they share


def power_db(x: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(x, dtype=np.float64))))


def slope(x: np.ndarray, low_hz: float, high_hz: float) -> float:
    """Exponent of frequency in the power spectral density, fitted over equal steps of log frequency."""
    f, density = welch(x, RATE, nperseg=2**14)
    at = np.geomspace(low_hz, high_hz, 40)
    edges = np.r_[at[0] / 1.1, np.sqrt(at[1:] * at[:-1]), at[-1] * 1.1]
    level = [density[(f >= a) & (f < b)].mean() for a, b in pairwise(edges)]
    return stats.linregress(np.log(at), np.log(level)).slope


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("snr_db", SNR_DB)
def test_measured_ratio_is_the_one_asked_for(kind, snr_db):
    rng = np.random.default_rng(1)
    y = music(rng, 2.0)
    noisy = with_noise(y, KINDS[kind](len(y), rng), snr_db)
    assert noisy.dtype == np.float64
    assert power_db(y) - power_db(noisy - y) == pytest.approx(snr_db, abs=1e-6)


@pytest.mark.parametrize(("make", "exponent"), [(white, 0.0), (pink, -1.0)])
def test_colour(make, exponent):
    """60 s of noise: over 40 bands of at least 80 periodogram ordinates the slope's standard error is below .01.

    Five of them: 1 false alarm in a million.
    """
    x = make(60 * RATE, np.random.default_rng(2))
    assert slope(x, 100, 8000) == pytest.approx(exponent, abs=0.05)
    assert stats.skew(x[::50]) == pytest.approx(0, abs=0.1)


def test_pink_noise_has_no_power_below_20_hz_and_as_much_in_every_octave():
    x = pink(30 * RATE, np.random.default_rng(3))
    power, f = np.abs(np.fft.rfft(x)) ** 2, np.fft.rfftfreq(len(x), 1 / RATE)
    assert power[f < 19.5].sum() < 1e-3 * power.sum()
    octaves = [power[(f >= low) & (f < 2 * low)].sum() for low in (100, 200, 400, 800, 1600, 3200)]
    # The lowest octave has 3,000 ordinates: its power has a relative deviation of 1.8 %, four of which are 7 %.
    np.testing.assert_allclose(octaves, np.mean(octaves), rtol=0.07)


def test_half_of_the_hum_is_mains_with_partials_falling_as_one_over_k():
    n = 60 * RATE
    x = hum(n, np.random.default_rng(4))
    spectrum = np.fft.rfft(x) / n
    # 60 s hold whole periods of 50 Hz: each partial is one line, of power 2 |c|^2.
    lines = 2 * np.abs(spectrum[[3000 * k for k in range(1, 9)]]) ** 2
    share = lines.sum() / np.mean(x**2)
    # Ventilation in the line at 50 Hz has 1e-4 of all power; its phase moves the share by .7 % (a deviation).
    assert share == pytest.approx(0.5, abs=0.03)
    np.testing.assert_allclose(np.sqrt(lines / lines[0]), 1 / np.arange(1, 9), rtol=0.1)
    rest = x - np.fft.irfft(np.where(np.arange(len(spectrum)) % 3000 == 0, spectrum, 0) * n, n)
    assert slope(rest, 30, 1000) == pytest.approx(-2, abs=0.1)


def test_silence_has_no_ratio():
    with pytest.raises(ValueError, match="found powers 0 and 1"):
        with_noise(np.zeros(100), np.ones(100), 10)
    with pytest.raises(ValueError, match="found powers 1 and 0"):
        with_noise(np.ones(100), np.zeros(100), 10)


def test_a_clip_meets_the_same_noise_at_every_strength_and_another_than_its_neighbour(subjects, sounding, monkeypatch):
    of, handed = subjects["spectrogram"], []
    monkeypatch.setattr(noise, "heard_sound", lambda of, rows, samples, progress: handed.append(samples))
    for snr_db in (20, 0, 20):
        hear_noise(of, sounding, np.array([0]), kind="white", snr_db=snr_db)
    hear_noise(of, sounding, np.array([0]), kind="white", snr_db=20, seed=1)
    y = recordings(of, sounding)(CLIPS[0]).astype(np.float64)
    faint, strong, again, other = (samples(CLIPS[0]) - y for samples in handed)
    np.testing.assert_array_equal(faint, again)
    np.testing.assert_allclose(strong, faint * 10, atol=1e-12)
    assert power_db(y) - power_db(faint) == pytest.approx(20, abs=1e-6)
    n = len(faint)
    # Independent noises of n samples correlate by chance with a deviation of 1 / sqrt(n).
    assert abs(np.corrcoef(faint, other)[0, 1]) < 5 / np.sqrt(n)
    neighbour = handed[0](CLIPS[1]) - recordings(of, sounding)(CLIPS[1])
    shared = min(n, len(neighbour))
    assert abs(np.corrcoef(faint[:shared], neighbour[:shared])[0, 1]) < 5 / np.sqrt(shared)


def test_every_condition_alters_what_is_heard_the_more_the_stronger(subjects, sounding):
    of, rows = subjects["spectrogram"], np.array([5])
    for kind in KINDS:
        mine = [a for a in NOISE if a.kind == kind]
        assert [a.condition for a in mine] == [f"noise.{kind}:{snr}" for snr in (40, 30, 20, 10, 0)]
        moved = []
        for a in mine[::2]:
            data = a.hear(of, sounding, rows, None)
            assert len(data.sequence.values) == len(of.data.sequence.values)
            moved.append(np.abs(data.sequence.values.astype(float) - of.data.sequence.values).mean())
        assert 0 < moved[0] < moved[1] < moved[2]
