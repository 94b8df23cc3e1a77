"""The peer of `benchmarks.training`: the same network from torch's own modules, trained one at a time by Lightning.

Same parameters, standardisation, crops, windows, loss, schedule and AdamW. Lightning runs as fast as it can: barebones
(no checkpoints, loggers, bars, summaries), torch's fused AdamW, batches cut in one piece from the memory map by as many
workers as gain. What differs is how it gets there: one program for each network.
"""

import logging
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from piano_assets.catalogue.trial import Encoder, Optimisation
from piano_assets.models.network import Network
from piano_assets.models.transformer import time_positions
from piano_assets.training.adamw import BETA2, EPSILON
from piano_assets.training.batches import first_frames, window_starts
from piano_assets.training.data import Frames
from piano_assets.training.loop import WINDOWS, mean_r
from piano_assets.training.members import Group
from piano_assets.training.schedules import BETA1, SCHEDULES, Progress

Place = tuple[int, int]
"""Clip and first frame of a crop."""
Clock = Callable[[], float]


@dataclass
class Order:
    """Batches of (clip, first frame), a new order every epoch; `given` replaces the draws by epochs of batches."""

    group: Group
    n_frames: np.ndarray
    generator: torch.Generator
    given: list[list[list[Place]]] | None = None

    def __len__(self) -> int:
        return self.group.steps

    def __iter__(self) -> Iterator[list[Place]]:
        if self.given is not None:
            yield from self.given.pop(0)
            return
        n, b = len(self.group.train), self.group.batch_size
        wanted = len(self) * b
        orders = [torch.randperm(n, generator=self.generator) for _ in range(-(-wanted // n))]
        clip = self.group.train[torch.cat(orders)[:wanted].numpy()]
        u = torch.rand(wanted, generator=self.generator)
        first = first_frames(torch.from_numpy(self.n_frames[clip]), self.group.crop, u).numpy()
        for at in range(0, wanted, b):
            yield list(zip(clip[at : at + b].tolist(), first[at : at + b].tolist(), strict=True))


class Crops(Dataset):
    """Crops of clips as they are stored, and a row of `beside` (the targets, or the clips' places) for each.

    A clip that ends before its crop does is refused: neither side of the benchmark needs masks then.
    """

    def __init__(self, frames: Frames, crop: int, beside: np.ndarray) -> None:
        if int(frames.n_frames.min()) < crop:
            raise ValueError(f"clips must last a crop of {crop} frames, the shortest has {frames.n_frames.min()}")
        self.frames, self.crop, self.beside = frames, crop, beside

    def __getitems__(self, places: list[Place]) -> tuple[Tensor, Tensor]:
        values, start = self.frames.values, self.frames.start
        cut = np.stack([values[start[c] + first : start[c] + first + self.crop] for c, first in places])
        return torch.from_numpy(cut), torch.from_numpy(self.beside[[c for c, _ in places]])


def as_it_is(batch: Any) -> Any:
    """`Crops` returns whole batches: nothing is left to collate."""
    return batch


class Peer(lightning.LightningModule):
    """The trial's network and its training, in Lightning's terms. `epochs` holds one row per epoch."""

    moments: Tensor
    targets: Tensor
    positions: Tensor

    def __init__(self, encoder: Encoder, how: Optimisation, group: Group, start: Network, clock: Clock) -> None:
        """start: a network of one member, with its moments and initial weights."""
        super().__init__()
        if (encoder.attention, how.loss, encoder.heads * encoder.head_dim) != ("vanilla", "mse", encoder.dim):
            raise ValueError("the peer knows vanilla attention of inner width `dim` and the loss mse only")
        self.how, self.group, self.clock, self.patch = how, group, clock, encoder.patch_size
        self.dropout = encoder.dropout
        n_times, n_bands = (-(-n // self.patch) for n in (group.crop, start.shape.width))
        self.embed = nn.Linear(self.patch**2, encoder.dim)
        self.band = nn.Parameter(torch.zeros(n_bands, encoder.dim))
        layer = nn.TransformerEncoderLayer(
            encoder.dim,
            encoder.heads,
            round(encoder.dim * encoder.mlp_ratio),
            encoder.dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.blocks = nn.TransformerEncoder(layer, encoder.depth, nn.LayerNorm(encoder.dim), enable_nested_tensor=False)
        for block in self.blocks.layers:
            block.self_attn.dropout = 0.0  # ours drops no attention weights, and without it torch's attention is faster
        self.head = nn.Linear(encoder.dim, 19)
        self.register_buffer("moments", torch.stack([start.input_mean[0], start.input_std[0]]))
        self.register_buffer("targets", torch.stack([start.target_mean[0], start.target_std[0]]))
        self.register_buffer("positions", time_positions(n_times, encoder.dim, self.band)[:, None])
        self.epochs: list[dict[str, float]] = []
        self.losses: list[Tensor] = []
        self.load(start)

    @torch.no_grad()
    def load(self, start: Network) -> None:
        """Take over the weights of our network's one member; ours multiplies from the right."""
        ours = {name: value[0] for name, value in start.state_dict().items()}
        mine = {"band": self.band}
        pairs = {"sequence.stem.embed": self.embed, "head": self.head, "sequence.norm": self.blocks.norm}
        for i, block in enumerate(self.blocks.layers):
            at = f"sequence.blocks.{i}"
            pairs |= {f"{at}.norm_attention": block.norm1, f"{at}.norm_mlp": block.norm2}
            pairs |= {f"{at}.expand": block.linear1, f"{at}.contract": block.linear2}
            pairs |= {f"{at}.attention.out": block.self_attn.out_proj}
            mine |= {f"{i}.weight": block.self_attn.in_proj_weight, f"{i}.bias": block.self_attn.in_proj_bias}
            ours |= {f"{i}.weight": ours[f"{at}.attention.qkv.weight"].T, f"{i}.bias": ours[f"{at}.attention.qkv.bias"]}
        ours["band"] = ours["sequence.stem.band"]
        for name, module in pairs.items():
            weight = ours[f"{name}.weight"]
            mine |= {f"{name}.weight": module.weight, f"{name}.bias": module.bias}
            ours[f"{name}.weight"] = weight.T if weight.dim() == 2 else weight
        for name, value in mine.items():
            value.copy_(ours[name])

    def forward(self, frames: Tensor) -> Tensor:
        p = self.patch
        x = (frames.float() - self.moments[0]) / self.moments[1]
        x = F.pad(x, (0, -x.shape[2] % p, 0, -x.shape[1] % p))
        x = self.embed(rearrange(x, "b (t p) (f q) -> b t f (p q)", p=p, q=p)) + self.band + self.positions
        x = F.dropout(x.flatten(1, 2), self.dropout, self.training)
        return self.targets[0] + self.targets[1] * self.head(self.blocks(x).mean(1)).float()

    def configure_optimizers(self) -> Any:
        how, total = self.how, self.group.budget.epochs * self.group.steps
        optimizer = torch.optim.AdamW(
            self.parameters(), how.learning_rate, (BETA1, BETA2), EPSILON, how.weight_decay, fused=True
        )

        def factor(step: int) -> float:
            return SCHEDULES[how.schedule](Progress(step, total, round(how.warmup * total), ()))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        frames, target = batch
        loss = F.mse_loss(self(frames), target)
        self.losses.append(loss.detach())
        return loss

    def on_validation_epoch_start(self) -> None:
        self.judged_from = self.clock()
        n = len(self.group.valid)
        self.total, self.count = torch.zeros(n, 19, device=self.device), torch.zeros(n, 1, device=self.device)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int) -> None:
        frames, place = batch
        self.total.index_add_(0, place, self(frames))
        self.count.index_add_(0, place, torch.ones_like(place, dtype=torch.float32)[:, None])

    def on_validation_epoch_end(self) -> None:
        pred = self.total / self.count
        target = self.truth.to(pred.device)
        row = {
            "train_loss": float(torch.stack(self.losses).mean()),
            "valid_loss": float(F.mse_loss(pred, target)),
            "valid_r": mean_r(pred.cpu().numpy(), target.cpu().numpy()),
        }
        self.losses = []
        self.epochs.append(row | {"judged_from": self.judged_from, "ended": self.clock()})


def train(
    group: Group,
    frames: Frames,
    targets: np.ndarray,
    start: Network,
    *,
    device: str,
    precision: str,
    epochs: int,
    workers: int,
    clock: Clock = time.perf_counter,
    given: list[list[list[Place]]] | None = None,
) -> Peer:
    """Train one member for some epochs of its budget.

    Args:
        targets: (n_clips, 19) float32. start: one member's moments and initial weights, on the CPU.
        clock: read at the ends of epochs and evaluations. given: every epoch's batches, instead of random ones.
    """
    trial = next(iter(group.points.values()))
    assert trial.optimisation is not None
    peer = Peer(group.encoder, trial.optimisation, group, start, clock)
    peer.truth = torch.from_numpy(targets[group.valid])
    place = np.full(len(targets), -1)
    place[group.valid] = np.arange(len(group.valid))
    judged = [(int(c), first) for c in group.valid for first in window_starts(int(frames.n_frames[c]), group.crop)]
    order = Order(group, frames.n_frames, torch.Generator().manual_seed(group.seed), given)
    batches = [judged[at : at + WINDOWS] for at in range(0, len(judged), WINDOWS)]
    cuda = device.startswith("cuda")

    def loader(beside: np.ndarray, sampler: Any) -> DataLoader:
        return DataLoader(
            Crops(frames, group.crop, beside),
            batch_sampler=sampler,
            collate_fn=as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=cuda,
        )

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # Advice on workers, which are measured, and on barebones mode, which is meant.
        warnings.filterwarnings("ignore", module="lightning")
        trainer = lightning.Trainer(
            accelerator="cuda" if cuda else "cpu",
            devices=1,
            precision="bf16-mixed" if precision == "bfloat16" else "32-true",
            max_epochs=epochs,
            barebones=True,
            use_distributed_sampler=False,
        )
        trainer.fit(peer, loader(targets, order), loader(place, batches))
    return peer
