"""Features of the sound alone, on sounds of which the answer is known."""

import re
import warnings
from pathlib import Path

import numpy as np
import pytest

from piano_assets.corpus.rendering.write import write_wav
from piano_assets.features.sound import FAMILIES, family_of_sound, sound_features, sound_names, sound_table
from piano_assets.features.sound.hearing import FRAME_S, Hearing, peaks
from piano_assets.features.sound.loudness import in_parts
from piano_assets.schemas import TABLES
from piano_assets_tests.features.tones import RATE, music, tone


def of(family: str, y: np.ndarray) -> dict[str, float]:
    return FAMILIES[family](Hearing(y.astype(np.float32)))


def at(times_s: np.ndarray, sounds: list[np.ndarray], duration_s: float) -> np.ndarray:
    """Sounds placed in silence."""
    y = np.zeros(int(duration_s * RATE), np.float32)
    for start, sound in zip(times_s, sounds, strict=True):
        i = int(start * RATE)
        y[i : i + len(sound)] += sound[: len(y) - i]
    return y


def strikes(times_s: np.ndarray) -> np.ndarray:
    """Short bright tones in silence."""
    return at(times_s, [tone(84, 0.2, 0.5, 40)] * len(times_s), times_s[-1] + 1)


def test_names_are_the_same_for_every_recording_and_belong_to_one_family():
    y = music(np.random.default_rng(0), 6.0)
    assert tuple(sound_features(y)) == sound_names()
    families = [set(make(Hearing(y))) for make in FAMILIES.values()]
    assert sum(map(len, families)) == len(sound_names()) == len(set().union(*families))
    assert family_of_sound("rhythm_npvi") == "rhythm"
    assert family_of_sound("timing_npvi") is None


@pytest.mark.parametrize("y", [np.zeros(2048), np.full(3000, 0.1), tone(60, 0.3), tone(60, 3.0)], ids=range(4))
def test_what_is_undefined_is_nan_and_nothing_is_infinite_or_warns(y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = np.array(list(sound_features(y.astype(np.float32)).values()))
    assert not np.isinf(values).any()


def test_onsets_are_where_tones_begin():
    times = np.array([0.3, 0.9, 1.2, 2.0, 2.1, 3.5])
    h = Hearing(strikes(times))
    # Frames of 93 ms hear a tone coming.
    np.testing.assert_allclose(h.onsets * FRAME_S, times, atol=0.035)
    assert len(peaks(np.zeros(50))) == len(peaks(np.zeros(0))) == 0


def test_intervals_rates_and_variability_by_hand():
    """Intervals of .3 and .6 s in turn: their pairwise variability is .3 / .45."""
    times = np.cumsum([0.2, *[0.3, 0.6] * 10])
    found = of("rhythm", strikes(times))
    assert found["rhythm_npvi"] == pytest.approx(0.3 / 0.45, abs=0.05)  # frames of 12 ms
    assert found["rhythm_interval_sd"] == pytest.approx(np.log(2) / 2, abs=0.03)
    assert found["rhythm_interval_autocorrelation_1"] < -0.95
    even = of("rhythm", strikes(np.arange(0.2, 9, 0.5)))
    assert even["rhythm_interval_median"] == pytest.approx(np.log(0.5), abs=0.03)
    assert even["rhythm_period"] == pytest.approx(np.log(0.5), abs=0.03)
    assert even["rhythm_npvi"] < 0.05
    assert even["rhythm_even_share"] > 0.9


def test_pace_slows_where_onsets_do():
    times = np.cumsum([0.2, *np.geomspace(0.25, 0.5, 24)])
    slower, faster = (of("rhythm", strikes(t)) for t in (times, times[-1] + 0.2 - times[::-1]))
    assert slower["rhythm_pace_8_slope"] == pytest.approx(np.log(2), rel=0.1)
    assert faster["rhythm_pace_8_slope"] == pytest.approx(-np.log(2), rel=0.1)
    assert slower["rhythm_pace_8_end"] > 0.2


def test_loudness_shifts_with_the_gain_and_nothing_else_of_it_moves():
    y = 0.5 * music(np.random.default_rng(1), 6.0)
    loud, soft = (of("loudness", g * y) for g in (1, 0.5))
    statistic = "(onset_)?(mean|median|p[0-9]+)_db"
    moved = [name for name in loud if re.fullmatch(f"loudness_{statistic}", name)]
    assert len(moved) == 10
    for name, value in loud.items():
        assert value - soft[name] == pytest.approx(20 * np.log10(2) if name in moved else 0, abs=1e-3), name


def test_a_crescendo_is_a_slope_and_a_swell_an_arch():
    t = np.arange(16 * RATE) / (16 * RATE)
    carrier = np.sin(2 * np.pi * 440 * t * 16)
    rise = of("loudness", carrier * 10 ** ((20 * t - 30) / 20))
    # Equal parts lie between 1/16 and 15/16 of 20 dB.
    assert rise["loudness_8_slope"] == pytest.approx(20, rel=0.02)
    assert rise["loudness_8_range"] == pytest.approx(17.5, rel=0.02)
    swell = of("loudness", carrier * 10 ** ((-10 - 80 * (t - 0.5) ** 2) / 20))
    assert swell["loudness_16_arch"] == pytest.approx(-80, rel=0.05)
    assert swell["loudness_16_slope"] == pytest.approx(0, abs=0.5)


def test_parts_are_means_of_equal_stretches():
    np.testing.assert_allclose(in_parts(np.arange(12.0), 4), [1, 4, 7, 10])
    assert in_parts(np.arange(3.0), 4).size == 0


def test_decay_is_the_rate_at_which_sound_dies():
    """Sines that die at 40 dB a second, once a second."""
    t = np.arange(RATE) / RATE
    dying = (0.5 * np.sin(2 * np.pi * 440 * t) * 10 ** (-40 * t / 20)).astype(np.float32)
    y = at(np.arange(8) * 1.0, [dying] * 8, 9.0)
    found = of("decay", y)
    # From the loudest of the first 70 ms to the softest just before the next onset, less a frame of 93 ms on each side.
    assert found["decay_all_rate_median"] == pytest.approx(40, rel=0.15)
    held = of("decay", at(np.arange(8) * 1.0, [(0.5 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[:-600]] * 8, 9.0))
    assert found["decay_slope_median"] == pytest.approx(-40, abs=2)
    assert held["decay_slope_median"] == pytest.approx(0, abs=1)


def test_hard_attacks_rise_more_steeply_than_they_fall():
    struck = at(np.arange(8) * 0.5, [tone(60, 0.5, 0.3, 5.0)] * 8, 5.0)
    forwards, backwards = (of("decay", y) for y in (struck, struck[::-1].copy()))
    assert forwards["decay_rise_fall_ratio"] > 1.5
    assert backwards["decay_rise_fall_ratio"] < 1


def test_brightness_is_in_octaves_and_what_loudness_explains_is_taken_out():
    t = np.arange(4 * RATE) / RATE
    for hertz in (500, 1000):
        found = of("timbre", 0.3 * np.sin(2 * np.pi * hertz * t))
        assert found["timbre_brightness_median"] == pytest.approx(np.log2(hertz), abs=0.02)
    # Brightness that grows by an octave over 10 dB.
    level = np.repeat(np.linspace(-30, -20, 20), RATE // 4)
    hertz = 500 * 2 ** ((level + 30) / 10)
    found = of("timbre", 10 ** (level / 20) * np.sin(2 * np.pi * np.cumsum(hertz) / RATE))
    assert found["timbre_frames_brightness_per_db"] == pytest.approx(0.1, rel=0.1)
    assert found["timbre_frames_brightness_level_r"] > 0.95


def test_register_finds_the_keys():
    y = 0.2 * sum(np.sin(2 * np.pi * 440 * 2 ** ((k - 69) / 12) * np.arange(3 * RATE) / RATE) for k in (55, 76))
    found = of("register", y)
    assert found["register_lowest_median"] == pytest.approx(55, abs=1)  # a semitone is 12 Hz there, a line 11
    assert found["register_highest_median"] == pytest.approx(76, abs=1)
    assert found["register_centre_mean"] == pytest.approx(65.5, abs=1)


@pytest.mark.parametrize(("scale", "mode"), [((0, 2, 4, 5, 7, 9, 11), 1), ((0, 2, 3, 5, 7, 8, 11), -1)])
def test_mode_is_heard_in_any_key(scale, mode):
    for tonic in (60, 65):
        # The tonic triad comes twice, as in music.
        steps = [*scale, 0, scale[2], 7, 0]
        y = at(np.arange(len(steps)) * 0.4, [tone(tonic + s, 0.5) for s in steps], 0.4 * len(steps) + 1)
        assert np.sign(of("harmony", y)["harmony_mode"]) == mode


def test_what_is_held_over_is_left_over():
    pitches, times = (60, 64, 67, 71, 74, 77), np.arange(6) * 0.8
    held = at(times, [tone(p, 4.0, 0.2, 0.5) for p in pitches], 7.0)
    damped = at(times, [tone(p, 0.5, 0.2, 6.0) for p in pitches], 7.0)
    assert of("harmony", held)["harmony_left_over_mean"] > of("harmony", damped)["harmony_left_over_mean"] + 0.1


def test_bands_are_told_apart():
    t = np.arange(3 * RATE) / RATE
    low, high = (of("bands", 0.3 * np.sin(2 * np.pi * f * t)) for f in (200, 4000))
    means = np.array([[x[f"band_{i:02d}_mean_db"] for i in range(32)] for x in (low, high)])
    assert means[0].argmax() < 6
    assert means[1].argmax() > 20


def test_the_table_is_the_function_clip_by_clip(tmp_path):
    sounds = {c: music(np.random.default_rng(k), 2.0) for k, c in enumerate("ba")}
    for clip, y in sounds.items():
        write_wav(tmp_path / f"{clip}.wav", y, RATE)
    table = sound_table({c: Path(f"{c}.wav") for c in sounds}, tmp_path, "modal", workers=1)
    TABLES["features"].conform(table)
    mine = table[table["clip"] == "b"].set_index("feature")["value"]
    # The file holds 16 bits.
    want = sound_features(np.rint(sounds["b"] * 32767).astype(np.int16).astype(np.float32) / 32768)
    np.testing.assert_allclose(mine[list(want)], list(want.values()), rtol=1e-6)


GOLDEN = {
    "loudness_mean_db": -21.1863,
    "rhythm_npvi": 0.634886,
    "decay_all_drop_median_db": 7.20021,
    "timbre_onset_brightness_mean": 8.43297,
    "register_count_mean": 28.4769,
    "harmony_left_over_mean": 0.483349,
    "band_10_sd_db": 13.5461,
}


def test_values_have_not_moved():
    """Bump `CODE_VERSION["sound"]` where they must. Single precision, whose sums differ between processors."""
    found = sound_features(music(np.random.default_rng(5), 6.0))
    for name, value in GOLDEN.items():
        assert found[name] == pytest.approx(value, rel=1e-3), name
