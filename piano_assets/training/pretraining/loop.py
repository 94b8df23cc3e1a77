"""Pretraining: guess hidden attributes of notes, window by window. Resumable, and the same from the same seed.

Order and masks of an epoch are drawn from the seed and the epoch's number, so that a run that goes on after a kill
draws what it would have drawn.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from piano_assets.catalogue.trial import Encoder
from piano_assets.models.masked_notes import MaskedNotes
from piano_assets.models.network import initialise
from piano_assets.training.loop import autocast
from piano_assets.training.pretraining import masks
from piano_assets.training.pretraining.windows import GROUP_OF, GROUPS, N_SCORE

N_FIFTHS = 2
"""Columns of `SCORE` that hold the place on the circle of fifths, behind the pitch."""
STD_FLOOR = 1e-3


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that decides a pretrained network beside its music."""

    encoder: Encoder = Encoder(depth=4, dim=128, heads=4, head_dim=32, mlp_ratio=4.0, dropout=0.0)  # noqa: RUF009
    n_bins: int = 24
    epochs: int = 6
    batch_size: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    transposition: int = 5
    seed: int = 0


RECIPE = Recipe()
"""What the asset `pretrained_encoder` trains by."""


def quantile_bins(values: np.ndarray, n_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Bins of as equal counts as ties allow: edges (k - 1,) and centres (k,), the mean of each bin's values.

    A value that many notes share, such as a pedal at 127, has one bin of its own or shares the end of one: k may be
    less than `n_bins`.
    """
    edges = np.unique(np.quantile(values, np.arange(1, n_bins) / n_bins))
    edges = edges[edges > values.min()]
    which = np.searchsorted(edges, values, side="right")
    count = np.bincount(which, minlength=len(edges) + 1)
    total = np.bincount(which, weights=values.astype(np.float64), minlength=len(edges) + 1)
    return edges, total / np.maximum(count, 1)


def build(recipe: Recipe, windows: np.ndarray) -> MaskedNotes:
    """A network with fresh weights and the moments and bins of `windows` (n_windows, n, WIDTH)."""
    flat = windows.reshape(-1, windows.shape[-1])
    attributes = flat[:, N_SCORE:-1].astype(np.float64)
    bins = [quantile_bins(column, recipe.n_bins) for column in attributes.T]
    network = MaskedNotes(recipe.encoder, N_SCORE, GROUP_OF, [len(centres) for _, centres in bins])
    initialise(network, [torch.Generator().manual_seed(recipe.seed)])
    score = flat[:, :N_SCORE].astype(np.float64)
    for name, columns in (("score_", score), ("", attributes)):
        getattr(network, f"{name}mean").copy_(torch.from_numpy(columns.mean(0)))
        getattr(network, f"{name}std").copy_(torch.from_numpy(np.maximum(columns.std(0), STD_FLOOR)))
    for i, (edges, centres) in enumerate(bins):
        network.edges[i, : len(edges)] = torch.from_numpy(edges)
        network.centres[i, : len(centres)] = torch.from_numpy(centres)
    return network


def transposed(score: Tensor, semitones: Tensor) -> Tensor:
    """Score columns (b, n, N_SCORE) moved by `semitones` (b,): pitch, and place on the circle of fifths."""
    angle = (2 * math.pi * 7 / 12) * semitones[:, None].to(score.dtype)
    cos, sin = score[..., 1], score[..., 2]
    moved = [
        score[..., 0] + semitones[:, None],
        cos * angle.cos() - sin * angle.sin(),
        sin * angle.cos() + cos * angle.sin(),
    ]
    return torch.cat([torch.stack(moved, -1), score[..., 1 + N_FIFTHS :]], -1)


def surprise(network: MaskedNotes, window: Tensor, hidden: Tensor, score: Tensor | None = None) -> Tensor:
    """Nats by which each attribute of each note surprises, (b, n, a), whether or not it is hidden."""
    attributes = window[..., N_SCORE:-1]
    _, logits = network(window[..., :N_SCORE] if score is None else score, attributes, hidden)
    target = network.bins(attributes)
    each = [F.cross_entropy(x.movedim(-1, 1), target[..., i], reduction="none") for i, x in enumerate(logits)]
    return torch.stack(each, -1)


def mean_hidden(nats: Tensor, hidden: Tensor) -> Tensor:
    """Mean surprise over what is hidden, a scalar."""
    weight = hidden[..., list(GROUP_OF)].to(nats.dtype)
    return (nats * weight).sum() / weight.sum().clamp(min=1)


@dataclass
class State:
    """Where a pretraining stands after whole epochs."""

    network: MaskedNotes
    optimizer: torch.optim.AdamW
    epoch: int = 0
    rows: list[dict[str, float]] = field(default_factory=list)


def start(recipe: Recipe, windows: np.ndarray) -> State:
    network = build(recipe, windows)
    optimizer = torch.optim.AdamW(network.parameters(), recipe.learning_rate, weight_decay=recipe.weight_decay)
    return State(network, optimizer)


def rate(recipe: Recipe, step: int, steps: int) -> float:
    """Learning rate: linear warm-up, then half a cosine to zero."""
    warm = max(1, round(recipe.warmup * steps))
    if step < warm:
        return recipe.learning_rate * (step + 1) / warm
    return recipe.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def train(
    recipe: Recipe,
    state: State,
    windows: np.ndarray,
    valid: np.ndarray,
    precision: str = "float32",
    on_epoch: Callable[[State], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Train from where `state` stands to the last epoch; it gains a row an epoch: train_nats, valid_nats, seconds.

    Args:
        windows, valid: (n_windows, n, WIDTH) raw.
        on_epoch: called after each epoch, to keep the state.
        progress: called with (steps done, steps in all).
    """
    network, optimizer = state.network, state.optimizer
    per_epoch = max(1, len(windows) // recipe.batch_size)
    steps = per_epoch * recipe.epochs
    while state.epoch < recipe.epochs:
        began, losses = time.perf_counter(), 0.0
        generator = torch.Generator().manual_seed(1_000_003 * recipe.seed + state.epoch)
        order = torch.randperm(len(windows), generator=generator).numpy()
        network.train()
        for i in range(per_epoch):
            step = state.epoch * per_epoch + i
            for group in optimizer.param_groups:
                group["lr"] = rate(recipe, step, steps)
            window = torch.from_numpy(windows[np.sort(order[i * recipe.batch_size : (i + 1) * recipe.batch_size])])
            loss = _loss(recipe, network, window, generator, precision)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            losses += loss.item()
            if progress is not None:
                progress(step + 1, steps)
        state.epoch += 1
        row = {
            "epoch": state.epoch,
            "train_nats": losses / per_epoch,
            "valid_nats": judged(recipe, network, valid, precision),
            "seconds": time.perf_counter() - began,
        }
        state.rows.append(row)
        if on_epoch is not None:
            on_epoch(state)


def _loss(recipe: Recipe, network: MaskedNotes, window: Tensor, generator: torch.Generator, precision: str) -> Tensor:
    reach = recipe.transposition
    by = torch.randint(-reach, reach + 1, (len(window),), generator=generator)
    hidden = masks.draw(window[..., -1], len(GROUPS), generator)
    with autocast(precision, "cpu"):
        nats = surprise(network, window, hidden, transposed(window[..., :N_SCORE], by))
    return mean_hidden(nats, hidden)


@torch.no_grad()
def judged(recipe: Recipe, network: MaskedNotes, valid: np.ndarray, precision: str = "float32") -> float:
    """Mean surprise over the hidden parts of held-out windows; the same masks every time. NaN without windows."""
    network.eval()
    generator = torch.Generator().manual_seed(recipe.seed)
    total, weight = 0.0, 0
    for i in range(0, len(valid), recipe.batch_size):
        window = torch.from_numpy(np.ascontiguousarray(valid[i : i + recipe.batch_size]))
        hidden = masks.draw(window[..., -1], len(GROUPS), generator)
        with autocast(precision, "cpu"):
            nats = surprise(network, window, hidden)
        total, weight = total + float(mean_hidden(nats, hidden)) * len(window), weight + len(window)
    return total / weight if weight else math.nan
