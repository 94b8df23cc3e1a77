"""A partition killed before and after each of its operations on files, one after the other.

    python -m benchmarks.every_step tabular FOLDER [--operations rename replace]

FOLDER/data is a tiny corpus (`piano_assets_tests/training/tiny.py`). Each time one restart finishes the partition,
touches nothing that was finished, and leaves the tables of the first. Prints how many kills there were. Where
`benchmarks.chaos` kills at random, this leaves no step out.
"""

import argparse
import contextlib
import importlib
import io
import itertools
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from benchmarks.chaos import finished_files, read_whole, tables
from piano_assets.catalogue.trial import Trial, as_dict
from piano_assets.store.parts import Store
from piano_assets_tests.training.tiny import AST, RIDGE

STEPPED = {"tabular": RIDGE, "network": AST}
LIBRARIES = ("piano_assets.models.tabular", "piano_assets.training.loop", "piano_assets.training.__main__", "skops.io")
OPERATIONS = ("fsync", "link", "mkdir", "rename", "replace", "rmdir", "unlink")


class Broken(AssertionError):
    """A rule of the store that does not hold; the message names what breaks it."""


def finished(store: Store) -> dict[Path, tuple]:
    """The files of every finished partition as they stand, after every part was read."""
    return finished_files(store, read_whole(store))


def require_unchanged(store: Store, before: dict[Path, tuple]) -> None:
    """Raise Broken for a file of a finished partition that was written again, or is gone."""
    now = finished(store)
    if changed := [str(path) for path, was in before.items() if now.get(path) != was]:
        raise Broken(f"published, and not as it was: {', '.join(changed)}")


def require_equal(store: Store, reference: dict[str, pd.DataFrame]) -> None:
    """Raise Broken where a table differs from the reference's (`chaos.tables`) in a single value."""
    for table, frame in tables(store).items():
        try:
            pd.testing.assert_frame_equal(frame, reference[table], check_exact=True)
        except AssertionError as error:
            raise Broken(f"table {table} differs from that of an uninterrupted sweep: {error}") from error


def write_trials(path: Path, trials: dict[str, tuple[Trial, int]]) -> Path:
    entries = [
        {"config": config, "seed": seed, "trial": as_dict(trial)}
        for config, (trial, seeds) in trials.items()
        for seed in range(seeds)
    ]
    path.write_text(json.dumps(entries))
    return path


def die_at(step: int, operations: tuple[str, ...] = OPERATIONS) -> None:
    """Kill this process at its `step`-th moment, from 0: before its first file operation, after it, before the next."""
    moments = itertools.count()

    def deadly(operation: Callable) -> Callable:
        def call(*arguments, **more):
            if next(moments) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            done = operation(*arguments, **more)
            if next(moments) == step:
                os.kill(os.getpid(), signal.SIGKILL)
            return done

        return call

    for name in operations:
        setattr(os, name, deadly(getattr(os, name)))


def every_step(data: Path, folder: Path, trial: Trial, operations: tuple[str, ...] = OPERATIONS) -> int:
    """Kill a partition at each moment in turn, each time restart it once, and compare. Returns the kills.

    Each life is a fork of this process, which itself computes nothing and so has no threads that a fork would lose.

    Raises:
        Broken: a life or its check failed; the reason is on stderr.
    """
    for needed in LIBRARIES:  # once, not in each fork
        importlib.import_module(needed)
    folder.mkdir()
    trials = write_trials(folder / "trials.json", {"config.arm": (trial, 1)})
    for step in itertools.count():
        root = folder / f"step{step}"
        shutil.copytree(data, root)
        killed = _forked(lambda step=step, root=root: _train(trials, root, step, operations))
        if killed not in (0, signal.SIGKILL):
            raise Broken(f"step {step}: the training ended with {killed}")
        if _forked(lambda root=root: _train_and_compare(trials, root, folder / "step0")):
            raise Broken(f"step {step}: the restart failed")
        if step:
            shutil.rmtree(root)
        if not killed:
            return step
    raise AssertionError


def _forked(work: Callable[[], None]) -> int:
    """Run in a fork: 0, 1 after an exception, or the signal that killed it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            sys.stderr.flush()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the fork must not go on as its parent
            sys.excepthook(*sys.exc_info())
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _train(trials: Path, root: Path, step: int | None, operations: tuple[str, ...]) -> None:
    from piano_assets.training.__main__ import main

    if step is not None:
        die_at(step, operations)
    with contextlib.redirect_stdout(io.StringIO()):
        failed = main(["--trials", str(trials), "--data", str(root), "--out", str(root), "--threads", "1"])
    if failed:
        raise Broken("the training failed")


def _train_and_compare(trials: Path, root: Path, reference: Path) -> None:
    store = Store(root)
    before = finished(store)
    _train(trials, root, None, ())
    require_unchanged(store, before)
    if root != reference:
        require_equal(store, tables(Store(reference)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trial", choices=STEPPED)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--operations", choices=OPERATIONS, nargs="*", default=OPERATIONS)
    given = parser.parse_args()
    print(every_step(given.folder / "data", given.folder / given.trial, STEPPED[given.trial], tuple(given.operations)))


if __name__ == "__main__":
    main()
