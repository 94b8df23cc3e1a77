"""Tempo: notes exactly, sound in its length and its pitch."""

import librosa
import numpy as np
import pytest

from piano_assets.analysis.robustness.tempo import RATIOS, TEMPO, phase_vocoder, stretched
from piano_assets.features.note_events import COLUMNS
from piano_assets_tests.analysis.robustness.sounding import CLIPS, NOTES, SPECTROGRAM
from piano_assets_tests.features.tones import RATE, music

pytestmark = pytest.mark.xdist_group("sounding")  # one worker makes what they share

ALL = np.arange(len(CLIPS))


def alteration(kind: str, ratio: float):
    (found,) = (a for a in TEMPO if a.kind == kind and a.strength == ratio)
    return found


@pytest.mark.parametrize("ratio", RATIOS)
def test_stretched_sound_lasts_as_it_should_and_keeps_its_pitch(ratio):
    y = 0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE)
    z = stretched(y, ratio)
    assert len(z) == round(len(y) / ratio)
    middle = z[len(z) // 4 : -len(z) // 4] * np.hanning(len(z) - len(z) // 4 - -(-len(z) // 4))
    peak = np.argmax(np.abs(np.fft.rfft(middle, 2**18))) * RATE / 2**18
    assert peak == pytest.approx(440, abs=0.5)  # the window's line is 2 Hz wide


@pytest.mark.parametrize("ratio", [*RATIOS, 1.0, 2.0])
def test_phase_vocoder_is_librosas(ratio):
    """In float64; a silent stretch in the middle has no phases to go on with."""
    y = music(np.random.default_rng(4), 2.0).astype(np.float64)
    y[RATE // 2 : RATE] = 0
    spectrum = librosa.stft(y)
    want = librosa.phase_vocoder(spectrum, rate=ratio, hop_length=512)
    # Phases of 1e5 rad on the other side are exact to 1e-11.
    np.testing.assert_allclose(phase_vocoder(spectrum.T, ratio), want.T, atol=1e-9 * np.abs(want).max())


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("n_samples", [2048, 40000, 66150])
def test_stretched_sound_is_librosas(ratio, n_samples):
    """librosa's in float64: in float32 it adds up phases of 1e5 rad, to a hundredth of a radian.

    Ours multiplies up to 185 phasors in float32, whose rounding adds up to 5e-5 of the loudest sample here.
    """
    y = music(np.random.default_rng(3), 3.0)[:n_samples]
    got, want = stretched(y, ratio), librosa.effects.time_stretch(y.astype(np.float64), rate=ratio)
    assert got.dtype == np.float32
    assert len(got) == len(want)
    np.testing.assert_allclose(got, want, atol=1e-4 * np.abs(want).max())


def test_a_click_moves_to_its_place():
    y = np.zeros(2 * RATE)
    y[RATE] = 1
    z = stretched(y, 1.25)
    # A vocoder smears a click over its window of 2048 samples.
    assert abs(np.argmax(np.abs(z)) - RATE / 1.25) < 2048


def test_a_ratio_is_positive():
    with pytest.raises(ValueError, match="ratio=0 must be > 0"):
        stretched(np.zeros(4096), 0)


@pytest.mark.parametrize("ratio", [0.8, 1.5])
def test_rerendered_notes_have_their_times_divided_and_nothing_else(subjects, sounding, ratio):
    of = subjects["notes"]
    data = alteration("rerendered", ratio).hear(of, sounding, ALL, None)
    before, after = (dict(zip(COLUMNS, np.asarray(d.sequence.values).T, strict=True)) for d in (of.data, data))
    np.testing.assert_allclose(after["onset_s"], before["onset_s"] / ratio, rtol=1e-6)  # float32
    long = np.exp(np.minimum(before["log_duration"], after["log_duration"])) > 0.011  # above the floor
    np.testing.assert_allclose((after["log_duration"] - before["log_duration"])[long], -np.log(ratio), atol=1e-5)
    for name in ("pitch", "velocity", "sustain_at_onset", "soft_at_onset"):
        np.testing.assert_array_equal(after[name], before[name])


@pytest.mark.parametrize("kind", ["rerendered", "stretched"])
def test_frames_are_as_many_as_the_altered_sound_lasts(subjects, sounding, kind):
    of = subjects["spectrogram"]
    data = alteration(kind, 1.25).hear(of, sounding, ALL, None)
    # The tail of 1 s = 50 frames after the last note is stretched with the sound, but not with the notes.
    before, tail = of.data.sequence.n_frames, 50 if kind == "rerendered" else 0
    assert np.abs(data.sequence.n_frames - ((before - tail) / 1.25 + tail)).max() <= 1


def test_notes_can_be_rerendered_but_not_stretched():
    assert [a.condition for a in TEMPO[:2]] == ["tempo.rerendered:0.7", "tempo.rerendered:0.8"]
    for ratio in RATIOS:
        assert alteration("rerendered", ratio).why_not(NOTES) is None
        assert "notes only" in alteration("stretched", ratio).why_not(NOTES)
        assert alteration("stretched", ratio).why_not(SPECTROGRAM) is None
