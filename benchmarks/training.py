"""Time the training of networks: ours one after another, ours as stacks, and PyTorch Lightning's, in turn.

    python -m benchmarks.training --data FOLDER                               CPU, budget reduced
    python -m benchmarks.training --data FOLDER --device cuda --budget full   a GPU

FOLDER is a corpus folder with its parts and spectrograms (`make run`). Every network is the catalogue's `--config` on
its own fold and seed; Lightning's is the same network (see `training_lightning`), and before anything is timed, both
must learn alike from the same weights and batches. Each repeat trains with every system in turn for `--epochs` epochs
of `--share` of a fold's steps and validation clips. The first epoch tells what starting costs, the later ones what an
epoch costs; from these follow trained members per hour: a whole budget, no early end. The predictions of test clips
that follow are alike for all and left out.

Both clocks stand in the result: on a shared machine processor seconds are those to compare. Goals against Lightning:
10 times the members per hour on a GPU, as many on a CPU; and stacks on a CPU never slower than one after another.
Results go to `benchmarks/results/training_<device>.json`, one entry for each config, budget and set of changes.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks import device as machine
from benchmarks.environment import environment
from benchmarks.training_lightning import train as train_with_lightning
from piano_assets.catalogue.comparisons import built_in
from piano_assets.catalogue.trial import Encoder, Trial, vary
from piano_assets.models.network import Network
from piano_assets.store.parts import Store
from piano_assets.training import loop, provenance
from piano_assets.training.batches import first_frames, window_starts
from piano_assets.training.data import TrialData, load
from piano_assets.training.material import CROP, Material
from piano_assets.training.members import FIXED, Group, Track, groups_of

RESULTS = Path(__file__).parent / "results"
SINGLE, LIGHTNING = "one after another", "lightning"
GOALS = {"cuda": 10.0, "cpu": 1.0}
"""Members per hour, times Lightning's."""
ALIKE = {"train_loss": 1e-3, "valid_loss": 1e-3, "valid_r": 1e-2}
"""How far two float32 trainings may part in 16 steps: losses relatively, r absolutely."""
BRISK = {"learning_rate": 1e-3, "schedule": "constant", "warmup": 0.0}
MOVED = 0.05
"""Validation r of a network that has learned something; at the start its predictions are constant and r is 0."""
SIZES = {"cuda": (1, 8, 32, 128), "cpu": (1, 2, 4, 5)}


@dataclass(frozen=True)
class Timed:
    """What training some members for some epochs took. Seconds of an epoch: training and evaluation apart.

    start_s: what the first epoch took beyond the others; processor_s: of this process and its workers, per epoch.
    """

    members: int
    start_s: float
    train_s: float
    eval_s: float
    processor_s: float
    host_mb: float
    device_mb: float


@dataclass(frozen=True)
class Scene:
    """What all systems train on: members of one trial on a share of their folds."""

    trial: Trial
    data: TrialData
    groups: list[Group]
    material: Material
    device: str
    precision: str
    epochs: int

    def n_windows(self, groups: Sequence[Group]) -> float:
        """Windows that judge a member, on average over groups."""
        assert self.data.sequence is not None
        n_frames = self.data.sequence.n_frames
        return statistics.mean(sum(len(window_starts(int(n_frames[c]), g.crop)) for c in g.valid) for g in groups)


def members(trial: Trial, data: TrialData, n: int) -> list[Group]:
    """`n` groups of one member each: the folds of as many seeds as it takes."""
    found: list[Group] = []
    while len(found) < n:
        seed = len(found) // len(groups_of(trial, "benchmark", 0, 0, data)) if found else 0
        found += groups_of(trial, "benchmark", seed, seed % data.n_repeats, data)
    return found[:n]


def shortened(group: Group, share: float) -> Group:
    """The group with a share of its steps, drawn from all its clips, and of its validation clips."""
    n_valid = max(4, round(share * len(group.valid)))
    chosen = np.unique(np.linspace(0, len(group.valid) - 1, min(n_valid, len(group.valid))).astype(int))
    return replace(group, steps=max(1, round(share * group.steps)), valid=group.valid[chosen])


def set_scene(trial: Trial, store: Store, n: int, share: float, device: str, precision: str, epochs: int) -> Scene:
    data = load(trial, store)
    groups = [shortened(g, share) for g in members(trial, data, n)]
    return Scene(trial, data, groups, Material(data, groups, device), device, precision, epochs)


# ----------------------------------------------------------------------------------------------------------- systems


def ours(scene: Scene, first: int, size: int) -> tuple[Timed, list[Track]]:
    """Train `size` members from number `first` on as one stack."""
    tracks = [Track.begin(g, FIXED) for g in scene.groups[first : first + size]]
    ended: list[float] = []
    judged_from: list[float] = []

    def predict(*given: Any) -> list[torch.Tensor]:
        judged_from.append(machine.clock(scene.device))
        return predict_windows(*given)

    def on_epoch(active: Sequence[Track], _: Callable) -> None:
        ended.append(machine.clock(scene.device))
        if len(ended) == scene.epochs:
            for track in active:
                track.end("finished")

    predict_windows = loop.predict
    machine.forget_peaks(scene.device)
    started, processor = machine.clock(scene.device), machine.processor_seconds()
    with mock.patch.object(loop, "predict", predict):
        loop.fit(tracks, scene.material, precision=scene.precision, on_epoch=on_epoch)
    judging = [end - at for at, end in zip(judged_from, ended, strict=True)]
    return timed(scene, size, started, ended, judging, machine.processor_seconds() - processor), tracks


def lightnings(
    scene: Scene, first: int, workers: int, given: list[list[list[tuple[int, int]]]] | None = None
) -> tuple[Timed, list[dict[str, float]]]:
    """Train member number `first` with Lightning."""
    assert scene.data.sequence is not None
    group = scene.groups[first]
    network = initial(scene, group)
    machine.forget_peaks(scene.device)
    started, processor = machine.clock(scene.device), machine.processor_seconds()
    peer = train_with_lightning(
        group,
        scene.data.sequence,
        scene.data.targets.astype(np.float32),
        network,
        device=scene.device,
        precision=scene.precision,
        epochs=scene.epochs,
        workers=workers,
        clock=lambda: machine.clock(scene.device),
        given=given,
    )
    ended, judging = ([e[name] for e in peer.epochs] for name in ("ended", "eval_s"))
    return timed(scene, 1, started, ended, judging, machine.processor_seconds() - processor), peer.epochs


def initial(scene: Scene, group: Group) -> Network:
    """A member's moments and initial weights, as ours begins."""
    return loop.begin([Track.begin(group, FIXED)], scene.material).cpu()


def timed(scene: Scene, size: int, started: float, ended: list[float], judging: list[float], processor: float) -> Timed:
    whole = np.diff([started, *ended])
    epoch = float(np.median(whole[1:]))
    judged = float(np.median(judging[1:]))
    memory = machine.peaks(scene.device)
    each = processor * epoch / float(whole.sum())
    return Timed(size, max(0.0, float(whole[0]) - epoch), epoch - judged, judged, each, *memory)


def learn_alike(scene: Scene, steps: int = 8) -> dict[str, Any]:
    """Train one member both ways in float32 without dropout, from the same weights on the same batches, two epochs.

    At a rate at which every step counts: during a warm-up two networks would agree because neither has moved.

    Raises:
        SystemExit: they part by more than `ALIKE`, or have not learned anything to part by.
    """
    still = vary(scene.trial, {"model.dropout": 0.0} | {f"optimisation.{k}": v for k, v in BRISK.items()})
    group = replace(scene.groups[0], trial=still, points={FIXED: still}, steps=steps)
    scene = replace(scene, groups=[group], precision="float32", epochs=2)
    track = Track.begin(group, FIXED)
    given = []
    for _ in range(scene.epochs):
        drawn = scene.material.epoch([track])
        n_frames = scene.material.clips.n_frames[drawn.clip]  # type: ignore[union-attr]
        first = first_frames(n_frames, group.crop, drawn.uniforms[..., CROP])
        batches = zip(drawn.clip[0].tolist(), first[0].tolist(), strict=True)
        given.append([list(zip(*batch, strict=True)) for batch in batches])
    mine, theirs = ours(scene, 0, 1)[1][0].history, lightnings(scene, 0, 0, given)[1]
    apart = {}
    for name, tolerance in ALIKE.items():
        pairs = [(a[name], b[name]) for a, b in zip(mine, theirs, strict=True)]
        apart[name] = max(abs(a - b) / (1.0 if name == "valid_r" else abs(b)) for a, b in pairs)
        if not apart[name] <= tolerance:
            raise SystemExit(f"ours and Lightning's {name} part by {apart[name]:.2g} (at most {tolerance:g}): {pairs}")
    if abs(mine[-1]["valid_r"]) < MOVED:
        raise SystemExit(
            f"after {2 * group.steps} steps validation r is {mine[-1]['valid_r']:.3f}: nothing was learned"
        )
    said = {name: float(f"{value:.2g}") for name, value in apart.items()}
    return {"steps": 2 * group.steps, "valid_r": round(mine[-1]["valid_r"], 3), "apart": said, "tolerances": ALIKE}


# ------------------------------------------------------------------------------------------------------------ figures


def workers_that_gain(scene: Scene, candidates: Sequence[int]) -> tuple[int, dict[str, float]]:
    """The number of workers with which Lightning's epoch is shortest, and the seconds of each."""
    took = {}
    for workers in candidates:
        one, _ = lightnings(scene, 0, workers)
        took[workers] = one.train_s + one.eval_s
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


def ratio(runs: dict[str, list[dict[str, float]]], a: str, b: str, what: str) -> float:
    """Median over repeats of b's time over a's: how many times as fast a is."""
    return round(statistics.median(y[what] / x[what] for x, y in zip(runs[a], runs[b], strict=True)), 3)


def measure(scene: Scene, sizes: Sequence[int], repeats: int, candidates: Sequence[int]) -> dict[str, Any]:
    """Every system in turn, `repeats` times."""
    whole = members(scene.trial, scene.data, len(scene.groups))
    found: dict[str, Any] = {"learning": learn_alike(scene)}
    print("learning", json.dumps(found["learning"]), flush=True)
    warm = replace(scene, groups=[replace(g, steps=1, valid=g.valid[:2]) for g in scene.groups], epochs=2)
    for size in sizes:
        ours(warm, 0, size)
    workers, tried = workers_that_gain(scene, candidates)
    found["lightning_workers"] = {"chosen": workers, "epoch_s": tried}
    names = {named(n): n for n in sizes} | {LIGHTNING: 0}
    runs: dict[str, list[Timed]] = {name: [] for name in names}
    for repeat in range(repeats):
        # Whoever comes first after a pause may find a cooler processor: the order turns.
        turned = list(names)[repeat % len(names) :] + list(names)[: repeat % len(names)]
        for name in turned:
            at = repeat % len(scene.groups)
            size = names[name]
            run, _ = ours(scene, min(at, len(scene.groups) - size), size) if size else lightnings(scene, at, workers)
            runs[name].append(run)
            print(f"repeat {repeat}: {name}: {(run.train_s + run.eval_s) / run.members:.3f} s a member", flush=True)
    found["systems"] = {name: figures(runs[name], scene, whole) for name in names}
    each = {
        name: [{"wall": (r.train_s + r.eval_s) / r.members, "processor": r.processor_s / r.members} for r in mine]
        for name, mine in runs.items()
    }
    for name in names:
        if name != LIGHTNING:
            found["systems"][name]["times_as_fast_as_lightning"] = {
                clock: ratio(each, name, LIGHTNING, clock) for clock in ("wall", "processor")
            }
            found["systems"][name]["times_as_fast_as_one_after_another"] = {
                clock: ratio(each, name, SINGLE, clock) for clock in ("wall", "processor")
            }
    steps, windows = whole[0].steps, round(scene.n_windows(whole))
    ran = {"steps": scene.groups[0].steps, "windows": round(scene.n_windows(scene.groups)), "epochs": scene.epochs}
    found["ran"] = ran | {"repeats": repeats}
    found["stands_for"] = {"steps": steps, "windows": windows, "epochs": whole[0].budget.epochs}
    return found


def use_of(scene: Scene, found: dict[str, Any], sizes: Sequence[int]) -> dict[str, Any]:
    """How well the GPU is used by the smallest and the largest stack, and by Lightning."""
    shape = loop.shape_of(scene.groups[0], scene.material)
    assert isinstance(scene.trial.model, Encoder)
    frames = torch.zeros(1, 1, shape.crop, shape.width)
    training, predicting = machine.flops(Network(scene.trial.model, shape), frames)
    steps, windows = (found["stands_for"][name] for name in ("steps", "windows"))
    of_a_member = steps * scene.groups[0].batch_size * training + windows * predicting
    names = {named(n): n for n in (sizes[0], sizes[-1])} | {LIGHTNING: 1}
    epochs = {
        name: {"members": n, "seconds": n * found["systems"][name]["epoch_s_a_member"]["median"]}
        for name, n in names.items()
    }
    runs: dict[str, Callable[[], object]] = {name: partial(ours, scene, 0, n) for name, n in names.items()}
    runs[LIGHTNING] = partial(lightnings, scene, 0, found["lightning_workers"]["chosen"])
    return machine.accelerator(scene.device, epochs, of_a_member, runs, scene.epochs)


def named(size: int) -> str:
    return f"stack of {size}" if size > 1 else SINGLE


def goals(found: dict[str, Any], device: str) -> dict[str, Any]:
    """Reached or not: members per hour against Lightning's, and on a CPU stacks against one after another."""
    hourly = {name: system["members_per_hour"]["median"] for name, system in found["systems"].items()}
    mine = {name: value for name, value in hourly.items() if name != LIGHTNING}
    best = max(mine, key=lambda name: mine[name])
    kind = device.split(":")[0]
    reached = round(mine[best] / hourly[LIGHTNING], 2)
    said: dict[str, Any] = {"to_lightning": {"goal": GOALS[kind], "reached": reached, "by": best}}
    if kind == "cpu" and len(mine) > 1:
        single = mine[SINGLE]
        stacks = {name: round(value / single, 3) for name, value in mine.items() if name != SINGLE}
        said["stacks_to_one_after_another"] = {"goal": 1.0, "reached": stacks}
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
    share = given.share or (0.25 if kind == "cpu" else 1.0)
    scene = set_scene(trial, Store(given.data), max(sizes), share, given.device, precision, given.epochs)
    result: dict[str, Any] = {
        "environment": environment() | {"hardware": provenance.hardware(given.device)},
        "threads": torch.get_num_threads(),
        "precision": precision,
    }
    started = time.perf_counter()
    result |= measure(scene, sizes, given.repeats, given.workers or ((0, 1) if kind == "cpu" else (0, 2, 4)))
    if kind == "cuda":
        result["accelerator"] = use_of(scene, result, sizes)
    result["goals"] = goals(result, given.device)
    result["took_s"] = round(time.perf_counter() - started)
    label = "; ".join([f"{given.config}@{given.budget}", *given.change])
    path = given.results / f"training_{kind}.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    given.results.mkdir(exist_ok=True, parents=True)
    path.write_text(json.dumps(kept | {label: result}, indent=2) + "\n")
    print(json.dumps({label: result}, indent=2))


if __name__ == "__main__":
    main()
