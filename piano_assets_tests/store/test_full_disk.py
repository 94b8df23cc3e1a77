"""A full disk, a dead writer's lock and a user who wants to write: each ends in a clear state.

The disk is a limit on the size of a file, which a process can set for itself: writing beyond it fails as on a full one.
"""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd
import pytest

from piano_assets.store.parts import Store, published
from piano_assets.store.warehouse import all_parts, build_snapshot, query, snapshot_path

LABELS = {"dimension": "timbre_soft_loud", "rule": "clean", "standard_error": None, "n_raters": 3}
WRITERS = {
    "part": "store.write('labels', labels(5000), key='new', name='clean')",
    "file": "write_file(store.root / 'report.html', b'x' * 100_000)",
    "checkpoint": "save_checkpoint(store.root / 'checkpoints' / 'a', {}, {'w': np.zeros(50_000)})",
    "snapshot": "build_snapshot(store, all_parts(store))",
}
FULL = """
import resource, sys
from pathlib import Path
import numpy as np
from piano_assets.store.checkpoints import save_checkpoint
from piano_assets.store.parts import Store, write_file
from piano_assets.store.warehouse import all_parts, build_snapshot
from piano_assets_tests.store.test_full_disk import labels

store = Store(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, resource.RLIM_INFINITY))
{work}
"""


def labels(n: int, value: float | None = None) -> pd.DataFrame:
    clips = [f"clip{i}" for i in range(n)]
    values = [value if value is not None else i * 0.61803 % 1 for i in range(n)]
    return pd.DataFrame({"clip": clips, "value": values, **LABELS})


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def python(code: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_said_and_leaves_everything_as_it_was(tmp_path, what):
    store = Store(tmp_path / "synthetic")
    store.write("labels", labels(2, 0.5), key="old", name="clean")
    build_snapshot(store, all_parts(store))
    if what == "snapshot":
        store.write("labels", labels(3, 0.25), key="new", name="clean")
    before = contents(store.root)
    failed = python(FULL.format(work=WRITERS[what]), store.root)
    assert failed.returncode == 1
    assert "File too large" in failed.stderr.splitlines()[-1], failed.stderr
    assert contents(store.root) == before
    assert query(store, "SELECT count(*) AS n FROM labels")["n"].item() == 2


def test_a_disk_that_shows_full_only_when_it_is_flushed_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"), published(tmp_path / "file") as temporary:
        temporary.write_text("whole")
    assert os.listdir(tmp_path) == []


def test_the_lock_of_a_killed_builder_keeps_nobody_waiting(tmp_path):
    store = Store(tmp_path / "synthetic")
    store.write("labels", labels(2, 0.5), key="old", name="clean")
    dies = (
        "import os, sys; from pathlib import Path; from piano_assets.store import warehouse;"
        "from piano_assets.store.parts import Store; store = Store(Path(sys.argv[1]));"
        "warehouse._fill = lambda path, *rest: (path.write_text('half'), os.kill(os.getpid(), 9));"
        "warehouse.build_snapshot(store, warehouse.all_parts(store))"
    )
    assert python(dies, store.root).returncode == -signal.SIGKILL
    assert (store.root / ".snapshot.lock").exists(), "the scene is set only if the killed builder left its lock"
    waits = (
        "import sys; from pathlib import Path; from piano_assets.store.parts import Store;"
        "from piano_assets.store.warehouse import all_parts, build_snapshot; store = Store(Path(sys.argv[1]));"
        "print(build_snapshot(store, all_parts(store)).rebuilt)"
    )
    after = python(waits, store.root)
    assert after.stdout == "True\n", after.stderr
    assert query(store, "SELECT count(*) AS n FROM labels")["n"].item() == 2


def test_a_user_who_opens_the_snapshot_to_write_is_refused():
    """Root passes any mode, so that a child becomes somebody else first."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        store = Store(Path(folder) / "synthetic")
        store.write("labels", labels(2, 0.5), key="old", name="clean")
        build_snapshot(store, all_parts(store))
        opens = (
            "import duckdb, os, sys\nif os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
            "with duckdb.connect(sys.argv[1], read_only=True) as c: c.sql('FROM labels').fetchall()\n"
            "duckdb.connect(sys.argv[1])"
        )
        refused = python(opens, snapshot_path(store))
        assert "Permission denied" in refused.stderr.splitlines()[-1], refused.stderr
        assert not list(Path(folder).rglob("*.wal"))
