"""The snapshot under every reader and writer that may touch it."""

import os
import subprocess
import sys
import threading

import duckdb
import pandas as pd
import pytest

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
    build_snapshot(store, all_parts(store), {"symbolic": ["x", "y's"]})
    wide = query(store, "SELECT * FROM features_symbolic ORDER BY clip")
    assert wide["x"].tolist() == [1.0, 3.0]
    assert wide["y's"].fillna(-1).tolist() == [2.0, -1.0]


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
