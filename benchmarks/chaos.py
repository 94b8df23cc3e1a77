"""Kill sweeps with SIGKILL at random times: what stands stays, and one restart ends as if nothing had happened.

    python -m benchmarks.chaos [--kills 100] [--seed 0]

A small synthetic corpus (60 clips) and twelve partitions of eight trials: linear models with and without a search,
networks on spectrograms, notes and features, among them stacked members that search and halve, with their state saved
every half second. `python -m piano_assets.training` trains them once undisturbed, then is killed and started again from
what lies there until it was killed `--kills` times; when it finishes in between, another sweep begins, and the last one
is finished by one more start. Half of the kills fall uniformly over an undisturbed run, half within 30 ms of the moment
when a partition's last fold is done and its parts are published.

After each kill: every part is whole, no temporary file is taken for one, and what was published by the kills before
has the inode, time and content that it had. After each sweep: every table is that of the undisturbed run, but for what
the clock and the memory say; so are the networks. Results go to `benchmarks/results/chaos.json`.
"""

import argparse
import dataclasses
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from benchmarks.environment import environment
from piano_assets.catalogue.trial import Trial, as_dict, vary
from piano_assets.schemas import TABLES
from piano_assets.store.checkpoints import checkpoint_folder, networks
from piano_assets.store.parts import Part, Store, file_sha256, read_part
from piano_assets_tests.training.tiny import AST, HYBRID, MLP, NOTES, RIDGE, SEARCHED, build_store

RESULT = Path(__file__).parent / "results" / "chaos.json"
TRAINED = ("predictions", "history", "members", "runs")
VOLATILE = ("seconds", "peak_memory_mb", "finished_at", "git_commit", "git_dirty")
"""Columns that may differ between two runs: of the clock, of the memory, and of a checkout that is worked on."""
SAVE_EVERY_S = 0.5
PUBLISHING_S = 0.03
"""Publishing a partition takes about as long."""

REDUCED, FULL = {"budget": "reduced"}, {"budget": "full"}
RATES = (("optimisation.learning_rate", (3e-4, 1e-3, 3e-3)),)
TRIALS: list[tuple[str, Trial, int]] = [
    ("linear.symbolic", RIDGE, 0),
    ("linear.symbolic", RIDGE, 1),
    ("linear.searched", SEARCHED, 0),
    ("linear.searched", SEARCHED, 1),
    ("sound.reference", vary(AST, REDUCED), 0),
    ("sound.reference", vary(AST, REDUCED), 1),
    ("sound.dropout", vary(AST, REDUCED | {"model.dropout": 0.3}), 0),
    ("sound.gated", vary(HYBRID, REDUCED), 0),
    ("features.reference", vary(MLP, FULL), 0),
    ("features.reference", vary(MLP, FULL), 1),
    ("notes.searched", dataclasses.replace(vary(NOTES, FULL), search=RATES), 0),
    ("notes.reference", vary(NOTES, FULL), 1),
]
_LAST_FOLD = re.compile(r": (\d+) of \1 folds$")


# ------------------------------------------------------------------------------------------------- what is killed, when


@dataclass(frozen=True)
class Moment:
    """When to kill: so many seconds after the start, or after the n-th line from there that matches."""

    kind: str
    seconds: float
    after: int = 0


def moments(rng: random.Random, run_s: float) -> Iterator[Moment]:
    """Without end: half of them uniformly over a run, half around a publication."""
    while True:
        if rng.random() < 0.5:
            yield Moment("uniform", rng.uniform(0, run_s))
        else:
            yield Moment("publishing", rng.uniform(0, PUBLISHING_S), rng.randint(1, 4))


@dataclass(frozen=True)
class Life:
    """One process: what it said, whether it was killed, and the temporary files and folders that it left."""

    said: list[str]
    killed: bool
    seconds: float
    left: list[Path] = field(default_factory=list)


def live(command: list, moment: Moment | None, root: Path, line_like: re.Pattern = _LAST_FOLD) -> Life:
    """Run a command, and kill it at its moment unless it ends before; `root` is where it writes.

    line_like: the lines that a moment counts.

    Raises:
        RuntimeError: it failed.
    """
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    said: list[str] = []
    if moment is not None and not moment.after:
        try:
            said += process.communicate(timeout=moment.seconds)[0].splitlines()
        except subprocess.TimeoutExpired:
            process.kill()
    waited = 0
    for line in process.stdout if moment is not None and moment.after else ():
        said.append(line.rstrip())
        waited += bool(line_like.search(said[-1]))
        if waited == moment.after:
            time.sleep(moment.seconds)
            process.kill()
            break
    if process.returncode is None:
        said += process.communicate()[0].splitlines()
    if process.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError("\n".join(said[-30:]))
    left = [p for p in root.rglob(".*") if f".{process.pid}." in p.name]
    return Life(said, process.returncode != 0, time.monotonic() - started, left)


# ------------------------------------------------------------------------------------------------------- what must hold


def read_whole(store: Store) -> dict[str, list[Part]]:
    """Every part by table, each read to its end: its rows are those that its footer promises.

    Raises:
        AssertionError: one is not whole, or a temporary file is taken for a part.
    """
    found: dict[str, list[Part]] = {}
    for table in TABLES:
        for part in store.parts(table):
            assert len(read_part(part)) == part.n_rows, f"{part.path} is not whole"
            assert not part.path.name.startswith("."), f"{part.path} is a temporary file"
            found.setdefault(table, []).append(part)
    return found


def finished_files(store: Store, parts: dict[str, list[Part]]) -> dict[Path, tuple]:
    """The files of all finished partitions, their models among them, each with its inode, time and content."""
    done = {(run.name, run.key) for run in parts.get("runs", ())}
    files = [p.path for table in TRAINED for p in parts.get(table, ()) if (p.name, p.key) in done]
    for name, _ in done:
        files += [p for p in checkpoint_folder(store.root, name).rglob("*") if p.is_file()]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns, file_sha256(path)) for path in files}


def tables(store: Store) -> dict[str, pd.DataFrame]:
    """The trained tables in an order of their own, without what may differ."""
    found = {}
    for name in TRAINED:
        frame = store.read(name)
        frame = frame.drop(columns=[c for c in VOLATILE if c in frame])
        found[name] = frame.sort_values(list(frame.columns), ignore_index=True)
    return found


def same(store: Store, whole: Store) -> None:
    """Both stores hold the same tables and the same networks.

    Raises:
        AssertionError: they do not.
    """
    ours, theirs = tables(store), tables(whole)
    for name in TRAINED:
        pd.testing.assert_frame_equal(ours[name], theirs[name], check_exact=True, obj=name)
    models = [
        {str(f.relative_to(s.root)): file_sha256(f / "model.safetensors") for f in networks(s.root)}
        for s in (store, whole)
    ]
    assert models[0] == models[1] != {}, "the networks differ"


# ----------------------------------------------------------------------------------------------------------- the sweeps


@dataclass
class Tally:
    """What the kills hit, and what came of it."""

    kills: Counter = field(default_factory=Counter)
    in_a_write: Counter = field(default_factory=Counter)
    published: list[int] = field(default_factory=list)
    partitions: list[int] = field(default_factory=list)
    sweeps: int = 0
    starts: int = 0
    reused: int = 0

    def add(self, life: Life, moment: Moment, store: Store, parts: dict[str, list[Part]]) -> None:
        self.kills[moment.kind] += 1
        if life.left:
            self.in_a_write[life.left[0].relative_to(store.root).parts[0]] += 1
        self.published.append(sum(len(found) for found in parts.values()))
        self.partitions.append(len(parts.get("runs", ())))


def training(data: Path, out: Path, trials: Path) -> list:
    """The command that trains."""
    command = [sys.executable, "-W", "ignore", "-m", "piano_assets.training", "--trials", trials, "--data", data]
    return [*command, "--out", out, "--save-every", str(SAVE_EVERY_S)]


def prepare(root: Path, trials: list[tuple[str, Trial, int]]) -> tuple[Path, Path]:
    """(corpus folder, file of trials), written below `root`."""
    build_store(root / "data" / "tiny")
    path = root / "trials.json"
    path.write_text(json.dumps([{"config": c, "seed": s, "trial": as_dict(t)} for c, t, s in trials]))
    return root / "data" / "tiny", path


def sweeps(root: Path, n_kills: int, seed: int, trials: list[tuple[str, Trial, int]] | None = None) -> dict:
    """Sweeps below `root` that are killed `n_kills` times in all; raises AssertionError where something is lost."""
    began = time.monotonic()
    trials = trials or TRIALS
    data, path = prepare(root, trials)
    whole = Store(root / "whole" / "tiny")
    undisturbed = live(training(data, whole.root, path), None, whole.root).seconds
    tally, when = Tally(), moments(random.Random(seed), undisturbed)
    store, stands = Store(root / "sweep0" / "tiny"), {}
    while True:
        moment = next(when) if sum(tally.kills.values()) < n_kills else None
        life = live(training(data, store.root, path), moment, store.root)
        tally.starts += 1
        parts = read_whole(store)
        now = finished_files(store, parts)
        changed = [path for path, what in stands.items() if now.get(path) != what]
        assert not changed, f"published, and changed since: {changed}"
        tally.reused += sum(line.endswith(": reused") for line in life.said)
        stands = now
        if life.killed:
            assert moment is not None
            tally.add(life, moment, store, parts)
            say(f"kill {sum(tally.kills.values())}, {moment.kind}: {tally.partitions[-1]} of {len(trials)} published")
            continue
        same(store, whole)
        tally.sweeps += 1
        say(f"sweep {tally.sweeps} finished in {life.seconds:.1f} s")
        if moment is None:
            break
        store, stands = Store(root / f"sweep{tally.sweeps}" / "tiny"), {}
    return {
        "seed": seed,
        "partitions_of_a_sweep": len(trials),
        "undisturbed_s": round(undisturbed, 1),
        "kills": sum(tally.kills.values()),
        "kills_by_moment": dict(tally.kills),
        "kills_in_the_middle_of_a_write": sum(tally.in_a_write.values()),
        "writes_hit": dict(tally.in_a_write),
        "sweeps_finished": tally.sweeps,
        "starts": tally.starts,
        "starts_after_the_last_kill": 1,
        "partitions_found_finished": tally.reused,
        "published_parts_changed": 0,
        "partitions_published_before_each_kill": tally.partitions,
        "parts_published_before_each_kill": tally.published,
        "rows_equal_to_undisturbed": {name: len(frame) for name, frame in tables(whole).items()},
        "seconds": round(time.monotonic() - began),
    }


def say(text: str) -> None:
    print(text, flush=True)


def keep(section: str, found: dict, path: Path = RESULT) -> None:
    """Put one section of the results in its place; the others stay."""
    results = json.loads(path.read_text()) if path.is_file() else {}
    results[section] = {"environment": environment(), **found}
    path.write_text(json.dumps(results, indent=2) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = sweeps(Path(folder), given.kills, given.seed)
    keep("training", found)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
