"""Time the training of networks: ours in every way, and PyTorch Lightning's, in turn.

    python -m benchmarks.training --data FOLDER                               CPU, budget reduced
    python -m benchmarks.training --data FOLDER --device cuda --budget full   a GPU

FOLDER is a corpus folder with its parts and spectrograms (`make run`). Every network is the catalogue's `--config` on
its own fold and seed; Lightning's is the same network (`training_lightning`), one at a time, and before anything is
timed, both must learn alike from the same weights and batches. Ours train one after another on all cores, side by side
with a core each (a CPU's default), and as stacks. Each repeat trains with every system in turn for `--epochs` epochs
of `--share` of a fold's steps and validation clips. The first epoch tells what starting costs, the later ones what an
epoch costs; from these follow trained members per hour: a whole budget, no early end. The predictions of test clips
that follow are alike for all and left out.

Both clocks stand in the result: on a shared machine processor seconds are those to compare. Goals against Lightning:
10 times the members per hour on a GPU, as many on a CPU; and on a CPU, no way slower than one after another.
Results go to `benchmarks/results/training_<device>.json`, one entry for each config, budget and set of changes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import device as machine
from benchmarks.environment import environment
from benchmarks.training_systems import Scene, Timed, learn_alike, lightnings, members, set_scene, side_by_side, stack
from piano_assets.catalogue.comparisons import built_in
from piano_assets.catalogue.trial import Encoder, vary
from piano_assets.models.network import Network
from piano_assets.store.parts import Store
from piano_assets.training import loop, provenance
from piano_assets.training.members import Group

RESULTS = Path(__file__).parent / "results"
SINGLE, BESIDE, LIGHTNING = "one after another", "side by side", "lightning"
GOALS = {"cuda": 10.0, "cpu": 1.0}
"""Members per hour, times Lightning's."""
SIZES = {"cuda": (1, 8, 32, 128), "cpu": (1, 2, 4, 5)}
SHARE = {"cuda": 1.0, "cpu": 0.25}
WORKERS = {"cuda": (0, 2, 4), "cpu": (0, 1)}

System = Callable[[int], Timed]
"""Trains, from a member's number on, as many members as it does at once."""


def systems_of(scene: Scene, sizes: Sequence[int], workers: int) -> dict[str, System]:
    """Every way of training, by name."""

    def within(train: Callable, size: int) -> System:
        return lambda first: train(scene, min(first, len(scene.groups) - size), size)[0]

    found = {SINGLE if n == 1 else f"stack of {n}": within(stack, n) for n in sizes}
    cores = torch.get_num_threads()
    if scene.device == "cpu" and 1 < cores <= len(scene.groups):
        found[BESIDE] = within(side_by_side, cores)
    found[LIGHTNING] = lambda first: lightnings(scene, first, workers)[0]
    return found


def workers_that_gain(scene: Scene, candidates: Sequence[int]) -> tuple[int, dict[str, float]]:
    """The number of workers with which Lightning's epoch is shortest, and the seconds of each."""
    took = {}
    for workers in candidates:
        one, _ = lightnings(scene, 0, workers)
        took[workers] = one.epoch_s
    return min(took, key=lambda w: took[w]), {str(w): round(s, 3) for w, s in took.items()}


def figures(runs: list[Timed], scene: Scene, whole: list[Group]) -> dict[str, Any]:
    """Medians over repeats, scaled from what ran to a whole budget on whole folds."""
    by_steps = statistics.mean(g.steps for g in whole) / scene.groups[0].steps
    by_windows = scene.n_windows(whole) / scene.n_windows(scene.groups)
    epochs = whole[0].budget.epochs
    hourly, epoch, processor, judging, start = [], [], [], [], []
    for run in runs:
        train, judge = run.train_s * by_steps, run.eval_s * by_windows
        epoch.append((train + judge) / run.members)
        start.append(run.start_s / run.members)
        hourly.append(3600 / (start[-1] + epochs * epoch[-1]))
        judging.append(judge / (train + judge))
        processor.append(run.processor_s / run.members)
    found = {
        "members_per_hour": spread(hourly),
        "epoch_s_a_member": spread(epoch),
        "start_s_a_member": spread(start),
        "processor_s_a_member_and_epoch_as_run": spread(processor),
        "share_of_time_in_evaluation": spread(judging),
        "host_peak_mb": round(max(r.host_mb for r in runs)),
    }
    if scene.device.startswith("cuda"):
        found["device_peak_mb"] = round(max(r.device_mb for r in runs))
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    rounded = {"median": statistics.median(values), "least": min(values), "most": max(values)}
    return {name: float(f"{v:.4g}") for name, v in rounded.items()} | {"n": len(values)}


def measure(scene: Scene, sizes: Sequence[int], repeats: int, candidates: Sequence[int]) -> dict[str, Any]:
    """Every system in turn, `repeats` times."""
    whole = members(scene.trial, scene.data, len(scene.groups))
    learning = learn_alike(scene)
    print("learning", json.dumps(learning), flush=True)
    warm = replace(scene, groups=[replace(g, steps=1, valid=g.valid[:2]) for g in scene.groups], epochs=2)
    for name, warm_up in systems_of(warm, sizes, 0).items():
        if name != LIGHTNING:  # warmed up by the search for its workers
            warm_up(0)
    workers, tried = workers_that_gain(scene, candidates)
    systems = systems_of(scene, sizes, workers)
    runs: dict[str, list[Timed]] = {name: [] for name in systems}
    for repeat in range(repeats):
        # Whoever comes first after a pause may find a cooler processor: the order turns.
        at = repeat % len(systems)
        for name in [*systems][at:] + [*systems][:at]:
            run = systems[name](repeat % len(scene.groups))
            runs[name].append(run)
            print(f"repeat {repeat}: {name}: {run.epoch_s / run.members:.3f} s a member", flush=True)
    found = {name: figures(mine, scene, whole) for name, mine in runs.items()}
    for name, mine in runs.items():
        for peer in (SINGLE, LIGHTNING):
            if name not in (peer, LIGHTNING):
                found[name][f"times_as_fast_as_{peer.replace(' ', '_')}"] = faster(mine, runs[peer])
    ran = {"steps": scene.groups[0].steps, "windows": round(scene.n_windows(scene.groups)), "epochs": scene.epochs}
    stands_for = {
        "steps": whole[0].steps,
        "windows": round(scene.n_windows(whole)),
        "epochs": whole[0].budget.epochs,
    }
    result: dict[str, Any] = {"learning": learning, "ran": ran | {"repeats": repeats}, "stands_for": stands_for}
    result |= {"lightning_workers": {"chosen": workers, "epoch_s": tried}, "systems": found}
    if scene.device.startswith("cuda"):
        some = dict.fromkeys([SINGLE, [*systems][len(sizes) - 1], LIGHTNING])
        result["accelerator"] = use_of(scene, {name: runs[name] for name in some}, systems)
    return result


def faster(mine: Sequence[Timed], others: Sequence[Timed]) -> dict[str, float]:
    """Median over repeats of the others' time of an epoch of a member over mine, on both clocks."""
    pairs = list(zip(mine, others, strict=True))
    wall = [(b.epoch_s / b.members) / (a.epoch_s / a.members) for a, b in pairs]
    processor = [(b.processor_s / b.members) / (a.processor_s / a.members) for a, b in pairs]
    return {"wall": round(statistics.median(wall), 3), "processor": round(statistics.median(processor), 3)}


def use_of(scene: Scene, runs: dict[str, list[Timed]], systems: dict[str, System]) -> dict[str, Any]:
    """How well the GPU is used by some systems."""
    shape = loop.shape_of(scene.groups[0], scene.material)
    assert isinstance(scene.trial.model, Encoder)
    frames = torch.zeros(1, 1, shape.crop, shape.width)
    training, predicting = machine.flops(Network(scene.trial.model, shape), frames)
    crops = scene.groups[0].steps * scene.groups[0].batch_size
    of_a_member = crops * training + scene.n_windows(scene.groups) * predicting
    epochs = {
        name: {"members": mine[0].members, "seconds": statistics.median(r.epoch_s for r in mine)}
        for name, mine in runs.items()
    }
    again = {name: partial(systems[name], 0) for name in runs}
    return machine.accelerator(scene.device, epochs, of_a_member, again, scene.epochs)


def goals(found: dict[str, Any], device: str) -> dict[str, Any]:
    """Reached or not: members per hour against Lightning's, and on a CPU each way against one after another."""
    hourly = {name: system["members_per_hour"]["median"] for name, system in found["systems"].items()}
    mine = {name: value for name, value in hourly.items() if name != LIGHTNING}
    best = max(mine, key=lambda name: mine[name])
    kind = device.split(":")[0]
    reached = round(mine[best] / hourly[LIGHTNING], 2)
    said: dict[str, Any] = {"to_lightning": {"goal": GOALS[kind], "reached": reached, "by": best}}
    if kind == "cpu":
        others = {name: round(value / mine[SINGLE], 3) for name, value in mine.items() if name != SINGLE}
        said["to_one_after_another"] = {"goal": 1.0, "reached": others}
    return said


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="corpus folder")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:<n>")
    parser.add_argument("--budget", default="reduced", choices=("smoke", "reduced", "full"))
    parser.add_argument("--config", default="ast.reference", help="a network on spectrograms with vanilla attention")
    parser.add_argument("--change", action="append", default=[], metavar="FIELD=VALUE", help="model.depth=1, ...")
    parser.add_argument("--members", type=int, nargs="+", help="sizes of stacks, 1 among them")
    parser.add_argument("--share", type=float, help="of a fold's steps and validation clips (cpu .25, cuda 1)")
    parser.add_argument("--epochs", type=int, default=3, help="of each run, the first one to get going")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", help="of Lightning's loaders: the fastest is taken")
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    kind = given.device.split(":")[0]
    sizes = sorted({1, *(given.members or SIZES[kind])})
    changes = {name: json.loads(value) for name, _, value in (c.partition("=") for c in given.change)}
    trial = vary(built_in().full[given.config], {"budget": given.budget, **changes})
    trial = replace(trial, search=())
    assert isinstance(trial.model, Encoder)
    if given.epochs < 2:
        parser.error(f"--epochs {given.epochs}: the first epoch is not counted, so there must be at least 2")
    precision = provenance.precision_that_gains(given.device)
    n, share = max(*sizes, torch.get_num_threads()), given.share or SHARE[kind]
    scene = set_scene(trial, Store(given.data), n, share, given.device, precision, given.epochs)
    result: dict[str, Any] = {
        "environment": environment() | {"hardware": provenance.hardware(given.device)},
        "threads": torch.get_num_threads(),
        "precision": precision,
    }
    started = time.perf_counter()
    result |= measure(scene, sizes, given.repeats, given.workers or WORKERS[kind])
    result["goals"] = goals(result, given.device)
    result["took_s"] = round(time.perf_counter() - started)
    label = "; ".join([f"{given.config}@{given.budget}", precision, *given.change])
    path = given.results / f"training_{kind}.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    given.results.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(kept | {label: result}, indent=2) + "\n")
    print(json.dumps({label: result}, indent=2))


if __name__ == "__main__":
    main()
