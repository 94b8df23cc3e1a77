"""One small run of the whole graph, shared by the tests that only look at it."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.storage.defs_state.base import set_defs_state_storage

from piano_assets.defs import planner
from piano_assets.defs.data import PianoData
from piano_assets.defs.quickstart import Stage, stages
from piano_assets.store.parts import Store


@pytest.fixture(autouse=True)
def no_dead_instance():
    """A context of Dagster's that is collected late puts the storage of an instance back that is gone by then."""
    with set_defs_state_storage(None):
        yield


# Models that are fitted in a second each: what a slower one learns is tested where it is written.
SMALL = {"family.ridge": 5, "family.kernel_ridge": 2, "ingredient.ridge": 1, "audio_only.rich_kernel_ridge": 1}
SMALL |= {"literature.founding_kernel_ridge": 1, "ensemble_members.snapshot": 1}
NETWORK = {"ast.reference@smoke": 1}


@dataclass(frozen=True)
class Graph:
    """A finished run: where its data lie, and the Dagster instance that saw it."""

    piano: PianoData
    instance: dg.DagsterInstance
    source: Path
    stages: list[Stage]

    @property
    def store(self) -> Store:
        return self.piano.store()


def tasks(store: Store, configs: dict[str, int]) -> list[planner.Task]:
    return [t for config, n in configs.items() for t in planner.owed(store, [config], n)]


def prepared(root: Path, source: Path) -> PianoData:
    """A data folder whose corpus is already generated."""
    folder = root / "synthetic"
    folder.mkdir(parents=True)
    os.symlink(source, folder / "source")
    return PianoData(root=str(root), corpus="synthetic")


def copied(graph: Graph, root: Path, *without: str) -> PianoData:
    """The data folder of a finished run, less some tables."""
    piano = prepared(root, graph.source)
    skipped = {"source", *without}
    for path in Path(graph.store.root).iterdir():
        if path.name not in skipped:
            target = root / "synthetic" / path.name
            # Sound and frames are never written in place, and are most of it.
            copy = os.link if path.name in ("renderings", "spectrograms") else shutil.copy2
            shutil.copytree(path, target, copy_function=copy) if path.is_dir() else shutil.copy(path, target)
    for table in without:
        shutil.rmtree(root / "synthetic" / "parts" / table, ignore_errors=True)
    return piano


@pytest.fixture(scope="session")
def graph(tmp_path_factory, synthetic_dir) -> Graph:
    piano = prepared(tmp_path_factory.mktemp("data"), synthetic_dir)
    instance = dg.DagsterInstance.ephemeral()
    store = piano.store()
    done = list(stages(instance, piano, lambda: tasks(store, SMALL | NETWORK), print))
    return Graph(piano, instance, synthetic_dir, done)
