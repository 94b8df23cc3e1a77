import numpy as np
import pandas as pd
import pytest

from piano_assets.features import sets
from piano_assets.features.sets import FEATURE_SETS, FeaturesMissing, design_matrix, feature_set

SYMBOLIC = ("timing_a", "timing_a_vs_deadpan", "dynamics_b")
MUSIC = ("music_a",)


def long_table(clips, audio, symbolic=SYMBOLIC, renderings=("modal",), seed=0):
    rng = np.random.default_rng(seed)
    rows = [(c, r, f, "audio") for c in clips for r in renderings for f in audio]
    rows += [(c, r, "loudness_mean_db", "sound") for c in clips for r in renderings]
    rows += [(c, "midi", f, "symbolic") for c in clips for f in symbolic]
    rows += [(c, "midi", f, "music") for c in clips for f in MUSIC]
    frame = pd.DataFrame(rows, columns=["clip", "rendering", "feature", "source"])
    frame.insert(3, "value", rng.normal(size=len(frame)))
    return frame


@pytest.fixture(scope="module")
def traditional():
    from piano_assets.features.traditional import TRADITIONAL

    return TRADITIONAL


def with_pretrained(frame):
    """The same table with two pretrained features of each clip."""
    clips = frame["clip"].unique()
    rows = [(c, "midi", f, v, "pretrained") for c in clips for f, v in (("state_000_mean", 0.5), ("surprise_x", 2.0))]
    return pd.concat([frame, pd.DataFrame(rows, columns=list(frame.columns))], ignore_index=True)


def test_pretrained_features_change_no_other_set(traditional):
    """A trial on `all` or `symbolic` reads what it read before there was a pretrained network."""
    frame = long_table(["a", "b"], traditional)
    for name in (n for n in FEATURE_SETS if "pretrained" not in n):
        before, after = (design_matrix(f, name, ["b", "a"]) for f in (frame, with_pretrained(frame)))
        assert before[1] == after[1]
        np.testing.assert_array_equal(before[0], after[0])
    with pytest.raises(FeaturesMissing, match="any pretrained feature"):
        design_matrix(frame, "symbolic_pretrained", ["a"])
    x, names = design_matrix(with_pretrained(frame), "pretrained", ["a"], "fluidsynth")
    assert (names, x.tolist()) == (("state_000_mean", "surprise_x"), [[0.5, 2.0]])
    x, names = design_matrix(with_pretrained(frame), "symbolic_pretrained", ["a"], "fluidsynth")
    assert (names[0], x[0, 0]) == ("surprise_x", 2.0)
    assert "state_000_mean" not in names, "pooled states bring nothing beside the others"


def test_the_matrix_is_pandas_pivot(traditional):
    clips = ["b", "a", "c"]
    frame = long_table(clips, traditional).sample(frac=1, random_state=1)
    x, names = design_matrix(frame, "all_music", clips)
    want = frame.pivot(index="clip", columns="feature", values="value").loc[clips, list(names)].to_numpy()
    np.testing.assert_array_equal(x, want)
    assert x.dtype == np.float64
    assert x.shape == (3, len(traditional) + len(SYMBOLIC) + len(MUSIC))


def test_counts_and_members_of_the_sets(traditional):
    frame = with_pretrained(long_table(["a"], traditional))
    n = {name: len(design_matrix(frame, name, ["a"])[1]) for name in FEATURE_SETS}
    assert n == {
        "spectral_only": 6,
        "mfcc_only": 13,
        "temporal_only": 3,
        "harmonic_only": 12,
        "all_traditional": 65,
        "symbolic": 3,
        "symbolic_absolute": 2,
        "symbolic_music": 4,
        "all": 68,
        "all_music": 69,
        "all_music_absolute": 68,
        "symbolic_music_absolute": 3,
        "audio_rich": 66,
        "pretrained": 2,
        "symbolic_pretrained": 4,
        "all_music_pretrained": 70,
        "transcribable": 2,
        "recording": 68,
    }
    assert {name: set(sets.REQUIRED[name]) for name in sets.REQUIRED} == {
        name: set(design_matrix(frame, name, ["a"])[1]) for name in sets.REQUIRED
    }


def test_members_are_the_catalogues(traditional):
    """Catalogue C1, written out."""
    frame = long_table(["a"], traditional)
    members = {name: design_matrix(frame, name, ["a"])[1] for name in FEATURE_SETS if "pretrained" not in name}
    shape = ("spectral_bandwidth", "spectral_centroid", "spectral_rolloff")
    assert members["spectral_only"] == tuple(f"{n}_{s}" for n in shape for s in ("mean", "std"))
    assert members["mfcc_only"] == tuple(f"mfcc_{i:02d}" for i in range(13))
    assert members["temporal_only"] == ("beat_consistency", "onset_rate", "tempo")
    energies = ("harmonic_energy", "harmonic_ratio", "key_strength", "percussive_energy")
    assert members["harmonic_only"] == ("chroma_entropy", "chroma_flux", *energies, *(f"tonnetz_{i}" for i in range(6)))
    named = {
        *(f"{kind}_{i:02d}" for kind in ("mfcc", "mfcc_delta", "mfcc_delta2") for i in range(13)),
        *(f"{n}_{s}" for n in (*shape, "zero_crossing_rate") for s in ("mean", "std")),
        *members["harmonic_only"],
        *("tempo", "tempo_spread", "onset_rate", "onset_interval_spread", "beat_consistency", "beat_strength"),
    }
    assert len(named) == 39 + 8 + 12 + 6 == 65
    assert set(members["all_traditional"]) == named


def test_the_65_are_whole_or_refused(traditional):
    frame = long_table(["a"], traditional[:-1])
    with pytest.raises(FeaturesMissing, match=r"lacks 1 feature\(s\) \(beat_strength\)"):
        design_matrix(frame, "all_traditional", ["a"])
    more = long_table(["a"], (*traditional, "loudness"))
    assert "loudness" not in design_matrix(more, "all_traditional", ["a"])[1]
    assert "loudness" in design_matrix(more, "all", ["a"])[1]


def test_renderings_are_kept_apart():
    frame = long_table(["a", "b"], sets.TEMPORAL, renderings=("modal", "fluidsynth"))
    for rendering in ("modal", "fluidsynth"):
        x, names = design_matrix(frame, "all", ["a", "b"], rendering)
        for column, name in enumerate(names):
            own = "midi" if name in SYMBOLIC else rendering
            row = frame[(frame["clip"] == "b") & (frame["feature"] == name) & (frame["rendering"] == own)]
            assert x[1, column] == row["value"].item()


@pytest.mark.parametrize(
    ("rendering", "sound", "notes"),
    [
        ("modal", "modal", "midi"),
        ("transcribed.modal", "modal", "transcribed.modal"),
        ("as_heard.fluidsynth", "fluidsynth", "as_heard"),
    ],
)
def test_a_rendering_names_a_sound_and_notes(rendering, sound, notes):
    of = sets.renderings(rendering)
    assert (of["audio"], of["sound"], of["symbolic"], of["music"]) == (sound, sound, notes, notes)
    source = "symbolic" if notes == "midi" else f"symbolic.{notes}"
    assert sets.parts("recording", rendering)[0] == f"audio.{sound}"
    assert source in sets.parts("transcribable", rendering)


def test_what_a_microphone_changes_is_not_transcribable():
    from piano_assets.features.symbolic import music_names, symbolic_names

    belongs = feature_set("transcribable")
    kept = {name for name in symbolic_names() if belongs("symbolic", name)}
    assert sum(belongs("music", name) for name in music_names()) == len(music_names()) - 9
    levels = ("dynamics_mean", "dynamics_sd", "dynamics_range_p95_p5", "pedal_depth_mean", "pedal_half_share")
    assert not kept & {*levels, "soft_pedal_depth_mean", "timing_ioi_cv_vs_deadpan"}
    assert {"dynamics_slope", "dynamics_melody_minus_bass", "pedal_polyphony_mean", "articulation_ratio_mean"} <= kept
    for prefix in sets.TRANSCRIBABLE:  # a feature that is renamed must not fall out unseen
        assert any(name.startswith(prefix) for name in kept), prefix


@pytest.mark.parametrize("louder", [-15, 20])
def test_transcribable_features_are_the_same_however_loud_a_recording_is(louder):
    """Another gain moves all velocities by about the same: nothing that is read may follow it."""
    from dataclasses import replace

    from piano_assets.features.symbolic import music_features, symbolic_features
    from piano_assets_tests.features.notes import performance, played

    belongs = feature_set("transcribable")
    one = performance(played(np.random.default_rng(3), n_chords=12)[1])
    other = replace(one, velocity=one.velocity + louder)
    assert 1 <= other.velocity.min() <= other.velocity.max() <= 127
    for source, measure in (("symbolic", symbolic_features), ("music", music_features)):
        a, b = measure(one), measure(other)
        for name in (n for n in a if belongs(source, n)):
            assert a[name] == pytest.approx(b[name], abs=1e-9, nan_ok=True), name


def test_null_becomes_nan():
    frame = long_table(["a", "b"], ())
    frame.loc[frame["feature"] == "timing_a", "value"] = None
    x, names = design_matrix(frame, "symbolic", ["a", "b"])
    assert np.isnan(x[:, names.index("timing_a")]).all()
    assert np.isfinite(np.delete(x, names.index("timing_a"), axis=1)).all()


def test_order_of_rows_decides_nothing():
    frame = long_table(["a", "b"], sets.HARMONIC)
    x, names = design_matrix(frame, "all", ["a", "b"])
    y, other = design_matrix(frame.iloc[::-1], "all", ["a", "b"])
    assert names == other
    np.testing.assert_array_equal(x, y)


def test_what_is_missing_is_named():
    frame = long_table(["a", "b"], sets.TEMPORAL)
    with pytest.raises(FeaturesMissing, match=r"lacks .*tempo.* for 1 clip\(s\) \(z\)"):
        design_matrix(frame, "temporal_only", ["a", "z"])
    hole = frame.drop(frame.index[(frame["clip"] == "b") & (frame["feature"] == "onset_rate")])
    with pytest.raises(FeaturesMissing, match=r"1 feature\(s\) \(onset_rate\) for 1 clip\(s\) \(b\)"):
        design_matrix(hole, "temporal_only", ["a", "b"])
    with pytest.raises(FeaturesMissing, match=r"lacks 1 feature\(s\) \(tempo\)"):
        design_matrix(frame[frame["feature"] != "tempo"], "temporal_only", ["a"])
    with pytest.raises(FeaturesMissing, match="any audio feature"):
        design_matrix(frame[frame["source"] == "symbolic"], "all", ["a"])
    with pytest.raises(FeaturesMissing, match="fluidsynth"):
        design_matrix(frame, "temporal_only", ["a"], "fluidsynth")


def test_a_repeated_row_is_refused():
    frame = long_table(["a", "b"], sets.TEMPORAL)
    with pytest.raises(FeaturesMissing, match="more than one row"):
        design_matrix(pd.concat([frame, frame.iloc[[0]]]), "all", ["a", "b"])


def test_an_unknown_set_is_refused():
    with pytest.raises(KeyError, match="known: spectral_only"):
        feature_set("best")
