"""Two sweeps at once: nothing is trained twice, and a killed one holds nothing."""

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from piano_assets.catalogue.trial import as_dict, vary
from piano_assets.store.parts import Store
from piano_assets.training import run
from piano_assets.training.partition import Partition
from piano_assets.training.run import run_batch, run_trial
from piano_assets_tests.training.tiny import AST, RIDGE, build_store

RIDGES = [(f"ridge.{i}", vary(RIDGE, {"model.settings.alpha": float(i)}), 0) for i in range(1, 7)]


@pytest.fixture
def store(tmp_path) -> Store:
    return build_store(tmp_path / "tiny")


def partition(store: Store) -> Partition:
    return Partition("ridge.symbolic", RIDGE, 0, store, "cpu", "float32")


def test_a_partition_is_in_one_hand(store):
    one, other = partition(store), partition(store)
    assert one.claim()
    assert not other.claim()
    one.release()
    assert other.claim()
    other.release()


def test_two_sweeps_share_the_work(store, monkeypatch):
    """Two in one process, slowed down so that they meet: each partition is fitted by one of them, both get all."""
    fitted: list[str] = []
    real = run._train_tabular

    def slow(partition, *more):
        fitted.append(partition.config)
        time.sleep(0.1)
        real(partition, *more)

    monkeypatch.setattr(run, "_train_tabular", slow)
    found: dict[str, list] = {}
    threads = [
        threading.Thread(target=lambda name=name: found.update({name: run_batch(RIDGES, store, threads=1)}))
        for name in ("one", "other")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(fitted) == sorted(config for config, _, _ in RIDGES)
    keys = [[r.part_key for r in found[name]] for name in found]
    assert keys[0] == keys[1]
    assert len(keys[0]) == len(RIDGES)
    reused = [sum(r.reused for r in found[name]) for name in found]
    assert sum(reused) == len(RIDGES)
    assert list((store.root / "work").iterdir()) == [], "locks of what stands are gone"


def test_what_another_holds_comes_last_and_is_waited_for(store):
    held = Partition(*RIDGES[0], store, "cpu", "float32")
    assert held.claim()
    told: list[str] = []

    def let_go(waited: str) -> None:
        told.append(waited)
        held.release()

    done = [r.config for r in run_batch(RIDGES[:3], store, on_done=lambda r: told.append(r.config), on_wait=let_go)]
    assert told == ["ridge.2", "ridge.3", "ridge.1|0", "ridge.1"]
    assert done == ["ridge.1", "ridge.2", "ridge.3"]


def test_a_network_that_another_finished_meanwhile_is_reused(store):
    held = Partition("ast.reference@smoke", AST, 0, store, "cpu", "float32")
    assert held.claim()

    def finish(_: str) -> None:
        held.release()
        run_trial(AST, "ast.reference@smoke", 0, store)

    (result,) = run_batch([("ast.reference@smoke", AST, 0)], store, on_wait=finish)
    assert result.reused


def test_what_failed_is_free_again(store, monkeypatch):
    def fail(*_):
        raise ValueError("no fit")

    monkeypatch.setattr(run, "_train_tabular", fail)
    failures = []
    run_batch(RIDGES[:1], store, on_failure=lambda name, error: failures.append((name, str(error))))
    assert failures == [("ridge.1|0", "no fit")]
    assert Partition(*RIDGES[0], store, "cpu", "float32").claim()


def test_the_lock_of_a_killed_process_is_free(store, tmp_path):
    entry = {"config": "ast.reference@smoke", "seed": 0, "trial": as_dict(AST)}
    (tmp_path / "trials.json").write_text(json.dumps([entry]))
    command = [sys.executable, "-m", "piano_assets.training", "--trials", str(tmp_path / "trials.json")]
    process = subprocess.Popen([*command, "--data", str(store.root), "--out", str(store.root)])
    held = Partition("ast.reference@smoke", AST, 0, store, "cpu", "float32")
    deadline = time.monotonic() + 60
    while held.claim():  # until the other process has it
        held.release()
        assert time.monotonic() < deadline
        assert process.poll() is None, "it was over before it could be killed"
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert held.stands() is None
    (result,) = run_batch(
        [("ast.reference@smoke", AST, 0)], store, on_wait=lambda partition: pytest.fail("waits for the dead")
    )
    assert not result.reused
