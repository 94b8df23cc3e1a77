"""Time the store: is a partition done, rebuild a snapshot of 7 million predictions, query and open it.

    python -m benchmarks.store [--parts 307]

The rebuild's peers get the same parts in the same run: pandas.concat of all of them and one `CREATE TABLE AS` from the
frame, and one INSERT per part. Each repeat takes the three in turn, each in a fresh process, and gives both clocks:
on a shared machine processor seconds are those to compare. Goals: 10 ms to find that a partition is done, 5 s for the
rebuild, 50 ms for the leaderboard. Results go to `benchmarks/results/store.json`.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd

from benchmarks.environment import environment
from piano_assets.catalogue.comparisons import catalogue
from piano_assets.dimensions import NAMES
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Part, Store, read_part
from piano_assets.store.warehouse import all_parts, build_snapshot, latest_snapshot, query

RESULT = Path(__file__).parent / "results" / "store.json"
N_CLIPS = 1202
"""A part of every clip and dimension has 22,838 rows, as on PercePiano."""
SEEDS, REPEATS, QUERIES, READERS = 5, 3, 20, 8


# ---------------------------------------------------------------------------------------------- a store as it would be


def predictions(subject: str, rng: np.random.Generator) -> pd.DataFrame:
    """One part: (1202 * 19) test predictions in five folds."""
    clip = np.repeat(np.arange(N_CLIPS), len(NAMES))
    return pd.DataFrame(
        {
            "subject": subject,
            "split": "cluster",
            "repeat": 0,
            "fold": clip % 5,
            "inner_fold": None,
            "clip": pd.Series([f"Schubert_D935_no.3_4bars_{i % 97}_{i:04d}" for i in range(N_CLIPS)]).to_numpy()[clip],
            "dimension": np.tile(list(NAMES), N_CLIPS),
            "role": "test",
            "condition": "clean",
            "tuning": "fixed",
            "value": rng.uniform(0.2, 0.9, len(clip)).astype(np.float32),
            "std": np.float32(np.nan),
        }
    )


def fill(store: Store, n_parts: int) -> None:
    """`n_parts` prediction parts and a leaderboard of as many subjects, and what a trial's key is made of."""
    rng = np.random.default_rng(0)
    first = predictions("subject_000|0", rng)
    part = store.write("predictions", first, key="0", name="subject_000/0")
    table = read_part(part)
    for i in range(1, n_parts):
        # The declaration was checked on the first part; the others differ in subject and value only.
        subject = f"subject_{i // SEEDS:03d}|{i % SEEDS}"
        values = rng.uniform(0.2, 0.9, len(first)).astype(np.float32)
        copy_part(store, table, part, f"subject_{i // SEEDS:03d}/{i % SEEDS}", subject, values)
    store.write("leaderboard_trials", board(n_parts), key="0")


def copy_part(store: Store, table, like: Part, name: str, subject: str, values: np.ndarray) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = TABLES["predictions"].arrow_schema
    table = table.set_column(0, schema.field("subject"), pa.array([subject] * len(table)))
    table = table.set_column(table.column_names.index("value"), schema.field("value"), pa.array(values))
    meta = json.dumps({"key": name, "content_hash": name, "record": like.record})
    path = store.path("predictions", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({b"piano": meta.encode()}), path, compression="zstd")


def board(n_subjects: int) -> pd.DataFrame:
    """A leaderboard of `n_subjects` on two protocols."""
    rng, columns = np.random.default_rng(1), TABLES["leaderboard_trials"].columns
    rows = []
    for split, rule in (("cluster", "clean"), ("percepiano_performer", "published")):
        for i in range(n_subjects):
            row: dict = dict.fromkeys(columns)
            row |= {c: rng.uniform(0.3, 0.6) for c, d in columns.items() if d.type == "float"}
            row |= {"split": split, "rule": rule, "subject": f"subject_{i:03d}", "rank": i + 1, "n_seeds": 5}
            row |= {"kind": "arm", "family": "ridge", "budget": "full", "tuning": "fixed", "complete": True}
            row |= {"aggregation": "pooled" if split == "cluster" else "mean_of_folds"}
            rows.append(row)
    return pd.DataFrame(rows).astype({"rank": "Int32"})


def fill_inputs(store: Store) -> None:
    """What the keys of the catalogue's trials are made of (small: only footers are read) and every finished run."""
    from piano_assets.training.data import PUBLISHED, part_key, part_name, part_names

    for trial in catalogue().values():
        for table, name in part_names(trial):
            if store.part(table, name) is None:
                store.write(table, TABLES[table].empty(), key=name, name=name)
    for config, trial in catalogue().items():
        for seed in range(SEEDS):
            name, key = part_name(trial, config, seed), part_key(trial, seed, store)
            for table in (*PUBLISHED, "runs"):
                store.write(table, TABLES[table].empty(), key=key, name=name)


# ------------------------------------------------------------------------------------------------------------- timings


def milliseconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - started)


def spread(values: list[float]) -> dict:
    return {
        "median": round(statistics.median(values), 2),
        "least": round(min(values), 2),
        "most": round(max(values), 2),
        "n": len(values),
    }


def done_ms(store: Store) -> dict:
    """Ask of every partition of the catalogue whether it stands, three times; then all at once as the planner does."""
    from piano_assets.defs.planner import Task, missing, standing

    tasks = [Task(config, seed, trial) for config, trial in catalogue().items() for seed in range(SEEDS)]
    assert all(standing(store, t) is not None for t in tasks), "the scene is set only if every partition is done"
    each = [milliseconds(lambda t=t: standing(store, t)) for _ in range(REPEATS) for t in tasks]
    whole = [milliseconds(lambda: missing(store, tasks)) for _ in range(REPEATS)]
    return {
        "partitions": len(tasks),
        "ms_a_partition": spread(each),
        "ms_whole_catalogue": spread(whole),
        "goal_ms_a_partition": 10,
    }


def rebuild_ours(store: Store) -> None:
    build_snapshot(store, all_parts(store))


def rebuild_concat(store: Store) -> None:
    with duckdb.connect(str(store.root / "peer.duckdb")) as connection:
        df = pd.concat([pd.read_parquet(p.path, partitioning=None) for p in store.parts("predictions")])
        connection.execute("CREATE TABLE predictions AS SELECT * FROM df")
        assert len(df) > 0


def rebuild_inserts(store: Store) -> None:
    with duckdb.connect(str(store.root / "peer.duckdb")) as connection:
        parts = list(store.parts("predictions"))
        connection.execute("CREATE TABLE predictions AS FROM read_parquet(?)", [str(parts[0].path)])
        for part in parts[1:]:
            connection.execute("INSERT INTO predictions FROM read_parquet(?)", [str(part.path)])


REBUILDS = {"ours": rebuild_ours, "pandas_concat": rebuild_concat, "insert_per_part": rebuild_inserts}


def rebuild_here(name: str, root: Path) -> dict:
    """One rebuild in this process: seconds on both clocks, and its peak memory."""
    store = Store(root)
    for file in [*(root / "snapshots").glob("*.duckdb"), *root.glob("*.duckdb")]:
        file.unlink()
    wall, processor = time.perf_counter(), time.process_time()
    REBUILDS[name](store)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"wall_s": wall, "processor_s": processor, "peak_memory_mb": peak}


def rebuild(root: Path) -> dict:
    """Ours and the peers in turn, each in a fresh process."""
    took: dict[str, list[dict]] = {name: [] for name in REBUILDS}
    for _ in range(REPEATS):
        for name in reversed(REBUILDS):  # ours last: its snapshot is what is queried next
            command = [sys.executable, "-m", "benchmarks.store", "--rebuild", name, "--root", str(root)]
            said = subprocess.run(command, check=True, capture_output=True, text=True)
            took[name].append(json.loads(said.stdout))
    found: dict = {"goal_wall_s": 5}
    for name in REBUILDS:
        found[name] = {measure: spread([t[measure] for t in took[name]]) for measure in took[name][0]}
    for name in REBUILDS:
        if name != "ours":
            ratios = [p["processor_s"] / o["processor_s"] for o, p in zip(took["ours"], took[name], strict=True)]
            found[name]["processor_ratio_to_ours"] = round(statistics.median(ratios), 2)
    return found


def leaderboard_ms(store: Store) -> dict:
    """The view `leaderboard` as a frame: with opening the file, and on an open connection."""
    including = [milliseconds(lambda: query(store, "FROM leaderboard")) for _ in range(QUERIES)]
    with duckdb.connect(str(latest_snapshot(store)), read_only=True) as connection:
        excluding = [milliseconds(lambda: connection.sql("FROM leaderboard").df()) for _ in range(QUERIES)]
        rows = len(connection.sql("FROM leaderboard").df())
    return {"rows": rows, "with_opening": spread(including), "opened": spread(excluding), "goal_ms": 50}


_READER = """
import duckdb, json, sys, time
sys.stdin.readline()
took = []
for _ in range(20):
    started = time.perf_counter()
    with duckdb.connect(sys.argv[1], read_only=True) as c:
        c.sql("SELECT count(*) FROM clips").fetchall()
    took.append(1000 * (time.perf_counter() - started))
print(json.dumps(took))
"""


def readers_ms(store: Store) -> dict:
    """Open, ask one thing and close, 20 times in each of 8 processes that start together."""
    command = [sys.executable, "-c", _READER, str(latest_snapshot(store))]
    readers = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(READERS)]
    for reader in readers:
        reader.stdin.write("\n")
        reader.stdin.flush()
    took = [t for reader in readers for t in json.loads(reader.communicate(timeout=300)[0])]
    return {"processes": READERS, "open_ms": spread(took)}


def measured(root: Path, n_parts: int) -> Iterator[tuple[str, dict]]:
    keys = Store(root / "done" / "synthetic")
    fill_inputs(keys)
    yield "finished_partition", done_ms(keys)
    store = Store(root / "rebuild" / "synthetic")
    fill(store, n_parts)
    rows = sum(p.n_rows for p in store.parts("predictions"))
    megabytes = round(sum(p.path.stat().st_size for p in store.parts("predictions")) / 2**20)
    yield "rebuild", {"parts": n_parts, "rows": rows, "parts_mb": megabytes, **rebuild(store.root)}
    yield "snapshot", {"mb": round(latest_snapshot(store).stat().st_size / 2**20)}
    yield "leaderboard", leaderboard_ms(store)
    yield "readers", readers_ms(store)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=307, help="prediction parts of 22,838 rows")
    parser.add_argument("--rebuild", choices=REBUILDS, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.rebuild:
        print(json.dumps(rebuild_here(arguments.rebuild, arguments.root)))
        return
    result: dict = {"environment": environment()}
    with tempfile.TemporaryDirectory() as folder:
        for name, found in measured(Path(folder), arguments.parts):
            result[name] = found
            print(name, json.dumps(found, indent=2), flush=True)
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
