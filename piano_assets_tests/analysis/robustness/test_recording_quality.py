"""Effects are what they say: filters against scipy's response, rooms by Schroeder's decay, codecs by delay and size."""

import io

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, correlate, sosfreqz

from piano_assets.analysis.robustness import recording_quality
from piano_assets.analysis.robustness.hearing import recordings
from piano_assets.analysis.robustness.recording_quality import (
    EFFECTS,
    RECORDING_QUALITY,
    band_limited,
    hear_effect,
    hear_renderer,
    impulse_response,
    in_room,
    louder,
    mp3,
    vorbis,
    why_not_codec,
    why_not_renderer,
)
from piano_assets_tests.analysis.robustness.sounding import CLIPS, NOTES, SPECTROGRAM
from piano_assets_tests.features.tones import RATE, music

pytestmark = pytest.mark.xdist_group("sounding")  # one worker makes what they share


def lag(y: np.ndarray, z: np.ndarray) -> int:
    """Samples by which `z` comes after `y`."""
    return int(np.argmax(correlate(z.astype(float), y.astype(float), method="fft"))) - (len(y) - 1)


def snr_db(y: np.ndarray, z: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(y**2) / np.mean((z - y) ** 2)))


@pytest.mark.parametrize("cutoff_hz", [8000, 4000, 2000])
def test_band_limit_is_a_butterworth_twice_without_phase(cutoff_hz):
    click = np.zeros(8192)
    click[4096] = 1
    z = band_limited(click, cutoff_hz)
    np.testing.assert_allclose(z[4096:8000], z[4096:192:-1], atol=1e-9)  # symmetric: no delay
    w, h = sosfreqz(butter(4, cutoff_hz, fs=RATE, output="sos"), worN=np.fft.rfftfreq(8192, 1 / RATE), fs=RATE)
    np.testing.assert_allclose(np.abs(np.fft.rfft(z)), np.abs(h) ** 2, atol=1e-9)
    assert 20 * np.log10(np.interp(cutoff_hz, w, np.abs(np.fft.rfft(z)))) == pytest.approx(-6.02, abs=0.05)


@pytest.mark.parametrize("rt60_s", [0.3, 0.6, 1.2])
def test_room_decays_by_60_db_in_its_time(rt60_s):
    """Schroeder (1965): the energy still to come falls by 60 dB in RT60, fitted from -5 to -25 dB of ten rooms.

    The end of a finite response bends the curve below -40 dB. One room's slope varies by 2 % (.3 s).
    """
    slopes = []
    for seed in range(10):
        tail = impulse_response(rt60_s, np.random.default_rng(seed))[1:]
        decay = 10 * np.log10(np.cumsum(tail[::-1] ** 2)[::-1] / np.sum(tail**2))
        fitted = (decay < -5) & (decay > -25)
        slopes.append(np.polyfit(np.flatnonzero(fitted) / RATE, decay[fitted], 1)[0])
    assert -60 / np.mean(slopes) == pytest.approx(rt60_s, rel=0.03)


def test_direct_sound_comes_first_and_the_tail_has_the_energy_of_its_room():
    for rt60_s in (0.3, 1.2):
        h = impulse_response(rt60_s, np.random.default_rng(0))
        assert h[0] == 1
        assert len(h) == np.ceil(rt60_s * RATE)
        critical_m = 0.057 * np.sqrt(100 / rt60_s)  # .057 sqrt(V / RT60): 1.04 m and .52 m
        assert np.sum(h[1:] ** 2) == pytest.approx(1 / critical_m**2)
    with pytest.raises(ValueError, match="rt60_s=1e-05"):
        impulse_response(1e-5, np.random.default_rng(0))


def test_a_room_is_a_convolution_at_the_old_loudness():
    y = music(np.random.default_rng(1), 0.3)
    wet = in_room(y, 0.3, np.random.default_rng(2))
    want = np.convolve(y.astype(float), impulse_response(0.3, np.random.default_rng(2)))[: len(y)]
    assert np.mean(wet**2) == pytest.approx(np.mean(y.astype(float) ** 2), rel=1e-12)
    np.testing.assert_allclose(wet / wet[0] * want[0], want, atol=1e-9 * np.abs(want).max() * np.abs(want[0] / wet[0]))
    noise = np.random.default_rng(3).standard_normal(RATE)
    assert lag(noise, in_room(noise, 0.3, np.random.default_rng(2))) == 0


@pytest.mark.parametrize(("codec", "strengths"), [(mp3, EFFECTS["mp3"][1]), (vorbis, EFFECTS["vorbis"][1])])
@pytest.mark.parametrize("n_samples", [2048, 30011, 66150])
def test_codecs_keep_length_and_place(codec, strengths, n_samples):
    y = music(np.random.default_rng(3), 3.0)[:n_samples]
    for strength in strengths:
        z = codec(y, strength)
        assert len(z) == len(y)
        assert lag(y, z) == 0


@pytest.mark.parametrize("codec", [mp3, vorbis])
def test_a_poorer_code_is_a_poorer_copy(codec):
    y = music(np.random.default_rng(4), 4.0)
    found = [snr_db(y, codec(y, strength)) for strength in EFFECTS[codec.__name__][1]]
    assert found == sorted(found, reverse=True)
    assert found[0] - found[-1] > 3
    assert found[-1] > 5


@pytest.mark.parametrize("kbps", EFFECTS["mp3"][1])
def test_mp3_has_the_bit_rate_asked_for(kbps, monkeypatch):
    sizes, write = [], soundfile.write

    def weighed(file: io.BytesIO, *args, **kwargs):
        write(file, *args, **kwargs)
        sizes.append(len(file.getvalue()))

    monkeypatch.setattr(soundfile, "write", weighed)
    mp3(music(np.random.default_rng(5), 8.0), kbps)
    # An average that the encoder approaches from above, and one frame of header.
    assert sizes[0] * 8 / 8.0 / 1000 == pytest.approx(kbps, rel=0.2)


def test_impossible_qualities_and_delayed_copies_are_refused(monkeypatch):
    y = music(np.random.default_rng(6), 0.5)
    for kbps in (8, 161):
        with pytest.raises(ValueError, match=f"kbps={kbps} must lie in"):
            mp3(y, kbps)
    with pytest.raises(ValueError, match=r"quality=1.1 must lie in \[0, 1\]"):
        vorbis(y, 1.1)
    monkeypatch.setattr(soundfile, "read", lambda *_, **__: (np.zeros(len(y) + 1105, np.float32), RATE))
    with pytest.raises(ValueError, match=f"found {len(y) + 1105} at {RATE} Hz"):
        vorbis(y, 0.5)


def test_gain_in_decibels_with_clipping():
    y = np.array([0.1, -0.4, 0.7])
    np.testing.assert_allclose(louder(y, -6), y * 10**-0.3)
    np.testing.assert_allclose(louder(y, 6), [0.1 * 10**0.3, -0.4 * 10**0.3, 1.0])


def test_every_clip_has_a_room_of_its_own_and_the_same_one_again(subjects, sounding, monkeypatch):
    of, handed = subjects["spectrogram"], []
    monkeypatch.setattr(recording_quality, "heard_sound", lambda of, rows, samples, progress: handed.append(samples))
    monkeypatch.setattr(recording_quality, "recordings", lambda of, store: lambda clip: np.eye(1, 3000)[0])
    for seed in (0, 0, 1):
        hear_effect(of, sounding, np.array([0]), kind="room", strength=0.3, seed=seed)
    first, again, other = (samples(CLIPS[0]) for samples in handed)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first, handed[0](CLIPS[1]))


def test_every_effect_alters_what_is_heard_and_no_other_clip(subjects, sounding):
    of, rows = subjects["spectrogram"], np.array([4])
    start, n = of.data.sequence.start[4], of.data.sequence.n_frames[4]
    before = np.asarray(of.data.sequence.values)
    for kind, (_, strengths) in EFFECTS.items():
        after = hear_effect(of, sounding, rows, kind=kind, strength=strengths[-1]).sequence.values
        assert after.shape == before.shape
        assert not np.array_equal(after[start : start + n], before[start : start + n])
        np.testing.assert_array_equal(
            np.delete(after, np.s_[start : start + n], 0), np.delete(before, np.s_[start : start + n], 0)
        )


def test_the_renderer_it_knows_changes_nothing(subjects, sounding):
    """The way of another renderer is the way of the own one, to the bit."""
    of, rows = subjects["table"], np.arange(len(CLIPS))
    np.testing.assert_array_equal(hear_renderer(of, sounding, rows, rendering="modal").features, of.data.features)
    y = recordings(of, sounding)(CLIPS[0])
    assert len(y) > RATE


def test_what_cannot_be_asked_says_why(monkeypatch, tmp_path):
    assert why_not_renderer(SPECTROGRAM, "modal") == "modal is the renderer that it was trained with"
    monkeypatch.setenv("PIANO_SOUNDFONT", str(tmp_path / "none.sf2"))
    assert "none.sf2 does not exist" in str(why_not_renderer(SPECTROGRAM, "fluidsynth"))
    assert "notes only" in str(why_not_renderer(NOTES, "fluidsynth"))
    assert why_not_codec(SPECTROGRAM, "MP3") is None
    assert "notes only" in str(why_not_codec(NOTES, "MP3"))
    monkeypatch.setattr(soundfile, "available_formats", lambda: {"WAV": ""})
    assert "cannot write OGG" in str(why_not_codec(SPECTROGRAM, "OGG"))
    for a in RECORDING_QUALITY:
        assert "notes only" in str(a.why_not(NOTES))


def test_conditions():
    names = [a.condition for a in RECORDING_QUALITY]
    assert names[:3] == ["recording_quality.modal", "recording_quality.fluidsynth", "recording_quality.band_limit:8000"]
    assert "recording_quality.gain:-12" in names
    assert len(set(names)) == len(names)
