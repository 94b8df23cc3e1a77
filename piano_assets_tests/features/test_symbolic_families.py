"""Examples worked out by hand, and libraries, for each family."""

import numpy as np
import pytest
from scipy import stats

from piano_assets.features.symbolic import summary
from piano_assets.features.symbolic.alignment import _common_subsequence, align
from piano_assets.features.symbolic.articulation import articulation
from piano_assets.features.symbolic.asynchrony import asynchrony
from piano_assets.features.symbolic.dynamics import dynamics
from piano_assets.features.symbolic.pedal import pedal, soft_pedal
from piano_assets.features.symbolic.reading import Reading
from piano_assets.features.symbolic.relative import SUFFIX, Pairing, aligned
from piano_assets.features.symbolic.texture import texture
from piano_assets.features.symbolic.timing import npvi, tatum, timing
from piano_assets.features.symbolic.tonality import key_strengths, tonality
from piano_assets_tests.features.notes import line, performance, played

C_MAJOR = [60, 62, 64, 65, 67, 69, 71, 72]


def read(notes, controls=()):
    return Reading(performance(notes, controls))


def test_summaries_agree_with_numpy_and_scipy():
    x, y = np.random.default_rng(0).normal(size=(2, 41))
    levels = (0.0, 0.1, 0.5, 0.77, 1.0)
    np.testing.assert_allclose(summary.quantiles(x, *levels), np.quantile(x, levels), rtol=1e-12)
    assert summary.sd(x) == pytest.approx(x.std(), rel=1e-12)
    assert summary.skewness(x) == pytest.approx(stats.skew(x), rel=1e-10)
    assert summary.correlation(x, y) == pytest.approx(stats.pearsonr(x, y)[0], rel=1e-10)
    assert summary.slope(y, x) == pytest.approx(stats.linregress(y, x).slope, rel=1e-10)
    assert summary.arch(y, x) == pytest.approx(np.polyfit(y, x, 2)[0], rel=1e-8)
    weights = np.abs(x)
    assert summary.entropy(weights) == pytest.approx(stats.entropy(weights, base=2), rel=1e-10)
    np.testing.assert_allclose(
        summary.moving_mean(x, 5)[2:-2], np.convolve(x, np.full(5, 0.2), "valid"), rtol=1e-10, atol=1e-12
    )
    assert summary.moving_mean(x, 5)[0] == pytest.approx(x[:3].mean())


def test_voices_of_a_held_chord_under_a_moving_line():
    # Bass 40 and inner 55 are held throughout; 60 lies under 67, which is released before the last 62.
    r = read([(0, 4, 40, 60), (0, 4, 55, 60), (0, 2, 67, 60), (1, 1.5, 60, 60), (3, 4, 62, 60)])
    by_pitch = {int(p): k for k, p in enumerate(r.pitch)}
    assert {p for p, k in by_pitch.items() if r.melody[k]} == {67, 62}
    assert {p for p, k in by_pitch.items() if r.bass[k]} == {40}
    assert {p for p, k in by_pitch.items() if r.inner[k]} == {55, 60}


def test_pedal_lengthens_notes_until_it_is_lifted_or_the_key_is_struck_again():
    r = read([(0, 1, 60, 60), (0.5, 1, 64, 60), (3, 4, 60, 60)], [(0.2, 64, 100), (2.0, 64, 10), (3.5, 64, 127)])
    np.testing.assert_allclose(r.silent, [2.0, 2.0, 4.0])
    again = read([(0, 1, 60, 60), (1.5, 2, 60, 60)], [(0.0, 64, 127)])
    np.testing.assert_allclose(again.silent, [1.5, 2.0])


def test_timing_by_hand():
    found = timing(read(line([60, 62, 64, 65, 67], ioi=[0.4, 0.5, 0.4, 0.5])))
    assert found["timing_ioi_mean_s"] == pytest.approx(0.45)
    assert found["timing_ioi_cv"] == pytest.approx(0.05 / 0.45)
    assert found["timing_npvi"] == pytest.approx(100 * 0.1 / 0.45)
    assert found["timing_jitter"] == pytest.approx(np.log(1.25))
    assert found["timing_ioi_autocorrelation_1"] == pytest.approx(-1)
    assert found["timing_span_s"] == pytest.approx(1.8)


def test_npvi_of_alternating_long_and_short():
    # 2:1 throughout: |2-1| / 1.5 * 100.
    assert npvi(np.array([2.0, 1, 2, 1])) == pytest.approx(200 / 3)


@pytest.mark.parametrize("period", [0.11, 0.3, 0.8])
def test_tatum_of_an_exact_rhythm(period):
    multiples = np.array([1, 1, 2, 1, 3, 1, 1, 2, 2, 1])
    found, how_many = tatum(multiples * period)
    np.testing.assert_array_equal(how_many, multiples)
    # The grid of periods is 3 % wide.
    assert found == pytest.approx(period, rel=0.03)


def test_a_metronome_has_a_clear_pulse_and_a_slowing_line_a_rising_curve():
    steady = timing(read(line([60] * 33, ioi=0.3, duration=0.2)))
    assert steady["timing_jitter"] == pytest.approx(0, abs=1e-9)
    assert steady["timing_tempo_slope"] == pytest.approx(0, abs=1e-9)
    # Within a step of the frequency grid; a sharper one would answer 1 exactly.
    assert steady["timing_pulse_clarity"] > 0.8
    slowing = timing(read(line([60] * 33, ioi=0.3 * np.exp(np.linspace(0, 0.25, 32)), duration=0.2)))
    assert slowing["timing_tempo_slope"] > 0.2
    assert slowing["timing_tempo_end"] > 0.05
    assert slowing["timing_pulse_clarity"] < steady["timing_pulse_clarity"]


def test_asynchrony_by_hand():
    # Two chords: melody 20 ms before two others; then melody and bass together, inner 10 ms late.
    notes = [(0.0, 1, 72, 60), (0.02, 1, 48, 60), (0.02, 1, 60, 60), (2.0, 3, 72, 60), (2.0, 3, 48, 60)]
    found = asynchrony(read([*notes, (2.01, 3, 60, 60), (4, 5, 72, 60)]))
    assert found["asynchrony_spread_mean_s"] == pytest.approx(0.015)
    assert found["asynchrony_melody_lead_mean_s"] == pytest.approx((0.02 + 0.005) / 2)
    assert found["asynchrony_bass_lead_mean_s"] == pytest.approx((-0.01 + 0.005) / 2)
    assert found["asynchrony_chord_share"] == pytest.approx(2 / 3)


def test_articulation_by_hand():
    legato = articulation(read(line(C_MAJOR, ioi=0.5, duration=0.6)))
    assert legato["articulation_melody_ratio_median"] == pytest.approx(1.2)
    assert legato["articulation_melody_overlap_mean_s"] == pytest.approx(0.1)
    assert legato["articulation_melody_legato_share"] == 1
    assert legato["articulation_key_coverage"] == pytest.approx(1)
    staccato = articulation(read(line(C_MAJOR, ioi=0.5, duration=0.1)))
    assert staccato["articulation_staccato_share"] == 1
    assert staccato["articulation_key_coverage"] == pytest.approx(0.8 / 3.6)
    pedalled = articulation(read(line(C_MAJOR, ioi=0.5, duration=0.1), [(0, 64, 127)]))
    assert pedalled["articulation_sound_coverage"] == pytest.approx(1)
    assert pedalled["articulation_melody_ratio_median"] == pytest.approx(0.2)
    repeated = articulation(read(line([60] * 5, ioi=0.5, duration=0.4)))
    assert repeated["articulation_repeat_gap_median_s"] == pytest.approx(0.1)


def test_dynamics_by_hand():
    melody = line([72, 74, 76, 77], ioi=1.0, duration=0.9, velocity=[60, 70, 80, 90])
    bass = line([40, 43, 45, 40], ioi=1.0, duration=0.9, velocity=40)
    found = dynamics(read([*melody, *bass]))
    assert found["dynamics_mean"] == pytest.approx(57.5)
    assert found["dynamics_melody_mean"] == pytest.approx(75)
    assert found["dynamics_melody_minus_bass"] == pytest.approx(35)
    assert found["dynamics_slope"] == pytest.approx(30)
    assert found["dynamics_last_quarter"] == pytest.approx(15)
    assert found["dynamics_step_mean"] == pytest.approx(10)
    assert found["dynamics_loud_share"] == pytest.approx(2 / 8)
    assert found["dynamics_within_chord_sd"] == pytest.approx(np.mean([10, 15, 20, 25]))
    assert found["dynamics_low_mean"] == pytest.approx(40)


def test_pedal_by_hand():
    # Down to 127 from 1 s to 3 s, half (64 is down) from 3 s to 4 s, of 5 s.
    moves = [(1.0, 64, 127), (3.0, 64, 64), (4.0, 64, 0)]
    found = pedal(read(line([60, 62, 64, 65, 67], ioi=1.0, duration=1.0), moves))
    assert found["pedal_down_share"] == pytest.approx(0.6)
    assert found["pedal_half_share"] == pytest.approx(0.2)
    assert found["pedal_full_share"] == pytest.approx(0.4)
    assert found["pedal_depth_mean"] == pytest.approx((2 + 64 / 127) / 5)
    assert found["pedal_changes_per_s"] == pytest.approx(2 / 5)
    assert found["pedal_travel_per_s"] == pytest.approx(2 / 5)
    assert found["pedal_press_mean_s"] == pytest.approx(3)
    assert found["pedal_presses_per_chord"] == pytest.approx(1 / 5)
    # The key released as the pedal goes down is caught; keys alone never overlap.
    assert found["pedal_polyphony_over_keys"] == pytest.approx((0 + 1 + 2 + 3 + 0) / 5)


def test_pedal_lags_by_hand():
    # Legato pedalling: lifted .1 s after each chord, pressed again .3 s after it.
    moves = [(t + d, 64, v) for t in range(4) for d, v in ((0.1, 0), (0.3, 127))]
    found = pedal(read(line([60, 62, 64, 65], ioi=1.0, duration=0.9), moves))
    assert found["pedal_press_lag_median_s"] == pytest.approx(0.3)
    assert found["pedal_lift_lag_median_s"] == pytest.approx(0.1)
    assert found["pedal_gap_median_s"] == pytest.approx(0.2)
    assert found["pedal_syncopated_share"] == 1


@pytest.mark.parametrize(("value", "share"), [(0, 0.0), (127, 1.0)])
def test_few_movements_mean_a_held_pedal(value, share):
    found = pedal(read(line(C_MAJOR), [(0.0, 64, value)]))
    assert found["pedal_down_share"] == share
    assert found["pedal_depth_mean"] == share


def test_pedal_over_changing_harmony_blurs():
    scale, same = line(C_MAJOR, ioi=0.3, duration=0.25), line([60, 67, 72, 79] * 2, ioi=0.3, duration=0.25)
    dry, wet = pedal(read(scale)), pedal(read(scale, [(0, 64, 127)]))
    consonant = pedal(read(same, [(0, 64, 127)]))
    for name in ("pedal_clash_mean", "pedal_roughness_mean", "pedal_pitch_classes_mean", "pedal_lingering_mean"):
        assert wet[name] > dry[name]
        assert name == "pedal_lingering_mean" or wet[name] > consonant[name]


def test_soft_pedal_by_hand():
    found = soft_pedal(read(line([60, 62], ioi=1.0, duration=1.0), [(0.5, 67, 127), (0.5, 64, 127)]))
    assert found["soft_pedal_down_share"] == pytest.approx(0.75)
    assert found["soft_pedal_depth_max"] == 1


def test_the_c_major_scale_is_in_c_major_and_the_minor_scale_in_minor():
    weights = np.bincount([p % 12 for p in C_MAJOR], minlength=12).astype(float)
    assert key_strengths(weights[None])[0].argmax() == 0
    # Krumhansl and Kessler's profile of C major correlates with itself perfectly, with A minor at .651 by numpy.
    from piano_assets.features.symbolic.tonality import MAJOR, MINOR

    strength = key_strengths(MAJOR[None])[0]
    assert strength[0] == pytest.approx(1)
    assert strength[12 + 9] == pytest.approx(np.corrcoef(MAJOR, np.roll(MINOR, 9))[0, 1])
    assert tonality(read(line(C_MAJOR)))["tonality_mode"] > 0
    assert tonality(read(line([60, 62, 63, 65, 67, 68, 71, 72])))["tonality_mode"] < 0


def test_tonality_by_hand():
    found = tonality(read([(0, 1, p, 60) for p in (60, 64, 67)]))
    assert found["tonality_pitch_class_entropy"] == pytest.approx(np.log2(3))
    # A major triad: one minor third, one major third, one fourth/fifth.
    for k, share in ((1, 0), (2, 0), (3, 1 / 3), (4, 1 / 3), (5, 1 / 3), (6, 0)):
        assert found[f"tonality_interval_class_{k}_share"] == pytest.approx(share)
    assert found["tonality_chromatic_share"] == pytest.approx(0)
    # Pairs C-E .1, E-G .1, C-G 0, each twice, of 9.
    assert found["tonality_roughness_mean"] == pytest.approx(0.4 / 9)


def test_texture_by_hand():
    melody = line([72, 74, 72, 72], ioi=1.0, duration=1.0)
    found = texture(read([*melody, (0, 2, 48, 60), (2, 4, 43, 60)]))
    assert found["texture_notes_per_s"] == pytest.approx(6 / 4)
    assert found["texture_polyphony_time_mean"] == pytest.approx(2)
    assert found["texture_polyphony_max"] == 2
    assert found["texture_low_share"] == pytest.approx(1 / 6)
    assert found["texture_melody_repeat_share"] == pytest.approx(1 / 3)
    assert found["texture_melody_step_share"] == pytest.approx(2 / 3)
    assert found["texture_chord_width_mean"] == pytest.approx((24 + 29) / 2)


def brute_force(worth):
    """Heaviest increasing chain by trying everything."""
    n, m = worth.shape
    best = np.zeros((n + 1, m + 1))
    for i in range(n):
        for j in range(m):
            best[i + 1, j + 1] = max(best[i, j + 1], best[i + 1, j], best[i, j] + worth[i, j])
    return best[n, m]


def test_alignment_is_the_heaviest_chain():
    rng = np.random.default_rng(1)
    for _ in range(20):
        worth = np.where(rng.random((9, 12)) < 0.3, rng.random((9, 12)), 0.0)
        i, j = _common_subsequence(worth)
        assert (np.diff(i) > 0).all()
        assert (np.diff(j) > 0).all()
        assert worth[i, j].sum() == pytest.approx(brute_force(worth))


@pytest.mark.parametrize("seed", range(5))
def test_alignment_finds_the_true_partners_despite_wrong_notes(seed):
    rng = np.random.default_rng(seed)
    deadpan, human, _ = played(rng)
    # Velocity carries each note's identity; one note is missed and two are added.
    named = [(a, b, p, k + 1) for k, (a, b, p, _) in enumerate(deadpan)]
    copied = [(a, b, p, k + 1) for k, (a, b, p, _) in enumerate(human)]
    del copied[10]
    copied += [(1.03, 1.2, 30, 120), (2.07, 2.2, 100, 121)]
    mine, theirs = read(copied), read(named)
    i, j = align(mine, theirs)
    right = (mine.velocity[i] == theirs.velocity[j]).mean()
    assert len(i) >= 0.97 * (len(human) - 1)
    assert right >= 0.97
    assert len(set(i)) == len(i)
    assert len(set(j)) == len(j)


def test_aligned_deviations_are_the_ones_put_in():
    notes = line([60, 62, 64, 65, 67, 69, 71, 72, 74] * 4, ioi=0.5, duration=0.4, velocity=64)
    # Half the tempo in the second half, everything 10 louder, keys held half as long against the tempo.
    onset = np.array([n[0] for n in notes])
    half = onset[18]
    slow = np.where(onset <= half, onset, half + 2 * (onset - half))
    tempo = slow[-1] / onset[-1]
    played_ = [(t, t + 0.2 * tempo, n[2], 74) for t, n in zip(slow, notes, strict=True)]
    found = aligned(Pairing(read(played_), read(notes)))
    assert found["aligned_tempo" + SUFFIX] == pytest.approx(np.log(tempo))
    assert found["aligned_velocity_change_mean" + SUFFIX] == pytest.approx(10)
    assert found["aligned_velocity_change_sd" + SUFFIX] == pytest.approx(0, abs=1e-9)
    assert found["aligned_duration_median" + SUFFIX] == pytest.approx(np.log(0.5))
    assert found["aligned_interval_step" + SUFFIX] == pytest.approx(np.log(2) / 34)
    assert found["aligned_tempo_32_range" + SUFFIX] == pytest.approx(np.log(2))
    assert found["aligned_matched_share" + SUFFIX] == 1


def test_melody_lead_within_written_chords_however_far_they_are_rolled():
    chord = [(t, t + 0.4, p, 64) for t in (0.0, 1.0, 2.0) for p in (48, 60, 72)]
    rolled = [(t + 0.1 * (p // 12 - 4), t + 0.6, p, 64) for t, _, p, _ in chord]
    found = aligned(Pairing(read(rolled), read(chord)))
    assert found["aligned_spread_mean_s" + SUFFIX] == pytest.approx(0.2)
    assert found["aligned_melody_lead_mean_s" + SUFFIX] == pytest.approx(-0.15)
    assert found["aligned_bass_lead_mean_s" + SUFFIX] == pytest.approx(0.15)
