"""Build, check, measure and train on a borrowed GPU machine that keeps nothing and can fetch nothing.

    python -m benchmarks.gpu pack --data data/percepiano --travel data/travel ast.reference loss schedule --seeds 5
    python3 -m benchmarks.gpu run --travel data/travel --out OUT                                             (there)
    python -m benchmarks.gpu unpack --collected OUT --data data/percepiano

`pack` puts what the missing networks of these comparisons or configs read into a small folder. Spectrograms and note
events stay behind: only their recipes' keys travel, and `run` makes them again from the notes, since a rendering is
known by its recipe. `run` then runs the CUDA tests, measures (`benchmarks.training`), trains until its minutes are
over, and leaves finished parts in pieces under OUT; called again with the same `--work` it goes on where it stopped.
`unpack` puts the pieces into the corpus folder, where each part counts if its key fits.

The machine must have torch, torchaudio, numpy, scipy, pandas, pyarrow, safetensors, einops, scikit-learn, numba,
threadpoolctl, lightning, pytest and pytest-timeout, and librosa with what it imports (decorator, pooch, platformdirs).
"""

import argparse
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd

from piano_assets.catalogue.comparisons import built_in
from piano_assets.catalogue.trial import as_dict
from piano_assets.corpus.performance import Performance, performances
from piano_assets.corpus.rendering.registry import RENDERERS
from piano_assets.corpus.rendering.write import RECORDED
from piano_assets.features import note_events
from piano_assets.features.ordered import ordered_map
from piano_assets.features.spectrograms import spec_of, spectrogram, spectrogram_file, stored, write_rows
from piano_assets.features.variants import as_read, write_variant
from piano_assets.store.parts import Store, published
from piano_assets.training.data import SYMBOLIC_RENDERING, part_names

STAGES = ("build", "check", "measure", "train", "collect")
RESULTS = ("predictions", "history", "members", "runs")
MEASURED = "ast.reference"
PIECE = 15 * 2**20
"""Bytes of a piece of what comes back."""
RESERVE_S = 45
"""Kept for `collect` when training is stopped."""
_RETURNED = re.compile(rf"parts/({'|'.join(RESULTS)})/[A-Za-z0-9_.@+=/-]+\.parquet|checkpoints/[A-Za-z0-9_.@+=/-]+")


# ------------------------------------------------------------------------------------------------------------- at home


def pack(store: Store, names: Sequence[str], seeds: int | None, travel: Path) -> list[tuple[str, int]]:
    """Write what the missing networks of `names` read, their list and the recipes to `travel`: (config, seed) each.

    Raises:
        ValueError: an unknown name, or a rendering with real recordings, which do not travel.
        FileNotFoundError: a part is missing.
    """
    from piano_assets.defs import planner

    catalogue = planner.known(store)
    configs = planner.chosen_configs(catalogue, names, cuda=True)[0] if names else []
    tasks = [t for t in planner.owed(store, configs, seeds, catalogue) if t.trial.optimisation is not None]
    tasks = [t for batch in planner.plan(planner.missing(store, tasks)) for t in batch]
    recipes: dict[str, str] = {}
    wanted = {("notes", "all"), ("controls", "all")}
    for trial in [built_in().full[MEASURED], *(t.trial for t in tasks)]:
        for table, name in [*part_names(trial), ("leaks", trial.split)]:
            if table == "spectrograms":
                recipes[name] = recipe(store, name)
            else:
                wanted.add((table, name))
    shutil.rmtree(travel, ignore_errors=True)
    for table, name in sorted(wanted):
        target = Store(travel).path(table, name)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(store.require(table, name).path, target)
    entries = [{"config": t.config, "seed": t.seed, "trial": as_dict(t.trial)} for t in tasks]
    (travel / "trials.json").write_text(json.dumps(entries))
    (travel / "recipes.json").write_text(json.dumps(recipes, indent=2))
    return [(t.config, t.seed) for t in tasks]


def recipe(store: Store, part: str) -> str:
    """The key of a part of table `spectrograms`, whether or not the part stands."""
    from piano_assets.defs.corpus import content, key

    name, _, rendering = part.rpartition(".")
    if rendering == SYMBOLIC_RENDERING:
        return key("spectrograms", name, *content(store, ("notes", "all"), ("controls", "all")))
    recorded = (store.read("audio", rendering)["rendering"] == RECORDED).sum()
    if recorded:
        raise ValueError(f"{part}: {recorded} clips have recordings, which cannot be rendered again elsewhere")
    return key("spectrograms", name, store.require("audio", rendering).key)


def unpack(collected: Path, store: Store) -> int:
    """Put the pieces' parts and checkpoints into the corpus folder, `runs` last. Returns how many runs there were.

    Raises:
        ValueError: no pieces, or a piece holds something else than results.
    """
    pieces = sorted(collected.glob("collected.tar.*"), key=lambda p: int(p.suffix[1:]))
    if not pieces:
        raise ValueError(f"{collected} has no collected.tar.*")
    with TemporaryDirectory(dir=store.root) as folder:
        whole = Path(folder) / "whole.tar"
        whole.write_bytes(b"".join(p.read_bytes() for p in pieces))
        with tarfile.open(whole) as tar:
            names = tar.getnames()
            alien = [n for n in names if not _RETURNED.fullmatch(n) or ".." in n]
            if alien:
                raise ValueError(
                    f"{collected}: {alien[0]!r} is neither a part of {', '.join(RESULTS)} nor a checkpoint"
                )
            tar.extractall(folder, filter="data")
        runs = [n for n in names if n.startswith("parts/runs/")]
        for name in [*(n for n in names if n not in set(runs)), *runs]:
            with published(store.root / name) as temporary:
                shutil.copy(Path(folder) / name, temporary)
    return len(runs)


# --------------------------------------------------------------------------------------------------------------- there


def build(travel: Path, root: Path, processes: int) -> int:
    """Copy the parts that travelled to the corpus folder `root` and make the sequences. Returns how many were made."""
    shutil.copytree(travel / "parts", root / "parts", dirs_exist_ok=True)
    store = Store(root)
    todo = {}
    for part, key in json.loads((travel / "recipes.json").read_text()).items():
        stands = store.part("spectrograms", part, key=key) is not None
        if not (stands and spectrogram_file(root, *part.rsplit(".", 1)).is_file()):
            todo[part] = key
    if todo:
        workers = max(1, processes // len(todo))
        with ProcessPoolExecutor(min(processes, len(todo)), get_context("spawn")) as pool:
            for made in [pool.submit(make_sequence, root, part, key, workers) for part, key in todo.items()]:
                made.result()
    return len(todo)


def make_sequence(root: Path, part: str, key: str, workers: int) -> None:
    """Render what a part of table `spectrograms` holds, hear it as its sound files would be read, and publish it."""
    store = Store(root)
    name, _, rendering = part.rpartition(".")
    base, altered, variant = name.partition("+")
    played = performances(store.read("notes", "all"), store.read("controls", "all"))
    if altered:
        frame = write_variant(played, root, base, variant, rendering, workers=workers)
    elif base == note_events.NAME:
        frame = note_events.write_note_events(played, root, rendering)
    else:
        frame = write_rendered(played, root, base, rendering, workers)
    store.write("spectrograms", frame, key=key, name=part)
    print(f"  {part}: {len(frame)} clips", flush=True)


def write_rendered(played: dict[str, Performance], root: Path, name: str, rendering: str, workers: int) -> pd.DataFrame:
    """The spectrogram `name` of every clip, without sound files between rendering and hearing."""
    spec, render = spec_of(name), RENDERERS[rendering]

    def one(clip: str) -> np.ndarray:
        samples = as_read(render(played[clip], spec.sample_rate))
        return stored(spectrogram(samples, spec), spec.dtype)

    clips = sorted(played)
    rows = ordered_map(one, clips, workers)
    return write_rows(rows, clips, root, name, rendering, spec.n_bands, spec.dtype)


def collect(root: Path, work: Path, out: Path, checkpoints: Iterable[str], pieces: int) -> tuple[int, int]:
    """Write finished partitions that were not collected before, at most so many pieces: (collected, left behind)."""
    ledger = work / "collected.txt"
    known = set(ledger.read_text().split()) if ledger.is_file() else set()
    room, found, left = pieces * PIECE - 2**20, [], 0
    with TemporaryDirectory(dir=work) as folder:
        whole = Path(folder) / "whole.tar"
        with tarfile.open(whole, "w") as tar:
            for run in Store(root).parts("runs"):
                if run.name in known:
                    continue
                files = [Store(root).path(table, run.name) for table in RESULTS]
                if run.name.split("/")[0] in set(checkpoints):
                    files += [p for p in (root / "checkpoints" / run.name).rglob("*") if p.is_file()]
                room -= sum(f.stat().st_size + 1024 for f in files)
                if room < 0:
                    left += 1
                    continue
                for file in files:
                    tar.add(file, file.relative_to(root).as_posix())
                found.append(run.name)
        if found:
            with whole.open("rb") as source:
                for i, piece in enumerate(iter(lambda: source.read(PIECE), b"")):
                    (out / f"collected.tar.{i}").write_bytes(piece)
    ledger.write_text("\n".join(sorted({*known, *found})))
    return len(found), left


def run(given: argparse.Namespace) -> int:
    """The stages asked for, one after another; the first that fails ends the run. Returns an exit status."""
    end = time.monotonic() + 60 * given.minutes
    travel, work, out = (p.resolve() for p in (given.travel, given.work, given.out))
    root = work / "percepiano"
    root.mkdir(parents=True, exist_ok=True)
    out.mkdir(parents=True, exist_ok=True)
    training = f"--data {root} --device {given.device}"
    commands = {
        "check": f"pytest -q -p no:cacheprovider -k {given.device.split(':')[0]} {given.tests}",
        "measure": f"benchmarks.training {training} --results {out} {given.measure}",
        "train": f"piano_assets.training {training} --out {root} --trials {travel / 'trials.json'}",
    }
    inside: dict[str, Callable[[], object]] = {
        "build": lambda: f"{build(travel, root, given.processes)} sequences made",
        "collect": lambda: "{} partitions collected, {} left".format(
            *collect(root, work, out, given.checkpoints, given.pieces)
        ),
    }
    status = 0
    for stage in given.stages:
        started = time.monotonic()
        if stage in inside:
            said = inside[stage]()
        elif stage == "train" and not json.loads((travel / "trials.json").read_text()):
            said = "nothing to train"
        else:
            left = max(1.0, end - started - RESERVE_S)
            said = status = call(commands[stage], left if stage == "train" else None)
        print(f"== {stage}: {said}, {time.monotonic() - started:.1f} s", flush=True)
        if status and stage != "train":
            break
    return status


def call(command: str, seconds: float | None) -> int:
    """Run a module as a process of its own; one that is out of time is stopped, which is no failure."""
    try:
        return subprocess.run([sys.executable, "-m", *shlex.split(command)], timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        print(f"stopped after {seconds:.0f} s", flush=True)
        return 0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    at = commands.add_parser("pack")
    at.add_argument("names", nargs="*", help="comparisons (also @reduced) or configs; none: only what is measured")
    at.add_argument("--data", type=Path, required=True, help="corpus folder")
    at.add_argument("--travel", type=Path, required=True, help="folder that travels; what is in it is removed")
    at.add_argument("--seeds", type=int, help="at most so many of each config")
    at = commands.add_parser("run")
    at.add_argument("--travel", type=Path, required=True)
    at.add_argument("--work", type=Path, default=Path("data/gpu"), help="folder that is kept from call to call")
    at.add_argument("--out", type=Path, required=True, help="folder that comes back")
    at.add_argument("--device", default="cuda")
    at.add_argument("--minutes", type=float, default=9.0, help="of this call: training stops in time")
    at.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    at.add_argument("--tests", default="piano_assets_tests/training piano_assets_tests/test_benchmarks_training.py")
    at.add_argument("--measure", default="--budget full", help="options of benchmarks.training")
    at.add_argument("--checkpoints", nargs="*", default=[MEASURED], help="configs whose models come back (32 MB each)")
    at.add_argument("--pieces", type=int, default=6)
    at.add_argument("--processes", type=int, default=os.cpu_count())
    at = commands.add_parser("unpack")
    at.add_argument("--collected", type=Path, required=True)
    at.add_argument("--data", type=Path, required=True)
    given = parser.parse_args(arguments)
    if given.command == "run":
        return run(given)
    if given.command == "unpack":
        print(f"{unpack(given.collected, Store(given.data))} runs unpacked")
        return 0
    tasks = pack(Store(given.data), given.names, given.seeds, given.travel)
    size = sum(p.stat().st_size for p in given.travel.rglob("*") if p.is_file())
    print(f"{len(tasks)} partitions to train, {size / 2**20:.1f} MB travel")
    return 0


if __name__ == "__main__":
    sys.exit(main())
