"""A killed sweep goes on where it stopped, and ends as an uninterrupted one would."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from piano_assets.store.parts import Store, digest
from piano_assets_tests.defs.conftest import Graph, copied

pytestmark = pytest.mark.xdist_group("graph")

SWEEP = """
import sys
import dagster as dg
from piano_assets.defs import planner
from piano_assets.defs.data import PianoData
from piano_assets.defs.training import batch_config, sweep

piano = PianoData(root=sys.argv[1], corpus="synthetic")
tasks = planner.owed(piano.store(), ["family.ridge"], 3)
done = sweep.execute_in_process(
    instance=dg.DagsterInstance.ephemeral(), resources={"piano": piano}, run_config=batch_config(tasks)
)
assert done.success
"""
VOLATILE = ["seconds", "peak_memory_mb", "finished_at", "git_commit", "git_dirty"]
"""What differs between two runs of the same; the checkout may be edited between them."""


def start(root) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", SWEEP, str(root)], stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen) -> None:
    _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err[-2000:]


def table(store: Store, name: str, part: str) -> pd.DataFrame:
    frame = store.read(name, part)
    return frame.drop(columns=[c for c in VOLATILE if c in frame])


def test_a_killed_sweep_goes_on_and_ends_like_an_uninterrupted_one(graph: Graph, tmp_path):
    whole = graph.store  # which made the same partitions without a stop
    cut = copied(graph, tmp_path / "cut", "predictions", "history", "members", "runs").store()

    process = start(tmp_path / "cut")
    deadline = time.monotonic() + 200
    # Killed in the middle of the second partition: one is published, and a fold of the next waits on the disk.
    while time.monotonic() < deadline and not (list(cut.parts("runs")) and list(cut.root.glob("work/*/fold*"))):
        assert process.poll() is None, "the sweep ended before it could be killed"
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    published = list(cut.parts("runs"))
    before = {p.path: p.path.stat().st_mtime_ns for p in published}
    assert 1 <= len(before) < 3
    finish(start(tmp_path / "cut"))

    assert all(path.stat().st_mtime_ns == at for path, at in before.items()), "nothing published is trained again"
    for name in ("predictions", "history", "members", "runs"):
        for part in cut.parts(name):
            pd.testing.assert_frame_equal(table(cut, name, part.name), table(whole, name, part.name))
    left = {fold.parent.name for fold in cut.root.glob("work/*/fold*")}
    # One that was killed after it was published and before it tidied up is not begun again: `piano gc` finds it.
    assert left <= {digest(part.key, part.name) for part in published}


def test_predictions_of_the_killed_fold_are_whole(graph: Graph):
    """Every (fold, clip, dimension) of the split's test role once, for a partition of the shared run."""
    rows = graph.store.read("predictions", "family.ridge/0.float64-cpu")
    tested = rows[(rows["role"] == "test") & (rows["tuning"] == "fixed")]
    splits = graph.store.read("splits", "cluster")
    wanted = splits[(splits["role"] == "test") & (splits["repeat"] == 0) & splits["inner_fold"].isna()]
    got = tested.groupby(["fold", "clip"]).size()
    assert set(got.index) == set(zip(wanted["fold"], wanted["clip"], strict=True))
    assert np.all(got == 19)
