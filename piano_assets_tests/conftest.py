"""Fixtures shared by all rooms."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

# Two workers with two threads each would fight for two cores, and sums of several threads differ in their last bits.
# Before anything loads numpy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Two processes that compile into one numba cache at the same time corrupt it, and whoever loads it crashes: each
# worker has a cache of its own, kept for the next run.
_CACHE = Path(__file__).parents[1] / ".numba_cache" / os.environ.get("PYTEST_XDIST_WORKER", "alone")
os.environ["NUMBA_CACHE_DIR"] = str(_CACHE)


def pytest_configure() -> None:
    """Begin the worker's cache with what `make install` compiled beside the sources."""
    from numba.core.caching import _CacheLocator

    if _CACHE.exists():
        return
    for package in ("librosa", "piano_assets"):
        for compiled in Path(importlib.util.find_spec(package).origin).parent.rglob("__pycache__/*.nb[ic]"):
            its = _CACHE / _CacheLocator.get_suitable_cache_subpath(str(compiled.parents[1] / "any.py"))
            its.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(compiled, its / compiled.name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What waits for processes of its own comes early, so that no worker is left with it at the end."""
    items.sort(key=lambda item: "/web/" not in item.path.as_posix())


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


@pytest.fixture(scope="session")
def midi_files(tiny_dir: Path) -> list[Path]:
    """Performances of the small synthetic corpus, as files."""
    return sorted((tiny_dir / "virtuoso" / "data" / "all_2rounds").glob("*.mid"))


@pytest.fixture(scope="session")
def champion_root(midi_files: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus folder in which the titles `performance` and `sound` are held; read only."""
    from piano_assets_tests.scoring.champions import fit_champions

    root = tmp_path_factory.mktemp("champions") / "synthetic"
    fit_champions(root, midi_files)
    return root
