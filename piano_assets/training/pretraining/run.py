"""One pretraining from its music to a checkpoint, going on where a killed one stopped."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from piano_assets.catalogue.trial import Encoder
from piano_assets.corpus.performance import Performance
from piano_assets.models.masked_notes import MaskedNotes
from piano_assets.store.checkpoints import CheckpointError, load_checkpoint, read_record, save_checkpoint
from piano_assets.training.pretraining.loop import Recipe, State, start, train
from piano_assets.training.pretraining.windows import ATTRIBUTES, GROUP_OF, N_SCORE, SCORE, windows

MOMENTS = ("exp_avg", "exp_avg_sq", "step")
"""What AdamW keeps of each parameter."""


class NothingToLearn(ValueError):
    """The pretraining music gives no whole batch of windows."""


def recipe_json(recipe: Recipe) -> dict[str, Any]:
    """A recipe as JSON-able values."""
    return dataclasses.asdict(recipe)


def pretrain(
    folder: Path,
    state_folder: Path,
    part_key: str,
    recipe: Recipe,
    music: Mapping[str, Iterable[Performance]],
    precision: str = "float32",
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] = lambda _: None,
    **record: Any,
) -> dict[str, Any]:
    """Train by `recipe` and publish network and record at `folder`. Returns the record.

    Args:
        state_folder: where the state lies after each epoch; a state of another part key is not gone on from.
        music: role (`train`, `valid`) -> performances; each is read once.
        progress: called with (steps done, steps in all).
        record: further fields of the record.

    Raises:
        NothingToLearn: fewer windows than a batch.
    """
    trained, valid = windows(music["train"]), windows(music["valid"])
    if len(trained) < recipe.batch_size:
        raise NothingToLearn(
            f"pretraining: at least {recipe.batch_size} windows of notes are needed, and {len(trained)} were found"
        )
    state = start(recipe, trained)
    resume(state, state_folder, part_key)
    if state.epoch:
        say(f"goes on after {state.epoch} of {recipe.epochs} epochs")

    def keep(state: State) -> None:
        row = state.rows[-1]
        say(f"epoch {state.epoch} of {recipe.epochs}: {row['train_nats']:.4f} nats, held out {row['valid_nats']:.4f}")
        save_checkpoint(
            state_folder, {"part_key": part_key, "epoch": state.epoch, "rows": _plain(state)}, _arrays(state)
        )

    train(recipe, state, trained, valid, precision, keep, progress)
    about = {
        "part_key": part_key,
        "recipe": recipe_json(recipe),
        "n_bins": list(state.network.n_bins),
        "columns": [*SCORE, *ATTRIBUTES],
        "n_windows": {"train": len(trained), "valid": len(valid)},
        "precision": precision,
        "history": _plain(state),
    }
    arrays = {name: value.numpy() for name, value in state.network.state_dict().items()}
    return save_checkpoint(folder, about | record, arrays)


def load_network(folder: Path, **expected: Any) -> tuple[MaskedNotes, dict[str, Any]]:
    """(network in evaluation mode, record) of a pretraining; `expected`: fields of the record and their values.

    Raises:
        FileNotFoundError: there is none.
        CheckpointError: a field differs, the file was changed, or it reads other columns than notes have now.
    """
    record, arrays = load_checkpoint(folder, **expected)
    columns = [*SCORE, *ATTRIBUTES]
    if record["columns"] != columns:
        raise CheckpointError(f"{folder}: columns are {record['columns']}, expected {columns}")
    settings = {**record["recipe"]["encoder"]}
    encoder = Encoder(**settings | {"settings": tuple(map(tuple, settings["settings"]))})
    network = MaskedNotes(encoder, N_SCORE, GROUP_OF, record["n_bins"])
    network.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
    return network.eval(), record


def stands(folder: Path, part_key: str) -> dict[str, Any] | None:
    """The record of a finished pretraining with this part key, or None."""
    try:
        record = read_record(folder)
    except FileNotFoundError:
        return None
    return record if record.get("part_key") == part_key else None


def resume(state: State, folder: Path, part_key: str) -> None:
    """Put `state` where the kept one stands, if there is one of this part key."""
    if stands(folder, part_key) is None:
        return
    record, arrays = load_checkpoint(folder, part_key=part_key)
    tensors = {name: torch.from_numpy(value) for name, value in arrays.items()}
    state.network.load_state_dict(
        {n.removeprefix("network."): v for n, v in tensors.items() if n.startswith("network.")}
    )
    moments = {
        i: {name: tensors[f"moments.{i}.{name}"] for name in MOMENTS} for i, _ in enumerate(state.network.parameters())
    }
    state.optimizer.load_state_dict({**state.optimizer.state_dict(), "state": moments})
    state.epoch = record["epoch"]
    state.rows = [{k: math.nan if v is None else v for k, v in row.items()} for row in record["rows"]]


def _arrays(state: State) -> dict[str, np.ndarray]:
    found = {f"network.{name}": value.numpy() for name, value in state.network.state_dict().items()}
    for i, moments in state.optimizer.state_dict()["state"].items():
        found |= {f"moments.{i}.{name}": moments[name].numpy() for name in MOMENTS}
    return found


def _plain(state: State) -> list[dict[str, float | None]]:
    """The rows as JSON has them: it knows no NaN."""
    return [{k: v if math.isfinite(v) else None for k, v in row.items()} for row in state.rows]
