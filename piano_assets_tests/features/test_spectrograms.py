import librosa
import numpy as np
import pytest
import soundfile

from piano_assets.corpus.audio import AudioError
from piano_assets.features.spectrograms import (
    SPECTROGRAMS,
    SpectrogramSpec,
    half,
    open_spectrograms,
    spectrogram,
    write_spectrograms,
)
from piano_assets.schemas import TABLES
from piano_assets_tests.features.tones import RATE, music, tone


def librosas(y: np.ndarray, spec: SpectrogramSpec) -> np.ndarray:
    power = librosa.feature.melspectrogram(
        y=y, sr=RATE, n_fft=2048, hop_length=441, n_mels=spec.n_bands, fmin=spec.fmin, fmax=spec.fmax
    )
    if not spec.decibel:
        return power.T
    floor = spec.reference * 10 ** (-spec.floor_db / 10)
    return librosa.power_to_db(power, ref=spec.reference, amin=floor, top_db=None).T


def test_the_declared_ranges():
    mel, log_mel = SPECTROGRAMS["mel_128"], SPECTROGRAMS["log_mel_128"]
    assert (mel.n_bands, mel.fmin, mel.fmax, mel.decibel) == (128, 20, 8000, False)
    assert (log_mel.n_bands, log_mel.fmin, log_mel.fmax, log_mel.decibel) == (128, 20, 11025, True)
    assert {(s.sample_rate, s.n_fft, s.hop_length, s.frame_rate) for s in SPECTROGRAMS.values()} == {
        (22050, 2048, 441, 50.0)
    }


@pytest.mark.parametrize("name", SPECTROGRAMS)
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
    for spec in SPECTROGRAMS.values():
        assert (spectrogram(y, spec if not spec.decibel else SPECTROGRAMS["mel_128"]).mean(axis=0) > 0).all()


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


GOLDEN = {"mel_128": [9.6505e-06, 1.96309, 0.0285675], "log_mel_128": [-85.1865, -53.9686, -59.9138]}


def test_golden_values():
    """When these change, bump `CODE_VERSION["spectrograms"]`: files on disk would be stale without notice."""
    y = tone(60, 1.0)
    for name, want in GOLDEN.items():
        assert spectrogram(y, SPECTROGRAMS[name])[20, [5, 20, 60]] == pytest.approx(want, rel=1e-3), name


@pytest.mark.parametrize("y", [np.zeros(100), np.full(4096, np.inf), np.zeros((4096, 2))])
def test_bad_samples_are_refused(y):
    with pytest.raises(ValueError, match="audio must"):
        spectrogram(y.astype(np.float32), SPECTROGRAMS["mel_128"])


@pytest.mark.parametrize("wrong", [{"transform": "mle"}, {"fmax": 20000}, {"fmin": 9000}])
def test_a_wrong_specification_is_refused(wrong):
    with pytest.raises(ValueError, match="must"):
        SpectrogramSpec(**({"n_bands": 8, "fmin": 20, "fmax": 8000, "decibel": True} | wrong))


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
    stored = open_spectrograms(tmp_path, name, "modal")
    assert isinstance(stored, np.memmap)
    assert stored.dtype == np.float16
    assert len(stored) == table["n_frames"].sum()
    assert list(table["clip"]) == ["a", "b", "c"]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    for row in table.itertuples():
        y, _ = soundfile.read(clips[row.clip], dtype="float32")
        np.testing.assert_array_equal(
            stored[row.start : row.start + row.n_frames], half(spectrogram(y, SPECTROGRAMS[name]))
        )


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


def test_what_is_missing_or_unknown_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"mel_128\.modal\.npy is missing"):
        open_spectrograms(tmp_path, "mel_128", "modal")
    with pytest.raises(ValueError, match=r"unknown spectrogram 'mel_129'; known: mel_128"):
        write_spectrograms({}, tmp_path, "mel_129", "modal")
