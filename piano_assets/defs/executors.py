"""How the steps of a run are executed: in this process, in several, or on a Ray cluster (`PIANO_EXECUTOR`).

An executor changes where a step runs and how many do at once, never what comes of it. Nothing heavy is imported here.
"""

import importlib.util
import json
import os
from collections.abc import Callable

import dagster as dg

from piano_assets.defs.planner import has_cuda
from piano_assets.training.devices import SHARE, gpu_share

EXECUTOR, CPUS, AT_ONCE = "PIANO_EXECUTOR", "PIANO_BATCH_CPUS", "PIANO_AT_ONCE"
PRELOADED = ("piano_assets.definitions", "torch", "sklearn.ensemble", "lightgbm")
"""What a forkserver has loaded before it forks steps. None of it touches CUDA, which does not survive a fork."""
UNLIMITED = 10**6
"""Batches at once: a Ray cluster has a queue of its own."""


class ExecutorError(ValueError):
    """An executor that there is not, or that cannot be had here."""


def chosen() -> str:
    """The name of the executor that `PIANO_EXECUTOR` asks for.

    Raises:
        ExecutorError: an unknown name.
    """
    name = os.environ.get(EXECUTOR) or "in_process"
    if name not in EXECUTORS:
        raise ExecutorError(f"{EXECUTOR}={name!r} must be one of {', '.join(EXECUTORS)}")
    return name


def executor() -> dg.ExecutorDefinition:
    """The executor that `PIANO_EXECUTOR` asks for.

    Raises:
        ExecutorError: an unknown name, or a package that it needs is not installed.
    """
    return EXECUTORS[chosen()]()


def batch_cpus() -> int | None:
    """Cores that a batch may use (`PIANO_BATCH_CPUS`, 1); None, all there are, where one batch runs at a time.

    Raises:
        ExecutorError: not a whole number above 0.
    """
    return None if chosen() == "in_process" else _count(CPUS, 1)


def ray_tags(networks: bool) -> dict[str, str]:
    """Tags of an op by which a Ray cluster knows what a batch needs: cores and, for networks, a share of a GPU.

    A GPU is asked for where this machine has one, and where `PIANO_GPU_SHARE` says that the cluster does.
    """
    needs: dict[str, float] = {"num_cpus": _count(CPUS, 1)}
    if networks and (has_cuda() or os.environ.get(SHARE)):
        needs["num_gpus"] = gpu_share()
    return {"dagster-ray/config": json.dumps(needs)}


def _count(variable: str, default: int) -> int:
    given = os.environ.get(variable) or str(default)
    if not given.isdecimal() or int(given) < 1:
        raise ExecutorError(f"{variable}={given!r} must be a whole number above 0")
    return int(given)


def _in_process() -> dg.ExecutorDefinition:
    return dg.in_process_executor


def _multiprocess() -> dg.ExecutorDefinition:
    room = max(1, (os.cpu_count() or 1) // _count(CPUS, 1))
    start = {"forkserver": {"preload_modules": list(PRELOADED)}}
    return dg.multiprocess_executor.configured({"max_concurrent": _count(AT_ONCE, room), "start_method": start})


def _ray() -> dg.ExecutorDefinition:
    for package in ("dagster_ray", "ray"):
        if importlib.util.find_spec(package) is None:
            raise ExecutorError(f"{EXECUTOR}=ray needs {package}: pip install 'piano_assets[ray]'")

    @dg.executor(name="ray", requirements=dg.multiple_process_executor_requirements())
    def ray_executor(_: dg.InitExecutorContext) -> dg.Executor:
        """Each step is a job of the Ray cluster, with what the tag `dagster-ray/config` of its op asks for."""
        from piano_assets.defs.ray_jobs import RayExecutor  # Ray is loaded where a run is led, not by every process

        return RayExecutor(_count(AT_ONCE, UNLIMITED))

    return ray_executor


EXECUTORS: dict[str, Callable[[], dg.ExecutorDefinition]] = {
    "in_process": _in_process,
    "multiprocess": _multiprocess,
    "ray": _ray,
}
