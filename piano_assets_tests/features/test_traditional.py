import numpy as np
import pytest
import soundfile

from piano_assets.corpus.audio import AudioError
from piano_assets.features.traditional import (
    HARMONIC,
    MFCC,
    MFCC_DERIVATIVES,
    SPECTRAL,
    TEMPORAL,
    TRADITIONAL,
    traditional_features,
    traditional_table,
)
from piano_assets.schemas import TABLES
from piano_assets_tests.features.librosa_peer import peer_features
from piano_assets_tests.features.tones import RATE, music, tone


def assert_agree(got: dict[str, float], want: dict[str, float]) -> None:
    """rtol 1e-3. Means of values of both signs may lie close to 0: these are compared at 1e-4 of their range too."""
    assert got.keys() == want.keys() == set(TRADITIONAL)
    for name in TRADITIONAL:
        near_zero = 1e-4 if name.startswith("tonnetz") else 1e-2 if name in MFCC else 0.0
        assert got[name] == pytest.approx(want[name], rel=1e-3, abs=near_zero), name


def test_there_are_65_in_the_catalogues_groups():
    assert len(TRADITIONAL) == len(set(TRADITIONAL)) == 65
    groups = MFCC + MFCC_DERIVATIVES, SPECTRAL, HARMONIC, TEMPORAL
    assert [len(g) for g in groups] == [39, 8, 12, 6]
    assert TRADITIONAL[0] == "mfcc_00"
    assert TRADITIONAL[38] == "mfcc_delta2_12"


@pytest.mark.parametrize("seed", range(3))
def test_features_are_librosas_function_by_function(seed):
    y = music(np.random.default_rng(seed), duration_s=4 + 3 * seed)
    got = traditional_features(y)
    assert tuple(got) == TRADITIONAL
    assert_agree(got, peer_features(y))


@pytest.mark.percepiano
def test_features_of_real_performances_are_librosas(percepiano_dir):
    from piano_assets.corpus.midi import read_midi

    files = sorted(percepiano_dir.rglob("*.mid"))
    for path in (files[100], files[700]):
        played = read_midi(path)
        y = np.zeros(int((played.duration_s + 2) * RATE), np.float32)
        for onset, pitch, velocity in zip(played.onset_s, played.pitch, played.velocity, strict=True):
            sound = tone(float(pitch), 1.5, 0.1 * (velocity / 127) ** 2)
            y[int(onset * RATE) : int(onset * RATE) + len(sound)] += sound
        y = np.clip(y[: 12 * RATE], -1, 1)
        assert_agree(traditional_features(y), peer_features(y))


GOLDEN = {
    "mfcc_00": -460.1074073,
    "mfcc_delta_05": 1.3372139,
    "mfcc_delta2_12": 0.6051925,
    "spectral_centroid_mean": 879.8011312,
    "spectral_rolloff_std": 552.655542,
    "spectral_bandwidth_mean": 755.3281002,
    "zero_crossing_rate_mean": 0.0335312,
    "tonnetz_3": 0.4043487,
    "chroma_entropy": 1.6537187,
    "chroma_flux": 0.0934155,
    "key_strength": 0.7721714,
    "harmonic_energy": 0.0894871,
    "percussive_energy": 0.0124941,
    "harmonic_ratio": 0.9808792,
    "tempo": 117.4538352,
    "onset_rate": 1.8333333,
    "onset_interval_spread": 0.0113754,
    "beat_consistency": 0.9769478,
    "beat_strength": 21.6787491,
}


def test_golden_values():
    """When these change, bump `CODE_VERSION["audio"]`: parts on disk would be stale without notice."""
    got = traditional_features(np.concatenate([tone(p, 0.5) for p in (60, 64, 67, 72, 67, 64)] * 2))
    assert {name: got[name] for name in GOLDEN} == pytest.approx(GOLDEN, rel=1e-4)


def test_louder_and_transposed():
    y = music(np.random.default_rng(5), 5)
    soft, loud = traditional_features(0.5 * y), traditional_features(y)
    assert loud["harmonic_energy"] == pytest.approx(2 * soft["harmonic_energy"], rel=1e-5)
    assert loud["percussive_energy"] == pytest.approx(2 * soft["percussive_energy"], rel=1e-5)
    for name in ("spectral_centroid_mean", "zero_crossing_rate_mean", "harmonic_ratio", "tempo", "chroma_entropy"):
        assert loud[name] == pytest.approx(soft[name], rel=1e-4)
    low, high = (traditional_features(tone(p, 2)) for p in (48, 72))
    assert high["spectral_centroid_mean"] > low["spectral_centroid_mean"]


def test_a_pure_tone_has_its_own_centroid_and_zero_crossings():
    sine = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(3 * RATE) / RATE).astype(np.float32)
    got = traditional_features(sine)
    # Both ends are cut, which spreads four of 130 frames.
    assert got["spectral_centroid_mean"] == pytest.approx(1000, rel=0.05)
    assert got["zero_crossing_rate_mean"] == pytest.approx(2 * 1000 / RATE, rel=0.02)
    assert got["harmonic_ratio"] > 0.95


@pytest.mark.parametrize(
    "y",
    [
        np.zeros(RATE),
        np.full(RATE, 0.5),
        np.zeros(2048),
        np.random.default_rng(0).normal(0, 0.1, 2048),
        np.random.default_rng(0).normal(0, 0.1, 4500),
        np.eye(1, RATE, 9000)[0],
        np.full(3000, 1e-30),
    ],
    ids=["silence", "direct current", "silent frame", "one frame", "nine frames", "click", "denormal"],
)
def test_degenerate_sounds_give_numbers_or_nan_never_infinity(y):
    with np.errstate(divide="raise", invalid="raise"):
        got = traditional_features(y.astype(np.float32))
    values = np.array(list(got.values()))
    assert not np.isinf(values).any()
    assert np.isfinite([got[name] for name in (*MFCC, *SPECTRAL)]).all()


def test_silence_says_what_is_undefined():
    got = traditional_features(np.zeros(RATE, np.float32))
    undefined = {name for name, value in got.items() if np.isnan(value)}
    assert undefined == {*TEMPORAL, "chroma_entropy", "key_strength", "harmonic_ratio"} - {"onset_rate"}
    short = traditional_features(np.random.default_rng(0).normal(0, 0.1, 2048).astype(np.float32))
    assert np.isnan([short[name] for name in MFCC_DERIVATIVES]).all()


@pytest.mark.parametrize(
    ("y", "rate", "message"),
    [
        (np.zeros(2047), RATE, "at least one frame of 2048 samples .found 2047"),
        (np.zeros((2, 4096)), RATE, "one channel"),
        (np.full(4096, np.nan), RATE, "finite"),
        (np.zeros(4096), 44100, "22050 Hz .found 44100 Hz"),
    ],
)
def test_bad_samples_are_refused_with_rule_and_value(y, rate, message):
    with pytest.raises(ValueError, match=message):
        traditional_features(y.astype(np.float32), rate)


def test_table_holds_every_feature_of_every_clip(tmp_path):
    paths, sounds, seen = {}, {}, []
    for i, clip in enumerate(("b", "a")):
        sounds[clip] = music(np.random.default_rng(i), 2)
        soundfile.write(tmp_path / f"{clip}.wav", sounds[clip], RATE, subtype="FLOAT")
        paths[clip] = tmp_path / f"{clip}.wav"
    soundfile.write(tmp_path / "tiny.wav", np.random.default_rng(0).normal(0, 0.1, 2500), RATE, subtype="FLOAT")
    paths["tiny"] = (tmp_path / "tiny.wav").relative_to(tmp_path)
    table = traditional_table(paths, tmp_path, "modal", lambda done, total: seen.append((done, total)))
    arrow = TABLES["features"].conform(table)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert len(table) == 3 * 65
    wide = table.pivot(index="clip", columns="feature", values="value")
    for clip, y in sounds.items():
        assert wide.loc[clip].to_dict() == pytest.approx(traditional_features(y), rel=1e-9)
    assert arrow.column("value").null_count == np.isnan(wide.loc["tiny"]).sum() > 0
    soundfile.write(paths["a"], np.zeros(RATE), RATE)
    with pytest.raises(AudioError, match=r"a\.wav: audio must not be silent"):
        traditional_table(paths, tmp_path, "modal")
