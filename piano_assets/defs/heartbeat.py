"""Signs of life of runs, and runs whose process died without a word.

A killed process cannot tell Dagster: its run would be in progress for ever, with its slot in the pool and its
partitions. So every process that works for a run touches `heartbeats/<run id>` in the data folder, and a run without a
fresh sign is an orphan. Files serve all machines that share the folder, and no storage of Dagster's is written to.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from piano_assets.store.parts import Store

BEAT_S = 10.0
DEAD_S = 120.0
"""Twelve beats: a process that computes on a busy machine misses one or two, not twelve."""
WITH_A_PROCESS = (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING)
"""A run that is to start has none yet: how long its image or its GPU may take is Dagster's `start_timeout_seconds`."""
IN_PROGRESS = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    *WITH_A_PROCESS,
)


def _file(store: Store, run_id: str) -> Path:
    return store.root / "heartbeats" / run_id


@contextmanager
def beating(store: Store, run_id: str, every_s: float = BEAT_S) -> Iterator[None]:
    """Touch the run's file at once and then from a thread of its own, until the work is over."""
    file = _file(store, run_id)
    file.parent.mkdir(parents=True, exist_ok=True)
    over = threading.Event()

    def beat() -> None:
        while not over.wait(every_s):
            file.touch()

    file.touch()
    thread = threading.Thread(target=beat, name=f"heartbeat of {run_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        file.unlink(missing_ok=True)  # another step of the run may have removed it, and touches it again


def last_sign(store: Store, instance: dg.DagsterInstance, record: dg.RunRecord) -> float:
    """When a run was last heard of, in seconds since 1970: its beat; between two steps, its last event."""
    run_id = record.dagster_run.run_id
    try:
        return _file(store, run_id).stat().st_mtime
    except FileNotFoundError:
        events = instance.get_records_for_run(run_id, limit=1, ascending=False).records
        return events[0].timestamp if events else record.update_timestamp.timestamp()


def in_progress(
    store: Store, instance: dg.DagsterInstance, now: float | None = None
) -> tuple[list[dg.DagsterRun], dict[str, float]]:
    """(runs that are queued or alive, last sign of each orphan by run id). A run that waits needs no process.

    A sign from the future is none: the clock was set back since, and a living process beats by the new time.
    """
    now = time.time() if now is None else now
    alive: list[dg.DagsterRun] = []
    orphans: dict[str, float] = {}
    for record in instance.get_run_records(dg.RunsFilter(statuses=list(IN_PROGRESS))):
        run = record.dagster_run
        if run.status not in WITH_A_PROCESS or abs(now - (sign := last_sign(store, instance, record))) <= DEAD_S:
            alive.append(run)
        else:
            orphans[run.run_id] = sign
    return alive, orphans


def fail(store: Store, instance: dg.DagsterInstance, run_id: str, sign: float, now: float | None = None) -> str:
    """Fail an orphan, so that its slot is free and the plan goes on. Returns what was said of it."""
    now = time.time() if now is None else now
    said = f"no sign of life since {datetime.fromtimestamp(sign, UTC):%Y-%m-%d %H:%M:%S} UTC, {now - sign:.0f} s ago: "
    said += "its process died. What it published stands."
    run = instance.get_run_by_id(run_id)
    if run is not None and not run.is_finished:
        instance.report_run_failed(run, said)
    _file(store, run_id).unlink(missing_ok=True)
    return said
