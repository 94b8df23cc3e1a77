"""Many writers and readers at once: 16 processes publish parts, four of them build snapshots, 8 read all the while.

    python -m benchmarks.contention [--seconds 120]

Required: no error, every read whole, and a reader's 99th percentile of the time to open the newest snapshot and ask it
one thing at most twice that under the same load of the processors without any file. For that baseline the same readers
run beside 16 processes that do the writers' work in memory, each held to the share of a processor that its writer took.
Loaded and baseline take turns. Results go to `benchmarks/results/contention.json`.
"""

import argparse
import hashlib
import io
import itertools
import json
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.environment import environment
from benchmarks.wholeness import Broken, require_whole
from piano_assets.dimensions import NAMES
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Store
from piano_assets.store.warehouse import all_parts, build_snapshot, latest_snapshot, snapshot_path

RESULT = Path(__file__).parent / "results" / "contention.json"
WRITERS, BUILDERS, READERS = 16, 4, 8
N_CLIPS, OWN, SHARED = 100, 4, 4
"""Clips of a part; parts that one writer alone writes; parts that all write."""
ROWS = N_CLIPS * len(NAMES)
GOAL_RATIO = 2.0


def frame(name: str, value: float) -> pd.DataFrame:
    """A part of labels that are all `value`: torn or mixed content shows."""
    clips = np.repeat([f"{name}_{i}" for i in range(N_CLIPS)], len(NAMES))
    rows = {"clip": clips, "dimension": np.tile(NAMES, N_CLIPS), "rule": "clean", "value": value}
    return pd.DataFrame(rows | {"standard_error": None, "n_raters": 3})


# ----------------------------------------------------------------------------------------------------- what each does


def write(store: Store, number: int, seconds: float, snapshots: bool) -> dict:
    """Publish parts, own ones and shared ones in turn, and with `snapshots` build one after every other part."""
    names = [*(f"w{number}.{i}" for i in range(OWN)), *(f"shared.{i}" for i in range(SHARED))]
    built = 0

    def work(n: int) -> None:
        nonlocal built
        name = names[n % len(names)]
        store.write("labels", frame(name, (n * WRITERS + number) % 9973 / 9973), key=f"{number}.{n}", name=name)
        if snapshots and n % 2:
            built += build_snapshot(store, all_parts(store)).rebuilt

    return repeated(work, seconds) | {"snapshots": built}


def burn(number: int, seconds: float, snapshots: bool, share: float) -> dict:
    """What `write` computes, in memory, held to `share` of a processor."""
    connection = duckdb.connect()

    def work(n: int) -> None:
        started, before = time.perf_counter(), time.process_time()
        table = TABLES["labels"].conform(frame(f"w{number}.0", n % 9973 / 9973))
        hashlib.sha256(pa.ipc.serialize_pandas(table.to_pandas()))
        pq.write_table(table, io.BytesIO(), compression="zstd")
        if snapshots and n % 2:
            connection.execute("CREATE OR REPLACE TABLE t AS SELECT hash(i) AS h FROM range(500000) AS r(i)")
        used = time.process_time() - before
        time.sleep(max(0.0, used / share - (time.perf_counter() - started)))

    return repeated(work, seconds)


def read(store: Store, number: int, seconds: float) -> dict:
    """Open the newest snapshot and count, by its hash and by its name in turn; see that it is whole; read a part."""
    rng, opened = random.Random(number), []

    def work(n: int) -> None:
        started = time.perf_counter()
        path = latest_snapshot(store) if n % 2 else snapshot_path(store)
        with duckdb.connect(str(path), read_only=True) as connection:
            connection.sql("SELECT count(*) FROM labels").fetchall()
            opened.append(1000 * (time.perf_counter() - started))
            require_whole_snapshot(connection)
        name = f"shared.{rng.randrange(SHARED)}"
        rows = store.read("labels", name)
        if len(rows) != ROWS or rows["value"].nunique() != 1:
            raise Broken(f"part {name}: {len(rows)} rows, {rows['value'].nunique()} values")

    return repeated(work, seconds) | {"open_ms": opened}


def repeated(work: Callable[[int], None], seconds: float) -> dict:
    """Call `work(n)` until the time is over; an error is written down and the work goes on."""
    errors: list[str] = []
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        try:
            work(done)
        except Exception:  # noqa: BLE001 - whatever it is, it is what is counted
            errors.append(traceback.format_exc(limit=-3))
        done += 1
    wall = time.perf_counter() - started
    return {"done": done, "errors": errors, "processor_share": time.process_time() / wall}


def require_whole_snapshot(connection: duckdb.DuckDBPyConnection) -> int:
    """Every part in a snapshot has all its rows, of one writing. Returns how many parts.

    Raises:
        Broken: one has not; it is named.
    """
    found = connection.sql(
        "SELECT split_part(clip, '_', 1) AS name, count(*), count(DISTINCT value) FROM labels GROUP BY name"
    ).fetchall()
    for name, rows, values in found:
        if (rows, values) != (ROWS, 1):
            raise Broken(f"snapshot: part {name} has {rows} rows of {values} writings, must be {ROWS} of 1")
    return len(found)


def read_everything(store: Store) -> dict[str, int]:
    """Read every part and, where there is one, the snapshot under both names. Returns how many there are."""
    parts = sum(require_whole(store).values())
    snapshots = list((store.root / "snapshots").glob("*.duckdb"))
    named = [latest_snapshot(store)] if snapshots else []
    for path in [*named, *(p for p in [snapshot_path(store)] if p.exists())]:
        with duckdb.connect(str(path), read_only=True) as connection:
            require_whole_snapshot(connection)
    return {"parts": parts, "snapshots": len(snapshots)}


# ----------------------------------------------------------------------------------------------------------- together


def prepare(store: Store) -> None:
    """Every shared part, and a first snapshot."""
    for i in range(SHARED):
        store.write("labels", frame(f"shared.{i}", 0.5), key="first", name=f"shared.{i}")
    for i in range(OWN * WRITERS):
        name = f"w{i // OWN}.{i % OWN}"
        store.write("labels", frame(name, 0.5), key="first", name=name)
    build_snapshot(store, all_parts(store))


def together(root: Path, seconds: float, writers: int, builders: int, readers: int, shares: list[float]) -> dict:
    """All at once, each a process; with `shares` processes that burn in place of those that write."""
    numbered = [(i, i < builders) for i in range(writers)]
    doing = [["--burn", str(share)] if shares else ["--write", str(root)] for _, share in _with(numbered, shares)]
    commands = [
        [*do, "--number", str(i), *(["--snapshots"] if builds else [])]
        for do, (i, builds) in zip(doing, numbered, strict=True)
    ]
    commands += [["--read", str(root), "--number", str(i)] for i in range(readers)]
    base = [sys.executable, "-m", "benchmarks.contention", "--seconds", str(seconds)]
    processes = [subprocess.Popen([*base, *c], stdin=-1, stdout=-1, text=True) for c in commands]
    for process in processes:
        process.stdout.readline()  # its imports are done
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [json.loads(process.communicate(timeout=seconds + 120)[0]) for process in processes]
    return {"writers": said[:writers], "readers": said[writers:]}


def _with(numbered: list, shares: list[float]) -> list[tuple]:
    return list(itertools.zip_longest(numbered, shares))


def summary(found: dict) -> dict:
    """Counts, and the readers' times."""
    opened = np.concatenate([reader["open_ms"] for reader in found["readers"]])
    everybody = [*found["writers"], *found["readers"]]
    errors = [e for one in everybody for e in one["errors"]]
    return {
        "parts_written": sum(w["done"] for w in found["writers"]),
        "snapshots_built": sum(w.get("snapshots", 0) for w in found["writers"]),
        "opens": len(opened),
        "errors": len(errors),
        "first_errors": errors[:3],
        "processors_used": round(sum(one["processor_share"] for one in everybody), 2),
        "processors_used_by_writers": round(sum(w["processor_share"] for w in found["writers"]), 2),
        "open_ms": {
            **{f"p{q}": round(float(np.percentile(opened, q)), 1) for q in (50, 95, 99)},
            "max": round(float(opened.max()), 1),
        },
    }


def measured(folder: Path, seconds: float, turns: int) -> dict:
    sizes = WRITERS, BUILDERS, READERS
    loaded, baseline = [], []
    for turn in range(turns):
        root = folder / f"turn{turn}" / "synthetic"
        prepare(Store(root))
        found = together(root, seconds / turns, *sizes, [])
        read_everything(Store(root))
        loaded.append(found)
        shares = [max(0.005, w["processor_share"]) for w in found["writers"]]
        still = folder / f"still{turn}" / "synthetic"
        prepare(Store(still))
        baseline.append(together(still, seconds / turns, *sizes, shares))
        for name, one in (("loaded", loaded[-1]), ("baseline", baseline[-1])):
            print(name, json.dumps(summary(one), indent=2), flush=True)
    result = {name: summary(_merged(turns)) for name, turns in (("loaded", loaded), ("baseline", baseline))}
    ratio = result["loaded"]["open_ms"]["p99"] / result["baseline"]["open_ms"]["p99"]
    return {
        "writers": WRITERS,
        "of_which_build_snapshots": BUILDERS,
        "readers": READERS,
        "seconds": seconds,
        **result,
        "p99_ratio": round(ratio, 2),
        "goal_ratio": GOAL_RATIO,
    }


def _merged(turns: list[dict]) -> dict:
    """Several turns as one, processor shares as their mean."""
    found: dict = {"writers": [], "readers": []}
    for turn in turns:
        for who in found:
            found[who] += [one | {"processor_share": one["processor_share"] / len(turns)} for one in turn[who]]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of the load, and as many of the baseline")
    parser.add_argument("--turns", type=int, default=4, help="in which they are taken")
    for hidden in ("--write", "--read"):
        parser.add_argument(hidden, type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--burn", type=float, help=argparse.SUPPRESS)
    parser.add_argument("--number", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--snapshots", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.number is not None:  # one of many, who wait for each other
        print("ready", flush=True)
        sys.stdin.readline()
    number = given.number or 0
    if given.write:
        print(json.dumps(write(Store(given.write), number, given.seconds, given.snapshots)))
    elif given.read:
        print(json.dumps(read(Store(given.read), number, given.seconds)))
    elif given.burn:
        print(json.dumps(burn(number, given.seconds, given.snapshots, given.burn)))
    else:
        seconds = 120.0 if given.seconds == float("inf") else given.seconds
        with tempfile.TemporaryDirectory() as folder:
            result = {"environment": environment(), **measured(Path(folder), seconds, given.turns)}
        RESULT.write_text(json.dumps(result, indent=2) + "\n")
        print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
