"""What the notes say of the music: known chords and keys, and what transposition must not change."""

import numpy as np
import pytest

from piano_assets.features.symbolic.music import KEYS, PROFILES, TEMPLATES, music_features, music_names, strengths
from piano_assets_tests.features.notes import line, performance, played

SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 11)}
I_IV_V_I = {
    "major": [(0, 4, 7), (5, 9, 12), (7, 11, 14), (0, 4, 7)],
    "minor": [(0, 3, 7), (5, 8, 12), (7, 11, 14), (0, 3, 7)],
}
OF_REGISTER = ("music_pitch_", "music_bass_", "music_top_max", "music_top_mean")


def cadence(mode, tonic=48, velocity=64):
    chords = [[tonic + p for p in chord] for chord in I_IV_V_I[mode]]
    return [(0.5 * i, 0.5 * i + 0.45, p, velocity) for i, chord in enumerate(chords) for p in chord]


@pytest.mark.parametrize("tonic", range(48, 60))
def test_a_cadence_sounds_in_its_mode_in_every_key(tonic):
    major, minor = (music_features(performance(cadence(mode, tonic))) for mode in ("major", "minor"))
    for profile in PROFILES:
        for kind in ("time", "count", "loud"):
            assert major[f"music_mode_{profile}_{kind}"] > 0 > minor[f"music_mode_{profile}_{kind}"]
            assert major[f"music_minor_{profile}_{kind}"] < 0.5 < minor[f"music_minor_{profile}_{kind}"]
    # In major all four are major, in minor three are minor; a twelfth of the time two chords overlap.
    assert major["music_chord_major_share"] > 0.9
    assert minor["music_chord_minor_share"] == pytest.approx(0.75, abs=0.1)
    assert minor["music_above_bass_minor_less_major_third"] > 0 > major["music_above_bass_minor_less_major_third"]


def test_key_strengths_are_pearson_correlations():
    weights = np.random.default_rng(0).random((5, 12))
    for name, (major, minor) in PROFILES.items():
        want = [[np.corrcoef(w, np.roll(p, k))[0, 1] for p in (major, minor) for k in range(12)] for w in weights]
        np.testing.assert_allclose(strengths(weights, KEYS[name]), want, rtol=1e-9)
    assert (strengths(np.ones((1, 12)), KEYS["temperley"]) == 0).all()


@pytest.mark.parametrize("profile", PROFILES)
def test_a_scale_is_heard_in_its_own_key(profile):
    for number, steps in enumerate(SCALES.values()):
        for tonic in range(12):
            weights = np.zeros((1, 12))
            weights[0, [(tonic + s) % 12 for s in steps]] = 1
            weights[0, [tonic, (tonic + 7) % 12]] = 2  # the tonic triad's frame sounds longer
            assert strengths(weights, KEYS[profile]).argmax() == 12 * number + tonic


def test_transposition_changes_registers_alone():
    _, notes, moves = played(np.random.default_rng(3))
    here = music_features(performance(notes, moves))
    there = music_features(performance([(a, b, p - 5, v) for a, b, p, v in notes], moves))
    for name in music_names():
        expected = here[name] - 5 if name.startswith(OF_REGISTER) and not name.endswith("_sd") else here[name]
        assert there[name] == pytest.approx(expected, abs=1e-9), name


def test_when_the_music_starts_changes_nothing():
    _, notes, moves = played(np.random.default_rng(4))
    later = [(a + 7.25, b + 7.25, p, v) for a, b, p, v in notes]
    here, there = music_features(performance(notes, moves)), music_features(performance(later, moves))
    assert there == pytest.approx(here, abs=1e-9)


def test_fourier_magnitudes_against_the_sum_that_defines_them():
    found = music_features(performance(line([60, 64, 67, 60], duration=0.4)))
    share = {0: 0.5, 4: 0.25, 7: 0.25}
    for k in range(1, 7):
        want = abs(sum(w * np.exp(-2j * np.pi * k * pc / 12) for pc, w in share.items()))
        assert found[f"music_fourier_{k}_count"] == pytest.approx(want)
    # The diatonic collection is the most diatonic of its size: Quinn's fifth component.
    whole_tone = music_features(performance(line([60, 62, 64, 66, 68, 70])))
    assert whole_tone["music_fourier_6_count"] == pytest.approx(1)


def test_lines_and_intervals_of_held_chords():
    held = music_features(performance([(0.0, 2.0, p, 64) for p in (48, 55, 64)]))
    assert (held["music_bass_mean"], held["music_top_max"]) == (48, 64)
    assert held["music_above_bass_7_share"] == held["music_above_bass_4_share"] == 1
    # C, E, G: a fourth (fifth), a major and a minor third.
    assert [held[f"music_interval_{k}"] for k in range(1, 7)] == [0, 0, 1, 1, 1, 0]
    tritone = music_features(performance([(0.0, 2.0, p, 64) for p in (48, 54)]))
    assert tritone["music_interval_6"] == 1


def test_names_are_always_the_same_and_no_value_is_infinite():
    found = music_features(performance([(0.0, 0.0, 60, 1)]))  # one note of no length
    assert tuple(found) == music_names()
    assert not np.isinf(list(found.values())).any()
    assert {name for name, value in found.items() if np.isnan(value)} == {"music_pitch_sd"}
    nothing = music_features(performance([]))
    assert tuple(nothing) == music_names()
    assert np.isnan(list(nothing.values())).all()


def test_chord_templates_are_unit_vectors_of_distinct_chords():
    np.testing.assert_allclose(np.linalg.norm(TEMPLATES, axis=1), 1)
    # An augmented triad is the same on each of its notes.
    assert len(np.unique(TEMPLATES.round(6), axis=0)) == 5 * 12 + 4
