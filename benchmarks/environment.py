"""What a benchmark ran on: goes into every result beside the figures."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("numpy", "scipy", "numba", "librosa", "torch", "lightning", "scikit-learn", "pandas", "pyarrow", "duckdb")


def environment() -> dict:
    """Processor, cores, load of the machine at this moment, and versions (None: not installed), JSON-able."""
    cpuinfo = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    """A machine that only trains lacks some packages."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None
