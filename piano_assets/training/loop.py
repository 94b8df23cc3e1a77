"""The one training loop: flat, no base class, no callbacks.

All chance comes from the generators passed in. What ends up stored is decided by `fit` alone: the state with the best
mean correlation on validation clips.
"""

import math
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from piano_assets.catalogue.trial import Budget, Optimisation
from piano_assets.metrics.regression import pearson
from piano_assets.training.batches import Spectra, random_crops, windows
from piano_assets.training.losses import LOSSES
from piano_assets.training.schedules import SCHEDULES

PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True)
class Fit:
    """What training leaves: a row per epoch, the best state, its epoch (None: none was finite) and how it ended."""

    history: list[dict[str, Any]]
    best_state: dict[str, Tensor]
    best_epoch: int | None
    status: str


def fit(
    model: nn.Module,
    train: Spectra,
    valid: Spectra,
    optimisation: Optimisation,
    budget: Budget,
    *,
    crop: int,
    order: torch.Generator,
    noise: torch.Generator,
    precision: str = "float32",
    progress: Callable[[int, int], None] | None = None,
) -> Fit:
    """Train until validation r has not risen for `budget.patience` epochs, or the epochs are over.

    Args:
        crop: length of the training crops and validation windows, in frames.
        order: CPU generator of data order and crops. noise: generator on the model's device, for dropout.
    Returns:
        `Fit`; status `diverged` when a loss or validation loss is not finite: the state is then the best one before.
    """
    loss_of, schedule = LOSSES[optimisation.loss], SCHEDULES[optimisation.schedule]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=optimisation.learning_rate, weight_decay=optimisation.weight_decay
    )
    total = budget.epochs * math.ceil(len(train) / optimisation.batch_size)
    warmup = round(optimisation.warmup * total)
    step, history, best_r, best_epoch, best_state = 0, [], -math.inf, None, snapshot(model)
    status = "finished"
    for epoch in range(budget.epochs):
        losses, norms = [], []
        for batch in torch.randperm(len(train), generator=order).split(optimisation.batch_size):
            batch = batch.to(train.start.device)
            rate = optimisation.learning_rate * schedule(step, total, warmup)
            for group in optimizer.param_groups:
                group["lr"] = rate
            frames, mask = random_crops(train, batch, crop, order)
            with autocast(precision, frames.device):
                pred = model(frames, mask, noise)
            loss = loss_of(pred, train.targets[batch])
            optimizer.zero_grad()
            loss.backward()
            norms.append(nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None]))
            optimizer.step()
            losses.append(loss.detach())
            step += 1
        train_loss = torch.stack(losses).mean().item()
        pred = predict(model, valid, crop, optimisation.batch_size, precision)
        valid_loss = loss_of(pred, valid.targets).item()
        if not (math.isfinite(train_loss) and math.isfinite(valid_loss)):
            status = "diverged"
            break
        valid_r = mean_r(pred.cpu().numpy(), valid.targets.cpu().numpy())
        history.append(
            {
                "epoch": epoch,
                "train_loss": train_loss,
                "valid_loss": valid_loss,
                "valid_r": valid_r,
                "learning_rate": rate,
                "gradient_norm": torch.stack(norms).mean().item(),
            }
        )
        if valid_r > best_r:
            best_r, best_epoch, best_state = valid_r, epoch, snapshot(model)
        if progress is not None:
            progress(epoch + 1, budget.epochs)
        if epoch - (best_epoch or 0) >= budget.patience:
            status = "stopped_early"
            break
    model.load_state_dict(best_state)
    return Fit(history, best_state, best_epoch, status)


@torch.no_grad()
def predict(model: nn.Module, spectra: Spectra, crop: int, batch_size: int, precision: str = "float32") -> Tensor:
    """Predictions of whole clips, (n_clips, 19): the mean over windows of `crop` frames that cover every frame."""
    total = torch.zeros_like(spectra.targets)
    count = torch.zeros_like(spectra.targets[:, :1])
    for clip, frames, mask in windows(spectra, crop, batch_size):
        with autocast(precision, frames.device):
            pred = model(frames, mask)
        total.index_add_(0, clip, pred.to(total.dtype))
        count.index_add_(0, clip, torch.ones_like(pred[:, :1], dtype=count.dtype))
    return total / count


def mean_r(pred: np.ndarray, target: np.ndarray) -> float:
    """Mean over dimensions of Pearson's r, (n_clips, 19) each; an undefined r (constant predictions) counts as 0."""
    return float(np.nan_to_num(pearson(pred, target)).mean())


def snapshot(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's weights and buffers."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def autocast(precision: str, device: torch.device) -> Any:
    """Mixed precision as the trial run asks for; parameters and targets stay float32."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
