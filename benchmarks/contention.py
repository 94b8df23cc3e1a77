"""Many write and many read at once: 16 writers and 8 readers on one store, beside the same load without files.

    python -m benchmarks.contention [--seconds 120] [--writers 16] [--readers 8] [--peer PEERS/bin/python]

Twelve writers publish a part of predictions each, as fast as they can; four build snapshots of whatever stands and swap
them in. Readers open the newest snapshot, ask every subject's rows of it, and read a part, over and over. A subject's
rows say which generation they are of and how many there must be, so that a half-written or mixed table shows: such a
finding, and every exception, is an error.

What an open costs on a loaded machine is mostly the load. So the same readers open a snapshot that nobody changes while
the same number of processes do the writers' work in memory: rows validated, hashed and packed, tables built in a DuckDB
without a file, one builder at a time as under the lock. That baseline runs half before and half after. Goal: no error,
and the 99th percentile of the time to open (find the newest snapshot, connect, ask a count) at most twice the
baseline's. Shares of processor time of both loads stand beside, as they must be alike.
With `--peer` (a Python of the environment `peers.txt`) the same load then goes through dagster-duckdb's IO manager.
Results go to `benchmarks/results/contention.json`.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.environment import environment
from piano_assets.dimensions import NAMES
from piano_assets.schemas import TABLES
from piano_assets.store import parts as parts_of
from piano_assets.store.parts import Store
from piano_assets.store.warehouse import SQL_TYPES, all_parts, build_snapshot, latest_snapshot, query

RESULT = Path(__file__).parent / "results" / "contention.json"
PEER = Path(__file__).parent / "contention_peer.py"
BUILDERS_SHARE = 0.25
N_CLIPS, STEP, CYCLE = 100, 10, 7
READY_S = 3.0
"""Until all processes stand."""
EVERY_SUBJECT = "SELECT subject, count(*) AS n, min(value) AS low, max(value) AS high FROM predictions GROUP BY subject"


# ----------------------------------------------------------------------------------------- rows that show what they are


def rows(writer: int, generation: int) -> pd.DataFrame:
    """A writer's part: as many clips as its generation says, each value the generation itself."""
    n = N_CLIPS + STEP * (generation % CYCLE)
    return pd.DataFrame(
        {
            "subject": subject(writer),
            "split": "cluster",
            "repeat": np.int32(0),
            "fold": np.int32(0),
            "inner_fold": None,
            "clip": np.repeat([f"clip_{i:04d}" for i in range(n)], len(NAMES)),
            "dimension": np.tile(list(NAMES), n),
            "role": "test",
            "condition": "clean",
            "tuning": "fixed",
            "value": np.float32(generation),
            "std": np.float32("nan"),
        }
    )


def subject(writer: int) -> str:
    return f"writer.{writer:02d}|0"


def part_name(writer: int) -> str:
    return f"writer.{writer:02d}/0"


def publish(store: Store, writer: int, generation: int) -> None:
    store.write("predictions", rows(writer, generation), key=str(generation), name=part_name(writer))


def build(store: Store) -> None:
    build_snapshot(store, all_parts(store))


def whole(n: int, low: float, high: float) -> str | None:
    """What is wrong with a subject's rows, given how many there are and their least and greatest value."""
    if low != high:
        return f"generations {low:g} to {high:g} in one table"
    want = len(NAMES) * (N_CLIPS + STEP * (int(low) % CYCLE))
    return None if n == want else f"{n} rows of generation {low:g}, which has {want}"


# ----------------------------------------------------------------------------------------------- the work, file by file


@dataclass
class Done:
    """What one process did: pieces of work, milliseconds of each open, processor seconds, and what went wrong."""

    role: str
    n: int = 0
    opens_ms: list[float] = field(default_factory=list)
    processor_s: float = 0.0
    errors: list[str] = field(default_factory=list)


_LOCK: "multiprocessing.synchronize.Lock | None" = None


def _set_lock(lock: "multiprocessing.synchronize.Lock") -> None:
    global _LOCK
    _LOCK = lock


def work(role: str, root: Path, number: int, n_writers: int, start: float, seconds: float) -> Done:
    """One process's part in the load, from `start` (seconds since 1970) for so many seconds."""
    store, done = Store(root), Done(role)
    turn: Callable[[int], None] = {
        "writer": lambda i: publish(store, number, i + 1),
        "builder": lambda i: build(store),
        "burning_writer": lambda i: pack(number, i),
        "burning_builder": lambda i: fill_memory(n_writers, i),
        "reader": lambda i: read(store, done, (number + i) % n_writers),
    }[role]
    time.sleep(max(0.0, start - time.time()))
    began = time.process_time()
    while time.time() < start + seconds:
        try:
            turn(done.n)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            done.errors.append(f"{type(error).__name__}: {error}")
        done.n += 1
    done.processor_s = time.process_time() - began
    return done


def read(store: Store, done: Done, writer: int) -> None:
    """Open the newest snapshot (timed), ask every subject of it, and read one part."""
    started = time.perf_counter()
    with duckdb.connect(str(latest_snapshot(store)), read_only=True) as connection:
        connection.execute("SELECT count(*) FROM predictions").fetchall()
        done.opens_ms.append(1000 * (time.perf_counter() - started))
    for found in query(store, EVERY_SUBJECT).itertuples():
        if wrong := whole(found.n, found.low, found.high):
            done.errors.append(f"snapshot, {found.subject}: {wrong}")
    part = store.read("predictions", part_name(writer))
    if wrong := whole(len(part), part["value"].min(), part["value"].max()):
        done.errors.append(f"part {part_name(writer)}: {wrong}")


def pack(writer: int, generation: int) -> None:
    """What `Store.write` does, into memory."""
    table = TABLES["predictions"].conform(rows(writer, generation))
    parts_of._content_hash(table)
    pq.write_table(table, pa.BufferOutputStream(), compression="zstd")


def fill_memory(n_writers: int, generation: int) -> None:
    """What `build_snapshot` does, into memory; one at a time."""
    assert _LOCK is not None
    with _LOCK, duckdb.connect() as connection:
        connection.execute("ATTACH ':memory:' AS snapshot")
        connection.execute("USE snapshot")
        for name, table in TABLES.items():
            declared = ", ".join(f'"{f.name}" {SQL_TYPES[f.type]}' for f in table.arrow_schema)
            connection.execute(f'CREATE TABLE "{name}" ({declared})')
            for column, c in table.columns.items():
                quoted = c.description.replace("'", "''")
                connection.execute(f'COMMENT ON COLUMN "{name}"."{column}" IS \'{quoted}\'')
        found = TABLES["predictions"].conform(rows(0, generation))
        for _ in range(n_writers):
            connection.register("found", found)
            connection.execute("INSERT INTO predictions SELECT * FROM found")


# ------------------------------------------------------------------------------------------------------------- the load


def load(root: Path, n_writers: int, n_readers: int, seconds: float, files: bool = True) -> list[Done]:
    """Writers and readers together on the store at `root`; without files, writers do their work in memory."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.contention"])
    builders = max(1, round(BUILDERS_SHARE * n_writers))
    of = n_writers - builders
    names = ("writer", "builder") if files else ("burning_writer", "burning_builder")
    roles = [(names[0], i) for i in range(of)] + [(names[1], i) for i in range(builders)]
    roles += [("reader", i) for i in range(n_readers)]
    with ProcessPoolExecutor(len(roles), context, initializer=_set_lock, initargs=(context.Lock(),)) as pool:
        start = time.time() + READY_S
        return [f.result() for f in [pool.submit(work, role, root, i, of, start, seconds) for role, i in roles]]


def set_scene(root: Path, n_writers: int) -> Store:
    """A store in which every writer has published once."""
    store = Store(root)
    for writer in range(n_writers - max(1, round(BUILDERS_SHARE * n_writers))):
        publish(store, writer, 0)
    build(store)
    return store


def figures(found: list[Done], seconds: float) -> dict:
    """What a load did, how long opens took, and the share of the machine that each role had."""
    opens = np.concatenate([d.opens_ms for d in found if d.opens_ms])
    roles = dict.fromkeys(d.role for d in found)
    machine = seconds * (os.cpu_count() or 1)
    errors = [e for d in found for e in d.errors]
    return {
        "seconds": seconds,
        "processes": {role: sum(d.role == role for d in found) for role in roles},
        "turns": {role: sum(d.n for d in found if d.role == role) for role in roles},
        "processor_share": {
            role: round(sum(d.processor_s for d in found if d.role == role) / machine, 3) for role in roles
        },
        "opens": len(opens),
        "open_ms": {str(q): round(float(np.percentile(opens, q)), 1) for q in (50, 90, 99, 100)},
        "errors": len(errors),
        "first_errors": errors[:5],
    }


def together(loads: list[list[Done]]) -> list[Done]:
    return [d for found in loads for d in found]


def measured(root: Path, n_writers: int, n_readers: int, seconds: float) -> dict:
    """The load between two halves of its baseline."""
    store = set_scene(root / "tiny", n_writers)
    before = load(store.root, n_writers, n_readers, seconds / 2, files=False)
    ours = load(store.root, n_writers, n_readers, seconds)
    snapshots = len(list((store.root / "snapshots").glob("*.duckdb")))
    after = load(store.root, n_writers, n_readers, seconds / 2, files=False)
    result = {"ours": figures(ours, seconds), "without_files": figures(together([before, after]), seconds)}
    p99 = [result[name]["open_ms"]["99"] for name in ("ours", "without_files")]
    return result | {"snapshots": snapshots, "p99_ratio": round(p99[0] / p99[1], 2), "goal_p99_ratio": 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--readers", type=int, default=8)
    parser.add_argument("--peer", type=Path, help="Python of the environment benchmarks/peers.txt")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(Path(folder), given.writers, given.readers, given.seconds)
    result = {"environment": environment(), **found}
    if given.peer:
        sizes = [f"--{name}={getattr(given, name)}" for name in ("seconds", "writers", "readers")]
        said = subprocess.run([given.peer, PEER, *sizes], check=True, capture_output=True, text=True)
        result["dagster_duckdb"] = json.loads(said.stdout)
    print(json.dumps(result, indent=2))
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
