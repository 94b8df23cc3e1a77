"""What stands, what does not, and why: read from the parts, and from Dagster what runs and what failed."""

from collections.abc import Iterable
from typing import Any

import dagster as dg
import pandas as pd

from piano_assets.defs import planner
from piano_assets.defs.heartbeat import in_progress
from piano_assets.defs.planner import Task
from piano_assets.defs.training import ASSET_NAMES, FAILED, PARTITIONS
from piano_assets.store.parts import Part, Store, read_part
from piano_assets.training import data

STATES = ("stands", "running", "failed", "stale", "missing")
_RECENT = 200
"""Failed runs that are looked through, newest first."""


def status(store: Store, tasks: Iterable[Task], instance: dg.DagsterInstance) -> pd.DataFrame:
    """One row per task: config, seed, state, why.

    States: `stands`; `running` (a run that holds it is queued or in progress); `failed` (its last attempt, and it does
    not stand); `stale` (trained, of another trial, code or data version); `missing` (never trained, or a part that it
    reads is not there to say).
    """
    busy, broken = running(store, instance), failed(instance)
    rows = []
    for task in tasks:
        state, why = _state(store, task)
        if state != "stands":
            if task.partition in busy:
                state, why = "running", f"run {busy[task.partition]}"
            elif task.partition in broken:
                state, why = "failed", broken[task.partition]
        rows.append((task.config, task.seed, state, why))
    return pd.DataFrame(rows, columns=["config", "seed", "state", "why"])


def _state(store: Store, task: Task) -> tuple[str, str]:
    run = planner.standing(store, task)
    if run is not None:
        precision, device = data.way_of(run)
        return "stands", f"{device}, {precision}"
    if absent := data.lacks(task.trial, store):
        return "missing", f"reads {', '.join(absent)}, not made yet"
    old = trained_before(store, task)
    return ("stale", "; ".join(_changed(store, task, part) for part in old)) if old else ("missing", "never trained")


def trained_before(store: Store, task: Task) -> list[Part]:
    """The runs of a task in every way, whatever their keys: of one that does not stand, those that are stale."""
    names = data.ways(task.trial, task.config, task.seed)
    return [part for name in names if (part := store.part("runs", name)) is not None]


def _changed(store: Store, task: Task, run: Part) -> str:
    """What of a run is no longer what it would be now."""
    (row,) = read_part(run).to_pylist()
    now = {
        "trial": task.trial.key,
        "code_version": data.code_version(task.trial),
        "data_version": data.data_version(task.trial, store),
    }
    changes = [f"{name} {row[name]}, now {value}" for name, value in now.items() if row[name] != value]
    changes += [f"its {table} were removed" for table in data.PUBLISHED if not store.exists(table, run.name)]
    return ", ".join(changes) or "its tables have other columns, or its inner folds another version"


def partitions_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """The partitions that a run trains: those of its batches, or those of a selection in the UI."""
    ops: Any = run.run_config.get("ops", {})
    if batch := ops.get("train_batch"):
        return list(batch["config"]["partitions"])
    if planned := ops.get("plan_batches"):
        return [partition for batch in planned["config"]["batches"] for partition in batch]
    if not (run.asset_selection or set()) & {dg.AssetKey(name) for name in ASSET_NAMES}:
        return []
    if (key := run.tags.get("dagster/partition")) is not None:
        return [key]
    start, end = (run.tags.get(f"dagster/asset_partition_range_{name}") for name in ("start", "end"))
    if start is None or end is None:
        return []
    between = dg.PartitionKeyRange(start, end)
    return list(PARTITIONS.get_partition_keys_in_range(between, dynamic_partitions_store=instance))


def running(store: Store, instance: dg.DagsterInstance) -> dict[str, str]:
    """Partition -> id of the run that holds it, queued or in progress; one whose process died holds nothing."""
    runs, _ = in_progress(store, instance)
    return {partition: run.run_id for run in runs for partition in partitions_of(instance, run)}


def failed(instance: dg.DagsterInstance) -> dict[str, str]:
    """Partition -> why its last attempt failed, of the latest failed runs.

    A run that was killed has no reasons of its own: each of its partitions is then said to have been in it.
    """
    found: dict[str, str] = {}
    for run in instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE]), limit=_RECENT):
        partitions = partitions_of(instance, run)
        reasons = reasons_of(instance, run) if partitions else {}
        for partition in partitions:
            if reasons and partition not in reasons:
                continue
            found.setdefault(partition, reasons.get(partition, f"run {run.run_id} failed or was killed"))
    return found


def failure_digest(instance: dg.DagsterInstance, run: dg.DagsterRun, message: str) -> str:
    """A failed run in Markdown: what it was, which partitions failed and why, and what to do."""
    reasons = reasons_of(instance, run)
    partitions = partitions_of(instance, run)
    tags = {k: v for k, v in run.tags.items() if k.startswith("piano/")}
    lines = [f"# {run.job_name} failed", "", f"Run `{run.run_id}`: {message}", ""]
    lines += [f"- {name}: {value}" for name, value in sorted(tags.items())]
    if reasons:
        lines += ["", f"{len(reasons)} of {len(partitions)} partitions failed, the others stand:", ""]
        lines += [f"- `{partition}`: {reason}" for partition, reason in sorted(reasons.items())]
    elif partitions:
        lines += ["", f"It held {len(partitions)} partitions; those that it finished stand:", ""]
        lines += [f"- `{partition}`" for partition in partitions]
    lines += [
        "",
        "What stands is not trained again. `piano status` says what is left; the next sweep goes on from there.",
    ]
    return "\n".join(lines) + "\n"


def reasons_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dict[str, str]:
    """Partition -> reason, as failed batches left them."""
    found: dict[str, str] = {}
    for entry in instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        of_user = event.step_failure_data.user_failure_data if event else None
        said = of_user.metadata.get(FAILED) if of_user is not None else None
        if isinstance(said, dg.JsonMetadataValue) and isinstance(said.data, dict):
            found |= said.data
    return found
