"""Killed at any step of publishing, a partition goes on and ends as if nothing had been: the short form of chaos."""

import subprocess
import sys

import pytest

from benchmarks.chaos import tables
from benchmarks.every_step import Broken, finished, require_equal, require_unchanged
from piano_assets.training.run import run_batch
from piano_assets_tests.training.tiny import RIDGE, build_store

pytestmark = pytest.mark.filterwarnings("ignore:n_quantiles")


def test_killed_before_and_after_every_rename_it_is_finished_by_one_restart(tmp_path):
    """Three folds, a folder of models, four parts; each kill, restart and comparison is a fork of one process."""
    build_store(tmp_path / "data")
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.every_step", "tabular", str(tmp_path)]
    done = subprocess.run([*command, "--operations", "rename", "replace"], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout.splitlines()[-1]) >= 2 * (3 + 1 + 4)


def test_a_part_deleted_in_mid_sweep_is_made_again_and_nothing_else(tmp_path):
    store = build_store(tmp_path / "data")
    items = [("family.ridge", RIDGE, seed) for seed in (0, 1)]
    run_batch(items, store, threads=1)
    reference, before = tables(store), finished(store)
    gone = store.path("runs", next(p.name for p in store.parts("runs") if p.name.startswith("family.ridge/1")))
    gone.unlink()
    results = run_batch(items, store, threads=1)
    assert [r.reused for r in results] == [True, False]
    require_unchanged(store, {path: was for path, was in before.items() if "family.ridge/0" in str(path)})
    require_equal(store, reference)


def test_the_checks_see_what_they_should(tmp_path):
    store = build_store(tmp_path / "data")
    run_batch([("family.ridge", RIDGE, 0)], store, threads=1)
    reference, before = tables(store), finished(store)
    (run,) = store.parts("runs")
    store.write("predictions", store.read("predictions", run.name), key=run.key, name=run.name)
    with pytest.raises(Broken, match=r"not as it was.*predictions"):
        require_unchanged(store, before)
    require_equal(store, reference)
    changed = store.read("predictions", run.name)
    changed.loc[0, "value"] += 1e-6
    store.write("predictions", changed, key=run.key, name=run.name)
    with pytest.raises(Broken, match="table predictions differs"):
        require_equal(store, reference)
