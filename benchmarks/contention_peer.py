"""The load of `contention.py` through dagster-duckdb's IO manager, in an environment of its own (`peers.txt`).

    python contention_peer.py --seconds 120 --writers 16 --readers 8

Every writer materializes the partition of its own subject over and over, its rows stored by `DuckDBPandasIOManager` in
one database file; readers open that file read-only, count (timed), and ask every subject's rows. An exception and a
table that is not whole is an error. Prints JSON. Nothing of this project is imported: it is not installed there.
"""

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import dagster as dg
import duckdb
import numpy as np
import pandas as pd
from dagster_duckdb_pandas import DuckDBPandasIOManager

N_DIMENSIONS, N_CLIPS, STEP, CYCLE = 19, 100, 10, 7
"""As in `contention.py`."""
READY_S = 6.0
EVERY_SUBJECT = "SELECT subject, count(*) AS n, min(value) AS low, max(value) AS high FROM predictions GROUP BY subject"


def rows(subject: str, generation: int) -> pd.DataFrame:
    """As many rows as `contention.rows`, each value the generation itself."""
    n = N_CLIPS + STEP * (generation % CYCLE)
    return pd.DataFrame(
        {
            "subject": subject,
            "split": "cluster",
            "repeat": np.int32(0),
            "fold": np.int32(0),
            "inner_fold": pd.Series([pd.NA] * (n * N_DIMENSIONS), dtype="Int32"),
            "clip": np.repeat([f"clip_{i:04d}" for i in range(n)], N_DIMENSIONS),
            "dimension": np.tile([f"dimension_{i:02d}" for i in range(N_DIMENSIONS)], n),
            "role": "test",
            "condition": "clean",
            "tuning": "fixed",
            "value": np.float32(generation),
            "std": np.float32("nan"),
        }
    )


def store(path: str, subject: str, subjects: list[str], generation: int) -> None:
    """Store one partition, as a run does."""

    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(subjects), metadata={"partition_expr": "subject"})
    def predictions() -> pd.DataFrame:
        return rows(subject, generation)

    dg.materialize(
        [predictions],
        partition_key=subject,
        resources={"io_manager": DuckDBPandasIOManager(database=path, schema="public")},
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def work(role: str, path: str, number: int, subjects: list[str], start: float, seconds: float) -> dict:
    """One process's part in the load."""
    opens: list[float] = []
    turns: list[float] = []
    errors: list[str] = []
    time.sleep(max(0.0, start - time.time()))
    while time.time() < start + seconds:
        began = time.perf_counter()
        try:
            if role == "writer":
                store(path, subjects[number], subjects, len(turns) + 1)
            else:
                with duckdb.connect(path, read_only=True) as connection:
                    connection.execute("SELECT count(*) FROM public.predictions").fetchall()
                    opens.append(1000 * (time.perf_counter() - began))
                    connection.execute("SET schema = 'public'")
                    for _, n, low, high in connection.execute(EVERY_SUBJECT).fetchall():
                        if low != high or n != N_DIMENSIONS * (N_CLIPS + STEP * (int(low) % CYCLE)):
                            errors.append("a table that is not whole")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            what = str(error).splitlines()[0].partition('"')[0].strip()  # without the path that follows
            errors.append(f"{type(error).__name__}: {what}")
        turns.append(1000 * (time.perf_counter() - began))
    return {"role": role, "turns_ms": turns, "opens_ms": opens, "errors": errors}


def percentiles(values: list[float]) -> dict[str, float] | None:
    return {str(q): round(float(np.percentile(values, q)), 1) for q in (50, 90, 99, 100)} if values else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--writers", type=int, default=16)
    parser.add_argument("--readers", type=int, default=8)
    given = parser.parse_args()
    subjects = [f"writer.{i:02d}" for i in range(given.writers)]
    roles = [("writer", i) for i in range(given.writers)] + [("reader", i) for i in range(given.readers)]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "peer.duckdb")
        for subject in subjects:
            store(path, subject, subjects, 0)
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(len(roles), context) as pool:
            start = time.time() + READY_S
            found = [
                f.result()
                for f in [pool.submit(work, role, path, i, subjects, start, given.seconds) for role, i in roles]
            ]
        took = time.time() - start
    errors = [e for d in found for e in d["errors"]]
    result = {
        "seconds": round(took, 1),
        "processes": {"writer": given.writers, "reader": given.readers},
        "turns": {role: sum(len(d["turns_ms"]) for d in found if d["role"] == role) for role in ("writer", "reader")},
        "write_ms": percentiles([t for d in found if d["role"] == "writer" for t in d["turns_ms"]]),
        "opens": sum(len(d["opens_ms"]) for d in found),
        "open_ms": percentiles([t for d in found for t in d["opens_ms"]]),
        "errors": len(errors),
        "kinds_of_errors": Counter(errors),
        "cores": os.cpu_count(),
        "versions": {"dagster": dg.__version__, "duckdb": duckdb.__version__, "pandas": pd.__version__},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
