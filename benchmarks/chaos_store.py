"""Kill a process that does nothing but write parts and build snapshots: readers find whole tables, and no lock is left.

    python -m benchmarks.chaos_store [--kills 100] [--seed 0]

The process publishes three parts of one generation and builds a snapshot of them, over and over, and says so each time.
After each SIGKILL a reader opens every part, the newest snapshot and `piano.duckdb`: each subject's rows must be of one
generation and as many as it has, a snapshot's subjects of the same one, and no generation that was announced may be
lost. The next process must build at once. Results go to `benchmarks/results/chaos.json`.
"""

import argparse
import itertools
import json
import random
import re
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import duckdb

from benchmarks.chaos import Moment, keep, live, read_whole, say
from benchmarks.contention import EVERY_SUBJECT, build, publish, whole
from piano_assets.store.parts import Store
from piano_assets.store.warehouse import latest_snapshot, snapshot_path

WRITERS = 3
LINE = re.compile(r"^(ready|generation)")
WITHIN_S = 0.4
"""A generation takes about as long."""


def write_for_ever(store: Store) -> None:
    """Generation after generation, from the newest that is there."""
    said("ready")
    stands = [int(part.key) for part in store.parts("predictions")]
    for generation in itertools.count(max(stands, default=0) + 1):
        for writer in range(WRITERS):
            publish(store, writer, generation)
        build(store)
        said(f"generation {generation}")


def said(text: str) -> None:
    print(text, flush=True)


def read_all(store: Store) -> int:
    """The newest generation of which there is a snapshot, after everything was read; 0: of none.

    Raises:
        AssertionError: something is half there, or mixed.
    """
    for part in read_whole(store).get("predictions", ()):
        value = store.read("predictions", part.name)["value"]
        wrong = whole(len(value), value.min(), value.max())
        assert wrong is None, f"{part.path}: {wrong}"
    if not snapshot_path(store).exists():
        return 0
    newest, named = (generation_of(path) for path in (latest_snapshot(store), snapshot_path(store)))
    assert named <= newest, f"piano.duckdb is of generation {named}, the newest snapshot of {newest}"
    return named


def generation_of(path: Path) -> int:
    """The one generation that a snapshot is of."""
    with duckdb.connect(str(path), read_only=True) as connection:
        found = connection.execute(EVERY_SUBJECT).fetchall()
    assert len(found) == WRITERS, f"{path}: {len(found)} subjects of {WRITERS}"
    for subject, n, low, high in found:
        wrong = whole(n, low, high)
        assert wrong is None, f"{path}, {subject}: {wrong}"
    (generation,) = {low for _, _, low, _ in found}
    return int(generation)


def killed(root: Path, n_kills: int, seed: int) -> dict:
    """Kill the writer on the store at `root` so many times; raises AssertionError where a reader is let down."""
    began, rng, store = time.monotonic(), random.Random(seed), Store(root)
    command = [sys.executable, "-m", "benchmarks.chaos_store", "--write", root]
    hit, announced = Counter[str](), 0
    for number in range(1, n_kills + 1):
        life = live(command, Moment("writing", rng.uniform(0, WITHIN_S), rng.randint(1, 3)), root, LINE)
        announced = max([announced, *(int(line.split()[1]) for line in life.said if line.startswith("generation"))])
        hit.update({path.relative_to(root).parts[0] for path in life.left[:1]})
        there = read_all(store)
        assert there >= announced, f"generation {announced} was announced, and readers find {there}"
        say(f"kill {number}: generation {there}, {len(life.left)} temporary files")
    return {
        "seed": seed,
        "kills": n_kills,
        "kills_in_the_middle_of_a_write": sum(hit.values()),
        "writes_hit": dict(hit),
        "generations": announced,
        "readers_let_down": 0,
        "seconds": round(time.monotonic() - began),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.write is not None:
        write_for_ever(Store(given.write))
    with tempfile.TemporaryDirectory() as folder:
        found = killed(Path(folder) / "tiny", given.kills, given.seed)
    keep("writing", found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
