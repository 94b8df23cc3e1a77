"""Recordings, sound and broken."""

import numpy as np
import pytest
import soundfile

from piano_assets.corpus.audio import FRAME, AudioError, find_recording, read_audio

RATE = 22050


def _tone(rate, seconds=1.0, hertz=440.0):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


@pytest.fixture
def wav(tmp_path):
    """Write samples to a file and return its path."""

    def write(samples, rate=RATE, name="a.wav", subtype="FLOAT"):
        soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
        return tmp_path / name

    return write


def test_right_rate_is_read_as_it_is(wav):
    x = _tone(RATE).astype(np.float32)
    y = read_audio(wav(x), RATE)
    assert y.dtype == np.float32
    np.testing.assert_array_equal(y, x)


@pytest.mark.parametrize("rate", [8000, 11025, 44100, 48000, 96000])
def test_wrong_rate_is_converted(wav, rate):
    y = read_audio(wav(_tone(rate), rate), RATE)
    assert len(y) == pytest.approx(RATE, abs=1)
    inside = slice(500, RATE - 500)  # the filter rings at both ends
    np.testing.assert_allclose(y[inside], _tone(RATE)[: len(y)][inside], atol=5e-3)


def test_conversion_removes_what_the_lower_rate_cannot_hold(wav):
    mixed = _tone(48000) + 0.4 * np.sin(2 * np.pi * 15000 * np.arange(48000) / 48000)
    y = read_audio(wav(mixed, 48000), RATE)
    np.testing.assert_allclose(y[500:-500], _tone(RATE)[: len(y)][500:-500], atol=5e-3)


def test_stereo_is_averaged(wav):
    left, right = _tone(RATE), 0.2 * _tone(RATE, hertz=600)
    y = read_audio(wav(np.stack([left, right], axis=1)), RATE)
    np.testing.assert_allclose(y, (left + right) / 2, atol=1e-6)  # float32


@pytest.mark.parametrize(
    ("samples", "rule", "value"),
    [
        (np.zeros(RATE), "must not be silent", "0"),
        (np.full(RATE, 2e-5), "must not be silent", "2e-05"),
        (np.where(np.arange(RATE) == 77, np.nan, 0.1), "must be finite", "1 samples"),
        (np.where(np.arange(RATE) < 2, np.inf, 0.1), "must be finite", "2 samples"),
        (np.zeros(0), f"must last {FRAME} samples", "0 at 22050 Hz"),
        (_tone(RATE)[: FRAME - 1], f"must last {FRAME} samples", "2047 at 22050 Hz"),
    ],
)
def test_unusable_samples_are_refused(wav, samples, rule, value):
    path = wav(samples)
    with pytest.raises(AudioError) as caught:
        read_audio(path, RATE)
    assert rule in caught.value.rule
    assert value in caught.value.value
    assert str(caught.value).startswith("a.wav: audio ")


def test_opposite_channels_are_silent(wav):
    with pytest.raises(AudioError, match="must not be silent"):
        read_audio(wav(np.stack([_tone(RATE), -_tone(RATE)], axis=1)), RATE)


def test_shortest_is_a_frame_at_the_wanted_rate(wav):
    assert len(read_audio(wav(_tone(RATE)[:FRAME]), RATE)) == FRAME
    with pytest.raises(AudioError, match="must last"):
        read_audio(wav(_tone(44100)[: FRAME + 1], 44100), RATE)


@pytest.mark.parametrize("content", [b"", b"not sound at all", b"RIFF\x24\x00\x00\x00WAVEfmt "])
def test_unreadable_files_are_refused(tmp_path, content):
    path = tmp_path / "a.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"a\.wav: audio must be readable"):
        read_audio(path)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(AudioError, match="must be readable"):
        read_audio(tmp_path / "none.wav")


def test_truncated_file_is_read_as_far_as_it_goes_or_refused(wav):
    path = wav(_tone(RATE), subtype="PCM_16")
    path.write_bytes(path.read_bytes()[:-20000])
    assert 0 < len(read_audio(path)) < RATE
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(AudioError):
        read_audio(path)


def test_find_recording(tmp_path):
    assert find_recording(tmp_path, "Schubert_D935_no.3_4bars_2_1") is None
    (tmp_path / "audio").mkdir()
    for suffix in ("flac", "wav"):
        path = tmp_path / "audio" / f"Schubert_D935_no.3_4bars_2_1.{suffix}"
        path.touch()
        assert find_recording(tmp_path, "Schubert_D935_no.3_4bars_2_1") == path
