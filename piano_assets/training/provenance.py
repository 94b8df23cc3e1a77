"""Where and with what a run was made: commit, versions, hardware, memory."""

import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path

from piano_assets.training.data import PRECISIONS

PACKAGES = ("torch", "numpy", "pandas", "pyarrow", "scikit-learn", "scipy", "lightgbm", "einops", "piano_assets")


@cache
def git_state(folder: Path = Path(__file__).parent) -> tuple[str | None, bool | None]:
    """(commit, uncommitted changes) of the checkout the code runs from; (None, None) outside one."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return commit, bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))
    except (FileNotFoundError, subprocess.CalledProcessError):
        # No git command, or an installed copy without a repository: both are ordinary places to run.
        return None, None


def _git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", folder, *arguments], check=True, capture_output=True, text=True).stdout.strip()


@cache
def environment() -> str:
    """Versions of Python and of the packages that results depend on, as JSON; an absent package is left out."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return json.dumps(versions, sort_keys=True)


def precision_that_gains(device: str) -> str:
    """The precision of networks where nobody names one: `PIANO_PRECISION`, else bfloat16 on CUDA and float32 elsewhere.

    Some processors multiply bfloat16 faster and some do not; a part made on one should fit on another, and arms of one
    comparison must share their precision, so that processors share one by default.

    Raises:
        ValueError: `PIANO_PRECISION` is neither.
    """
    given = os.environ.get("PIANO_PRECISION") or ("bfloat16" if device.startswith("cuda") else "float32")
    if given not in PRECISIONS:
        raise ValueError(f"PIANO_PRECISION={given!r} must be one of {PRECISIONS}")
    return given


def _cpu(field: str) -> str:
    """A field of the first processor; empty where the system does not say."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")


def hardware(device: str) -> str:
    """Processor, its architecture, and the accelerator if `device` is one."""
    processor = f"{_cpu('model name') or platform.processor() or 'unknown'} ({platform.machine()})"
    if not device.startswith("cuda"):
        return processor
    import torch

    return f"{processor}; {torch.cuda.get_device_name(device)}"


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1e6 if sys.platform == "darwin" else 1e3)
