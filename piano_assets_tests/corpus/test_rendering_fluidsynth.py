"""FluidSynth with a real SoundFont, where the machine has them; its errors everywhere."""

import builtins

import numpy as np
import pytest

from piano_assets.corpus.rendering import fluidsynth
from piano_assets.corpus.rendering.fluidsynth import FluidSynthError, find_soundfont, render_fluidsynth
from piano_assets.corpus.rendering.timing import TAIL_S
from piano_assets_tests.corpus.playing import RATE, play, rms_db

NOTE = [(0.0, 0.5, 60, 80)]


@pytest.fixture(scope="module")
def render():
    """The renderer with the SoundFont that loads fastest (unpacked .sf2), or a skip that says what is missing."""
    unpacked = [f for folder in fluidsynth.FOLDERS for f in sorted(folder.glob("*.sf2"))]

    def render(performance, sample_rate=RATE, soundfont=unpacked[0] if unpacked else None):
        return render_fluidsynth(performance, sample_rate, soundfont)

    try:
        render(play([]))
    except FluidSynthError as error:
        pytest.skip(str(error))
    return render


def test_length_and_silence_of_nothing(render):
    x = render(play([(0.2, 1.3, 64, 60)]))
    assert x.shape == (round((1.3 + TAIL_S) * RATE),)
    assert x.dtype == np.float32
    assert np.abs(render(play([]))).max() < 1e-4


def test_pitch(render):
    x = render(play([(0.0, 1.5, 69, 80)]))[: 2 * RATE]
    spectrum = np.abs(np.fft.rfft(x * np.hanning(len(x))))
    hertz = np.fft.rfftfreq(len(x), 1 / RATE)
    near = (hertz > 380) & (hertz < 500)
    assert hertz[near][np.argmax(spectrum[near])] == pytest.approx(440, abs=2)  # sampled pianos are tuned by ear


@pytest.mark.parametrize("onset_s", [0.25, 0.4007])
def test_onset_within_a_block(render, onset_s):
    """A shift of the onset shifts the sound by as much, to 32 samples (half a block) at either end."""
    first, late = (render(play([(0.0, 0.01, 21, 1), (t, 0.9, 72, 100)]))[: int(0.9 * RATE)] for t in (0.1, onset_s))
    lag = np.argmax(np.correlate(late, first, mode="full")) - (len(first) - 1)
    assert abs(lag - (onset_s - 0.1) * RATE) <= 64


def test_velocity_and_sustain(render):
    soft, loud = (render(play([(0.0, 1.0, 60, v)])) for v in (40, 110))
    assert rms_db(loud) > rms_db(soft) + 6
    dry, wet = (render(play(NOTE, [(0.2, 64, v)])) for v in (0, 127))
    assert rms_db(wet, 0.9, 1.4) > rms_db(dry, 0.9, 1.4) + 6


def test_zero_length_note_sounds(render):
    assert rms_db(render(play([(0.0, 0.0, 60, 80)])), 0, 0.2) > -70


def test_a_clip_does_not_depend_on_the_ones_before(render):
    clip = play([(0.3 * k, 0.3 * k + 1, 40 + k, 90) for k in range(30)])
    first = render(clip)
    render(play([(0.0, 2.0, p, 120) for p in range(40, 80, 3)], [(0.0, 64, 127), (0.1, 67, 127)]))
    np.testing.assert_array_equal(render(clip), first)


def test_absurd_sample_rate_is_refused():
    with pytest.raises(ValueError, match=r"sample_rate=100 must lie in 8000..96000"):
        render_fluidsynth(play(NOTE), 100)


def test_missing_soundfont_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PIANO_SOUNDFONT", str(tmp_path / "none.sf2"))
    with pytest.raises(FluidSynthError, match=r"none\.sf2 does not exist.*apt-get install fluidsynth"):
        find_soundfont()


def test_no_soundfont_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.delenv("PIANO_SOUNDFONT", raising=False)
    monkeypatch.setattr(fluidsynth, "FOLDERS", (tmp_path,))
    with pytest.raises(FluidSynthError, match=r"No SoundFont in .*musescore-general-soundfont"):
        find_soundfont()
    (tmp_path / "zzz.sf2").touch()
    assert find_soundfont() == tmp_path / "zzz.sf2"
    (tmp_path / "FluidR3_GM.sf2").touch()
    assert find_soundfont().name == "FluidR3_GM.sf2"
    assert find_soundfont(tmp_path / "zzz.sf2").name == "zzz.sf2"


def test_missing_binding_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "any.sf2").touch()
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "fluidsynth":
            raise ImportError("no library")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(FluidSynthError, match=r"no library.*piano_assets\[render\]"):
        render_fluidsynth(play(NOTE), RATE, tmp_path / "any.sf2")


def test_what_is_not_a_soundfont_is_refused(render, tmp_path):
    (tmp_path / "bad.sf2").write_bytes(b"not a SoundFont")
    with pytest.raises(FluidSynthError, match=r"bad\.sf2 is not a SoundFont"):
        render(play(NOTE), RATE, tmp_path / "bad.sf2")
    assert rms_db(render(play(NOTE))) > -60
