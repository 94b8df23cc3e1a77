"""What `benchmarks.training` times: members of a trial, trained by our loop in its ways, or by Lightning.

Every system trains the same members on the same share of their folds, and is timed at the same places: the ends of
epochs, and where evaluation begins.
"""

import statistics
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks import device as machine
from benchmarks.training_lightning import train as train_with_lightning
from piano_assets.catalogue.trial import Trial, vary
from piano_assets.models.network import Network
from piano_assets.store.parts import Store
from piano_assets.training import loop, stacks
from piano_assets.training.batches import first_frames, window_starts
from piano_assets.training.data import TrialData, load
from piano_assets.training.material import CROP, Material
from piano_assets.training.members import FIXED, Group, Track, groups_of

ALIKE = {"train_loss": 1e-3, "valid_loss": 1e-3, "valid_r": 1e-2}
"""How far two float32 trainings may part in 16 steps: losses relatively, r absolutely."""
BRISK = {"learning_rate": 1e-3, "schedule": "constant", "warmup": 0.0}
MOVED = 0.05
"""Validation r of a network that has learned something; at the start its predictions are constant and r is 0."""


@dataclass(frozen=True)
class Timed:
    """What training some members for some epochs took. Seconds of an epoch of all of them, training and evaluation.

    start_s: what the first epoch took beyond the others; processor_s: of this process and its workers, per epoch.
    """

    members: int
    start_s: float
    train_s: float
    eval_s: float
    processor_s: float
    host_mb: float
    device_mb: float

    @property
    def epoch_s(self) -> float:
        return self.train_s + self.eval_s


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
    seed = 0
    while len(found) < n:
        found += groups_of(trial, "benchmark", seed, seed % data.n_repeats, data)
        seed += 1
    return found[:n]


def shortened(group: Group, share: float) -> Group:
    """The group with a share of its steps, drawn from all its clips, and of its validation clips."""
    n_valid = min(len(group.valid), max(4, round(share * len(group.valid))))
    chosen = np.linspace(0, len(group.valid) - 1, n_valid).astype(int)
    return replace(group, steps=max(1, round(share * group.steps)), valid=group.valid[chosen])


def set_scene(trial: Trial, store: Store, n: int, share: float, device: str, precision: str, epochs: int) -> Scene:
    data = load(trial, store)
    groups = [shortened(g, share) for g in members(trial, data, n)]
    return Scene(trial, data, groups, Material(data, trial, device), device, precision, epochs)


def stack(scene: Scene, first: int, size: int) -> tuple[Timed, list[Track]]:
    """Train `size` members from number `first` on as one stack, as `stacks.fit_groups` does on CUDA."""
    stacks.repeatable(scene.device)
    begun = begin(scene)
    with judging_noted(scene.device) as noted:
        tracks, ended, thread = trained(scene, first, size)
    return timed(scene, size, begun, [ended], [noted[thread]]), tracks


def side_by_side(scene: Scene, first: int, size: int) -> tuple[Timed, list[Track]]:
    """Train `size` members at the same time with a core each, as `stacks.fit_groups` does on a CPU."""
    cores = torch.get_num_threads()
    torch.set_num_threads(max(1, cores // size))
    begun = begin(scene)
    try:
        with judging_noted(scene.device) as noted, ThreadPoolExecutor(size) as pool:
            found = list(pool.map(lambda i: trained(scene, first + i, 1), range(size)))
    finally:
        torch.set_num_threads(cores)
    tracks, ended, threads = zip(*found, strict=True)
    return timed(scene, size, begun, ended, [noted[t] for t in threads]), [t for one in tracks for t in one]


@contextmanager
def judging_noted(device: str) -> Iterator[dict[int, list[float]]]:
    """While it lasts, by thread: when the loop began each evaluation."""
    began: dict[int, list[float]] = defaultdict(list)
    predict_windows = loop.predict

    def predict(*given: Any) -> list[torch.Tensor]:
        began[threading.get_ident()].append(machine.clock(device))
        return predict_windows(*given)

    with mock.patch.object(loop, "predict", predict):
        yield began


def trained(scene: Scene, first: int, size: int) -> tuple[list[Track], list[float], int]:
    """Train `size` members from number `first` on as one stack: (tracks, ends of epochs, thread)."""
    tracks = [Track.begin(g, FIXED) for g in scene.groups[first : first + size]]
    ended: list[float] = []

    def on_epoch(active: Sequence[Track], _: Callable) -> None:
        ended.append(machine.clock(scene.device))
        if len(ended) == scene.epochs:
            for track in active:
                track.end("finished")

    loop.fit(tracks, scene.material, precision=scene.precision, on_epoch=on_epoch)
    return tracks, ended, threading.get_ident()


def lightnings(
    scene: Scene, first: int, workers: int, given: list[list[list[tuple[int, int]]]] | None = None
) -> tuple[Timed, list[dict[str, float]]]:
    """Train member number `first` with Lightning; also what each epoch was."""
    assert scene.data.sequence is not None
    group = scene.groups[first]
    network = initial(scene, group)
    torch.use_deterministic_algorithms(False)  # ours asks for them
    begun = begin(scene)
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
    ended, judged_from = ([e[name] for e in peer.epochs] for name in ("ended", "judged_from"))
    return timed(scene, 1, begun, [ended], [judged_from]), peer.epochs


def initial(scene: Scene, group: Group) -> Network:
    """A member's moments and initial weights, as ours begins."""
    return loop.begin([Track.begin(group, FIXED)], scene.material).cpu()


def begin(scene: Scene) -> tuple[float, float]:
    """(seconds, processor seconds) now; peaks of memory start anew."""
    machine.forget_peaks(scene.device)
    return machine.clock(scene.device), machine.processor_seconds()


def timed(
    scene: Scene,
    size: int,
    begun: tuple[float, float],
    ended: Sequence[Sequence[float]],
    judged_from: Sequence[Sequence[float]],
) -> Timed:
    """What the clocks say: ends of epochs and beginnings of evaluations of every program that ran, means over them."""
    processor = machine.processor_seconds() - begun[1]
    memory = machine.peaks(scene.device)
    whole = np.diff(np.array([[begun[0], *of] for of in ended]), axis=1)
    epoch = float(np.median(whole[:, 1:], axis=1).mean())
    judged = float(np.median((np.array(ended) - np.array(judged_from))[:, 1:], axis=1).mean())
    first, total = float(whole[:, 0].mean()), float(whole.sum(1).mean())
    return Timed(size, max(0.0, first - epoch), epoch - judged, judged, processor * epoch / total, *memory)


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
    mine, theirs = stack(scene, 0, 1)[1][0].history, lightnings(scene, 0, 0, given)[1]
    apart = {}
    for name, tolerance in ALIKE.items():
        pairs = [(a[name], b[name]) for a, b in zip(mine, theirs, strict=True)]
        apart[name] = max(abs(a - b) / (1.0 if name == "valid_r" else abs(b)) for a, b in pairs)
        if not apart[name] <= tolerance:
            raise SystemExit(f"ours and Lightning's {name} part by {apart[name]:.2g} (at most {tolerance:g}): {pairs}")
    r = mine[-1]["valid_r"]
    if abs(r) < MOVED:
        raise SystemExit(f"after {2 * steps} steps validation r is {r:.3f}: nothing was learned")
    said = {name: float(f"{value:.2g}") for name, value in apart.items()}
    return {"steps": 2 * steps, "valid_r": round(r, 3), "apart": said, "tolerances": ALIKE}
