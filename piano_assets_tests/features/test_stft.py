import librosa
import numpy as np
import pytest

from piano_assets.features.stft import checked, istft, n_frames, stft


@pytest.mark.parametrize(
    ("n", "n_fft", "hop"), [(2048, 2048, 512), (9999, 2048, 441), (66150, 2048, 512), (3000, 512, 128)]
)
def test_spectrum_is_librosas(n, n_fft, hop):
    y = np.random.default_rng(n).normal(size=n).astype(np.float32)
    want = librosa.stft(y, n_fft=n_fft, hop_length=hop).T
    got = stft(y, n_fft, hop)
    assert got.shape == want.shape == (n_frames(n, hop), 1 + n_fft // 2)
    assert got.dtype == np.complex64
    # Two float32 transforms: rounding of about sqrt(log2 n_fft) * 6e-8 relative to the largest value.
    np.testing.assert_allclose(got, want, atol=1e-6 * np.abs(want).max())


def test_inverse_is_librosas_also_for_a_changed_spectrum(rng):
    y = rng.normal(size=30000).astype(np.float32)
    changed = stft(y) * rng.random(n_frames(len(y), 512))[:, None].astype(np.float32)
    np.testing.assert_allclose(istft(changed, len(y)), librosa.istft(changed.T, length=len(y)), atol=2e-6)
    np.testing.assert_allclose(istft(stft(y), len(y)), y, atol=2e-6)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(2047, np.float32), "at least one frame of 2048 samples .found 2047"),
        (np.zeros((4096, 2), np.float32), r"one channel.*\(4096, 2\)"),
        (np.full(4096, np.nan, np.float32), "finite .found 4096"),
    ],
)
def test_bad_samples_are_refused_with_rule_and_value(y, message):
    with pytest.raises(ValueError, match=message):
        checked(y, 2048)
