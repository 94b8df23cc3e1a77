"""A Ray cluster of several nodes on this machine, of which one can be killed as a machine dies: all at once."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

SOON = {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "5"}
"""Ray's own defaults take a quarter of a minute to find a node dead."""


@contextmanager
def cluster(nodes: int, head_cpus: int = 0) -> Iterator[tuple[Any, list[Any]]]:
    """(the cluster, its nodes besides the head), each node with one core; `RAY_ADDRESS` names it meanwhile."""
    from ray.cluster_utils import Cluster

    before = {name: os.environ.get(name) for name in (*SOON, "RAY_ADDRESS")}
    os.environ.pop("RAY_ADDRESS", None)
    os.environ.update(SOON)
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": head_cpus, "dashboard_port": 0})
    try:
        others = [found.add_node(num_cpus=1) for _ in range(nodes)]
        os.environ["RAY_ADDRESS"] = f"http://{found.head_node.webui_url}"
        yield found, others
    finally:
        found.shutdown()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def raylet(node: Any) -> int:
    """The process id of a node."""
    return node.all_processes["raylet"][0].process.pid


def kill(node: Any) -> None:
    """SIGKILL to a node's raylet and to all that it started, jobs and agents too."""
    pid = raylet(node)
    for process in (pid, *descendants(pid)):
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:  # ended meanwhile
            continue


def descendants(pid: int) -> list[int]:
    """Process ids of the children of a process, their children, and so on."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = list(children.get(pid, ()))
    for child in found:  # grows while it is read
        found += children.get(child, ())
    return found


def steps_begun(instance: dg.DagsterInstance) -> dict[str, int]:
    """Process id of the latest attempt of each training step of the newest run, by step key."""
    runs = instance.get_run_records(limit=1)
    if not runs:
        return {}
    found = {}
    for entry in instance.all_logs(runs[0].dagster_run.run_id, of_type=dg.DagsterEventType.STEP_START):
        event = entry.dagster_event
        if event is not None and event.pid is not None and (event.step_key or "").startswith("train_"):
            found[str(event.step_key)] = event.pid
    return found


def wait_for(what: str, found: Any, over: Any, timeout_s: float = 300) -> Any:
    """What `found` returns as soon as it is true.

    Raises:
        RuntimeError: `over` was true before. TimeoutError: neither.
    """
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if result := found():
            return result
        if over():
            raise RuntimeError(f"all was over before {what}")
        time.sleep(0.05)
    raise TimeoutError(f"{timeout_s:.0f} s without {what}")
