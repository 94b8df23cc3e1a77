"""What lies in the data folder and nobody reads any more: shown by `piano gc`, removed if asked.

Predictions of everything are kept, those of retired arms too; so are the checkpoints of what stands. What goes is what
a killed process left, what another training has replaced, and snapshots that were followed by newer ones.
"""

import json
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from piano_assets.defs import planner
from piano_assets.defs.current import PROBED, TRIAL_TABLES
from piano_assets.defs.status import running
from piano_assets.store.parts import Store
from piano_assets.training import data

GRACE_S = 3600.0
"""What was touched within the last hour may belong to a process that is at work on it."""
DAYS = 7.0
LEFT_BEHIND = (".*.tmp", ".*.tmp.wal", ".*.old")
"""Names of files and folders before they are put in their place, and of DuckDB's log of a snapshot that is filled."""


@dataclass(frozen=True)
class Rubbish:
    """A file or folder that can go, how large it is, and why it can."""

    path: Path
    n_bytes: int
    reason: str


def rubbish(store: Store, instance: dg.DagsterInstance, days: float = DAYS, now: float | None = None) -> list[Rubbish]:
    """All that can go, in the order of paths; nothing that a run in progress holds.

    days: how long states of unfinished trainings and old snapshots are kept. now: seconds since 1970.
    """
    now = time.time() if now is None else now
    busy = {planner.parse_partition(partition) for partition in running(store, instance)}
    kept = standing_keys(store)
    found: dict[Path, str] = {}
    for path, reason in (*_left_behind(store), *_checkpoints(store, kept, busy), *_orphans(store, kept, busy)):
        if now - _touched(path) > GRACE_S:
            found[path] = reason
    for path, reason in (*_work(store), *_snapshots(store)):
        age = (now - _touched(path)) / 86400
        if age > max(days, GRACE_S / 86400):
            found[path] = f"{reason}, untouched for {age:.0f} days"
    return [Rubbish(path, _size(path), found[path]) for path in sorted(found)]


def remove(store: Store, items: Iterable[Rubbish]) -> None:
    """Remove them; links are removed, never followed.

    Raises:
        ValueError: a path outside the store.
    """
    root = store.root.resolve()
    for item in items:
        if not (item.path.parent.resolve() / item.path.name).is_relative_to(root):
            raise ValueError(f"{item.path} lies outside {root}: it is not removed")
        if item.path.is_dir() and not item.path.is_symlink():
            shutil.rmtree(item.path)
        else:
            item.path.unlink(missing_ok=True)


def standing_keys(store: Store) -> set[str]:
    """Keys of everything that stands, in every way in which it was trained."""
    return {r.key for t in planner.owed(store) for r in data.standing(t.trial, t.config, t.seed, store)}


def _left_behind(store: Store) -> Iterator[tuple[Path, str]]:
    for pattern in LEFT_BEHIND:
        for path in store.root.rglob(pattern):
            yield path, "left by a process that was killed while it wrote"


def _checkpoints(store: Store, kept: set[str], busy: set[tuple[str, int]]) -> Iterator[tuple[Path, str]]:
    """Models of partitions that do not stand as these were trained."""
    for folder in sorted((store.root / "checkpoints").glob("*/[0-9]*.*")):
        seed = folder.name.partition(".")[0]
        if (folder.parent.name, int(seed)) in busy:
            continue
        records = sorted(folder.glob("*/record.json"))
        key = json.loads(records[0].read_text())["part_key"] if records else None
        if key not in kept:
            yield folder, f"checkpoints of a training that no longer stands (key {key})"


def _orphans(store: Store, kept: set[str], busy: set[tuple[str, int]]) -> Iterator[tuple[Path, str]]:
    """Parts that belong to no finished run: of a publication that was cut off, or of a model that is gone.

    What a run vouches for stays, whether or not it still stands: a retired arm's predictions are kept.
    """
    vouched = {(run.name, run.key) for run in store.parts("runs")}
    for table in (*TRIAL_TABLES, *PROBED):
        for part in store.parts(table):
            if "run" in part.record:
                if part.record["run"] not in kept:
                    yield part.path, "of a probe, whose model no longer stands"
                continue
            config, _, rest = part.name.partition("/")
            seed = rest.partition(".")[0]
            if "." not in config or not seed.isdecimal() or (config, int(seed)) in busy:
                continue  # made of others, or of altered clips, or being written
            if (part.name, part.key) not in vouched:
                yield part.path, "published without the run that vouches for it"


def _work(store: Store) -> Iterator[tuple[Path, str]]:
    for folder in sorted((store.root / "work").glob("*")):
        yield folder, "state of a training that was not finished"


def _snapshots(store: Store) -> Iterator[tuple[Path, str]]:
    every = sorted((store.root / "snapshots").glob("*.duckdb"), key=_touched)
    for path in every[:-1]:
        yield path, "an old snapshot"


def _touched(path: Path) -> float:
    """When a file, or anything in a folder, was last written."""
    return max((p.lstat().st_mtime for p in [path, *_inside(path)]), default=0.0)


def _size(path: Path) -> int:
    return sum(p.lstat().st_size for p in [path, *_inside(path)] if not p.is_dir())


def _inside(path: Path) -> list[Path]:
    return list(path.rglob("*")) if path.is_dir() and not path.is_symlink() else []
