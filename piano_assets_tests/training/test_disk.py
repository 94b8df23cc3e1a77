"""Before a batch trains, its data folder is asked whether it can take what comes."""

from collections import namedtuple

import pytest

from piano_assets.catalogue.trial import vary
from piano_assets.store import capacity
from piano_assets.store.capacity import MARGIN, StoreError
from piano_assets.store.parts import Store
from piano_assets.training import disk, run
from piano_assets.training.disk import TABULAR_BYTES, published_bytes, require_place, state_bytes
from piano_assets.training.partition import Partition
from piano_assets.training.run import run_batch, run_trial
from piano_assets.training.size import n_params
from piano_assets_tests.training.tiny import AST, RIDGE, SEARCHED, build_store

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def store(tmp_path) -> Store:
    return build_store(tmp_path / "synthetic")


def partition(store, trial, seed=0) -> Partition:
    return Partition("a.b", trial, seed, store, "cpu", "float32")


def on_disk(store: Store) -> int:
    """What trainings have added below the folders that they write to."""
    parts = [p.path for t in ("predictions", "history", "members", "runs") for p in store.parts(t)]
    return sum(p.stat().st_size for p in (*parts, *(store.root / "checkpoints").rglob("*")) if p.is_file())


def test_estimates_by_hand():
    assert published_bytes(RIDGE, 100, 3, None, kept=False) == 2 * 8 * 100 * 19
    assert published_bytes(SEARCHED, 100, 3, None, kept=False) == 2 * 8 * 100 * 19 * 2
    assert published_bytes(RIDGE, 0, 3, None, kept=True) == 3 * TABULAR_BYTES
    assert published_bytes(AST, 0, 3, 1000, kept=True) == 4 * 1000 * 3
    assert state_bytes(1000, 4, 9, "cpu", cores=2) == 16 * 1000 * 4 * 2
    assert state_bytes(1000, 4, 1, "cpu", cores=2) == 16 * 1000 * 4
    assert state_bytes(1000, 4, 9, "cuda:1") == 16 * 1000 * 4 * 9
    assert state_bytes(1000, 4, 1000, "cuda") == 16 * 1000 * 256
    assert state_bytes(0, 0, 0, "cpu") == 0


@pytest.mark.parametrize("trial", [RIDGE, SEARCHED, AST])
def test_the_estimate_is_no_less_than_what_is_written(store, trial):
    expected = require_place(store, [partition(store, trial)])
    run_trial(trial, "a.b", 0, store)
    # Records, footers and dictionaries of a few kB a file do not shrink with the corpus; 60 clips are next to nothing.
    assert on_disk(store) < expected + 100_000


def test_a_batch_adds_up(store):
    def needed(*seeds: int) -> int:
        return require_place(store, [partition(store, RIDGE, seed) for seed in seeds])

    assert needed(0, 0) == 2 * needed(0)
    assert needed(0) - needed(1) > 2 * TABULAR_BYTES, "models of seed 0 alone are kept"
    assert require_place(store, [partition(store, AST)]) > 16 * n_params(AST, store) * 3


def test_a_full_disk_is_told_before_anything_is_read_or_trained(store, monkeypatch):
    monkeypatch.setattr(disk, "require_room", lambda root, n: capacity.require_room(root, n, usage=nearly_full))
    monkeypatch.setattr(run, "load", lambda *_: pytest.fail("data were read"))
    items = [("a.b", RIDGE, 0), ("a.b", RIDGE, 1), ("c.d", vary(AST, {"model.depth": 2}), 0)]
    failed = {}
    assert run_batch(items, store, on_failure=lambda partition, error: failed.update({partition: str(error)})) == []
    assert set(failed) == {"a.b|0", "a.b|1", "c.d|0"}
    assert all("1 MB free and must have" in said and "piano gc" in said for said in failed.values())
    with pytest.raises(StoreError, match=str(store.root)):
        run_trial(RIDGE, "a.b", 0, store)


def nearly_full(path) -> Usage:
    return Usage(MARGIN, 0, 10**6)


def test_a_folder_that_cannot_be_written_is_told_before(store, monkeypatch):
    (store.root / "work").write_text("in the way")
    monkeypatch.setattr(run, "load", lambda *_: pytest.fail("data were read"))
    with pytest.raises(StoreError, match="work must be writable before anything is trained"):
        run_trial(RIDGE, "a.b", 0, store)


def test_what_stands_needs_no_room(store, monkeypatch):
    run_trial(RIDGE, "a.b", 0, store)
    monkeypatch.setattr(run, "require_place", lambda *_: pytest.fail("was asked"))
    assert run_trial(RIDGE, "a.b", 0, store).reused


def test_a_link_that_leads_out_is_told_before(store, tmp_path, monkeypatch):
    (store.root / "checkpoints").mkdir()
    (store.root / "checkpoints" / "a.b").symlink_to(tmp_path)
    monkeypatch.setattr(run, "load", lambda *_: pytest.fail("data were read"))
    with pytest.raises(ValueError, match="a link leads to"):
        run_trial(RIDGE, "a.b", 0, store)


def test_a_name_that_leads_out_is_told_before_anything_is_written(store, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    for config in ("../../evil", "/evil", "..", "e\x00vil", "e" * 300):
        with pytest.raises(ValueError, match="part name"):
            run_trial(RIDGE, config, 0, store)
    assert sorted(tmp_path.rglob("*")) == before
