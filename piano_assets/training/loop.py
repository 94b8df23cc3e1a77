"""The one training loop: flat, no base class, no callbacks; it always trains a stack, if only of one member.

All chance comes from the members' own streams. What ends up stored is decided by `members.judge` alone: each member's
state with the best mean correlation on its validation clips.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from piano_assets.catalogue.trial import Encoder
from piano_assets.metrics.regression import pearson
from piano_assets.models import packing
from piano_assets.models.layers import Noise
from piano_assets.models.network import Network, Shape, initialise
from piano_assets.training.adamw import AdamW
from piano_assets.training.losses import LOSSES
from piano_assets.training.material import VARIANT, Material
from piano_assets.training.members import Group, Track, cycle_epochs, generator, halve, judge, random_seed
from piano_assets.training.schedules import SCHEDULES, Progress, beta1

WINDOWS = 64
"""Windows of a member that are judged at once."""


def shape_of(group: Group, material: Material) -> Shape:
    """What the network of a group must know of its inputs."""
    width = material.clips.width if material.clips else 0
    return Shape(width, group.crop, len(group.columns), group.trial.inputs.notes)


def fit(
    tracks: Sequence[Track],
    material: Material,
    *,
    precision: str = "float32",
    saved: dict[int, dict[str, Tensor]] | None = None,
    on_epoch: Callable[[Sequence[Track], Callable[[], list[dict[str, Tensor]]]], None] | None = None,
) -> None:
    """Train members of equal shape as one program until each has ended; what they lived through stays in `tracks`.

    Args:
        tracks: the members; those that have ended already take no part.
        precision: `float32`, or `bfloat16` for matrix products.
        saved: by index of track, the state in which an interrupted member goes on.
        on_epoch: told after each epoch: the members that took part, and how to copy their states.
    """
    device = material.device
    tracks, saved = list(tracks), saved or {}
    states = [saved.get(i) for i, t in enumerate(tracks) if t.status is None]
    active = [t for t in tracks if t.status is None]
    if not active:
        return
    network = begin(active, material)
    flat = packing.pack(network)
    optimizer = AdamW(flat)
    resume(network, optimizer, states)
    noise = noise_of(active, device)
    features, labels = material.features(network, active), material.labels(active)
    versions = material.versions(network, active)
    while active:
        network.train()
        epoch = material.epoch(active)
        steps = epoch.clip.shape[1]
        rates, momenta = rates_of(active, steps, device)
        decay = torch.tensor([t.optimisation.weight_decay for t in active], device=device)
        losses, norms = [], []
        for step in range(steps):
            clip = epoch.clip[:, step]
            batch = clip, epoch.uniforms[:, step], epoch.touched[:, step]
            frames, mask, target = material.batch(network, active, labels, *batch)
            heard = None if features is None else heard_of(features, versions, *batch)
            with autocast(precision, device):
                pred = network(frames, mask, heard, noise)
            loss = losses_of(active, pred, target, material.errors[clip])
            gradient = flat_gradient(loss.sum(), network)
            optimizer.step(gradient, rates[step], decay, momenta[step])
            noise.advance()
            losses.append(loss.detach())
            norms.append(gradient.norm(dim=1))
        network.eval()
        preds = predict(network, material, features, [t.group.valid for t in active], precision)
        curves = [torch.stack(x).mean(0).tolist() for x in (losses, norms)]
        state = packing.rows(network)
        for i, (track, pred) in enumerate(zip(active, preds, strict=True)):
            judge(track, epoch_row(track, pred, material, rates[-1, i].item(), *(c[i] for c in curves)), state[i])
        for group in {id(t.group): t.group for t in active}.values():
            halve(t for t in tracks if t.group is group)
        if on_epoch is not None:
            on_epoch(active, partial(snapshots, network, optimizer, len(active)))
        going = [i for i, t in enumerate(active) if t.status is None]
        if len(going) < len(active):
            active = [active[i] for i in going]
            if active:
                network = rebuilt(network, active, state[going])
                flat = packing.pack(network)
                optimizer.keep(flat, torch.tensor(going, device=device))
                noise = noise.keep(going)
                features, labels = None if features is None else features[going], labels[going]
                versions = None if versions is None else versions[going]


def begin(active: Sequence[Track], material: Material) -> Network:
    """A network with every member's initial weights, drawn on the CPU so that every device starts alike."""
    group = active[0].group
    network = Network(group.encoder, shape_of(group, material), len(active))
    initialise(network, [generator(t.group.seed, t.group.fold, "init") for t in active])
    network.to(material.device)
    with torch.no_grad():
        material.standardise(network, active)
    return network


def rebuilt(network: Network, active: Sequence[Track], rows: Tensor) -> Network:
    """The network of fewer members, in the states given."""
    smaller = Network(active[0].group.encoder, network.shape, len(active)).to(rows.device)
    packing.load_rows(smaller, rows)
    return smaller


def noise_of(active: Sequence[Track], device: str) -> Noise:
    """The members' noise from the step on that each has reached."""
    models = [t.trial.model for t in active]
    assert all(isinstance(m, Encoder) for m in models)
    key = torch.tensor([random_seed(t.group.seed, t.group.fold, "noise") for t in active], device=device)
    step = torch.tensor([t.epoch * t.group.steps for t in active], device=device)
    return Noise(key, step, [m.dropout for m in models], [m.stochastic_depth for m in models])  # type: ignore[union-attr]


def rates_of(active: Sequence[Track], steps: int, device: str) -> tuple[Tensor, Tensor]:
    """Learning rate and first momentum of every step of the epoch: (steps, m) each."""
    rates, momenta = np.empty((steps, len(active))), np.empty((steps, len(active)))
    for i, track in enumerate(active):
        how, total = track.optimisation, track.group.budget.epochs * steps
        seen, cycle = tuple(row["valid_r"] for row in track.history), cycle_epochs(track.trial)
        for step in range(steps):
            at = Progress(track.epoch * steps + step, total, round(how.warmup * total), seen, cycle * steps)
            rates[step, i] = how.learning_rate * SCHEDULES[how.schedule](at)
            momenta[step, i] = beta1(how.schedule, at)
    return tuple(torch.from_numpy(x).float().to(device) for x in (rates, momenta))  # type: ignore[return-value]


def heard_of(features: Tensor, versions: Tensor | None, clip: Tensor, u: Tensor, touched: Tensor) -> Tensor:
    """Features of a batch (m, b, k): each clip's own, or with equal chance those of one of its variants.

    features: (m, n_clips, k). versions: (m, n_clips, v, k), or None. clip, touched: (m, b). u: (m, b, N_UNIFORMS).
    """
    own = features[_rows(clip), clip]
    if versions is None:
        return own
    which = (u[..., VARIANT] * (versions.shape[2] + 1)).long() * touched
    return torch.where(which[..., None] > 0, versions[_rows(clip), clip, (which - 1).clamp(min=0)], own)


def losses_of(active: Sequence[Track], pred: Tensor, target: Tensor, error: Tensor) -> Tensor:
    """Each member's own loss, (m,); members with one loss are one call. pred, target, error: (m, b, 19)."""
    names = [t.optimisation.loss for t in active]
    if len(set(names)) == 1:
        return LOSSES[names[0]](pred, target, error)
    found: list[Tensor] = [pred.new_zeros(())] * len(names)
    for name in dict.fromkeys(names):
        mine = [i for i, other in enumerate(names) if other == name]
        for i, value in zip(mine, LOSSES[name](pred[mine], target[mine], error[mine]), strict=True):
            found[i] = value
    return torch.stack(found)


def flat_gradient(loss: Tensor, network: nn.Module) -> Tensor:
    """The gradient in the order of `packing.pack`: (m, n_params)."""
    found = torch.autograd.grad(loss, list(network.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([g.flatten(1) for g in found], 1)


def epoch_row(
    track: Track, pred: Tensor, material: Material, rate: float, train_loss: float, norm: float
) -> dict[str, Any]:
    """A row of `history`, from predictions of the member's validation clips."""
    rows = torch.from_numpy(track.group.valid).to(pred.device)
    target = material.targets[rows]
    loss = LOSSES[track.optimisation.loss](pred, target, material.errors[rows]).item()
    return {
        "train_loss": train_loss,
        "valid_loss": loss,
        "valid_r": mean_r(pred.cpu().numpy(), target.cpu().numpy()) if bool(pred.isfinite().all()) else math.nan,
        "learning_rate": rate,
        "gradient_norm": norm,
    }


@torch.no_grad()
def predict(
    network: Network,
    material: Material,
    features: Tensor | None,
    rows: Sequence[np.ndarray],
    precision: str = "float32",
) -> list[Tensor]:
    """Each member's predictions of its clips, (n_rows, 19): the mean over windows that cover every frame.

    features: standardised, of all clips (see `Material.features`).
    """
    members, most = len(rows), max(map(len, rows))
    total = torch.zeros(members * (most + 1), 19, device=material.device)
    count = torch.zeros(members * (most + 1), 1, device=material.device)
    base = (most + 1) * torch.arange(members, device=material.device)[:, None]
    for place, raw, mask, heard in material.windows(features, rows, WINDOWS):
        frames = None if raw is None else network.standardise_frames(raw, mask)
        with autocast(precision, material.device):
            pred = network(frames, mask, heard)
        at = (base + place).flatten()
        total.index_add_(0, at, pred.flatten(0, 1).to(total.dtype))
        count.index_add_(0, at, torch.ones_like(at, dtype=count.dtype)[:, None])
    mean = (total / count.clamp(min=1)).unflatten(0, (members, most + 1))
    return [mean[i, : len(mine)] for i, mine in enumerate(rows)]


def snapshots(network: Network, optimizer: AdamW, members: int) -> list[dict[str, Tensor]]:
    """What each member needs to go on: its numbers and its optimiser's."""
    state, moments = packing.rows(network), optimizer.state()
    return [{"network": state[i], **{k: v[i] for k, v in moments.items()}} for i in range(members)]


def resume(network: Network, optimizer: AdamW, states: Sequence[dict[str, Tensor] | None]) -> None:
    """Set the members that have a state to it."""
    if not any(states):
        return
    rows, moments = packing.rows(network), optimizer.state()
    for i, state in enumerate(states):
        if state is not None:
            rows[i] = state["network"]
            for name, value in moments.items():
                value[i] = state[name]
    packing.load_rows(network, rows)
    optimizer.load(moments)


def mean_r(pred: np.ndarray, target: np.ndarray) -> float:
    """Mean over dimensions of Pearson's r, (n_clips, 19) each; an undefined r (constant predictions) counts as 0."""
    return float(np.nan_to_num(pearson(pred, target)).mean())


def autocast(precision: str, device: str) -> Any:
    """Mixed precision as the trial run asks for; parameters and targets stay float32."""
    kind = device.split(":")[0]
    return torch.autocast(kind, torch.bfloat16) if precision == "bfloat16" else nullcontext()


def _rows(clip: Tensor) -> Tensor:
    return torch.arange(len(clip), device=clip.device)[:, None]
