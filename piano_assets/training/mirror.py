"""Finished runs mirrored to Weights & Biases, for those who look at curves there. The truth stays in the parts.

`PIANO_WANDB=offline` writes each batch's finished runs to `<data folder>/wandb`, which `wandb sync` uploads when its
owner likes; `online` uploads at once. Everything that is logged is made of parts, so `piano mirror` does the same for
what was trained before. A run is mirrored once: its part key is its id.
"""

import json
import logging
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from piano_assets.catalogue.trial import Trial, as_dict
from piano_assets.store.parts import Part, Store, read_part, write_file
from piano_assets.training.members import FIXED, TUNED
from piano_assets.training.wandb_writer import MISSING

MODES = ("offline", "online")
OFF = ("", "0", "none", "off")
ON = ("1", "on", "true", "yes")
"""Asked for without more, which is offline."""

PATIENCE_S = 30.0
"""Seconds that a batch waits for its mirror at most; what is not mirrored by then is left to `piano mirror`."""

PROVENANCE = (
    *("part_key", "code_version", "data_version", "device", "precision"),
    *("hardware", "git_commit", "git_dirty", "finished_at"),
)
CURVES = ("train_loss", "valid_loss", "valid_r", "learning_rate", "gradient_norm")
_LOG = logging.getLogger(__name__)


class MirrorError(RuntimeError):
    """Runs could not be mirrored; the message says why. Their parts stand all the same."""


@dataclass(frozen=True)
class Record:
    """What is logged of one run. history: (epoch, values by name), ascending; summary: the final values."""

    id: str
    name: str
    group: str
    job_type: str
    tags: list[str]
    config: dict[str, Any]
    history: list[tuple[int, dict[str, float]]]
    summary: dict[str, Any]


def mode_of(asked: str | None = None) -> str | None:
    """`offline`, `online` or None, as `PIANO_WANDB` (or `asked`) says.

    Raises:
        MirrorError: it says something else.
    """
    asked = (os.environ.get("PIANO_WANDB", "") if asked is None else asked).strip().lower()
    if asked in (*OFF, *ON, *MODES):
        return None if asked in OFF else MODES[0] if asked in ON else asked
    raise MirrorError(f"PIANO_WANDB={asked!r} must be one of {MODES}, or none")


def record_of(
    corpus: str, trial: Trial, run: Mapping[str, Any], history: pd.DataFrame, members: pd.DataFrame
) -> Record:
    """What is logged of a run: a pure function of its parts.

    Args:
        run: the row of `runs`; history, members: the rows of the same part.
    """
    facts = {name: _plain(run[name]) for name in PROVENANCE}
    config = {"config": run["config"], "seed": int(run["seed"]), "corpus": corpus, "family": trial.family}
    config |= {"trial": run["trial"], **as_dict(trial)}
    config["provenance"] = {**facts, "environment": json.loads(run["environment"])}
    summary = {"status": run["status"], "seconds": run["seconds"], "peak_memory_mb": run["peak_memory_mb"]}
    return Record(
        id=run["part_key"],
        name=f"{run['config']}|{run['seed']}",
        group=run["config"],
        job_type=trial.family,
        tags=[corpus, trial.split, trial.budget, run["device"], run["precision"]],
        config=config,
        history=_curves(history[history["inner_fold"].isna()]),
        summary={k: _plain(v) for k, v in summary.items()} | _final(history, members),
    )


def _curves(history: pd.DataFrame) -> list[tuple[int, dict[str, float]]]:
    """By epoch: `fold<k>/<curve>`, of a search's points `fold<k>/<point>/<curve>`."""
    found: dict[int, dict[str, float]] = {}
    for row in history.to_dict("records"):
        point = "" if row["search_point"] == FIXED else f"{row['search_point']}/"
        named = {f"fold{row['fold']}/{point}{c}": row[c] for c in CURVES if not pd.isna(row[c])}
        found.setdefault(int(row["epoch"]), {}).update((k, v) for k, v in named.items() if math.isfinite(v))
    return sorted(found.items())


def _final(history: pd.DataFrame, members: pd.DataFrame) -> dict[str, Any]:
    """How the outer folds' reported members ended: `<tuning>/fold<k>/...`, and the mean of validation r at the epochs
    that were kept, where there are epochs. Tuned members have no curve: they are one of the search's points.
    """
    outer = members[members["inner_fold"].isna()]
    found: dict[str, Any] = {}
    for row in outer[outer["search_point"].isin((FIXED, TUNED))].to_dict("records"):
        named = {name: _plain(row[name]) for name in ("status", "epoch", "reason")}
        found |= {f"{row['search_point']}/fold{row['fold']}/{k}": v for k, v in named.items() if v is not None}
    at = ["fold", "search_point", "epoch"]
    kept = history[history["inner_fold"].isna()].merge(outer[outer["search_point"] == FIXED][at], on=at)
    if len(kept):
        found[f"{FIXED}/valid_r"] = float(kept["valid_r"].mean())
    return found


def _plain(value: Any) -> Any:
    """As JSON has it; NULL and what is no finite number become None."""
    if pd.isna(value):
        return None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    value = value.item() if hasattr(value, "item") else value
    return value if not isinstance(value, float) or math.isfinite(value) else None


def read_record(store: Store, trial: Trial, run: Part) -> Record:
    """The record of a finished run, read from its parts."""
    (row,) = read_part(run).to_pandas().to_dict("records")
    history, members = (
        read_part(part).to_pandas()
        for part in (store.part(table, run.name, key=run.key) for table in ("history", "members"))
        if part is not None
    )
    return record_of(store.corpus, trial, row, history, members)


def mirror(store: Store, runs: Iterable[tuple[Trial, Part]], mode: str, patience_s: float | None = None) -> list[str]:
    """Mirror the runs that are not mirrored yet, in a process of its own. Returns their part keys.

    Args:
        runs: (trial, its part of the table `runs`). mode: `offline` or `online`.
        patience_s: seconds after which the process is ended; those that it has logged by then are done.
    Raises:
        MirrorError: wandb is not installed, failed, or took too long.
    """
    marks = store.root / "wandb" / "mirrored" / mode
    todo = {run.key: (trial, run) for trial, run in runs if not (marks / run.key).exists()}
    if not todo:
        return []
    records = [asdict(read_record(store, trial, run)) for trial, run in todo.values()]
    project = os.environ.get("WANDB_PROJECT") or "piano_assets"
    given = {"folder": str(store.root.resolve()), "mode": mode, "project": project, "records": records}
    status, said, complaint = _written(json.dumps(given, allow_nan=False), patience_s)
    done = [key for key in said.split() if key in todo]
    for key in done:
        write_file(marks / key, b"")
    if status == MISSING:
        raise MirrorError("wandb is not installed: pip install 'piano_assets[tracking]'")
    if status != 0:
        why = "it took too long" if status is None else complaint or f"it ended with status {status}"
        raise MirrorError(f"wandb mirrored {len(done)} of {len(todo)} runs, then {why}")
    return done


def _written(given: str, patience_s: float | None) -> tuple[int | None, str, str]:
    """(exit status or None where it took too long, output, last line of its errors) of the writer."""
    here = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), here)))
    process = subprocess.Popen(
        [sys.executable, "-m", "piano_assets.training.wandb_writer"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,  # wandb starts a process too, which would hold the pipes
    )
    try:
        said, errors = process.communicate(given, patience_s)
        status: int | None = process.returncode
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        said, errors = process.communicate()
        status = None
    except BaseException:  # the caller was interrupted
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return status, said, (errors.strip().splitlines() or [""])[-1]


def mirror_if_asked(store: Store, runs: Iterable[tuple[Trial, Part]]) -> None:
    """Mirror the runs of a batch if `PIANO_WANDB` asks for it; a failure is one warning, and never the batch's."""
    try:
        mode = mode_of()
        if mode is not None:
            mirror(store, runs, mode, PATIENCE_S)
    except (MirrorError, OSError, ValueError) as error:
        # The runs stand and nothing depends on their mirror: whatever wandb, its network or its folder lacks may not
        # fail hours of training. `piano mirror` makes up for it.
        _LOG.warning("not mirrored to wandb (piano mirror does it later): %s", error)
