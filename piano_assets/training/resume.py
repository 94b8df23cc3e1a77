"""Finished folds of an unfinished run, and the state of unfinished ones, kept so that a killed run goes on.

A fold's folder is renamed into place whole: it holds the fold's result or does not exist. Beside it lies the state of
a fold that is still training, replaced whole every minute.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from piano_assets.store.checkpoints import RECORD, replaced, write_model
from piano_assets.store.links import link
from piano_assets.store.parts import published
from piano_assets.training.folds import FoldResult
from piano_assets.training.members import Group, Track

_ROWS, _PREDICTIONS = "fold.json", "predictions.parquet"
_LOG = logging.getLogger(__name__)


def keep_fold(folder: Path, result: FoldResult, record: dict[str, Any] | None) -> None:
    """Write a fold's result, with its model and `record` if there is one (else the model is let go)."""
    rows = {
        "members": result.members,
        "history": result.history,
        "search_point": result.search_point,
        "diverged": result.diverged,
        "n_params": result.n_params,
        "seconds": result.seconds,
        "shape": result.shape,
        "weights": result.weights,
    }
    with replaced(folder) as temporary:
        result.predictions.to_parquet(temporary / _PREDICTIONS, index=False)
        (temporary / _ROWS).write_text(json.dumps(rows))
        if record is not None:
            write_model(temporary, {**record, "search_point": result.search_point}, result.model)


def kept_fold(folder: Path) -> FoldResult | None:
    """Read a fold's result back, without its model; None where the fold was not finished.

    What a crash of the machine left damaged counts as not finished: training it again gives the same.
    """
    if not folder.is_dir():
        return None
    try:
        rows = json.loads((folder / _ROWS).read_text())
        return FoldResult(predictions=pd.read_parquet(folder / _PREDICTIONS), model=None, **rows)
    except (ValueError, TypeError, OSError) as error:  # OSError: pyarrow says so of a broken footer
        _LOG.warning("%s is damaged (%s: %s): the fold is trained again", folder, type(error).__name__, error)
        return None


def copy_checkpoints(work: Path, folder: Path, folds: list[int]) -> int:
    """Publish the models of all folds as `<folder>/fold<k>`, at once, or none. Returns how many there are."""
    kept = [work / f"fold{k}" for k in folds if (work / f"fold{k}" / RECORD).is_file()]
    if len(kept) < len(folds):
        return len(kept)
    with replaced(folder) as temporary:
        for fold in kept:
            (temporary / fold.name).mkdir()
            for name in (RECORD, json.loads((fold / RECORD).read_text())["file"]):
                # A second name, as the work folder goes away next.
                link(fold / name, temporary / fold.name / name)
    return len(kept)


_LIVED = ("history", "best_r", "best_epoch", "status", "reason")


def save_state(folder: Path, tracks: list[Track], states: dict[int, dict[str, Tensor]]) -> None:
    """Keep what the members of one group have lived through beside the fold's future folder, replacing what is there.

    states: of the members still training, by `id` of the track: what they need to go on.
    """
    tensors: dict[str, Tensor] = {}
    for i, track in enumerate(tracks):
        tensors[f"{i}.order"] = track.order.get_state()
        if track.best is not None:
            tensors[f"{i}.best"] = track.best
        tensors |= {f"{i}.snapshot.{k}": state for k, state in enumerate(track.snapshots)}
        if track.status is None:
            tensors |= {f"{i}.state.{name}": value for name, value in states[id(track)].items()}
    lived = json.dumps({t.label: {name: getattr(t, name) for name in _LIVED} for t in tracks})
    tensors = {name: value.cpu().contiguous() for name, value in tensors.items()}
    # JSON has no infinity, which best_r is before the first epoch; Python writes and reads it all the same.
    about = {"lived": lived, "sha256": _sha256(tensors, lived)}
    with published(_state_file(folder)) as temporary:
        temporary.write_bytes(save(tensors, about))  # not `save_file`: see `write_model`


def load_state(folder: Path, group: Group, device: str) -> tuple[list[Track], dict[int, dict[str, Tensor]]]:
    """(tracks of a group, state by index of those to go on with); new tracks and no states where nothing was kept.

    A damaged file is nothing kept, with a warning that names it: training from the start gives the same.
    """
    tracks = [Track.begin(group, label) for label in group.points]
    path = _state_file(folder)
    if not path.is_file():
        return tracks, {}
    try:
        with safe_open(path, "pt") as kept:
            about = kept.metadata()
            tensors = {name: kept.get_tensor(name) for name in kept.keys()}  # noqa: SIM118 - not a dictionary
        if _sha256(tensors, about["lived"]) != about["sha256"]:
            raise ValueError(f"sha256 is {_sha256(tensors, about['lived'])}, expected {about['sha256']}")
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        _LOG.warning("%s is damaged (%s: %s): the fold starts afresh", path, type(error).__name__, error)
        return tracks, {}
    lived = json.loads(about["lived"])
    states: dict[int, dict[str, Tensor]] = {}
    for i, track in enumerate(tracks):
        for name, value in lived[track.label].items():
            setattr(track, name, value)
        track.order.set_state(tensors[f"{i}.order"])
        if f"{i}.best" in tensors:
            track.best = tensors[f"{i}.best"].to(device)
        n_snapshots = sum(name.startswith(f"{i}.snapshot.") for name in tensors)
        track.snapshots = [tensors[f"{i}.snapshot.{k}"].to(device) for k in range(n_snapshots)]
        prefix = f"{i}.state."
        mine = {n.removeprefix(prefix): value.to(device) for n, value in tensors.items() if n.startswith(prefix)}
        if mine:
            states[i] = mine
    return tracks, states


def _sha256(tensors: dict[str, Tensor], lived: str) -> str:
    found = hashlib.sha256(lived.encode())
    for name in sorted(tensors):
        found.update(name.encode() + tensors[name].numpy().tobytes())
    return found.hexdigest()


def drop_state(folder: Path) -> None:
    """Forget a group's state, once its result is kept."""
    _state_file(folder).unlink(missing_ok=True)


def _state_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.state.safetensors")
