"""What is shipped in results/ is what the code would make today: the same trials, by the same code, all of it there."""

import pytest

from piano_assets.catalogue.comparisons import catalogue
from piano_assets.defs.current import TRIAL_TABLES
from piano_assets.defs.planner import QUICKSTART
from piano_assets.store.location import SHIPPED
from piano_assets.store.parts import Store
from piano_assets.store.shipping import LARGEST_MB, megabytes
from piano_assets.training.data import code_version

STORES = [Store(folder) for folder in sorted(SHIPPED.iterdir())] if SHIPPED.is_dir() else []


@pytest.mark.parametrize("store", STORES, ids=lambda s: s.corpus)
def test_shipped_results_are_current(store: Store):
    """After a change of code or catalogue: train again what changed, then `piano ship`."""
    known = catalogue()
    runs = store.read("runs")
    assert len(runs)
    assert not set(runs["config"]) & set(QUICKSTART)
    for run in runs.itertuples():
        trial = known[run.config]
        assert (run.trial, run.code_version) == (trial.key, code_version(trial)), run.config
        assert run.status == "finished"
        assert not run.git_dirty


@pytest.mark.parametrize("store", STORES, ids=lambda s: s.corpus)
def test_shipped_parts_belong_together(store: Store):
    keys = [{p.name: p.key for p in store.parts(table)} for table in TRIAL_TABLES]
    assert all(found == keys[0] for found in keys)
    assert sum(megabytes(s.root) for s in STORES) <= LARGEST_MB
