"""What a trial reads and the keys it gets."""

import dataclasses
import time

import numpy as np
import pytest

from piano_assets.catalogue.trial import Inputs, vary
from piano_assets.features.variants import variants
from piano_assets.store.parts import Store
from piano_assets.training import data as data_module
from piano_assets.training.data import (
    code_version,
    data_version,
    done,
    load,
    part_key,
    part_name,
    part_names,
    repeat_of,
    seeds_of,
)
from piano_assets.versions import CODE_VERSION
from piano_assets_tests.training.tiny import (
    AST,
    BENT,
    CLIPS,
    HYBRID,
    MLP,
    NOTES,
    RIDGE,
    SEARCHED,
    UNLABELLED,
    build_store,
)


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return build_store(tmp_path_factory.mktemp("tiny"))


def test_rows_are_clips_whatever_the_order_of_the_parts(store):
    data = load(SEARCHED, store)
    assert data.clips.tolist() == CLIPS
    labels = store.read("labels", "clean").set_index(["clip", "dimension"])["value"]
    assert data.targets[3, 0] == labels["clip_03", "timing_stable_unstable"]
    assert data.targets[59, 18] == labels["clip_59", "interpretation_doubtful_convincing"]
    assert data.features.shape == (60, 12)
    features = store.read("features").set_index(["clip", "feature"])["value"]
    want = [features["clip_11", name] for name in data.feature_names]
    np.testing.assert_array_equal(data.features[11], want)


def test_roles_are_the_outer_ones(store):
    data = load(RIDGE, store)
    assert set(data.roles) == {(r, f) for r in range(2) for f in range(3)}
    assert data.n_repeats == 2
    for repeat in range(2):
        tested = np.concatenate([data.rows(repeat, f, "test", labelled=False) for f in range(3)])
        assert sorted(tested) == list(range(60))
    train, valid = data.rows(0, 0, "train"), data.rows(0, 0, "valid")
    assert set(train).isdisjoint(valid)
    np.testing.assert_array_equal(np.sort([*train, *valid]), data.rows(0, 0, "train", "valid"))


def test_a_clip_without_labels_is_predicted_but_not_used(store):
    data = load(RIDGE, store)
    row = CLIPS.index(UNLABELLED)
    assert not data.labelled[row]
    assert data.labelled.sum() == 59
    for fold in range(3):
        assert row not in data.rows(0, fold, "train", "valid", "test")
    assert sum(row in data.rows(0, fold, "test", labelled=False) for fold in range(3)) == 1


def test_frames_are_each_clips_own(store):
    data = load(AST, store)
    index = store.read("spectrograms", "log_mel_128.modal").set_index("clip")
    assert data.sequence.start.tolist() == index.loc[CLIPS, "start"].tolist()
    assert data.sequence.n_frames.sum() == len(data.sequence.values)
    assert (data.sound, data.variants) == (None, ())


def test_bent_sound_comes_with_its_samples_and_rendered_variants_with_theirs(store):
    bent = vary(AST, {"augmentation.time_stretch": BENT[0], "augmentation.pitch_shift": BENT[1]})
    data = load(bent, store)
    assert data.sound.values.dtype == np.int16
    np.testing.assert_array_equal(data.sound.n_frames, data.sequence.n_frames)
    data = load(vary(bent, {"augmentation.rerender": True}), store)
    assert len(data.variants) == len(variants(*BENT)) > 2
    assert data.sound is None


def test_errors_stand_beside_labels(store):
    data = load(RIDGE, store)
    assert (data.errors[data.labelled] == 0.05).all()
    assert np.isnan(data.errors[~data.labelled]).all()


def test_a_trial_reads_only_what_it_names():
    names = {
        n: {f"{t}/{p}" for t, p in part_names(trial)} for n, trial in {"r": RIDGE, "s": SEARCHED, "a": AST}.items()
    }
    common = {"clips/all", "labels/clean", "splits/cluster"}
    assert names["r"] == common | {"features/symbolic"}
    assert names["s"] == common | {"features/symbolic", "features/audio.modal"}
    assert names["a"] == common | {"spectrograms/log_mel_128.modal"}
    assert ("spectrograms", "note_events.midi") in part_names(NOTES)
    bent = vary(AST, {"augmentation.time_stretch": 0.1})
    assert part_names(bent)[-2:] == [("spectrograms", "log_mel_128.modal"), ("spectrograms", "waveform.modal")]
    again = part_names(vary(bent, {"augmentation.rerender": True}))
    assert ("spectrograms", "log_mel_128+tempo1.1.modal") in again
    assert ("spectrograms", "waveform.modal") not in again
    mfcc = dataclasses.replace(RIDGE, inputs=Inputs(features="mfcc_only", rendering="fluidsynth"))
    assert ("features", "audio.fluidsynth") in part_names(mfcc)


def test_data_version_follows_what_is_read_and_nothing_else(tmp_path):
    store = build_store(tmp_path)
    trials = (RIDGE, vary(RIDGE, {"inputs.features": "mfcc_only"}), SEARCHED)
    before = [data_version(t, store) for t in trials]
    labels = store.read("labels", "clean")
    store.write("labels", labels, key="another key", name="clean")
    assert [data_version(t, store) for t in trials] == before, "labels go by their content"
    # Processors differ in the last bit of a feature: features go by the recipe.
    audio = store.read("features", "audio.modal")
    store.write("features", audio.assign(value=audio["value"] * (1 + 1e-15)), key="k", name="audio.modal")
    assert [data_version(t, store) for t in trials] == before
    store.write("features", audio, key="another key", name="audio.modal")
    assert [a == b for a, b in zip([data_version(t, store) for t in trials], before, strict=True)] == [
        True,
        False,
        False,
    ]
    store.write("labels", labels.assign(value=labels["value"] / 2), key="k", name="clean")
    assert not {data_version(t, store) for t in trials} & set(before)


def test_part_key_follows_each_of_its_six_parts(store, monkeypatch):
    keys = [
        part_key(AST, 0, store),
        part_key(vary(AST, {"model.dropout": 0.2}), 0, store),
        part_key(AST, 1, store),
        part_key(AST, 0, store, precision="bfloat16"),
        part_key(AST, 0, store, device="cuda"),
    ]
    monkeypatch.setitem(CODE_VERSION, "transformer", CODE_VERSION["transformer"] + 1)
    keys.append(part_key(AST, 0, store))
    monkeypatch.setattr(data_module, "data_version", lambda trial, store: "other data")
    keys.append(part_key(AST, 0, store))
    assert len(set(keys)) == len(keys)


def test_device_number_and_tabular_device_do_not_matter(store):
    assert part_key(AST, 0, store, device="cuda:1") == part_key(AST, 0, store, device="cuda")
    assert part_key(RIDGE, 0, store, device="cuda", precision="bfloat16") == part_key(RIDGE, 0, store)
    assert part_name(RIDGE, "ridge.symbolic", 2, device="cuda") == "ridge.symbolic/2.float64-cpu"
    assert part_name(AST, "ast.reference@smoke", 0, device="cuda:1") == "ast.reference@smoke/0.float32-cuda"


def test_every_family_has_a_code_version():
    from piano_assets.models.tabular import REGRESSORS

    for name in REGRESSORS:
        assert code_version(vary(RIDGE, {"model.regressor": name})) >= 1
    for trial in (AST, HYBRID, NOTES, MLP):
        assert code_version(trial) == CODE_VERSION["transformer"]


def test_seeds_and_repeats():
    assert seeds_of(RIDGE, 5) == (0, 1, 2, 3, 4)
    assert seeds_of(RIDGE, 1) == (0,)
    assert [repeat_of(seed, 5) for seed in range(5)] == [0, 1, 2, 3, 4]
    assert repeat_of(3, 1) == 0
    with pytest.raises(ValueError, match="seed=2 must be below the split's 2 repeats"):
        repeat_of(2, 2)


def test_a_missing_part_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="part clips/all is missing"):
        load(RIDGE, Store(tmp_path))
    with pytest.raises(FileNotFoundError, match="part labels/published is missing"):
        data_version(vary(RIDGE, {"label_rule": "published"}), build_store(tmp_path / "store"))


def test_asking_whether_a_partition_is_done_takes_milliseconds(store):
    best = np.inf
    for _ in range(10):
        started = time.perf_counter()
        assert done(SEARCHED, "ridge.all", 0, store) is None
        best = min(best, time.perf_counter() - started)
    # The budget is 10 ms; the best of ten, so that a busy machine does not decide.
    assert best < 0.010


def test_a_leaking_split_is_refused_with_its_share(tmp_path):
    store = build_store(tmp_path)
    leaks = store.read("leaks", "cluster").assign(share=0.25)
    store.write("leaks", leaks, key="planted", name="cluster")
    with pytest.raises(ValueError, match="'cluster' leaks what it promises not to: 25%"):
        load(RIDGE, store)
