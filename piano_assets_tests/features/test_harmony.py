import numpy as np
import pytest

from piano_assets.features.harmony import KRUMHANSL_KESSLER, harmonic_features, key_correlations


def test_scales_are_heard_in_their_keys():
    scale = np.zeros(12)
    scale[[0, 2, 4, 5, 7, 9, 11]] = 1
    assert np.unravel_index(key_correlations(scale).argmax(), (2, 12)) == (0, 0)  # C major
    assert np.unravel_index(key_correlations(np.roll(scale, 7)).argmax(), (2, 12)) == (0, 7)  # G major
    harmonic_minor = np.zeros(12)
    harmonic_minor[[9, 11, 0, 2, 4, 5, 8]] = 1
    assert np.unravel_index(key_correlations(harmonic_minor).argmax(), (2, 12)) == (1, 9)  # A minor


def test_correlations_are_numpys_and_a_profile_fits_itself():
    profile = np.random.default_rng(0).random(12)
    want = [[np.corrcoef(profile, np.roll(p, k))[0, 1] for k in range(12)] for p in KRUMHANSL_KESSLER.values()]
    np.testing.assert_allclose(key_correlations(profile), want, rtol=1e-10)
    assert key_correlations(np.roll(KRUMHANSL_KESSLER["minor"], 4))[1, 4] == pytest.approx(1)
    # Published correlations of C major with G major, C minor and A minor (Krumhansl & Kessler 1982); theirs are of
    # unrounded profiles, which moves the third digit.
    of_c_major = key_correlations(np.array(KRUMHANSL_KESSLER["major"]))
    np.testing.assert_allclose(of_c_major[[0, 1, 1], [7, 0, 9]], [0.591, 0.511, 0.651], atol=2e-3)


def test_entropy_and_flux_at_their_limits():
    one, every = np.zeros((12, 8)), np.ones((12, 8))
    one[3] = 1
    assert harmonic_features(one)["chroma_entropy"] == 0
    assert harmonic_features(every)["chroma_entropy"] == pytest.approx(np.log2(12))
    assert np.isnan(harmonic_features(every)["key_strength"])
    assert harmonic_features(one)["chroma_flux"] == 0
    moving = np.eye(12)  # each frame another pitch class: sqrt(2) apart
    assert harmonic_features(moving)["chroma_flux"] == pytest.approx(2**0.5)
    silent_half = np.concatenate([one, np.zeros((12, 8))], axis=1)
    assert harmonic_features(silent_half)["chroma_entropy"] == 0


def test_tonnetz_of_a_fifth_lies_between_its_tones():
    tones = np.zeros((12, 3))
    tones[0, 0] = tones[7, 1] = 1
    tones[[0, 7], 2] = 1
    alone = [harmonic_features(tones[:, [k, k]]) for k in range(3)]
    for i in range(6):
        a, b, both = (f[f"tonnetz_{i}"] for f in alone)
        assert both == pytest.approx((a + b) / 2, abs=1e-6)
    # On the circle of fifths a fifth is 30 degrees: the chord of a unit circle is 2 sin(15 degrees).
    step = np.hypot(alone[0]["tonnetz_0"] - alone[1]["tonnetz_0"], alone[0]["tonnetz_1"] - alone[1]["tonnetz_1"])
    assert step == pytest.approx(2 * np.sin(np.pi / 12), abs=1e-6)
