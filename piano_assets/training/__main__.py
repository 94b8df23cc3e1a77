"""Train trials on a machine that has no more than the training packages.

    python -m piano_assets.training --trials trials.json --data FOLDER --out FOLDER --device cuda

`trials.json` is a list of {"config": ..., "seed": ..., "trial": {...}}. Parts are read from `--data` (a corpus folder)
and written to `--out`; what either of them already holds under its key is not done again.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from piano_assets.catalogue.trial import Trial, from_dict
from piano_assets.store.parts import Store
from piano_assets.training.check import check
from piano_assets.training.provenance import precision_that_gains
from piano_assets.training.run import RunResult, run_batch
from piano_assets.training.stacks import SAVE_EVERY_S


def read_trials(path: Path) -> list[tuple[str, Trial, int]]:
    """(config, trial, seed) of each entry, all checked before any is trained.

    Raises:
        ValueError: not a list of entries with exactly these fields; the entry is named.
        IllegalTrial: an illegal trial.
    """
    entries = json.loads(path.read_text())
    if not isinstance(entries, list):
        raise ValueError(f"{path}: must be a list of trials, is a {type(entries).__name__}")
    found = []
    for i, entry in enumerate(entries):
        if not isinstance(entry, dict) or set(entry) != {"config", "seed", "trial"}:
            raise ValueError(f"{path}, entry {i}: must have the fields config, seed and trial, has {entry!r:.100}")
        found.append((entry["config"], from_dict(entry["trial"]), entry["seed"]))
        check(found[-1][1])
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all trials; 0 when every one finished, 1 when one failed or diverged."""
    parser = argparse.ArgumentParser(prog="python -m piano_assets.training", description="Train trials from parts.")
    parser.add_argument("--trials", type=Path, required=True, help="JSON list of {config, seed, trial}")
    parser.add_argument("--data", type=Path, required=True, help="corpus folder to read parts from")
    parser.add_argument("--out", type=Path, required=True, help="corpus folder to write parts to (may be the same)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<n>")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="of networks (what gains on the device)")
    parser.add_argument("--members", type=int, help="at most so many networks at once (as many as fit the memory)")
    parser.add_argument("--threads", type=int, help="threads of tabular models (all cores)")
    parser.add_argument(
        "--save-every", type=float, default=SAVE_EVERY_S, help="seconds between saved states of networks (%(default)g)"
    )
    given = parser.parse_args(arguments)
    same = given.out.resolve() == given.data.resolve()
    store = Store(given.out, shipped=None if same else given.data)
    trials = read_trials(given.trials)

    finished: list[RunResult] = []
    failed: list[str] = []

    def report(result: RunResult) -> None:
        finished.append(result)
        how = "reused" if result.reused else f"{result.status} in {result.seconds:.1f} s"
        say(f"{result.config} seed {result.seed}: {how}")

    def complain(partition: str, error: Exception) -> None:
        failed.append(partition)
        say(f"{partition} failed: {type(error).__name__}: {error}")

    def say(text: str) -> None:
        print(f"{len(finished) + len(failed)}/{len(trials)} {text}", flush=True)

    run_batch(
        trials,
        store,
        given.device,
        report,
        given.precision or precision_that_gains(given.device),
        given.threads,
        on_fold=lambda partition, n, of: say(f"{partition}: {n} of {of} folds"),
        on_failure=complain,
        members=given.members,
        on_wait=lambda partition: say(f"{partition}: another process trains it; waiting"),
        save_every_s=given.save_every,
    )
    return int(bool(failed) or any(r.status == "diverged" for r in finished))


if __name__ == "__main__":
    sys.exit(main())
