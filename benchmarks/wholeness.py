"""What must hold of a store whoever writes it and whoever is killed: every part is whole, what was published stays.

Shared by `benchmarks.chaos`, `benchmarks.chaos_dagster`, `benchmarks.contention` and the short forms in the tests.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from piano_assets.schemas import TABLES
from piano_assets.store.checkpoints import checkpoint_folder
from piano_assets.store.parts import Store, read_part

TRAINED = ("predictions", "history", "members", "runs")
TIMINGS = ["seconds", "peak_memory_mb", "finished_at"]
"""Columns that differ between two runs of the same: time and memory."""


@dataclasses.dataclass(frozen=True)
class State:
    """A file as it stands: inode, time of its last change in ns, sha256 of its content."""

    inode: int
    mtime_ns: int
    sha256: str


class Broken(AssertionError):
    """A rule of the store that does not hold; the message names the file."""


def state(path: Path) -> State:
    found = path.stat()
    return State(found.st_ino, found.st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())


def finished(store: Store) -> dict[Path, State]:
    """Every file of every finished partition (one whose `runs` part stands): its parts and its models."""
    found: dict[Path, State] = {}
    for run in store.parts("runs"):
        paths = [store.path(table, run.name) for table in TRAINED]
        paths += [p for p in checkpoint_folder(store.root, run.name).rglob("*") if p.is_file()]
        found |= {path: state(path) for path in paths}
    return found


def require_unchanged(before: dict[Path, State]) -> None:
    """Raise Broken for a file that was written again, or is gone."""
    for path, was in before.items():
        if not path.exists() or state(path) != was:
            raise Broken(f"{path} was published and is not as it was: {was}")


def require_whole(store: Store) -> dict[str, int]:
    """Read every page of every part of every table. Returns parts by table.

    Raises:
        Broken: a part has not the rows that its footer says. pyarrow.ArrowInvalid: a file that was cut.
    """
    counts: dict[str, int] = {}
    for table in TABLES:
        for part in store.parts(table):
            rows = read_part(part)
            if len(rows) != part.n_rows or tuple(rows.column_names) != part.columns:
                raise Broken(f"{part.path}: its rows are not those of its footer")
            counts[table] = counts.get(table, 0) + 1
        store.read(table)
    return counts


def tables(store: Store) -> dict[str, pd.DataFrame]:
    """What a sweep left, by table, in one order, without time and memory."""
    found = {}
    for table in TRAINED:
        frame = store.read(table)
        frame = frame.drop(columns=[c for c in TIMINGS if c in frame])
        found[table] = frame.sort_values(list(frame.columns), ignore_index=True)
    return found


def require_equal(store: Store, reference: dict[str, pd.DataFrame]) -> None:
    """Raise Broken where a table differs from the reference's in a single value."""
    for table, frame in tables(store).items():
        try:
            pd.testing.assert_frame_equal(frame, reference[table], check_exact=True)
        except AssertionError as error:
            raise Broken(f"table {table} differs from that of an uninterrupted sweep: {error}") from error


def left_behind(folder: Path) -> set[Path]:
    """Temporary files and folders: what somebody writes, or was writing when he was killed."""
    return set(_temporaries(str(folder)))


def _temporaries(folder: str) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith(".") and (".tmp" in entry.name or entry.name.endswith(".old")):
                    yield Path(entry.path)
                elif entry.is_dir(follow_symlinks=False):
                    yield from _temporaries(entry.path)
    except FileNotFoundError:
        return  # a folder that was renamed or removed while it was looked through
