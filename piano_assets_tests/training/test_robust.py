"""What a crash, a full disk, scarce memory or a second process does to a run: no wrong result and no lost one."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from piano_assets.catalogue.trial import BUDGETS, vary
from piano_assets.store.checkpoints import load_checkpoint
from piano_assets.store.parts import Store
from piano_assets.training import folds, loop, partition, resume, stacks
from piano_assets.training.data import done, load
from piano_assets.training.partition import Partition
from piano_assets.training.run import run_batch, run_trial
from piano_assets_tests.training.tiny import AST, RIDGE, build_store

# 40 clips have fewer ranks than the rank transform has steps; it then uses as many as there are.
pytestmark = pytest.mark.filterwarnings("ignore:n_quantiles")

DEEP = vary(AST, {"model.depth": 2})
CONFIG = "ast.reference@smoke"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    return build_store(tmp_path_factory.mktemp("tiny")).root


@pytest.fixture
def store(tiny, tmp_path) -> Store:
    shutil.copytree(tiny, tmp_path / "tiny")
    return Store(tmp_path / "tiny")


@pytest.fixture(scope="module")
def whole(tiny, tmp_path_factory) -> Store:
    """A store in which nothing was interrupted."""
    root = tmp_path_factory.mktemp("whole") / "tiny"
    shutil.copytree(tiny, root)
    run_batch([(CONFIG, AST, 0), ("ridge", RIDGE, 0)], Store(root))
    return Store(root)


class Killed(BaseException):
    """Stands for the signal that ends a run."""


def assert_as_whole(store: Store, whole: Store, name: str) -> None:
    for table in ("predictions", "members", "history"):
        pd.testing.assert_frame_equal(store.read(table, name), whole.read(table, name), check_exact=True)


def assert_all_models(store: Store, name: str, n_folds: int = 3) -> None:
    """The models of all folds are published, whole."""
    folder = store.root / "checkpoints" / name
    assert sorted(p.name for p in folder.iterdir()) == [f"fold{k}" for k in range(n_folds)]
    for fold in range(n_folds):
        load_checkpoint(folder / f"fold{fold}", fold=fold)


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda b: b[: len(b) // 2], id="cut"),
        pytest.param(lambda b: b[:100], id="header_cut"),
        pytest.param(lambda b: b"", id="emptied"),
        pytest.param(lambda b: flipped(b, len(b) - 9), id="tensor"),
        pytest.param(lambda b: flipped(b, b.index(b"sha256") + 12), id="digest"),
        pytest.param(lambda b: flipped(b, b.index(b"valid_r") + 3), id="row_name"),
        pytest.param(lambda b: flipped(b, b.index(b"history")), id="field_name"),
    ],
)
def test_a_damaged_state_is_named_and_its_fold_starts_afresh(store, whole, monkeypatch, caplog, damage):
    real, saved = resume.save_state, []

    def kill(folder, *rest):
        real(folder, *rest)
        saved.append(folder)
        if len(saved) == 3:  # each fold's first epoch
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(resume, "save_state", kill)
        with pytest.raises(Killed):
            run_trial(AST, CONFIG, 0, store, save_every_s=0, members=3)
    paths = sorted(store.root.rglob("*.state.safetensors"))
    assert len(paths) == 3
    paths[1].write_bytes(damage(paths[1].read_bytes()))
    epochs = []
    judge = loop.judge
    monkeypatch.setattr(
        loop, "judge", lambda track, *rest: epochs.append((track.group.fold, track.epoch)) or judge(track, *rest)
    )
    result = run_trial(AST, CONFIG, 0, store)
    assert sorted(epochs) == [(0, 1), (1, 0), (1, 1), (2, 1)]
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 1
    assert str(paths[1]) in warnings[0]
    assert_as_whole(store, whole, result.part_name)
    assert_all_models(store, result.part_name)


def spoilt(data: bytes, at: int) -> bytes:
    return data[:at] + b"\xff" * 40 + data[at + 40 :]


def footer(data: bytes) -> int:
    """Where a Parquet file's footer begins: its length lies before the closing magic number."""
    return len(data) - 8 - int.from_bytes(data[-8:-4], "little")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        pytest.param("fold.json", lambda b: b[: len(b) // 2], id="rows_cut"),
        pytest.param("fold.json", lambda b: b"", id="rows_emptied"),
        pytest.param("fold.json", lambda b: b.replace(b"n_params", b"o_params"), id="rows_name"),
        pytest.param("predictions.parquet", lambda b: b[: len(b) // 2], id="cut"),
        pytest.param("predictions.parquet", lambda b: b"", id="emptied"),
        pytest.param("predictions.parquet", lambda b: spoilt(b, footer(b)), id="footer"),
        pytest.param("predictions.parquet", lambda b: spoilt(b, 4), id="page_header"),
    ],
)
def test_a_damaged_fold_is_trained_again(store, whole, caplog, name: str, damage: Callable[[bytes], bytes]):
    def kill_after_second(_, n_done, __):
        if n_done == 2:
            raise Killed

    with pytest.raises(Killed):
        run_trial(RIDGE, "ridge", 0, store, on_fold=kill_after_second)
    (path,) = store.root.glob(f"work/*/fold0/{name}")
    path.write_bytes(damage(path.read_bytes()))
    failed, steps = {}, []
    run_batch(
        [("ridge", RIDGE, 0)],
        store,
        on_fold=lambda _, n, __: steps.append(n),
        on_failure=lambda which, error: failed.update({which: error}),
    )
    assert not failed
    assert steps == [2, 3]
    assert str(path.parent) in caplog.text
    assert_as_whole(store, whole, "ridge/0.float64-cpu")
    assert_all_models(store, "ridge/0.float64-cpu")


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), torch.OutOfMemoryError("CUDA out of memory")],
    ids=lambda e: type(e),
)
@pytest.mark.parametrize("members", [None, 1], ids=["side_by_side", "stacks"])
def test_a_failing_bundle_leaves_the_others_alone(store, monkeypatch, error, members):
    real = loop.fit

    def breaks(tracks, *rest, **more):
        if tracks[0].group.encoder.depth == 2:
            raise error
        return real(tracks, *rest, **more)

    monkeypatch.setattr(loop, "fit", breaks)
    failed = {}
    items = [("deep", DEEP, 0), ("deep", DEEP, 1), ("ast", AST, 0)]
    results = run_batch(items, store, members=members, on_failure=lambda which, e: failed.update({which: e}))
    assert [r.config for r in results] == ["ast"]
    assert failed == {"deep|0": error, "deep|1": error}
    assert done(AST, "ast", 0, store) is not None
    with pytest.raises(type(error), match=str(error.args[-1])):
        run_batch(items, store, members=members)


def test_a_partition_that_was_complete_when_its_bundle_failed_did_not_fail(store, monkeypatch):
    real = loop.fit

    def breaks(tracks, *rest, **more):
        if tracks[0].group.config == "late":
            raise OSError(28, "No space left on device")
        return real(tracks, *rest, **more)

    monkeypatch.setattr(loop, "fit", breaks)
    failed = []
    items = [("early", AST, 0), ("late", vary(AST, {"optimisation.loss": "huber"}), 0)]
    results = run_batch(items, store, members=1, on_failure=lambda which, _: failed.append(which))
    assert failed == ["late|0"]
    assert [(r.config, r.status) for r in results] == [("early", "finished")]


def test_a_full_disk_keeps_what_was_published_before(store, monkeypatch):
    real = partition.keep_fold

    def full(folder, *rest):
        if folder.name == "fold2":
            raise OSError(28, "No space left on device")
        return real(folder, *rest)

    monkeypatch.setattr(partition, "keep_fold", full)
    failed = {}
    items = [("ast", AST, 0), ("ridge", RIDGE, 0)]
    assert run_batch(items, store, on_failure=lambda which, e: failed.update({which: str(e)})) == []
    assert failed.keys() == {"ast|0", "ridge|0"}
    monkeypatch.setattr(partition, "keep_fold", real)
    steps = []
    run_batch(items, store, on_fold=lambda which, n, _: steps.append((which, n)))
    assert steps[-1] == ("ridge|0", 3)
    assert steps.count(("ridge|0", 2)) == 0, "the folds that were kept were not trained again"


def test_two_processes_on_one_partition_publish_once(store, whole, monkeypatch):
    """The second trains its last fold while another, which found the folds kept so far, publishes them all.

    Locks would keep them apart; on some network file systems they hold nobody off.
    """
    monkeypatch.setattr(Partition, "claim", lambda self, wait=False: True)
    first = []

    def other(_, n_done, __):
        if n_done == 2:
            first.append(run_trial(AST, CONFIG, 0, store))

    second = run_trial(AST, CONFIG, 0, store, on_fold=other)
    (first_one,) = first
    assert not first_one.reused
    assert second == dataclasses.replace(first_one, reused=True)
    assert_as_whole(store, whole, second.part_name)
    assert_all_models(store, second.part_name)


def test_publishing_twice_gives_what_stands(store, monkeypatch):
    data = load(RIDGE, store)
    both = [Partition("ridge", RIDGE, 0, store, "cpu", "float32") for _ in range(2)]
    for one in both:
        one.begin(data)
    for fold in both[0].folds:
        result = folds.fit_tabular(RIDGE, data, 0, fold, 0, 1)
        for one in both:
            one.keep(fold, result, data.feature_names)
    published = both[0].publish()
    monkeypatch.setattr(Store, "write", lambda *_, **__: pytest.fail("a part was written again"))
    assert both[1].publish() == dataclasses.replace(published, reused=True)
    assert_all_models(store, published.part_name)


def test_models_that_are_gone_are_not_published_around(store):
    data = load(RIDGE, store)
    one = Partition("ridge", RIDGE, 0, store, "cpu", "float32")
    one.begin(data)
    for fold in one.folds:
        one.keep(fold, folds.fit_tabular(RIDGE, data, 0, fold, 0, 1), data.feature_names)
    shutil.rmtree(one.folder(1))
    with pytest.raises(RuntimeError, match="the models of 1 folds are gone"):
        one.publish()
    assert done(RIDGE, "ridge", 0, store) is None
    assert not (store.root / "checkpoints").exists()


@pytest.mark.parametrize("members", [None, 100])
def test_the_same_partition_twice_trains_once(store, monkeypatch, members):
    trained, told = [], []
    real = stacks._fit_stack
    monkeypatch.setattr(
        stacks, "_fit_stack", lambda groups, *a: trained.extend(g.fold for g in groups) or real(groups, *a)
    )
    results = run_batch([("ast", AST, 0), ("ast", AST, 0)], store, members=members, on_done=told.append)
    assert sorted(trained) == [0, 1, 2]
    assert results == told
    assert [r.reused for r in results] == [False]
    assert_all_models(store, results[0].part_name)


@pytest.mark.parametrize("members", [None, 100])
def test_two_configs_with_one_trial_each_keep_their_models(store, members):
    results = run_batch([("ast", AST, 0), ("twin", AST, 0)], store, members=members)
    assert [(r.config, r.reused) for r in results] == [("ast", False), ("twin", False)]
    one, other = (store.read("predictions", r.part_name)["value"] for r in results)
    # Members of one stack: a batched product may sum in another order at another place.
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-5)
    for result in results:
        assert_all_models(store, result.part_name)


def test_configs_with_one_trial_do_not_take_each_others_folds(store):
    def kill_after_second(_, n_done, __):
        if n_done == 2:
            raise Killed

    with pytest.raises(Killed):
        run_trial(RIDGE, "ridge", 0, store, on_fold=kill_after_second)
    steps = []
    for config in ("twin", "ridge"):
        result = run_trial(RIDGE, config, 0, store, on_fold=lambda which, n, _: steps.append((which, n)))
        assert_all_models(store, result.part_name)
    assert steps == [("twin|0", 1), ("twin|0", 2), ("twin|0", 3), ("ridge|0", 3)]


@pytest.mark.parametrize("trial", [AST, RIDGE], ids=lambda t: t.family)
def test_an_unknown_precision_is_refused_with_its_value(tmp_path, trial):
    with pytest.raises(ValueError, match="precision='bf16' must be one of"):
        run_trial(trial, "c", 0, Store(tmp_path), precision="bf16")


def test_a_diverged_fixed_result_beside_a_tuned_one_marks_the_run(store, monkeypatch):
    monkeypatch.setitem(BUDGETS, "full", dataclasses.replace(BUDGETS["smoke"], searches=True))
    # A rate no float32 survives; the point of the search is a good one.
    wild = vary(AST, {"budget": "full", "optimisation.learning_rate": 1e30})
    trial = dataclasses.replace(wild, search=(("optimisation.learning_rate", (1e-3,)),))
    result = run_trial(trial, "ast", 0, store)
    members = store.read("members", result.part_name).set_index("search_point")["status"]
    assert set(members["fixed"]) == {"diverged"}
    assert set(members["optimisation.learning_rate=0.001"]) == {"finished"}
    assert result.status == "diverged"
    assert store.read("runs", result.part_name)["status"].tolist() == ["diverged"]
    predictions = store.read("predictions", result.part_name)
    assert np.isfinite(predictions["value"]).all()
    tuned = predictions[(predictions["tuning"] == "tuned") & (predictions["role"] == "test")]
    assert (tuned.groupby(["fold", "dimension"])["value"].std() > 0).all(), "the tuned result is a trained one"
