"""Kill Dagster's daemon and code server together in the middle of a nightly sweep, restart them, and see it finished.

    python -m benchmarks.chaos_dagster [--kills 5] [--seed 1] [--folder FOLDER]

`dagster dev` runs in a folder of its own on a small synthetic corpus; the schedule `nightly_sweep` ticks every minute
and its runs pass through the queue and the pool, as shipped. Every kill is `kill -9` of all processes (web server,
daemon, code server, run); the fourth of five spares the process of the run, which then goes on alone. Nobody
helps after the restart. Required: every run whose process died is failed, so that it blocks neither pool nor plan; all
partitions stand in the end, none was trained twice, and all tables equal those of an uninterrupted sweep but for time
and memory. Results go to `benchmarks/results/chaos_dagster.json`. Takes about four minutes a kill.
"""

import argparse
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from benchmarks.chaos import tables
from benchmarks.environment import environment
from benchmarks.every_step import Broken, finished, require_equal, require_unchanged
from piano_assets.corpus.synthetic import write_synthetic
from piano_assets.defs import planner
from piano_assets.defs.data import PianoData
from piano_assets.defs.quickstart import stages
from piano_assets.store.parts import Store

REPOSITORY = Path(__file__).parents[1]
RESULT = REPOSITORY / "benchmarks" / "results" / "chaos_dagster.json"
CONFIGS = ("family.ridge", "family.kernel_ridge")
SHORT_NIGHT = f'''"""The shipped definitions, of which a night sweeps two configs."""

from piano_assets.defs import planner

planner.swept_configs = lambda *_: {list(CONFIGS)}

from piano_assets.definitions import defs  # noqa: E402, F401
'''
WORKSPACE = "load_from:\n  - python_module: {{module_name: short_night, working_directory: {0}}}\n"
PATIENCE_S = 600.0


# --------------------------------------------------------------------------------------------------------------- scene


def prepare(folder: Path) -> Store:
    """A Dagster home with the shipped settings, and a corpus with its features. An existing corpus is kept."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = (REPOSITORY / "dagster.yaml").read_text().replace("base_dir: data/", f"base_dir: {folder}/")
    (folder / "dagster.yaml").write_text(settings)
    (folder / "workspace.yaml").write_text(WORKSPACE.format(folder))
    (folder / "short_night.py").write_text(SHORT_NIGHT)
    piano = PianoData(root=str(folder / "data"), corpus="synthetic")
    store = piano.store()
    if not (store.root / "source").is_dir():
        # The smallest corpus that every split of the catalogue can be made of.
        write_synthetic(store.root / "source", n_excerpts=6, n_performers=10, n_bars=2)
    with dg.DagsterInstance.ephemeral() as instance:
        for stage in ("corpus", "sound", "features"):
            list(stages(instance, piano, lambda: owed(store), lambda text: None, only=stage))
    return store


def owed(store: Store) -> list[planner.Task]:
    return planner.owed(store, CONFIGS)


def uninterrupted(store: Store, folder: Path) -> dict:
    """The tables of the same partitions, trained at one go on a copy."""
    from piano_assets.training.run import run_batch

    copy = folder / "whole" / "synthetic"
    shutil.copytree(store.root, copy)
    run_batch([(t.config, t.trial, t.seed) for t in owed(store)], Store(copy))
    return tables(Store(copy))


class Dagster:
    """`dagster dev` and all its processes, known by their session."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [str(Path(sys.executable).with_name("dagster")), "dev", "--workspace", str(folder / "workspace.yaml")]
        self.log = (folder / "dagster.log").open("a")
        self.process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            env=environ(folder),
            cwd=folder,
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def processes(self) -> dict[int, str]:
        """Process id -> command line of the whole session."""
        found = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid and fields[0] != "Z":
                    said = (stat.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    found[int(stat.parent.name)] = said
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while it was looked at
        return found

    def kill(self, spared: int | None = None) -> list[int]:
        """Kill every process of the session but one. Returns who was killed."""
        killed = [pid for pid in self.processes() if pid != spared]
        for pid in killed:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self.log.close()
        return killed


def environ(folder: Path) -> dict[str, str]:
    return os.environ | {
        "DAGSTER_HOME": str(folder),
        "PIANO_DATA": str(folder / "data"),
        "PIANO_CORPUS": "synthetic",
        "PIANO_NIGHT_CRON": "* * * * *",
        "PIANO_TIME_ZONE": "UTC",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(folder)]),
    }


def worker_of(run: dg.DagsterRun, instance: dg.DagsterInstance, processes: dict[int, str]) -> int | None:
    """The process of a run: the events that Dagster writes when one starts have its id."""
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        pid = event.engine_event_data.metadata.get("pid") if event is not None else None
        if pid is not None and int(pid.value) in processes:
            return int(pid.value)
    return None


def wait_for(what: str, found: Callable[[], object], patience_s: float = PATIENCE_S) -> float:
    """Seconds until `found()` is true.

    Raises:
        Broken: it never was.
    """
    started = time.monotonic()
    while not found():
        if time.monotonic() - started > patience_s:
            raise Broken(f"{what}: not within {patience_s:.0f} s")
        time.sleep(0.2)
    return time.monotonic() - started


# --------------------------------------------------------------------------------------------------------------- kills


def killed(folder: Path, kills: int, rng: random.Random, say: Callable[[str], None]) -> dict:
    store = prepare(folder)
    total = len(owed(store))
    say(f"{total} partitions owed")
    reference = uninterrupted(store, folder)
    say("an uninterrupted sweep is done")
    command = [str(Path(sys.executable).with_name("dagster")), "schedule", "start", "nightly_sweep"]
    subprocess.run(
        [*command, "--workspace", str(folder / "workspace.yaml")], env=environ(folder), cwd=folder, check=True
    )
    instance = dg.DagsterInstance.from_config(str(folder))
    dead: list[dict] = []
    published: dict = {}
    stood = 0

    def number() -> int:
        return len(list(store.parts("runs")))

    def started() -> list[dg.DagsterRun]:
        lost = {d["run"] for d in dead}
        runs = instance.get_runs(dg.RunsFilter(job_name="sweep", statuses=[dg.DagsterRunStatus.STARTED]))
        return [run for run in runs if run.run_id not in lost]

    dagster = Dagster(folder)
    try:
        for kill in range(kills):
            began = time.monotonic()
            wait_for("a run that trains, with something published", lambda n=stood: started() and number() > n)
            time.sleep(rng.uniform(0, 2))
            run = next(iter(started()), None)
            if run is None:
                say("the run ended before it could be killed")
                stood = number()
                continue
            worker = worker_of(run, instance, dagster.processes())
            spared = worker if kill % 5 == 3 else None
            pids = dagster.kill(spared)
            stood, published = number(), finished(store)
            dead.append({"run": run.run_id, "spared_its_process": spared is not None, "stood": stood})
            say(f"kill {kill + 1}: {len(pids)} processes after {time.monotonic() - began:.0f} s, {stood} stand")
            dagster = Dagster(folder)
            waited = wait_for(f"run {run.run_id} ends", lambda run=run: instance.get_run_by_id(run.run_id).is_finished)
            status = instance.get_run_by_id(run.run_id).status.value
            dead[-1] |= {"became": status, "seconds_after_restart": round(waited)}
            say(f"its run is {status} {waited:.0f} s after the restart")
            require_unchanged(store, published)
            stood = number()
        last = time.monotonic()
        wait_for("everything stands", lambda: not planner.missing(store, owed(store)))
        wait_for("nothing is in progress", lambda: not started())
    finally:
        dagster.kill()
    require_unchanged(store, published)
    require_equal(store, reference)
    trained = {t.partition: 0 for t in owed(store)}
    for run in instance.get_runs(dg.RunsFilter(job_name="sweep")):
        for entry in instance.all_logs(run.run_id):
            words = entry.user_message.split()
            if " trained in " in entry.user_message and words[3] in trained:
                trained[words[3]] += 1
    twice = {partition: n for partition, n in trained.items() if n > 1}
    if twice:
        raise Broken(f"trained more than once: {twice}")
    return {
        "partitions": total,
        "kills": len(dead),
        "dead_runs": [{k: v for k, v in d.items() if k != "run"} for d in dead],
        "seconds_from_last_end_to_all_standing": round(time.monotonic() - last),
        "runs": len(instance.get_runs(dg.RunsFilter(job_name="sweep"))),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--folder", type=Path, help="kept, with Dagster's log (a temporary one)")
    given = parser.parse_args()

    def say(text: str) -> None:
        print(time.strftime("%H:%M:%S"), text, flush=True)

    result: dict = {"environment": environment(), "seed": given.seed}
    with tempfile.TemporaryDirectory() as temporary:
        result |= killed((given.folder or Path(temporary)).resolve(), given.kills, random.Random(given.seed), say)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
