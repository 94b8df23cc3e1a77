"""What `piano gc` shows and removes, and above all what it does not."""

import json
import os
import shutil
import time

import dagster as dg
import pytest
from click.testing import CliRunner

from piano_assets.cli import main
from piano_assets.defs import current, planner
from piano_assets.defs.housekeeping import Rubbish, remove, rubbish
from piano_assets.defs.training import batch_config, sweep
from piano_assets.store.parts import Store
from piano_assets_tests.defs.conftest import Graph, copied

pytestmark = pytest.mark.xdist_group("graph")
NOW = time.time() + 30 * 86400
RIDGE = "family.ridge/0.float64-cpu"


@pytest.fixture
def store(graph: Graph, tmp_path) -> Store:
    return copied(graph, tmp_path).store()


@pytest.fixture
def instance():
    with dg.instance_for_test() as one:
        yield one


def shown(store: Store, instance, **more) -> dict[str, str]:
    return {str(r.path.relative_to(store.root)): r.reason for r in rubbish(store, instance, **{"now": NOW, **more})}


def test_what_stands_is_no_rubbish(store, instance):
    assert shown(store, instance) == {}


def test_what_a_killed_process_left_goes_after_an_hour(store, instance):
    left = [store.root / "parts" / "clips" / ".all.parquet.77.ab.tmp", store.root / "checkpoints" / ".x.77.ab.old"]
    left += [store.root / "snapshots" / f".1f.duckdb.77.ab.tmp{log}" for log in ("", ".wal")]
    left[1].mkdir()
    left[2].parent.mkdir(exist_ok=True)
    for file in (left[0], *left[2:]):
        file.write_bytes(b"half")
    assert shown(store, instance, now=time.time()) == {}, "somebody may be writing it"
    found = shown(store, instance)
    assert set(found) == {str(p.relative_to(store.root)) for p in left}
    assert all("killed while it wrote" in reason for reason in found.values())


def test_checkpoints_of_another_training_go_and_a_run_in_progress_keeps_its_own(store, instance):
    record = store.root / "checkpoints" / RIDGE / "fold0" / "record.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"part_key": "0" * 16}))
    assert shown(store, instance) == {
        f"checkpoints/{RIDGE}": "checkpoints of a training that no longer stands (key 0000000000000000)"
    }
    (task, *_) = planner.owed(store, ["family.ridge"])
    instance.create_run_for_job(sweep, run_config=batch_config([task]), status=dg.DagsterRunStatus.STARTED)
    assert shown(store, instance) == {}


def test_predictions_stay_while_a_run_vouches_for_them(store, instance, monkeypatch):
    catalogue = planner.known(store)
    without = {c: t for c, t in catalogue.trials.items() if c != "family.ridge"}
    monkeypatch.setattr(planner, "owed", lambda *_, **__: [t for t in current_tasks if t.config in without])
    current_tasks = [planner.Task(c, s, t) for c, t in catalogue.trials.items() for s in range(5)]
    found = shown(store, instance)
    assert set(found) == {f"checkpoints/{RIDGE}"}, "a retired arm keeps its predictions, not its models"
    monkeypatch.undo()
    (store.root / "parts" / "runs" / f"{RIDGE}.parquet").unlink()
    orphans = {t: r for t, r in shown(store, instance).items() if t.startswith("parts")}
    assert orphans == {
        f"parts/{table}/{RIDGE}.parquet": "published without the run that vouches for it"
        for table in set(current.TRIAL_TABLES) - {"runs"}
    }


def test_states_and_old_snapshots_stay_for_some_days(store, instance):
    state = store.root / "work" / "abc" / "fold0.state.safetensors"
    state.parent.mkdir(parents=True)
    state.write_bytes(b"state")
    newest = next((store.root / "snapshots").glob("*.duckdb"))
    old = newest.with_name("0123456789abcdef.duckdb")
    shutil.copy(newest, old)
    os.utime(old, (newest.stat().st_mtime - 10,) * 2)
    soon = time.time() + 6 * 86400
    assert shown(store, instance, now=soon) == {}
    found = shown(store, instance)
    assert set(found) == {"work/abc", f"snapshots/{old.name}"}
    assert found["work/abc"] == "state of a training that was not finished, untouched for 30 days"
    assert set(shown(store, instance, now=soon, days=5)) == set(found)


def test_only_what_is_shown_goes_and_nothing_outside(store, instance, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("x")
    inside = store.root / ".all.77.ab.tmp"
    inside.symlink_to(precious)
    remove(store, rubbish(store, instance, now=NOW))
    assert not inside.is_symlink()
    assert (precious / "file").exists(), "a link goes, what it leads to stays"
    with pytest.raises(ValueError, match="lies outside"):
        remove(store, [Rubbish(store.root / ".." / "precious", 1, "")])
    assert (precious / "file").exists()
    assert shown(store, instance) == {}


def test_the_command_shows_first_and_removes_when_told(store, monkeypatch):
    monkeypatch.setenv("PIANO_DATA", str(store.root.parent))
    monkeypatch.setenv("PIANO_CORPUS", "synthetic")
    left = store.root / "parts" / ".all.parquet.77.ab.tmp"
    left.write_bytes(b"x" * 2_000_000)
    os.utime(left, (time.time() - 7200,) * 2)
    said = CliRunner().invoke(main, ["gc"])
    assert said.exit_code == 0, said.output
    assert "2.0 MB  parts/.all.parquet.77.ab.tmp" in said.output
    assert "Nothing was removed" in said.output
    assert left.exists()
    assert "1 items, 2.0 MB removed" in CliRunner().invoke(main, ["gc", "--remove"]).output
    assert not left.exists()
