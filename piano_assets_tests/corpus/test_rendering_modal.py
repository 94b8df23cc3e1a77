"""The modal piano: what pedals, velocity and dampers do to the sound."""

import numpy as np
import pytest

from piano_assets.corpus.midi import read_midi
from piano_assets.corpus.rendering import modal, note_table, pedals
from piano_assets.corpus.rendering.timing import TAIL_S
from piano_assets.versions import CODE_VERSION
from piano_assets_tests.corpus.playing import RATE, centroid_hz, play, rms_db

render = modal.render_modal
NOTE = [(0.0, 0.5, 60, 80)]
UNTIL_END = [(0.0, 1.5, 20, 1)]
"""An all but silent note (below -90 dB) that makes the performance last 1.5 s."""


def test_length_is_first_onset_to_last_note_off_and_tail():
    x = render(play([(0.0, 0.4, 60, 60), (0.2, 1.3, 64, 60)]))
    assert x.shape == (round((1.3 + TAIL_S) * RATE),)
    assert x.dtype == np.float32


def test_nothing_played_is_silence():
    assert not render(play([])).any()


def test_sound_starts_at_the_onset_sample():
    onset_s = 0.3137
    quiet, both = (render(play([(0.0, 0.1, 100, 1), (onset_s, 0.5, 60, v)])) for v in (1, 100))
    assert np.flatnonzero(quiet != both)[0] == round(onset_s * RATE)


@pytest.mark.parametrize("rate", [0, 4000, 192000])
def test_absurd_sample_rate_is_refused(rate):
    with pytest.raises(ValueError, match=rf"sample_rate={rate} must lie in 8000..96000"):
        render(play(NOTE), rate)


def test_another_sample_rate_is_the_same_sound():
    a, b = render(play(NOTE), 22050), render(play(NOTE), 44100)
    assert len(b) == pytest.approx(2 * len(a), abs=1)
    # 44.1 kHz also holds partials above 10 kHz, far weaker than .2 dB of the whole.
    assert rms_db(a) == pytest.approx(10 * np.log10(np.mean(b.astype(float) ** 2)), abs=0.2)


def test_two_notes_are_the_sum_of_both():
    one, other = (0.0, 0.6, 60, 80), (0.0, 0.6, 64, 50)
    separate = render(play([one])) + render(play([other]))
    np.testing.assert_allclose(render(play([one, other])), separate, atol=2e-7)  # float32 rounding below 1


@pytest.mark.parametrize("pitch", [36, 60, 84])
def test_velocity_is_louder_and_brighter(pitch):
    sounds = [render(play([(0.0, 1.0, pitch, v)])) for v in (30, 50, 64, 80, 100, 127)]
    assert (np.diff([rms_db(x) for x in sounds]) > 1.5).all()
    assert (np.diff([centroid_hz(x[:RATE]) for x in sounds]) > 0).all()


def test_half_the_velocity_is_eleven_decibels():
    # 20 log10(2 ** 1.85) = 11.1; the crossfade of unit-power layers may lose a little power to imperfect likeness.
    a, b = (render(play([(0.0, 1.0, 60, v)])) for v in (100, 50))
    assert rms_db(a, 0, 0.5) - rms_db(b, 0, 0.5) == pytest.approx(11.1, abs=0.5)


def test_crossfade_between_layers_is_the_synthesis_of_the_velocity_between(monkeypatch):
    x = render(play([(0.0, 1.0, 60, 62)]))
    layers = (10, 30, 62, 75, 100, 127)
    monkeypatch.setattr(note_table, "LAYERS", layers)
    monkeypatch.setattr(modal, "LAYERS", layers)
    note_table._note_table.cache_clear()
    y = render(play([(0.0, 1.0, 60, 62)]))
    note_table._note_table.cache_clear()
    assert rms_db(x - y) < rms_db(y) - 30


def test_note_off_damps():
    short, long = (render(play([(0.0, off, 60, 80), *UNTIL_END])) for off in (0.5, 1.5))
    before = RATE // 2 - modal.BLOCK  # the envelope runs straight between block boundaries
    np.testing.assert_array_equal(short[:before], long[:before])
    assert rms_db(short, 0.7, 1.0) < rms_db(long, 0.7, 1.0) - 30


def test_damper_takes_its_time():
    """Middle C falls by 60 dB in 0.226 s (0.5 s halved every 28 keys above E1) on top of its own decay."""
    held, damped = render(play([(0.0, 1.5, 60, 80)])), render(play([*NOTE, *UNTIL_END]))
    window = slice(int(0.6 * RATE), int(0.61 * RATE))
    ratio = np.linalg.norm(damped[window]) / np.linalg.norm(held[window])
    assert 20 * np.log10(ratio) == pytest.approx(-60 * 0.105 / 0.2264, abs=1)  # the window is 10 ms long: 2.7 dB


def test_sustain_pedal_keeps_the_note():
    dry = render(play(NOTE))
    wet = render(play(NOTE, [(0.2, 64, 127)]))
    held = render(play([(0.0, 1.5, 60, 80)]))[: len(wet)]
    assert rms_db(wet, 0.7, 1.4) > rms_db(dry, 0.7, 1.4) + 30
    end = len(wet) - RATE // 50  # the last 10 ms fade out
    np.testing.assert_allclose(wet[:end], held[:end], atol=1e-7)


def test_pedal_pressed_too_late_keeps_nothing_and_released_early_lets_go():
    late = render(play([(0.0, 0.5, 60, 80)], [(1.2, 64, 127)]))
    dry = render(play(NOTE))
    np.testing.assert_allclose(late, dry, atol=3e-5)
    released = render(play([(0.0, 0.5, 60, 80)], [(0.2, 64, 127), (0.8, 64, 0)]))
    kept = render(play([(0.0, 0.5, 60, 80)], [(0.2, 64, 127)]))
    np.testing.assert_array_equal(released[: int(0.79 * RATE)], kept[: int(0.79 * RATE)])
    assert rms_db(released, 1.1, 1.4) < rms_db(kept, 1.1, 1.4) - 30


def test_half_pedal_damps_in_between_and_monotonically():
    energy = [rms_db(render(play(NOTE, [(0.2, 64, v)])), 0.7, 1.2) for v in (0, 40, 56, 64, 72, 88, 127)]
    assert energy[0] == energy[1]
    assert energy[5] == energy[6]
    assert (np.diff(energy[1:6]) > 3).all()


def test_half_pedal_at_64_damps_at_a_quarter_of_the_rate():
    assert pedals.damper_contact(np.array([0, 40, 64, 88, 127])).tolist() == [1, 1, 0.25, 0, 0]
    window = slice(int(0.6 * RATE), int(0.62 * RATE))
    held, half, dry = (render(play([*NOTE, *UNTIL_END], [(0, 64, v)]))[window] for v in (127, 64, 0))
    loss = [np.log(np.linalg.norm(held) / np.linalg.norm(x)) for x in (half, dry)]
    assert loss[1] / loss[0] == pytest.approx(4, rel=0.05)  # the window spans a fifth of the fall


def test_bass_rings_on_under_a_half_pedal_that_stops_the_treble():
    loss = {}
    for pitch in (36, 84):
        half, held = (render(play([(0.0, 0.3, pitch, 80)], [(0.0, 64, v)])) for v in (60, 127))
        loss[pitch] = rms_db(held, 0.5, 0.8) - rms_db(half, 0.5, 0.8)
    assert loss[84] > 2 * loss[36] > 0


def test_undamped_keys_ring_on():
    def fall(pitch):
        held, released = (render(play([(0.0, off, pitch, 90), (0.0, 1.0, 20, 1)])) for off in (1.0, 0.1))
        return rms_db(held, 0.3, 0.5) - rms_db(released, 0.3, 0.5)

    assert fall(91) == pytest.approx(0, abs=1e-6)
    assert fall(90) > 20


def test_una_corda_is_softer_and_darker():
    sounds = [render(play([(0.0, 1.0, 60, 80)], [(0.0, 67, v)])) for v in (0, 64, 127)]
    assert (np.diff([rms_db(x) for x in sounds]) < -0.5).all()
    assert (np.diff([centroid_hz(x[:RATE]) for x in sounds]) < -10).all()


def test_soft_pedal_counts_at_the_blow_only():
    np.testing.assert_array_equal(render(play(NOTE, [(0.1, 67, 127)])), render(play(NOTE)))


def test_sostenuto_holds_only_the_keys_that_are_down():
    p = play([(0.0, 0.5, 60, 80), (0.4, 0.6, 64, 80)], [(0.2, 66, 127), (1.0, 66, 0)])
    np.testing.assert_array_equal(pedals.held_until(p), [1.0, 0.6])
    never_released = play([(0.0, 0.5, 60, 80)], [(0.2, 66, 127)])
    assert pedals.held_until(never_released)[0] == np.inf
    assert rms_db(render(never_released), 0.7, 1.4) > rms_db(render(play(NOTE)), 0.7, 1.4) + 30


def test_striking_again_stops_the_old_vibration():
    twice = render(play([(0.0, 0.5, 60, 100), (0.5, 0.9, 60, 2)], [(0, 64, 127)]))
    once = render(play([(0.0, 0.9, 60, 100)], [(0, 64, 127)]))
    assert rms_db(twice, 0.6, 0.8) < rms_db(once, 0.6, 0.8) - 25


def test_zero_length_note_sounds():
    assert rms_db(render(play([(0.0, 0.0, 60, 80)])), 0, 0.1) > -60


def test_bits_do_not_depend_on_the_run():
    p = play([(0.0, 0.5, 60, 80), (0.1, 0.9, 40, 33), (0.3, 0.5, 60, 90)], [(0.2, 64, 70)])
    first = render(p)
    note_table._note_table.cache_clear()
    np.testing.assert_array_equal(first, render(p))


def test_guard_leaves_what_is_below_the_knee_and_never_exceeds_one():
    x = np.linspace(-3, 3, 1001, dtype=np.float32)
    y = modal.guard(x)
    inside = np.abs(x) <= modal.KNEE
    np.testing.assert_array_equal(y[inside], x[inside])
    assert np.abs(y).max() <= 1
    assert (np.diff(y) >= 0).all()


# By code version: a change of the sound needs a new version, since stored features depend on it.
GOLDEN_RMS_DB = {1: (-31.53759, -27.56236, -52.93511)}


def test_golden_sound():
    p = play(
        [(0.0, 0.5, 60, 80), (0.1, 0.9, 40, 33), (0.3, 0.5, 76, 110), (0.6, 0.7, 95, 60)],
        [(0.0, 67, 50), (0.2, 64, 70), (0.8, 64, 0)],
    )
    x = render(p)
    got = [rms_db(x, *span) for span in ((0, 0.3), (0.3, 0.8), (0.8, 1.9))]
    # Another processor rounds differently, by far less than .001 dB.
    assert got == pytest.approx(GOLDEN_RMS_DB[CODE_VERSION["modal"]], abs=1e-3)


LOUDEST = (
    "Schubert_D935_no.3_4bars_Score2_50",
    "Schubert_D935_no.3_4bars_Score_21",
    "Beethoven_WoO80_var6_8bars_Score2_5",
)
"""The highest peaks of all 1,202 clips."""


@pytest.mark.percepiano
@pytest.mark.parametrize("clip", LOUDEST)
def test_loudest_real_clips_are_not_bent(percepiano_dir, clip):
    x = render(read_midi(percepiano_dir / "virtuoso" / "data" / "all_2rounds" / f"{clip}.mid"))
    assert 0.3 < np.abs(x).max() <= modal.KNEE
