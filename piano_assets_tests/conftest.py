"""Fixtures shared by all rooms."""

import os
from pathlib import Path

import pytest

# Two processes that compile into one numba cache at the same time corrupt it, and whoever loads it crashes: each
# worker has a cache of its own, kept for the next run.
_WORKER = os.environ.get("PYTEST_XDIST_WORKER", "alone")
os.environ["NUMBA_CACHE_DIR"] = str(Path(__file__).parents[1] / ".numba_cache" / _WORKER)
# Two workers with two threads each would fight for two cores; results do not depend on the number of threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def percepiano_dir() -> Path:
    """The real corpus: `PERCEPIANO_DIR`, else the folder beside the checkout; without either, skip."""
    beside = Path(__file__).parents[2] / "shared" / "percepiano"
    folder = Path(os.environ.get("PERCEPIANO_DIR", beside))
    if not (folder / "labels" / "total_2rounds.csv").is_file():
        pytest.skip(f"PercePiano is not at {folder}: set PERCEPIANO_DIR")
    return folder


@pytest.fixture(scope="session")
def synthetic_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic corpus of the default size (157 clips, 11 clusters), in PercePiano's layout; read only."""
    from piano_assets.corpus.synthetic import write_synthetic

    folder = tmp_path_factory.mktemp("corpus") / "synthetic"
    write_synthetic(folder)
    return folder


@pytest.fixture(scope="session")
def tiny_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic corpus of 36 clips in 6 clusters; read only."""
    from piano_assets.corpus.synthetic import TINY, write_synthetic

    folder = tmp_path_factory.mktemp("corpus") / "tiny"
    write_synthetic(folder, **TINY)
    return folder
