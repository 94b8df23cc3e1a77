import subprocess
import sys
from dataclasses import replace

import librosa
import numpy as np
import pytest
import soundfile

from piano_assets.corpus.audio import AudioError
from piano_assets.features.spectrogram_specs import SPECTROGRAMS, SpectrogramSpec, side_by_side
from piano_assets.features.spectrograms import (
    half,
    open_spectrograms,
    pcm,
    spectrogram,
    stored,
    write_rows,
    write_spectrograms,
)
from piano_assets.schemas import TABLES
from piano_assets_tests.features.tones import RATE, music, tone

MEL = ("mel_128", "mel_256", "log_mel_128", "log_mel_128_8k")


def librosas(y: np.ndarray, spec: SpectrogramSpec) -> np.ndarray:
    power = librosa.feature.melspectrogram(
        y=y, sr=RATE, n_fft=2048, hop_length=441, n_mels=spec.n_bands, fmin=spec.fmin, fmax=spec.fmax
    )
    if not spec.decibel:
        return power.T
    floor = spec.reference * 10 ** (-spec.floor_db / 10)
    return librosa.power_to_db(power, ref=spec.reference, amin=floor, top_db=None).T


def test_the_declared_ranges():
    declared = {name: (s.n_bands, s.fmin, s.fmax, s.decibel, s.dtype) for name, s in SPECTROGRAMS.items()}
    assert declared == {
        "mel_128": (128, 20, 8000, False, "float16"),
        "mel_256": (256, 20, 8000, False, "float16"),
        "log_mel_128": (128, 20, 11025, True, "float16"),
        "log_mel_128_8k": (128, 20, 8000, True, "float16"),
        "cqt": (207, 27.5, 11025, True, "float16"),
        "multi_resolution": (335, 20, 11025, True, "float16"),
        "waveform": (441, 0, 11025, False, "int16"),
    }
    assert {(s.sample_rate, s.n_fft, s.hop_length, s.frame_rate) for s in SPECTROGRAMS.values()} == {
        (22050, 2048, 441, 50.0)
    }


@pytest.mark.parametrize("name", MEL)
@pytest.mark.parametrize("n", [2048, 44100, 50001])
def test_spectrogram_is_librosas(name, n):
    spec = SPECTROGRAMS[name]
    y = music(np.random.default_rng(n), n / RATE)[:n]
    got, want = spectrogram(y, spec), librosas(y, spec)
    assert got.dtype == np.float32
    assert got.shape == want.shape == (1 + n // 441, spec.n_bands)
    # Powers sum float32 products: relative error 1e-4 of the band, or of rounding noise below the loudest band.
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3 if spec.decibel else 1e-9 * want.max())


def test_every_band_hears_something():
    y = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
    for name, spec in SPECTROGRAMS.items():
        heard = spectrogram(y, spec)
        # A mel filter narrower than a bin of the transform would hear nothing; the noise lies far above the floor.
        nothing = heard.mean(axis=0) <= (-spec.floor_db + 20 if spec.decibel else 0)
        assert name == "waveform" or not nothing.any(), name


def test_loudness_survives_and_silence_is_the_floor():
    spec = SPECTROGRAMS["log_mel_128"]
    y = music(np.random.default_rng(1), 2)
    loud, soft = spectrogram(y, spec), spectrogram(y / 10, spec)
    above = soft > -spec.floor_db + 1
    np.testing.assert_allclose((loud - soft)[above], 20, atol=1e-3)
    assert (spectrogram(np.zeros(RATE, np.float32), spec) == -spec.floor_db).all()
    assert (spectrogram(np.zeros(RATE, np.float32), SPECTROGRAMS["mel_128"]) == 0).all()


def test_a_full_scale_sine_is_near_0_db_in_its_band():
    spec = SPECTROGRAMS["log_mel_128"]
    sine = np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE).astype(np.float32)
    middle = spectrogram(sine, spec)[25]
    centres = librosa.mel_frequencies(spec.n_bands + 2, fmin=spec.fmin, fmax=spec.fmax)[1:-1]
    assert abs(centres[middle.argmax()] - 440) < 27  # one band
    assert abs(middle.max()) < 2


def test_float16_keeps_what_its_docstring_says():
    y = music(np.random.default_rng(2), 3)
    decibel = spectrogram(y, SPECTROGRAMS["log_mel_128"])
    assert np.abs(half(decibel).astype(np.float32) - decibel).max() < 0.04
    power = spectrogram(y, SPECTROGRAMS["mel_128"])
    error = np.abs(half(power).astype(np.float32) - power)
    assert (error[power > 6.2e-5] / power[power > 6.2e-5]).max() < 5e-4
    assert error[power <= 6.2e-5].max() < 3.1e-8
    assert half(np.array([1e9], np.float32))[0] == 65504


def test_multi_resolution_is_both_side_by_side():
    y = music(np.random.default_rng(4), 1)
    both = [spectrogram(y, SPECTROGRAMS[name]) for name in ("log_mel_128", "cqt")]
    np.testing.assert_array_equal(spectrogram(y, SPECTROGRAMS["multi_resolution"]), np.concatenate(both, axis=1))
    # One scale for both: a tone of 1 kHz reaches the same level in either.
    sine = 0.1 * np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    row = spectrogram(sine, SPECTROGRAMS["multi_resolution"])[25]
    assert abs(row[:128].max() - row[128:].max()) < 3


@pytest.mark.parametrize("n", [2048, 441 * 5, 441 * 5 + 1, 441 * 6 - 1])
def test_the_waveform_holds_the_samples_in_the_frames_of_the_others(n):
    spec = SPECTROGRAMS["waveform"]
    samples = np.random.default_rng(n).integers(-32768, 32768, n).astype(np.int16)
    y = samples / np.float32(32768)
    rows = stored(spectrogram(y, spec), spec.dtype)
    assert len(rows) == len(spectrogram(y, SPECTROGRAMS["log_mel_128"]))
    np.testing.assert_array_equal(rows.ravel()[:n], samples)
    assert not rows.ravel()[n:].any()
    np.testing.assert_array_equal(rows[2], samples[2 * 441 : 3 * 441])


def test_samples_beyond_full_scale_are_clipped_not_wrapped():
    np.testing.assert_array_equal(pcm(np.array([-1.5, -1.0, 0.0, 0.5, 1.0])), [-32768, -32768, 0, 16384, 32767])


def test_a_written_waveform_gives_the_same_spectrogram(clips, tmp_path):
    """What the training reads to make its own mel bands is what the stored ones were made from."""
    soundfile.write(clips["a"], np.random.default_rng(0).normal(0, 0.1, 9000), RATE, subtype="PCM_16")
    table = write_spectrograms({"a": clips["a"]}, tmp_path, "waveform", "modal")
    rows = open_spectrograms(tmp_path, "waveform", "modal")
    assert rows.dtype == np.int16
    y = rows.ravel()[:9000] / np.float32(32768)
    write_spectrograms({"a": clips["a"]}, tmp_path, "log_mel_128", "modal")
    again = half(spectrogram(y, SPECTROGRAMS["log_mel_128"]))
    np.testing.assert_array_equal(again, open_spectrograms(tmp_path, "log_mel_128", "modal"))
    assert table["n_frames"].item() == len(again)


GOLDEN = {
    "mel_128": {5: 9.6505e-06, 20: 1.96309, 60: 0.0285675},
    "mel_256": {20: 59.3538, 120: 0.0307536},
    "log_mel_128": {5: -85.1865, 20: -53.9686, 60: -59.9138},
    "log_mel_128_8k": {5: -90.1545, 20: -37.0706, 60: -55.4413},
    "cqt": {54: -100, 78: -24.38, 100: -73.6491},
    "multi_resolution": {20: -53.9686, 128 + 78: -24.38},
    "waveform": {5: -0.0472267, 20: -0.0612709, 440: -0.0585983},
}


@pytest.mark.parametrize("name", SPECTROGRAMS)
def test_golden_values(name):
    """When these change, bump `CODE_VERSION["spectrograms"]`: files on disk would be stale without notice."""
    row = spectrogram(tone(60, 1.0), SPECTROGRAMS[name])[20]
    assert {band: row[band] for band in GOLDEN[name]} == pytest.approx(GOLDEN[name], rel=1e-3)


@pytest.mark.parametrize("y", [np.zeros(100), np.full(4096, np.inf), np.zeros((4096, 2))])
def test_bad_samples_are_refused(y):
    with pytest.raises(ValueError, match="audio must"):
        spectrogram(y.astype(np.float32), SPECTROGRAMS["mel_128"])


@pytest.mark.parametrize("wrong", [{"transform": "mle"}, {"fmax": 20000}, {"fmin": 9000}, {"dtype": "float64"}])
def test_a_wrong_specification_is_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        SpectrogramSpec(**({"n_bands": 8, "fmin": 20, "fmax": 8000, "decibel": True} | wrong))


def test_only_spectrograms_with_the_same_frames_stand_side_by_side():
    mel = SPECTROGRAMS["mel_128"]
    with pytest.raises(ValueError, match="must share sample_rate and hop_length"):
        side_by_side(mel, replace(mel, hop_length=512))


def test_names_are_known_without_what_computes_them():
    heavy = "librosa", "numba", "torch", "scipy", "pandas"
    code = f"import sys, piano_assets.features.spectrogram_specs; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
    code = code.replace("spectrogram_specs", "spectrograms").replace(", 'pandas'", "")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.fixture
def clips(tmp_path):
    rng = np.random.default_rng(3)
    paths = {}
    for clip, seconds in (("c", 1.0), ("a", 0.5), ("b", 1.7)):
        soundfile.write(tmp_path / f"{clip}.wav", music(rng, seconds, 10), RATE, subtype="FLOAT")
        paths[clip] = tmp_path / f"{clip}.wav"
    return paths


@pytest.mark.parametrize("name", SPECTROGRAMS)
def test_one_file_holds_every_clip(clips, tmp_path, name):
    seen = []
    table = write_spectrograms(clips, tmp_path, name, "modal", lambda done, total: seen.append((done, total)))
    TABLES["spectrograms"].conform(table)
    spec, rows = SPECTROGRAMS[name], open_spectrograms(tmp_path, name, "modal")
    assert isinstance(rows, np.memmap)
    assert rows.dtype == spec.dtype
    assert len(rows) == table["n_frames"].sum()
    assert list(table["clip"]) == ["a", "b", "c"]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for row in table.itertuples():
        y, _ = soundfile.read(clips[row.clip], dtype="float32")
        want = stored(spectrogram(y, spec), spec.dtype)
        np.testing.assert_array_equal(rows[row.start : row.start + row.n_frames], want)


def test_the_file_does_not_depend_on_workers_and_paths_may_be_relative(clips, tmp_path):
    write_spectrograms(clips, tmp_path, "mel_128", "one", workers=1)
    write_spectrograms({c: p.relative_to(tmp_path) for c, p in clips.items()}, tmp_path, "mel_128", "three", workers=3)
    one, three = (open_spectrograms(tmp_path, "mel_128", r) for r in ("one", "three"))
    np.testing.assert_array_equal(one, three)


def test_a_bad_clip_publishes_nothing_and_leaves_the_old_file(clips, tmp_path):
    write_spectrograms(clips, tmp_path, "mel_128", "modal")
    before = open_spectrograms(tmp_path, "mel_128", "modal").copy()
    soundfile.write(clips["b"], np.zeros(RATE), RATE)
    with pytest.raises(AudioError, match=r"b\.wav: audio must not be silent"):
        write_spectrograms(clips, tmp_path, "mel_128", "modal")
    np.testing.assert_array_equal(open_spectrograms(tmp_path, "mel_128", "modal"), before)
    assert [p.name for p in (tmp_path / "spectrograms").iterdir()] == ["mel_128.modal.npy"]


@pytest.mark.parametrize("rows", [np.zeros((3, 4), np.float16), np.zeros((3, 5), np.float32)])
def test_rows_that_do_not_fit_the_file_are_refused(tmp_path, rows):
    with pytest.raises(ValueError, match="rows must be float16 with 5 columns"):
        write_rows([rows], ["a"], tmp_path, "x", "modal", 5, "float16")
    assert not list((tmp_path / "spectrograms").glob("*"))


def test_what_is_missing_or_unknown_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mel_128\.modal\.npy is missing"):
        open_spectrograms(tmp_path, "mel_128", "modal")
    with pytest.raises(ValueError, match=r"unknown spectrogram 'mel_129'; known: mel_128"):
        write_spectrograms({}, tmp_path, "mel_129", "modal")
