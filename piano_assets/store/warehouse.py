"""The warehouse: one self-contained, read-only DuckDB snapshot of all tables, rebuilt from the parts and swapped in.

DuckDB lets one process write or many read, and refuses even a reader while a writer holds the file. So nobody writes
the file that people read: a new one is built beside it and renamed over it. Readers that stay (a notebook, a page)
open `snapshots/<hash>.duckdb`, because a second connection in one process keeps seeing the file it saw first.
"""

import filecmp
import os
import shutil
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import filelock
import pandas as pd
import pyarrow as pa

from piano_assets.schemas import TABLES
from piano_assets.store.links import link
from piano_assets.store.parts import Part, Store, digest, published, put_in_place, read_footer

SQL_TYPES: dict[pa.DataType, str] = {
    pa.string(): "VARCHAR",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.float32(): "FLOAT",
    pa.bool_(): "BOOLEAN",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP WITH TIME ZONE",
}

DEFAULT_RENDERING = "modal"
"""The rendering of the wide views; the long table `features` has all of them."""

READABLE_SINCE = "v1.2.0"
"""Oldest DuckDB that can read a snapshot: command-line clients lag behind the library that writes it."""

VIEWS: dict[str, str] = {
    "leaderboard": """
        SELECT * FROM leaderboard_trials WHERE kind <> 'trial'
        ORDER BY corpus, split <> 'cluster', split, rule, rank NULLS LAST,
            CASE aggregation WHEN 'pooled' THEN r2_pooled ELSE r2_fold_mean END DESC NULLS LAST, subject
    """,
}

READING: dict[str, Any] = {
    "enable_external_access": False,
    "lock_configuration": True,
    "python_enable_replacements": False,
}
"""A query sees the snapshot and nothing else: no file, no other database, no network, no variable of the program."""

QueryError = duckdb.Error
"""What DuckDB raises, so that callers need not import it."""


@dataclass(frozen=True)
class Snapshot:
    """A built snapshot: its file, its content hash, the rows of each table, and what was set aside to swap it in."""

    path: Path
    hash: str
    rows: dict[str, int]
    seconds: float
    rebuilt: bool
    quarantined: tuple[Path, ...] = ()


def snapshot_path(store: Store) -> Path:
    return store.root / "piano.duckdb"


def all_parts(store: Store) -> dict[str, list[Part]]:
    return {table: list(store.parts(table)) for table in TABLES}


def build_snapshot(
    store: Store, parts: Mapping[str, Sequence[Part]], feature_sets: Mapping[str, Iterable[str]] | None = None
) -> Snapshot:
    """Build a snapshot of `parts` (by table) and swap it in; does nothing when their content is what stands there.

    `feature_sets` maps set names to feature names; each that has some becomes a wide view `features_<set>`.
    One writer at a time: a second one waits for the first. A part that is replaced meanwhile is taken as it then is.

    Raises:
        FileNotFoundError: a part is gone; nothing is swapped in.
    """
    started = time.perf_counter()
    sets = {name: columns for name, given in (feature_sets or {}).items() if (columns := tuple(given))}
    target, folder = snapshot_path(store), store.root / "snapshots"
    folder.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(store.root / ".snapshot.lock"):
        content = _digest(parts, sets)
        versioned = folder / f"{content}.duckdb"
        rebuilt = not versioned.exists()
        if rebuilt:
            with _workplace(folder) as workplace:
                parts = _pinned(parts, workplace)
                content = _digest(parts, sets)
                versioned = folder / f"{content}.duckdb"
                made = workplace / versioned.name
                _fill(made, store.corpus, parts, sets)
                made.chmod(0o444)
                put_in_place(made, versioned)
        quarantined = _set_aside_foreign_wal(target)
        if latest_snapshot(store) != versioned:  # an earlier content has come back: it is the newest again
            os.utime(versioned)
        if rebuilt or not target.exists() or not filecmp.cmp(target, versioned, shallow=False):
            with published(target) as temporary:
                shutil.copyfile(versioned, temporary)
                temporary.chmod(0o444)
    rows = {t: sum(p.n_rows for p in parts.get(t, ())) for t in TABLES}
    return Snapshot(target, content, rows, time.perf_counter() - started, rebuilt, quarantined)


def _digest(parts: Mapping[str, Sequence[Part]], sets: Mapping[str, tuple[str, ...]]) -> str:
    """The hash of a snapshot's content."""
    of_table = {t: [(p.name, p.content_hash) for p in parts.get(t, ())] for t in TABLES}
    return digest(of_table, VIEWS, sets, READABLE_SINCE, duckdb.__version__)


@contextmanager
def _workplace(folder: Path) -> Iterator[Path]:
    """A new folder in `folder`, gone afterwards with whatever is in it, such as the log of a file that is not whole."""
    workplace = folder / f".{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp"
    workplace.mkdir()
    try:
        yield workplace
    finally:
        shutil.rmtree(workplace)


def _pinned(parts: Mapping[str, Sequence[Part]], workplace: Path) -> dict[str, list[Part]]:
    """The parts under names of their own, and as they now are: DuckDB opens a file several times, and would mix the
    rows of one that is replaced meanwhile with those of the other.
    """
    found: dict[str, list[Part]] = {}
    for table, of_table in parts.items():
        for number, part in enumerate(of_table):
            path = workplace / f"{table}.{number}.parquet"
            link(part.path, path)
            pin = read_footer(table, part.name, path)
            assert pin is not None, f"{path} was linked"
            found.setdefault(table, []).append(pin)
    return found


def _fill(path: Path, corpus: str, parts: Mapping[str, Sequence[Part]], sets: Mapping[str, tuple[str, ...]]) -> None:
    with duckdb.connect() as connection:
        connection.execute(f"ATTACH '{_quoted(str(path))}' AS snapshot (STORAGE_VERSION '{READABLE_SINCE}')")
        connection.execute("USE snapshot")
        # Rows of a table have no order of their own; not keeping that of the files is a third faster.
        connection.execute("SET preserve_insertion_order = false")
        for name, table in TABLES.items():
            schema = table.arrow_schema
            declared = ", ".join(f'"{f.name}" {SQL_TYPES[f.type]}{"" if f.nullable else " NOT NULL"}' for f in schema)
            connection.execute(f'CREATE TABLE "{name}" (corpus VARCHAR NOT NULL, {declared})')
            connection.execute(f"COMMENT ON TABLE \"{name}\" IS '{_quoted(table.description)}'")
            for column, c in table.columns.items():
                connection.execute(f'COMMENT ON COLUMN "{name}"."{column}" IS \'{_quoted(c.description)}\'')
            files = [str(p.path) for p in parts.get(name, ())]
            if files:
                columns = ", ".join(f'"{c}"' for c in table.columns)
                connection.execute(
                    f'INSERT INTO "{name}" SELECT ?, {columns} FROM read_parquet(?, hive_partitioning = false)',
                    [corpus, files],
                )
        for name, query in VIEWS.items():
            connection.execute(f"CREATE VIEW {name} AS {query}")
        for name, features in sets.items():
            chosen = ", ".join(f"max(value) FILTER (feature = '{_quoted(f)}') AS {_identifier(f)}" for f in features)
            listed = ", ".join(f"'{_quoted(f)}'" for f in features)
            connection.execute(
                f"CREATE VIEW {_identifier(f'features_{name}')} AS SELECT corpus, clip, {chosen} FROM features"
                f" WHERE feature IN ({listed}) AND rendering IN ('midi', '{DEFAULT_RENDERING}') GROUP BY corpus, clip"
            )


def _quoted(text: str) -> str:
    """The inside of a string literal."""
    return text.replace("'", "''")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _set_aside_foreign_wal(target: Path) -> tuple[Path, ...]:
    """Move away a write-ahead log that a dead read-write user left; under a new file, DuckDB would refuse it."""
    wal = target.with_name(target.name + ".wal")
    if not wal.exists():
        return ()
    away = target.parent / "quarantine" / f"{wal.name}.{time.time_ns()}"
    away.parent.mkdir(parents=True, exist_ok=True)
    os.replace(wal, away)
    return (away,)


def latest_snapshot(store: Store) -> Path:
    """The newest versioned snapshot.

    Raises:
        FileNotFoundError: nothing was materialized yet; the message says what to do.
    """
    found = sorted((store.root / "snapshots").glob("*.duckdb"), key=lambda p: p.stat().st_mtime_ns)
    if not found:
        raise FileNotFoundError(f"no snapshot in {store.root}: run `make run`, or materialize the asset `warehouse`")
    return found[-1]


def query(store: Store, sql: str) -> pd.DataFrame:
    """Run one query on the newest snapshot. Reading cannot change it, and never waits for a writer.

    The query can reach nothing but the snapshot: no file of the machine, no network.

    Raises:
        QueryError: what DuckDB has against the query, or that it returns no rows because it is empty.
    """
    with duckdb.connect(str(latest_snapshot(store)), read_only=True, config=READING) as connection:
        found = connection.sql(sql)
        if found is None:
            raise duckdb.InvalidInputException(f"the query is empty, or returns no table: {sql!r}")
        return found.df()
