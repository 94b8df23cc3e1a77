"""The snapshot under every reader and writer that may touch it."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from piano_assets.store import warehouse
from piano_assets.store.parts import Store
from piano_assets.store.warehouse import QueryError, all_parts, build_snapshot, latest_snapshot, query, snapshot_path

LABELS = {"dimension": "timbre_soft_loud", "rule": "clean", "standard_error": None, "n_raters": 3}


def fill(store: Store, *values: float) -> None:
    clips = [f"clip{i}" for i in range(len(values))]
    store.write("labels", pd.DataFrame({"clip": clips, "value": values, **LABELS}), key=str(values), name="clean")
    build_snapshot(store, all_parts(store))


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "synthetic")
    fill(store, 0.25, 0.5)
    return store


def test_every_table_stands_in_the_snapshot_with_its_corpus_and_comments(store):
    tables = query(store, "SELECT table_name, comment FROM duckdb_tables()")
    assert set(tables["table_name"]) >= {"labels", "predictions", "leaderboard_trials"}
    assert tables["comment"].str.len().min() > 10
    assert query(store, "SELECT DISTINCT corpus FROM labels")["corpus"].tolist() == ["synthetic"]
    assert query(store, "SELECT * FROM leaderboard").empty


def test_unchanged_parts_rebuild_nothing(store):
    before = snapshot_path(store).stat().st_mtime_ns
    assert not build_snapshot(store, all_parts(store)).rebuilt
    assert snapshot_path(store).stat().st_mtime_ns == before


def test_nobody_can_write_the_snapshot_by_mode(store):
    assert snapshot_path(store).stat().st_mode & 0o777 == 0o444


AS_A_USER = """
import duckdb, os, sys
if os.geteuid() == 0:
    os.setuid(65534)  # the mode stops everybody but root
with duckdb.connect(sys.argv[1], read_only=True) as reads:
    assert reads.sql("SELECT count(*) FROM labels").fetchall() == [(2,)]
duckdb.connect(sys.argv[1]).execute("DELETE FROM labels")
"""


def test_a_user_who_opens_it_to_write_is_refused_and_changes_nothing():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        store = Store(Path(folder) / "synthetic")
        fill(store, 0.25, 0.5)
        path, before = snapshot_path(store), snapshot_path(store).read_bytes()
        tried = subprocess.run([sys.executable, "-c", AS_A_USER, str(path)], capture_output=True, text=True, timeout=60)
        assert tried.returncode == 1
        assert f'Cannot open file "{path}": Permission denied' in tried.stderr
        assert path.read_bytes() == before
        assert not path.with_name("piano.duckdb.wal").exists()


def test_a_foreign_wal_would_lock_everybody_out_and_is_set_aside(store):
    """A user who opens the snapshot to write and dies leaves a log that a new file cannot open with."""
    snapshot_path(store).chmod(0o644)
    dies = (
        "import duckdb, os, sys; c = duckdb.connect(sys.argv[1]); c.execute('CREATE TABLE mine (x INT)');"
        "c.execute('INSERT INTO mine VALUES (1)'); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", dies, str(snapshot_path(store))], check=False, timeout=60)
    wal = snapshot_path(store).with_name("piano.duckdb.wal")
    assert wal.exists(), "the scene is set only if the dead user left a log"
    fill(store, 0.25, 0.5, 0.75)
    assert not wal.exists()
    assert list((store.root / "quarantine").glob("piano.duckdb.wal.*"))
    with duckdb.connect(str(snapshot_path(store)), read_only=True) as fresh:
        assert fresh.sql("SELECT count(*) FROM labels").fetchall() == [(3,)]


def test_a_reader_keeps_its_data_and_a_query_in_the_same_process_sees_the_new(store):
    with duckdb.connect(str(snapshot_path(store)), read_only=True) as old:
        fill(store, 0.1, 0.2, 0.3)
        assert old.sql("SELECT count(*) FROM labels").fetchall() == [(2,)]
        assert query(store, "SELECT count(*) AS n FROM labels")["n"].item() == 3


def test_readers_never_fail_while_snapshots_are_swapped(store):
    """8 processes read the file by name while it is swapped 20 times: no error, no half-built table."""
    reads = (
        "import duckdb, sys, time\nend = time.time() + 3\nn = 0\n"
        "while time.time() < end:\n"
        "    with duckdb.connect(sys.argv[1], read_only=True) as c:\n"
        "        assert c.sql('SELECT count(*) FROM labels').fetchall()[0][0] >= 2\n    n += 1\n"
        "print(n)"
    )
    readers = [
        subprocess.Popen([sys.executable, "-c", reads, str(snapshot_path(store))], stdout=-1, stderr=-1, text=True)
        for _ in range(8)
    ]
    for i in range(20):
        fill(store, *[0.5] * (3 + i))
    for reader in readers:
        out, err = reader.communicate(timeout=60)
        assert reader.returncode == 0, err
        assert int(out) >= 1


def test_two_writers_take_turns(store):
    errors = []

    def write() -> None:
        try:
            build_snapshot(store, all_parts(store))
        except duckdb.Error as error:
            errors.append(error)

    store.write("labels", pd.DataFrame({"clip": ["a"], "value": [0.5], **LABELS}), key="new", name="clean")
    threads = [threading.Thread(target=write) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors
    assert len(list((store.root / "snapshots").glob("*.duckdb"))) == 2
    assert not list((store.root / "snapshots").glob(".*tmp"))


def test_no_snapshot_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="make run"):
        latest_snapshot(Store(tmp_path / "synthetic"))


def test_wide_views_hold_one_row_per_clip(tmp_path):
    store = Store(tmp_path / "synthetic")
    features = pd.DataFrame(
        {"clip": ["a", "a", "b"], "rendering": "midi", "feature": ["x", "y's", "x"], "value": [1.0, 2.0, 3.0]}
    ).assign(source="symbolic")
    store.write("features", features, key="1", name="symbolic")
    build_snapshot(store, all_parts(store), {"symbolic": ["x", "y's"], "pretrained": []})
    wide = query(store, "SELECT * FROM features_symbolic ORDER BY clip")
    assert wide["x"].tolist() == [1.0, 3.0]
    assert wide["y's"].fillna(-1).tolist() == [2.0, -1.0]
    views = query(store, "SELECT view_name FROM duckdb_views() WHERE view_name LIKE 'features_%'")
    assert views["view_name"].tolist() == ["features_symbolic"], "a set of which there are no features has no view"


def test_root_may_be_the_current_user(store):
    """The mode alone does not stop root: what root writes must not reach the versioned snapshot that readers use."""
    if os.geteuid() != 0:
        return
    with duckdb.connect(str(snapshot_path(store))) as connection:
        connection.execute("DELETE FROM labels")
    assert query(store, "SELECT count(*) AS n FROM labels")["n"].item() == 2


def test_content_that_comes_back_is_the_newest_again(store):
    first = latest_snapshot(store)
    fill(store, 0.9)
    assert latest_snapshot(store) != first
    fill(store, 0.25, 0.5)
    assert latest_snapshot(store) == first
    with duckdb.connect(str(snapshot_path(store)), read_only=True) as connection:
        assert connection.sql("SELECT count(*) FROM labels").fetchall() == [(2,)]


FRAME = pd.DataFrame({"secret": [1]})


@pytest.mark.parametrize(
    "sql",
    [
        "FROM read_csv('{file}')",
        "FROM '{file}'",
        "FROM read_text('{file}')",
        "FROM read_blob('/proc/self/environ')",
        "FROM glob('{folder}/*')",
        "FROM read_parquet('http://127.0.0.1:9/x.parquet')",
        "COPY labels TO '{folder}/out.csv'",
        "EXPORT DATABASE '{folder}/out'",
        "ATTACH '{folder}/other.duckdb'",
        "ATTACH '{snapshot}' AS again",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET enable_external_access = true",
        "SET temp_directory = '{folder}'",
        "RESET lock_configuration",
        "SELECT 1; COPY labels TO '{folder}/out.csv'",
        "FROM FRAME",
    ],
)
def test_a_query_reaches_nothing_but_the_snapshot(store, tmp_path, sql):
    (tmp_path / "outside.csv").write_text("a,b\n1,2\n")
    files = sorted(tmp_path.rglob("*"))
    where = {"file": tmp_path / "outside.csv", "folder": tmp_path, "snapshot": snapshot_path(store)}
    with pytest.raises(QueryError):
        query(store, sql.format(**where))
    assert sorted(tmp_path.rglob("*")) == files


def test_names_in_a_snapshot_are_names_and_no_sql(tmp_path):
    evil = """x" , 1); DROP TABLE clips; --"'"""
    store = Store(tmp_path / 'it\'s [a] "folder"; *' / "synthetic")
    features = pd.DataFrame({"clip": ["a"], "rendering": "midi", "feature": [evil], "value": [1.0]})
    store.write("features", features.assign(source="symbolic"), key="1", name="symbolic")
    build_snapshot(store, all_parts(store), {evil: [evil]})
    assert query(store, "FROM clips").empty
    (view,) = query(store, "SELECT view_name FROM duckdb_views() WHERE view_name LIKE 'features_%'")["view_name"]
    assert view == f"features_{evil}"
    found = query(store, 'FROM "{}"'.format(view.replace('"', '""')))
    assert found[evil].tolist() == [1.0]


def test_a_snapshot_is_of_the_parts_as_they_were_when_it_began(store, monkeypatch):
    """DuckDB opens a file several times: one that is replaced meanwhile must not be half old and half new."""
    fill_file = warehouse._fill

    def fill_while_another_publishes(*arguments) -> None:
        frame = pd.DataFrame({"clip": [f"clip{i}" for i in range(999)], "value": 0.9, **LABELS})
        store.write("labels", frame, key="new", name="clean")
        fill_file(*arguments)

    frame = pd.DataFrame({"clip": ["a", "b", "c"], "value": 0.75, **LABELS})
    store.write("labels", frame, key="old", name="clean")
    monkeypatch.setattr(warehouse, "_fill", fill_while_another_publishes)
    first = build_snapshot(store, all_parts(store))
    assert query(store, "SELECT value FROM labels")["value"].tolist() == [0.75] * 3
    monkeypatch.undo()
    second = build_snapshot(store, all_parts(store))
    assert second.rebuilt
    assert second.hash != first.hash
    assert query(store, "SELECT count(*) AS n FROM labels")["n"].item() == 999


def test_a_snapshot_has_the_hash_of_what_is_in_it(store):
    """Also where a part was replaced after it was looked up."""
    listed = all_parts(store)
    store.write("labels", pd.DataFrame({"clip": ["a"], "value": [0.9], **LABELS}), key="new", name="clean")
    (store.root / "snapshots").joinpath(latest_snapshot(store).name).unlink()
    late = build_snapshot(store, listed)
    assert late.rows["labels"] == 1
    fresh = build_snapshot(store, all_parts(store))
    assert (fresh.hash, fresh.rebuilt) == (late.hash, False)


def test_a_part_that_is_gone_stops_the_build_and_the_old_snapshot_stays(store):
    before = snapshot_path(store).read_bytes()
    store.write("labels", pd.DataFrame({"clip": ["a"], "value": [0.9], **LABELS}), key="new", name="clean")
    listed = all_parts(store)
    listed["labels"][0].path.unlink()
    with pytest.raises(FileNotFoundError, match="labels/clean"):
        build_snapshot(store, listed)
    assert snapshot_path(store).read_bytes() == before
    assert list((store.root / "snapshots").glob(".*")) == []


def test_a_lock_that_a_killed_builder_left_holds_nobody_up(store):
    """The lock is the system's, and goes with the process; the file that stays is not the lock."""
    code = "import sys, time, filelock\nwith filelock.FileLock(sys.argv[1]): print('held', flush=True); time.sleep(60)"
    lock = store.root / ".snapshot.lock"
    holder = subprocess.Popen([sys.executable, "-c", code, str(lock)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "held\n"
    store.write("labels", pd.DataFrame({"clip": ["a"], "value": [0.9], **LABELS}), key="new", name="clean")
    built: list = []
    builder = threading.Thread(target=lambda: built.append(build_snapshot(store, all_parts(store))))
    builder.start()
    builder.join(0.3)
    assert built == [], "a lock that is held is waited for"
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    assert lock.exists()
    builder.join(30)
    assert built[0].rebuilt


def test_a_full_disk_stops_the_build_and_the_old_snapshot_stays(store):
    before = snapshot_path(store).read_bytes()
    frame = pd.DataFrame({"clip": [f"clip{i}" for i in range(999)], "value": 0.5, **LABELS})
    store.write("labels", frame, key="new", name="clean")
    code = """
import resource, sys
from pathlib import Path
from piano_assets.store.parts import Store
from piano_assets.store.warehouse import QueryError, all_parts, build_snapshot
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    build_snapshot(Store(Path(sys.argv[1])), all_parts(Store(Path(sys.argv[1]))))
except QueryError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, str(store.root)]
    said = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout
    assert "File too large" in said
    assert str(store.root / "snapshots") in said
    assert snapshot_path(store).read_bytes() == before
    assert list((store.root / "snapshots").glob(".*")) == []
    assert build_snapshot(store, all_parts(store)).rebuilt
