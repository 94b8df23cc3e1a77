"""Kill sweeps and writers at random, restart them, and see that nothing is lost, changed or done twice.

    python -m benchmarks.chaos [--kills 100] [--seed 1]

Three trials, each with `kill -9`:

- `sweep`: `python -m piano_assets.training` (tabular models, networks with saved states, a stack of search points; two
  seeds), killed at a random time or the moment a random temporary file appears, up to five times a sweep, and then
  restarted once. The one restart finishes it, no finished partition is written again, and all tables equal those of an
  uninterrupted sweep bit by bit, but for time and memory.
- `every_step`: a partition killed before and after each of its operations on files, one after the other.
- `writer`: a process that publishes parts and builds snapshots, killed at random; then a reader opens everything.

A rule that does not hold ends the whole with an error, so that a result says that all held. Results go to
`benchmarks/results/chaos.json`.
"""

import argparse
import collections
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import environment
from benchmarks.every_step import OPERATIONS, STEPPED, write_trials
from benchmarks.wholeness import (
    Broken,
    finished,
    left_behind,
    require_equal,
    require_unchanged,
    require_whole,
    tables,
)
from piano_assets.catalogue.trial import Trial, vary
from piano_assets.store.parts import Store
from piano_assets_tests.training.tiny import AST, MLP, RIDGE, SEARCHED, build_store

RESULT = Path(__file__).parent / "results" / "chaos.json"
KILLS_A_SWEEP = 5
SEARCH = (("optimisation.learning_rate", (3e-4, 1e-3, 3e-3)),)
TRIALS: dict[str, tuple[Trial, int]] = {
    "family.ridge": (RIDGE, 2),
    "family.searched": (SEARCHED, 1),
    "mlp.searched": (vary(MLP, {"budget": "full", "search": SEARCH}), 1),
    "ast.reference@reduced": (vary(AST, {"budget": "reduced"}), 2),
    "ast.dropout_0.3@reduced": (vary(AST, {"budget": "reduced", "model.dropout": 0.3}), 1),
}
"""Config -> trial and its seeds. `full` networks train the points of their search as one stack of members."""


def sweep_command(trials: Path, root: Path) -> list[str]:
    command = [
        sys.executable,
        "-W",
        "ignore",
        "-m",
        "piano_assets.training",
        "--trials",
        str(trials),
        "--save-every",
        "0.2",
    ]
    return [*command, "--data", str(root), "--out", str(root)]


# --------------------------------------------------------------------------------------------------------------- lives


@dataclass(frozen=True)
class Moment:
    """When to kill: `after_s` seconds from the start, or as soon as the `writes`-th temporary file is seen."""

    after_s: float = float("inf")
    writes: int | None = None


@dataclass(frozen=True)
class Life:
    """What one process did until it ended or was killed. torn: temporary files that it left; they are never read."""

    killed: bool
    said: list[str]
    seconds: float
    torn: set[Path]
    writes: int


def live(command: list[str], root: Path, moment: Moment) -> Life:
    """Run a command and kill it and its children at `moment`.

    Raises:
        Broken: the command failed by itself.
    """
    seen = old = left_behind(root)
    log = root.with_name(f"{root.name}.log")
    started = time.monotonic()
    with log.open("w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, start_new_session=True)
        while process.poll() is None:
            seen = seen | left_behind(root)
            late = time.monotonic() - started >= moment.after_s
            if late or (moment.writes is not None and len(seen - old) >= moment.writes):
                os.killpg(process.pid, signal.SIGKILL)
                break
            time.sleep(0.001)
        process.wait()
    said = log.read_text().splitlines()
    if process.returncode not in (0, -signal.SIGKILL):
        raise Broken(f"{' '.join(command)} ended with {process.returncode}:\n" + "\n".join(said[-20:]))
    torn = left_behind(root) - old
    return Life(process.returncode != 0, said, time.monotonic() - started, torn, len(seen - old))


# --------------------------------------------------------------------------------------------------------------- sweep


def killed_sweeps(folder: Path, kills: int, rng: random.Random, say: Callable[[str], None]) -> dict:
    """Sweeps of `TRIALS`, killed `kills` times in all; every rule is checked after each kill and at each end."""
    build_store(folder / "data")
    trials = write_trials(folder / "trials.json", TRIALS)
    shutil.copytree(folder / "data", folder / "whole")
    whole = live(sweep_command(trials, folder / "whole"), folder / "whole", Moment())
    reference = tables(Store(folder / "whole"))
    say(f"uninterrupted: {whole.seconds:.1f} s, {whole.writes} temporary files seen, {whole.said[-1]}")
    torn: list[bool] = []
    stood: list[int] = []
    sweeps = 0
    while len(torn) < kills:
        root = folder / f"sweep{sweeps}"
        shutil.copytree(folder / "data", root)
        store, command = Store(root), sweep_command(trials, root)
        published: dict = {}
        for _ in range(min(KILLS_A_SWEEP, kills - len(torn))):
            by_clock = rng.random() < 0.5
            moment = Moment(rng.uniform(1.0, whole.seconds)) if by_clock else Moment(writes=rng.randint(1, 25))
            life = live(command, root, moment)
            require_untouched(life, published)
            if not life.killed:
                break
            require_whole(store)
            published = finished(store)
            torn.append(bool(life.torn))
            stood.append(len(list(store.parts("runs"))))
        last = live(command, root, Moment())
        require_untouched(last, published)
        require_equal(store, reference)
        require_whole(store)
        say(f"sweep {sweeps}: {len(torn)} kills so far, {sum(torn)} in a write, {stood[-1:]} stood at the last one")
        shutil.rmtree(root)
        sweeps += 1
    return {
        "uninterrupted_s": round(whole.seconds, 1),
        "partitions": len(reference["runs"]),
        "sweeps": sweeps,
        "kills": len(torn),
        "kills_in_the_middle_of_a_write": sum(torn),
        "kills_by_partitions_that_stood": dict(sorted(collections.Counter(stood).items())),
        "restarts_that_finished": sweeps,
    }


def require_untouched(life: Life, published: dict) -> None:
    """What stood before a life is as it was, and the life said of none of it that it was trained."""
    require_unchanged(published)
    stood = {f"{path.parent.name} seed {path.name.split('.')[0]}" for path in published if path.suffix == ".parquet"}
    again = [line for line in life.said if "finished in" in line and line.split(" ", 1)[1].split(":")[0] in stood]
    if again:
        raise Broken(f"trained although it stood: {again}")


# -------------------------------------------------------------------------------------------------------------- writer


def killed_writers(folder: Path, kills: int, rng: random.Random, say: Callable[[str], None]) -> dict:
    """Kill a process that writes parts and snapshots; after each kill a reader finds everything whole."""
    from benchmarks.contention import read_everything

    root = folder / "synthetic"
    command = [sys.executable, "-m", "benchmarks.contention", "--write", str(root), "--snapshots"]
    torn: collections.Counter = collections.Counter()
    built = 0
    for kill in range(kills):
        by_clock = rng.random() < 0.5
        moment = Moment(rng.uniform(0.9, 3.0)) if by_clock else Moment(writes=rng.randint(1, 40))
        life = live(command, root, moment)
        if not life.killed:
            raise Broken(f"the writer ended by itself: {life.said[-5:]}")
        where = {_place(p.relative_to(root)) for p in life.torn}
        torn.update(where or {"nothing"})
        read = read_everything(Store(root))
        built = max(built, read["snapshots"])
        if kill % 10 == 9:
            say(f"writer: {kill + 1} kills, {dict(torn)}, {read}")
    return {"kills": kills, "kills_while_it_wrote": dict(torn), "snapshots": built}


def _place(torn: Path) -> str:
    """What was being written: `parts`, `snapshots`, the file that people open, or the links that a build holds."""
    first = torn.parts[0]
    return first if not first.startswith(".") else first[1:].partition(".")[0]


# ---------------------------------------------------------------------------------------------------------------- main


def measured(folder: Path, kills: int, seed: int) -> Iterator[tuple[str, dict]]:
    def say(text: str) -> None:
        print(time.strftime("%H:%M:%S"), text, flush=True)

    for name in ("sweep", "steps", "writer"):
        (folder / name).mkdir()
    build_store(folder / "steps" / "data")
    steps = _counted(folder / "steps", say)
    yield "every_step", {"operations": OPERATIONS, "kills": steps}
    started = time.monotonic()
    found = killed_sweeps(folder / "sweep", kills, random.Random(seed), say)
    yield "sweep", found | {"took_s": round(time.monotonic() - started)}
    started = time.monotonic()
    found = killed_writers(folder / "writer", kills, random.Random(seed + 1), say)
    yield "writer", found | {"took_s": round(time.monotonic() - started)}


def _counted(folder: Path, say: Callable[[str], None]) -> dict[str, int]:
    """`every_step` of a tabular trial and of a network, in a process of its own that has computed nothing."""
    found = {}
    for name in STEPPED:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.every_step", name, str(folder)]
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        found[name] = int(said.splitlines()[-1])
        say(f"every step of {name}: {found[name]} kills")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, help="of the sweep, and as many of the writer")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    given = parser.parse_args()
    result: dict = {"environment": environment(), "seed": given.seed}
    with tempfile.TemporaryDirectory() as folder:
        for name, found in measured(Path(folder), given.kills, given.seed):
            result[name] = found
            print(name, json.dumps(found, indent=2), flush=True)
    RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
