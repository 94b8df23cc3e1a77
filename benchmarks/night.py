"""Time a night's planning over more than 1,000 partitions: when all are missing, and when all stand.

    python -m benchmarks.night

The catalogue's trials at full budget, as planned for a GPU (`PIANO_DEVICE=cuda`), and a user's comparison of linear
models; five seeds each. A tick is what Dagster's daemon asks of the code location; `in_all` is a fresh process that
loads the definitions and asks once. Goals: 5 s to plan, 10 s in all for a night in which nothing changed. Results go to
`benchmarks/results/night.json`.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from benchmarks.environment import environment
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Store

RESULT = Path(__file__).parent / "results" / "night.json"
N_ARMS, REPEATS = 80, 3
BUDGET = "1000000h"
"""So that everything has a place in it."""


def fill(root: Path) -> Store:
    """What the keys of all trials are made of: empty parts, since only footers are read. And a user's comparison."""
    from piano_assets.defs import planner
    from piano_assets.training.data import part_names

    arms = "".join(f"[arms.a{i}]\nmodel.settings.alpha = {i + 0.5}\n" for i in range(N_ARMS))
    (root / "comparisons").mkdir()
    (root / "comparisons" / "many.toml").write_text(f'hypothesis = "h."\nreference = "family.ridge"\n{arms}')
    store = Store(root / "synthetic")
    for trial in planner.known(store).trials.values():
        for table, name in part_names(trial):
            if store.part(table, name) is None:
                store.write(table, TABLES[table].empty(), key=name, name=name)
    return store


def finish(store: Store) -> int:
    """Publish every owed partition as a finished one without rows. Returns how many."""
    from piano_assets.defs import planner
    from piano_assets.training import data

    tasks = planner.owed(store, planner.swept_configs(store))
    for t in tasks:
        name = data.part_name(t.trial, t.config, t.seed, device="cuda")
        for table in (*data.PUBLISHED, "runs"):
            key = data.part_key(t.trial, t.seed, store, device="cuda")
            store.write(table, TABLES[table].empty(), key=key, name=name)
    return len(tasks)


def tick(root: Path) -> tuple[float, int]:
    """Seconds of one evaluation of the schedule in this process, and the partitions that it requests."""
    from piano_assets.defs.data import PianoData
    from piano_assets.defs.jobs import nightly_sweep

    piano = PianoData(root=str(root), corpus="synthetic")
    now = datetime(2026, 11, 22, 2, tzinfo=UTC)
    with (
        dg.instance_for_test() as instance,
        dg.build_schedule_context(instance, now, resources={"piano": piano}) as context,
    ):
        started = time.perf_counter()
        asked = nightly_sweep(context)
        seconds = time.perf_counter() - started
    requests = [] if isinstance(asked, dg.SkipReason) else asked
    return seconds, sum(len(r.run_config["ops"]["train_batch"]["config"]["partitions"]) for r in requests)


def in_all(root: Path) -> float:
    """Seconds of a fresh process that loads the definitions and asks once."""
    code = (
        "import sys; from pathlib import Path; import piano_assets.definitions; from benchmarks.night import tick;"
        "assert tick(Path(sys.argv[1]))[1] == 0, 'something was requested'"
    )
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, str(root)], check=True)
    return time.perf_counter() - started


def rounded(values: list[float]) -> list[float]:
    return [round(v, 2) for v in sorted(values)]


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    os.environ |= {"PIANO_DEVICE": "cuda", "PIANO_NIGHT_BUDGET": BUDGET}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        store = fill(root)
        planned = [tick(root) for _ in range(REPEATS)]
        n = finish(store)
        assert {requested for _, requested in planned} == {n}, "a night that is empty asks for everything"
        nothing = [tick(root) for _ in range(REPEATS)]
        assert {requested for _, requested in nothing} == {0}, "and one in which all stands for nothing"
        result = {
            "environment": environment(),
            "partitions": n,
            "planning_s": rounded([s for s, _ in planned]),
            "goal_planning_s": 5,
            "no_change_tick_s": rounded([s for s, _ in nothing]),
            "no_change_in_all_s": rounded([in_all(root) for _ in range(REPEATS)]),
            "goal_no_change_in_all_s": 10,
        }
    print(json.dumps(result, indent=2))
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
