"""Partitions: complete, idempotent, resumable, repeatable."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from piano_assets.catalogue.trial import BUDGETS, IllegalTrial, Optimisation, vary
from piano_assets.dimensions import NAMES
from piano_assets.store.checkpoints import CheckpointError, load_checkpoint
from piano_assets.store.parts import Store, read_part
from piano_assets.training.data import done, load, part_key
from piano_assets.training.losses import LOSSES
from piano_assets.training.restore import restore_network
from piano_assets.training.run import run_batch, run_trial
from piano_assets.versions import CODE_VERSION
from piano_assets_tests.training.tiny import AST, HYBRID, MLP, NOTES, RIDGE, SEARCHED, build_store

# 30 clips have fewer ranks than the rank transform has steps; it then uses as many as there are.
pytestmark = pytest.mark.filterwarnings("ignore:n_quantiles")


@pytest.fixture
def store(tmp_path) -> Store:
    return build_store(tmp_path / "tiny")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One store in which all three kinds of trial were run."""
    store = build_store(tmp_path_factory.mktemp("tiny"))
    items = [("ridge.symbolic", RIDGE, 1), ("ridge.searched", SEARCHED, 0), ("ast.reference@smoke", AST, 0)]
    return store, {r.config: r for r in run_batch(items, store)}


def predictions(store: Store, name: str, **where) -> pd.DataFrame:
    frame = store.read("predictions", name)
    for column, value in where.items():
        frame = frame[frame[column] == value]
    return frame.reset_index(drop=True)


@pytest.mark.parametrize("config", ["ridge.symbolic", "ridge.searched", "ast.reference@smoke"])
def test_every_test_clip_is_predicted_once_on_every_dimension(finished, config):
    store, results = finished
    result = results[config]
    test = predictions(store, result.part_name, role="test", tuning="fixed")
    splits = store.read("splits", "cluster")
    repeat = 1 if config == "ridge.symbolic" else 0
    want = splits[(splits["role"] == "test") & splits["inner_fold"].isna() & (splits["repeat"] == repeat)]
    assert len(want) == 60
    assert set(zip(test["fold"], test["clip"], test["dimension"], strict=True)) == {
        (f, c, d) for f, c in zip(want["fold"], want["clip"], strict=True) for d in NAMES
    }
    assert test["subject"].unique().tolist() == [f"{config}|{result.seed}"]
    assert test["repeat"].unique().tolist() == [repeat]
    assert test["condition"].unique().tolist() == ["clean"]


def test_valid_rows_come_where_a_model_did_not_see_them(finished):
    store, results = finished

    def kinds(config):
        frame = store.read("predictions", results[config].part_name)
        return set(zip(frame["role"], frame["tuning"], strict=True))

    assert kinds("ridge.symbolic") == {("test", "fixed")}
    assert kinds("ridge.searched") == {(r, t) for r in ("test", "valid") for t in ("fixed", "tuned")}
    assert kinds("ast.reference@smoke") == {("test", "fixed"), ("valid", "fixed")}


def test_values_are_those_of_the_model_fitted_by_hand(finished):
    store, results = finished
    data = load(RIDGE, store)
    from piano_assets.models.tabular import build

    for fold in range(3):
        train, test = data.rows(1, fold, "train", "valid"), data.rows(1, fold, "test", labelled=False)
        want = build("ridge", {"alpha": 10.0}, 0).fit(data.features[train], data.targets[train])
        got = predictions(store, results["ridge.symbolic"].part_name, fold=fold)
        # Rows of the normal equations are summed in another order; values are stored as float32.
        np.testing.assert_allclose(
            got["value"].to_numpy().reshape(-1, 19), want.predict(data.features[test]), rtol=2e-6
        )


def test_the_search_is_judged_on_valid_clips_alone(finished):
    from piano_assets.metrics.regression import pearson
    from piano_assets.models.tabular import build

    store, results = finished
    data = load(SEARCHED, store)
    members = store.read("members", results["ridge.searched"].part_name)
    for fold in range(3):
        train, valid = data.rows(0, fold, "train"), data.rows(0, fold, "valid")
        r = {
            alpha: pearson(
                build("ridge", {"alpha": alpha}, 0)
                .fit(data.features[train], data.targets[train])
                .predict(data.features[valid]),
                data.targets[valid],
            ).mean()
            for alpha in (0.1, 10.0, 1e6)
        }
        best = max(r, key=r.get)
        of_fold = members[members["fold"] == fold].set_index("search_point")["reason"]
        assert f"model.settings.alpha={best}" in of_fold["tuned"]
        assert f"valid r {r[best]:.4f}" in of_fold[f"model.settings.alpha={best}"]
        assert set(of_fold.index) == {"tuned", "fixed", *(f"model.settings.alpha={a}" for a in r)}


def test_run_record(finished):
    store, results = finished
    run = store.read("runs", results["ast.reference@smoke"].part_name).iloc[0]
    assert run["part_key"] == part_key(AST, 0, store) == results["ast.reference@smoke"].part_key
    assert run["trial"] == AST.key
    assert (run["device"], run["precision"], run["status"]) == ("cpu", "float32", "finished")
    assert "torch" in json.loads(run["environment"])
    assert run["peak_memory_mb"] > 50
    record = store.part("runs", results["ast.reference@smoke"].part_name).record
    assert record["n_params"] == results["ast.reference@smoke"].n_params > 1000


def test_networks_keep_their_learning_curves(finished):
    store, results = finished
    history = store.read("history", results["ast.reference@smoke"].part_name)
    assert history.groupby("fold")["epoch"].apply(list).tolist() == [[0, 1]] * 3
    assert history[["train_loss", "valid_loss", "valid_r", "gradient_norm"]].notna().all(axis=None)
    assert len(store.read("history", results["ridge.symbolic"].part_name)) == 0


def test_smoke_trains_on_eight_clips(store, monkeypatch):
    sizes = []
    from piano_assets.training import loop

    real = loop.fit
    monkeypatch.setattr(
        loop, "fit", lambda tracks, *a, **k: sizes.extend(len(t.group.train) for t in tracks) or real(tracks, *a, **k)
    )
    run_trial(AST, "ast", 0, store)
    assert sizes == [8, 8, 8]


def test_finished_partitions_are_reused_without_reading_data(finished, monkeypatch):
    store, results = finished
    monkeypatch.setattr("piano_assets.training.run.load", lambda *_: pytest.fail("data were read"))
    before = store.part("predictions", results["ridge.searched"].part_name)
    again = run_trial(SEARCHED, "ridge.searched", 0, store)
    assert again == dataclasses.replace(results["ridge.searched"], reused=True)
    assert store.part("predictions", before.name) == before
    assert [r.reused for r in run_batch([("ridge.searched", SEARCHED, 0)], store)] == [True]


@pytest.mark.parametrize(("config", "trial"), [("ridge.searched", SEARCHED), ("ast.reference@smoke", AST)])
def test_same_key_same_predictions(finished, store, config, trial):
    there, results = finished
    result = run_trial(trial, config, 0, store, threads=2)
    assert result.part_key == results[config].part_key
    pd.testing.assert_frame_equal(
        store.read("predictions", result.part_name), there.read("predictions", result.part_name), check_exact=True
    )


class Killed(BaseException):
    """Stands for the signal that ends a run."""


@pytest.mark.parametrize(("config", "trial"), [("ridge.searched", SEARCHED), ("ast.reference@smoke", AST)])
def test_killed_and_resumed_is_uninterrupted(finished, store, config, trial):
    there, _ = finished

    def kill_after_second(partition, n_done, n_folds):
        assert (partition, n_folds) == (f"{config}|0", 3)
        if n_done == 2:
            raise Killed

    with pytest.raises(Killed):
        run_trial(trial, config, 0, store, on_fold=kill_after_second)
    assert done(trial, config, 0, store) is None
    assert list(store.parts("predictions")) == []

    steps = []
    result = run_trial(trial, config, 0, store, on_fold=lambda *done: steps.append(done))
    assert steps == [(f"{config}|0", 3, 3)]
    for table in ("predictions", "members", "history"):
        got, want = (read_part(s.part(table, result.part_name)).to_pandas() for s in (store, there))
        pd.testing.assert_frame_equal(got, want, check_exact=True)
    assert not any((store.root / "work").iterdir())


def test_killed_while_publishing_fits_nothing_again(store, monkeypatch):
    real = Store.write

    def killed_before_runs(self, table, *rest, **more):
        if table == "runs":
            raise Killed
        return real(self, table, *rest, **more)

    monkeypatch.setattr(Store, "write", killed_before_runs)
    with pytest.raises(Killed):
        run_trial(RIDGE, "ridge", 0, store)
    assert done(RIDGE, "ridge", 0, store) is None
    monkeypatch.setattr(Store, "write", real)
    monkeypatch.setattr("piano_assets.training.run.fit_tabular", lambda *_: pytest.fail("a fold was fitted again"))
    run_trial(RIDGE, "ridge", 0, store)
    assert done(RIDGE, "ridge", 0, store) is not None
    assert len(list((store.root / "checkpoints" / "ridge" / "0.float64-cpu").iterdir())) == 3


@pytest.mark.parametrize("config", ["ridge.searched", "ast.reference@smoke"])
def test_checkpoints_predict_what_was_published(finished, config):
    store, results = finished
    result = results[config]
    trial = {"ridge.searched": SEARCHED, "ast.reference@smoke": AST}[config]
    folder = store.root / "checkpoints" / result.part_name / "fold1"
    record, model = load_checkpoint(folder, part_key=result.part_key, fold=1)
    data = load(trial, store)
    test = data.rows(0, 1, "test", labelled=False)
    if trial is AST:
        from piano_assets.training.loop import predict
        from piano_assets.training.material import Material

        material = Material(data, trial, "cpu")
        network = restore_network(trial, config, 0, 1, store).network
        want, tuning = predict(network, material, None, [test])[0].numpy(), "fixed"
    else:
        want, tuning = model.predict(data.features[test]).astype(np.float32), "tuned"
        assert tuple(record["feature_names"]) == data.feature_names
    got = predictions(store, result.part_name, fold=1, role="test", tuning=tuning)
    np.testing.assert_array_equal(got["value"].to_numpy().reshape(-1, 19), want)


@pytest.mark.parametrize("trial", [HYBRID, NOTES, MLP], ids=lambda t: t.family)
def test_every_kind_of_network_is_restored(store, trial):
    result = run_trial(trial, trial.family, 0, store)
    restored = restore_network(trial, trial.family, 0, 2, store)
    assert sum(p.numel() for p in restored.network.parameters()) == result.n_params
    assert restored.record["part_key"] == result.part_key


def test_a_checkpoint_of_something_else_is_refused_with_both_values(finished, tmp_path, monkeypatch):
    store, _ = finished
    config = "ast.reference@smoke"
    other = vary(AST, {"model.dropout": 0.2})
    with pytest.raises(CheckpointError, match=rf"trial_key is '{AST.key}', expected '{other.key}'"):
        restore_network(other, config, 0, 1, store)
    version = CODE_VERSION["transformer"]
    with monkeypatch.context() as patch:
        patch.setitem(CODE_VERSION, "transformer", version + 1)
        with pytest.raises(CheckpointError, match=f"code_version is {version}, expected {version + 1}"):
            restore_network(AST, config, 0, 1, store)
    with monkeypatch.context() as patch:
        patch.setattr("piano_assets.training.restore.data_version", lambda *_: "other data")
        with pytest.raises(CheckpointError, match=r"data_version is '[0-9a-f]{16}', expected 'other data'"):
            restore_network(AST, config, 0, 1, store)


@pytest.mark.parametrize("damage", [lambda b: b[:-10], lambda b: b[:-1] + bytes([b[-1] ^ 1])], ids=["cut", "changed"])
def test_a_damaged_checkpoint_is_refused_by_its_hash(store, damage):
    run_trial(MLP, "mlp", 0, store)
    (path,) = (store.root / "checkpoints" / "mlp").rglob("fold1/model.safetensors")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match="the file was changed or cut"):
        restore_network(MLP, "mlp", 0, 1, store)


def test_only_one_seed_keeps_its_models(finished):
    store, results = finished
    assert results["ridge.symbolic"].seed == 1
    assert not (store.root / "checkpoints" / "ridge.symbolic").exists()


def test_the_search_of_a_network_shows_tuned_and_fixed(store, monkeypatch):
    monkeypatch.setitem(BUDGETS, "full", dataclasses.replace(BUDGETS["smoke"], searches=True, n_clips=None))
    trial = dataclasses.replace(
        AST, budget="full", search=(("optimisation.learning_rate", (1e-6, 1e-3)),), split="cluster"
    )
    result = run_trial(trial, "ast.reference", 0, store)
    members = store.read("members", result.part_name)
    points = {f"optimisation.learning_rate={rate}" for rate in (1e-6, 1e-3)}
    assert set(members["search_point"]) == points
    tuned, fixed = (predictions(store, result.part_name, role="test", tuning=t) for t in ("tuned", "fixed"))
    assert len(tuned) == len(fixed) == 60 * 19
    # The trial's own rate, 1e-3, is a grid point: where it won, both results are one model's.
    history = store.read("history", result.part_name)
    winner = history.groupby(["fold", "search_point"])["valid_r"].max().unstack().idxmax(axis=1)
    same = (tuned["value"] == fixed["value"]).groupby(tuned["fold"]).all()
    assert same.tolist() == (winner == "optimisation.learning_rate=0.001").tolist()


def test_diverged_runs_are_published_as_such(store, monkeypatch):
    monkeypatch.setitem(LOSSES, "mse", lambda pred, target, error: pred.sum((-2, -1)) * float("nan"))
    result = run_trial(AST, "ast", 0, store)
    assert result.status == "diverged"
    assert store.read("runs", result.part_name)["status"].tolist() == ["diverged"]
    members = store.read("members", result.part_name)
    assert members["status"].tolist() == ["diverged"] * 3
    assert members["reason"].tolist() == ["train_loss is nan in epoch 0"] * 3
    # The state before divergence is the initial one: it predicts the training mean.
    assert np.isfinite(store.read("predictions", result.part_name)["value"]).all()


def test_what_fails_is_told_and_the_others_go_on(store):
    failed = {}
    items = [("a", vary(RIDGE, {"model.regressor": "rigde"}), 0), ("b", RIDGE, 7), ("c", RIDGE, 0)]
    results = run_batch(items, store, on_failure=lambda partition, error: failed.update({partition: str(error)}))
    assert [r.config for r in results] == ["c"]
    assert "rigde" in failed["a|0"]
    assert "seed=7 must be below the split's 2 repeats" in failed["b|7"]


def test_arms_and_seeds_of_one_shape_train_together_and_publish_apart(store, monkeypatch):
    sizes = []
    from piano_assets.training import stacks

    real = stacks._fit_stack
    monkeypatch.setattr(stacks, "_fit_stack", lambda groups, *a: sizes.append(len(groups)) or real(groups, *a))
    arms = {"ast": AST, "loss": vary(AST, {"optimisation.loss": "huber"}), "deep": vary(AST, {"model.depth": 2})}
    items = [(name, trial, seed) for name, trial in arms.items() for seed in (0, 1)]
    results = run_batch(items, store, members=100)
    assert sizes == [12, 6]
    assert [(r.config, r.seed, r.status) for r in results] == [(n, s, "finished") for n, _, s in items]
    assert all(done(t, n, s, store) is not None for n, t, s in items)


def test_wrong_names_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(IllegalTrial, match=r"optimisation\.loss='mes'"):
        run_trial(vary(AST, {"optimisation": Optimisation(loss="mes")}), "ast", 0, Store(tmp_path))


def test_a_search_needs_validation_clips(store):
    splits = store.read("splits", "cluster")
    store.write("splits", splits.assign(role=splits["role"].replace("valid", "train")), key="k", name="cluster")
    run_trial(RIDGE, "ridge", 0, store)
    with pytest.raises(ValueError, match=r"split 'cluster', fold 0: at least 2 clips .* role 'valid'"):
        run_trial(SEARCHED, "searched", 0, store)


# Produced by this code; it guards CODE_VERSION["transformer"]: bump it when this changes on purpose.
def test_golden_network_predictions(finished):
    store, results = finished
    value = predictions(store, results["ast.reference@smoke"].part_name, role="test", fold=2)["value"]
    # Two epochs of float32 sums in another order move predictions by less than 1e-5 of a rating scale.
    np.testing.assert_allclose([value.mean(), value[0], value[5]], [0.5008501, 0.4995024, 0.5084733], rtol=0, atol=1e-5)
