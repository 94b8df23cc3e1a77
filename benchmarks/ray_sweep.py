"""A sweep over three nodes of a Ray cluster, one of which is killed in the middle: is anything lost, or done twice?

    python -m benchmarks.ray_sweep [--nodes 3]

The nodes are raylets on this machine with one core each, so what is measured is that the sweep survives, and what a
step costs, not a speed-up. The same partitions are then trained in this process, and the tables compared. Results go
to `benchmarks/results/ray_sweep.json`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dagster as dg
import pandas as pd

from benchmarks.environment import environment
from benchmarks.ray_cluster import cluster, descendants, kill, raylet, steps_begun, wait_for
from piano_assets.corpus.synthetic import TINY, write_synthetic
from piano_assets.defs import planner
from piano_assets.defs.data import PianoData
from piano_assets.defs.quickstart import materializer, train_side_by_side
from piano_assets.defs.training import batch_config, sweep
from piano_assets.store.parts import Store

RESULT = Path(__file__).parent / "results" / "ray_sweep.json"
CORPUS = ["percepiano_source", "clips", "notes", "controls", "clusters", "ratings", "labels", "noise_ceiling", "audio"]
MADE = [*CORPUS, "splits", "leaks", "symbolic_features", "audio_features"]
A_BATCH, KILL_AFTER = 4, 1 / 4
"""Partitions a batch; share of the partitions that stand when the node is killed."""
DIFFER = ["seconds", "peak_memory_mb", "finished_at", "git_commit", "git_dirty"]


def partitions(store: Store) -> list[planner.Task]:
    """Every seed of each tabular family, on eight clips without a search."""
    trials = planner.known(store).trials
    names = [c for c, t in trials.items() if c.startswith("family.") and t.budget == "smoke" and t.optimisation is None]
    return planner.owed(store, names)


def over_ray(root: Path, home: Path) -> None:
    """The sweep, in a process of its own, as `piano sweep` is."""
    piano = PianoData(root=str(root), corpus="synthetic")
    tasks = partitions(piano.store())
    batches = [tasks[i : i + A_BATCH] for i in range(0, len(tasks), A_BATCH)]
    done = train_side_by_side(dg.DagsterInstance.from_config(str(home)), piano, batches)
    sys.exit(0 if done.success else 1)


def published(store: Store) -> dict[str, int]:
    return {part.name: part.path.stat().st_mtime_ns for part in store.parts("runs")}


def with_a_killed_node(root: Path, home: Path, n_nodes: int) -> dict:
    """Figures of the sweep over Ray."""
    store = PianoData(root=str(root), corpus="synthetic").store()
    instance = dg.DagsterInstance.from_config(str(home))
    n_partitions = len(partitions(store))
    with cluster(n_nodes) as (_, nodes):
        doomed = nodes[-1]
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.ray_sweep", "--root", root, "--home", home]
        started = time.perf_counter()
        process = subprocess.Popen(command, env=os.environ | {"PIANO_EXECUTOR": "ray"})

        def fatal_moment() -> list[str]:
            """Steps that run on the doomed node, once enough stands."""
            if len(published(store)) < KILL_AFTER * n_partitions:
                return []
            there = set(descendants(raylet(doomed)))
            return [step for step, pid in steps_begun(instance).items() if pid in there]

        struck = wait_for("a node could be killed", fatal_moment, lambda: process.poll() is not None)
        before, killed_s = published(store), time.perf_counter() - started
        kill(doomed)
        code = process.wait(900)
        seconds = time.perf_counter() - started
    after = published(store)
    run = instance.get_run_records(limit=1)[0].dagster_run
    retried = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_RESTARTED)
    return {
        "nodes": n_nodes,
        "partitions": n_partitions,
        "batches": -(-n_partitions // A_BATCH),
        "succeeded": code == 0,
        "seconds": round(seconds, 1),
        "killed_after_s": round(killed_s, 1),
        "published_before_the_kill": len(before),
        "steps_struck": struck,
        "steps_tried_again": sorted(str(e.dagster_event.step_key) for e in retried if e.dagster_event),
        "published_at_the_end": len(after),
        "published_trained_again": sum(after.get(name) != at for name, at in before.items()),
    }


def in_process(root: Path, home: Path) -> dict:
    """The same partitions, one batch after the other, in this process."""
    piano = PianoData(root=str(root), corpus="synthetic")
    tasks = partitions(piano.store())
    instance = dg.DagsterInstance.from_config(str(home))
    started = time.perf_counter()
    for i in range(0, len(tasks), A_BATCH):
        config = batch_config(tasks[i : i + A_BATCH])
        sweep.execute_in_process(instance=instance, resources={"piano": piano}, run_config=config)
    return {"seconds": round(time.perf_counter() - started, 1)}


def differing(one: Store, other: Store) -> list[str]:
    """Tables that are not equal, but for times and memory."""
    found = []
    for table in ("predictions", "history", "members", "runs"):
        frames = [s.read(table) for s in (one, other)]
        a, b = (f.drop(columns=[c for c in DIFFER if c in f]) for f in frames)
        try:
            pd.testing.assert_frame_equal(a, b)
        except AssertionError:
            found.append(table)
    return found


def home_in(folder: Path) -> Path:
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3, help="nodes besides the head")
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.root:
        over_ray(given.root, given.home)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = PianoData(root=str(folder / "ray"), corpus="synthetic")
        write_synthetic(made.store().root / "source", **TINY)
        materializer(dg.DagsterInstance.ephemeral(), made)(MADE)
        shutil.copytree(folder / "ray", folder / "alone")
        result: dict = {"environment": environment()}
        result["ray"] = with_a_killed_node(folder / "ray", home_in(folder / "home"), given.nodes)
        result["in_process"] = in_process(folder / "alone", home_in(folder / "home_alone"))
        alone = PianoData(root=str(folder / "alone"), corpus="synthetic").store()
        result["tables_that_differ"] = differing(made.store(), alone)
    print(json.dumps(result, indent=2))
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
