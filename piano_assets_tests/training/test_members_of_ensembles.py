"""What ensembles are made of: other starts, resamples, snapshots, and views of one clip."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest

from piano_assets.catalogue.trial import BUDGETS, IllegalTrial, vary
from piano_assets.dimensions import NAMES
from piano_assets.store.parts import Store
from piano_assets.training import resume
from piano_assets.training.check import check
from piano_assets.training.data import load
from piano_assets.training.fitted import fitted
from piano_assets.training.loop import fit, heard_of
from piano_assets.training.material import N_UNIFORMS, VARIANT, Material
from piano_assets.training.members import Track, groups_of, resampled
from piano_assets.training.run import run_batch, run_trial
from piano_assets_tests.training.tiny import CLIPS, MLP, N_FEATURES, RIDGE, build_store

SYMBOLIC = vary(MLP, {"inputs.features": "symbolic"})
SNAPSHOTS = vary(MLP, {"optimisation.schedule": "cyclic_cosine", "optimisation.snapshots": 2})


def with_views(root) -> Store:
    """The tiny corpus with features of clips shifted by a semitone: feature 0 moves by 1, the others not at all."""
    store = build_store(root)
    plain = store.read("features", "symbolic")
    for variant, by in (("shift-1", -1.0), ("shift+1", 1.0)):
        moved = plain["value"] + np.where(plain["feature"] == "symbolic_0", by, 0.0)
        store.write(
            "features", plain.assign(value=moved, rendering=f"midi+{variant}"), key="k", name=f"symbolic+{variant}"
        )
    return store


@pytest.fixture(scope="module")
def untouched(tmp_path_factory) -> Store:
    return with_views(tmp_path_factory.mktemp("untouched") / "tiny")


@pytest.fixture
def store(untouched, tmp_path) -> Store:
    return Store(shutil.copytree(untouched.root, tmp_path / "tiny"))


def wide(store: Store, config: str, role: str = "test", column: str = "value") -> pd.DataFrame:
    part = next(p for p in store.parts("predictions") if p.name.startswith(f"{config}/"))
    rows = store.read("predictions", part.name)
    rows = rows[rows["role"] == role]
    return rows.pivot(index=["fold", "clip"], columns="dimension", values=column)[list(NAMES)]


def test_a_replicate_differs_in_its_start_and_in_nothing_that_it_sees(store):
    data = load(MLP, store)
    plain, other = (groups_of(vary(MLP, {"replicate": k}), "c", 1, 1, data) for k in (0, 2))
    for a, b in zip(plain, other, strict=True):
        for rows in ("train", "valid", "test", "columns"):
            np.testing.assert_array_equal(getattr(a, rows), getattr(b, rows))
        assert (a.fold, a.seed, b.seed) == (b.fold, 1, 2001)
    run_batch([("plain", MLP, 0), ("other", vary(MLP, {"replicate": 1}), 0)], store)
    assert wide(store, "plain").index.equals(wide(store, "other").index)
    assert not np.allclose(wide(store, "plain"), wide(store, "other"))


def test_what_is_off_changes_no_key():
    for off in ({"replicate": 0}, {"resample": 0}, {"inputs.views": 0}, {"optimisation.snapshots": 0}):
        assert vary(MLP, off).key == MLP.key
    for on in ({"replicate": 1}, {"resample": 1}, {"inputs.views": 1}):
        assert vary(MLP, on).key != MLP.key


def test_a_resample_draws_as_many_with_replacement_and_leaves_the_other_clips_alone(store):
    rows = np.arange(100, 1100)
    drawn = resampled(vary(RIDGE, {"resample": 3}), rows, 0, 2)
    assert len(drawn) == len(rows)
    assert set(drawn) <= set(rows)
    # 1 - (1 - 1/n)^n = .632 of the clips, with a standard deviation of about .0098: four of them.
    assert len(set(drawn)) / len(rows) == pytest.approx(0.632, abs=0.04)
    again = resampled(vary(RIDGE, {"resample": 3}), rows, 0, 2)
    np.testing.assert_array_equal(drawn, again)
    others = [
        resampled(vary(RIDGE, {"resample": k}), rows, seed, fold) for k, seed, fold in ((4, 0, 2), (3, 1, 2), (3, 0, 1))
    ]
    assert all((drawn != other).any() for other in others)
    data = load(MLP, store)
    plain, bag = (groups_of(vary(MLP, {"resample": k}), "c", 0, 0, data)[0] for k in (0, 1))
    np.testing.assert_array_equal(plain.valid, bag.valid)
    np.testing.assert_array_equal(plain.test, bag.test)
    assert set(bag.train) < set(plain.train)
    assert plain.seed == bag.seed


def test_a_resampled_ridge_is_one_fitted_to_the_drawn_rows(store):
    from piano_assets.models.tabular import build

    trial = vary(RIDGE, {"resample": 1})
    run_trial(trial, "bag", 0, store)
    data = load(trial, store)
    for fold in range(3):
        rows = resampled(trial, np.concatenate([data.rows(0, fold, "train"), data.rows(0, fold, "valid")]), 0, fold)
        model = build("ridge", dict(trial.model.settings), 0).fit(data.features[rows], data.targets[rows])
        test = data.rows(0, fold, "test", labelled=False)
        np.testing.assert_allclose(
            wide(store, "bag").loc[fold].loc[list(data.clips[test])], model.predict(data.features[test]), rtol=1e-5
        )


def test_snapshots_are_taken_at_the_minima_and_their_mean_is_predicted(store, monkeypatch):
    monkeypatch.setitem(BUDGETS, "smoke", dataclasses.replace(BUDGETS["smoke"], epochs=6, patience=1))
    data = load(SNAPSHOTS, store)
    group = groups_of(SNAPSHOTS, "c", 0, 0, data)[0]
    track, material = Track.begin(group, "fixed"), Material(data, SNAPSHOTS, "cpu")
    fit([track], material)
    assert (track.status, len(track.history), len(track.snapshots)) == ("finished", 6, 2)
    rates = [row["learning_rate"] for row in track.history]
    assert rates[2] < rates[0], "falls within a cycle"
    assert rates[3] == pytest.approx(rates[0]), "and restarts"
    assert rates[2] == pytest.approx(rates[5])
    run_trial(SNAPSHOTS, "snapshots", 0, store)
    models = fitted(store, "snapshots", SNAPSHOTS)
    assert models.folds[0].weights == (0.5, 0.5)
    singles = [
        dataclasses.replace(models.folds[0], weights=w).predict(data, models.folds[0].test)
        for w in ((1.0, 0.0), (0.0, 1.0))
    ]
    clips = list(data.clips[models.folds[0].test])
    np.testing.assert_allclose(wide(store, "snapshots").loc[0].loc[clips], np.mean(singles, 0), rtol=1e-5)
    np.testing.assert_allclose(
        wide(store, "snapshots", column="std").loc[0].loc[clips], np.std(singles, axis=0, ddof=1), rtol=1e-3, atol=1e-6
    )


def test_saved_snapshots_are_read_back(store, tmp_path):
    group = groups_of(SNAPSHOTS, "c", 0, 0, load(SNAPSHOTS, store))[0]
    track, material = Track.begin(group, "fixed"), Material(load(SNAPSHOTS, store), SNAPSHOTS, "cpu")
    fit([track], material)
    resume.save_state(tmp_path / "fold0", [track], {})
    (again,), _ = resume.load_state(tmp_path / "fold0", group, "cpu")
    assert len(again.snapshots) == 2
    for a, b in zip(again.snapshots, track.snapshots, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_snapshots_need_their_schedule():
    with pytest.raises(IllegalTrial, match="snapshots=2 must be 0, or >= 2 with schedule 'cyclic_cosine'"):
        vary(MLP, {"optimisation.snapshots": 2})
    with pytest.raises(IllegalTrial, match="snapshots=1 must"):
        vary(MLP, {"optimisation.snapshots": 1, "optimisation.schedule": "cyclic_cosine"})


VIEWS = {"network": vary(SYMBOLIC, {"inputs.views": 1}), "ridge": vary(RIDGE, {"inputs.views": 1})}


@pytest.mark.parametrize("kind", VIEWS)
def test_predictions_over_views_are_means_of_a_model_that_was_trained_without(store, kind):
    trial = VIEWS[kind]
    plain = vary(trial, {"inputs.views": 0})
    run_batch([("plain", plain, 0), ("views", trial, 0)], store)
    models = fitted(store, "plain", plain)
    data = load(trial, store)
    seen = [models.out_of_fold(dataclasses.replace(models.data, features=x)) for x in data.seen(trial)]
    assert len(seen) == 3
    order = [(f.fold, c) for f in models.folds for c in data.clips[f.test]]
    index = [list(data.clips).index(c) for _, c in order]
    np.testing.assert_allclose(wide(store, "views").loc[order], np.mean(seen, axis=0)[index], rtol=1e-5)
    np.testing.assert_allclose(
        wide(store, "views", column="std").loc[order], np.std(seen, axis=0, ddof=1)[index], rtol=1e-3, atol=1e-6
    )
    np.testing.assert_allclose(
        fitted(store, "views", trial).out_of_fold()[index], np.mean(seen, axis=0)[index], rtol=1e-5
    )


def test_a_model_that_views_do_not_move_predicts_what_it_predicts_without(store):
    for variant in ("shift-1", "shift+1"):
        rows = store.read("features", "symbolic").assign(rendering=f"midi+{variant}")
        store.write("features", rows, key="same", name=f"symbolic+{variant}")
    run_batch([("plain", SYMBOLIC, 0), ("views", VIEWS["network"], 0)], store)
    np.testing.assert_allclose(wide(store, "views"), wide(store, "plain"), rtol=1e-6)
    assert (wide(store, "views", column="std") < 1e-6).all(axis=None)


def test_a_network_that_learns_of_variants_hears_each_as_often(store):
    rng = np.random.default_rng(1)
    import torch

    features = torch.zeros(1, 60, N_FEATURES)
    versions = torch.stack([torch.full((1, 60, N_FEATURES), 1.0), torch.full((1, 60, N_FEATURES), 2.0)], 2)
    clip = torch.from_numpy(rng.integers(0, 60, (1, 6000)))
    u = torch.rand(1, 6000, N_UNIFORMS, generator=torch.Generator().manual_seed(1))
    heard = heard_of(features, versions, clip, u, torch.ones(1, 6000, dtype=torch.bool))
    shares = torch.bincount(heard[0, :, 0].long(), minlength=3) / 6000
    # 1/3 each; the standard deviation is .006.
    assert shares.tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
    assert (heard == (3 * u[..., VARIANT]).long()[..., None]).all()
    untouched = heard_of(features, versions, clip, u, torch.zeros(1, 6000, dtype=torch.bool))
    assert (untouched == 0).all()
    trial = vary(SYMBOLIC, {"augmentation.pitch_shift": 1, "augmentation.rerender": True})
    check(trial)
    run_batch([("plain", SYMBOLIC, 0), ("shifted", trial, 0)], store)
    assert not np.allclose(wide(store, "plain"), wide(store, "shifted"))
    assert len(wide(store, "shifted")) == len(CLIPS)


@pytest.mark.parametrize(
    ("base", "changes"),
    [
        (MLP, {"inputs.views": 1}),
        (MLP, {"augmentation.pitch_shift": 1, "augmentation.rerender": True}),
        (RIDGE, {"inputs.views": 1, "inputs.features": "all_traditional"}),
    ],
)
def test_only_features_of_notes_are_computed_again(base, changes):
    with pytest.raises(
        IllegalTrial, match=r"where nothing but features of notes is heard, not '(all|all_traditional)'"
    ):
        check(vary(base, changes))
    with pytest.raises(IllegalTrial, match="views=13 must lie"):
        vary(MLP, {"inputs.views": 13})
