"""Nights one after another: what must run runs, and nothing else.

The schedule is asked as the daemon asks it, and what it requests is run as the daemon runs it. So that a night takes
a second, the built-in catalogue has two configs here, and the corpus is tiny.
"""

import dataclasses
import datetime
from types import SimpleNamespace
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from piano_assets.catalogue.comparisons import Catalogue
from piano_assets.catalogue.trial import vary
from piano_assets.defs import planner
from piano_assets.defs.build import build_defs
from piano_assets.defs.data import PianoData
from piano_assets.defs.jobs import nightly_sweep, sweep_changes
from piano_assets.defs.training import CONFIGS, sweep
from piano_assets.store.parts import Store
from piano_assets.training import data
from piano_assets.training.run import run_batch
from piano_assets_tests.training.tiny import N_REPEATS, RIDGE, build_store

MISSING = ["family.kernel_ridge|1"]
MINE = (
    'hypothesis = "A stronger penalty helps."\nreference = "family.ridge"\n[arms.strong]\nmodel.settings.alpha = 9.0\n'
)
FIRST = datetime.datetime(2026, 11, 22, 2, tzinfo=datetime.UTC)


class Nights:
    """A data folder, an instance and a clock."""

    def __init__(self, piano: PianoData, instance: dg.DagsterInstance) -> None:
        self.piano, self.instance, self.date = piano, instance, FIRST
        self.run_keys: set[str] = set()

    @property
    def store(self) -> Store:
        return self.piano.store()

    def ask(self, of: dg.ScheduleDefinition | dg.SensorDefinition):
        with (
            dg.build_schedule_context(self.instance, self.date, resources={"piano": self.piano})
            if isinstance(of, dg.ScheduleDefinition)
            else dg.build_sensor_context(self.instance, resources={"piano": self.piano})
        ) as context:
            return of(context)

    def run(self, of: dg.ScheduleDefinition | dg.SensorDefinition) -> list[str]:
        """What is requested, all of it run; a run key that was there before is not run again, as with the daemon."""
        asked = self.ask(of)
        trained: list[str] = []
        for request in [] if isinstance(asked, dg.SkipReason) else asked:
            if request.run_key not in self.run_keys:
                self.run_keys.add(request.run_key)
                done = sweep.execute_in_process(
                    run_config=request.run_config | {"loggers": {"console": {}}},
                    instance=self.instance,
                    resources={"piano": self.piano},
                    tags=request.tags,
                    raise_on_error=False,
                )
                assert done.success
                trained += request.run_config["ops"]["train_batch"]["config"]["partitions"]
        self.date += datetime.timedelta(days=1)
        return sorted(trained)

    def published(self) -> dict[str, tuple[int, int]]:
        """Every part of a run, and the file that it is."""
        files = [p.path for t in ("predictions", "runs") for p in self.store.parts(t)]
        return {str(p): (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}


@pytest.fixture
def catalogue(monkeypatch):
    """The catalogue of these nights; `now` may be set to another."""
    few = Catalogue(
        {"family.ridge": RIDGE, "family.kernel_ridge": vary(RIDGE, {"model.regressor": "kernel_ridge"})}, ()
    )
    holder = SimpleNamespace(now=few)
    monkeypatch.setattr(planner, "_n_repeats", lambda split: N_REPEATS)
    monkeypatch.setattr(planner, "built_in", lambda: holder.now)
    planner._read_state.cache_clear()
    yield holder
    planner._read_state.cache_clear()


@pytest.fixture
def nights(tmp_path, catalogue):
    """Ridge is trained; of kernel ridge a seed is missing."""
    store = build_store(tmp_path / "synthetic")
    tasks = planner.owed(store)
    run_batch([(t.config, t.trial, t.seed) for t in tasks if t.partition not in MISSING], store)
    with dg.instance_for_test() as instance:
        yield Nights(PianoData(root=str(tmp_path), corpus="synthetic"), instance)


def seeds(config: str, *which: int) -> list[str]:
    return [f"{config}|{seed}" for seed in which or range(N_REPEATS)]


def test_only_what_must_run_runs(nights: Nights, catalogue):
    assert nights.run(nightly_sweep) == MISSING
    before = nights.published()
    assert nights.run(nightly_sweep) == []
    assert nights.ask(nightly_sweep).skip_message == "every partition that is swept unasked stands"

    ridge = catalogue.now.references["family.ridge"]
    changed = vary(ridge, {"model.settings.alpha": 3.0})
    catalogue.now = dataclasses.replace(catalogue.now, references=catalogue.now.references | {"family.ridge": changed})
    assert nights.run(nightly_sweep) == seeds("family.ridge")
    assert nights.run(nightly_sweep) == []
    after = nights.published()
    moved = {path for path in before if before[path] != after[path]}
    assert moved == {path for path in before if "/family.ridge/" in path}

    folder = planner.user_folder(nights.store)
    folder.mkdir()
    (folder / "mine.toml").write_text(MINE)
    assert nights.run(nightly_sweep) == seeds("mine.strong")
    assert nights.run(nightly_sweep) == []
    assert {path for path in nights.published() if path not in after} == {
        path for path in nights.published() if "/mine.strong/" in path
    }
    kept = nights.published()
    assert {path: kept[path] for path in after} == after


def test_a_partition_deleted_by_hand_is_made_again_and_only_it(nights: Nights):
    nights.run(nightly_sweep)
    before = nights.published()
    (run,) = [p for p in nights.store.parts("runs") if p.name.startswith("family.ridge/1")]
    run.path.unlink()
    assert nights.run(nightly_sweep) == ["family.ridge|1"]
    moved = {path for path, file in nights.published().items() if before[path] != file}
    assert {path for path in moved if "/family.ridge/1" not in path} == set()
    assert str(run.path) in moved


def test_the_sensor_trains_what_users_ask_for_at_once_and_leaves_the_rest_to_the_night(nights: Nights):
    assert nights.run(sweep_changes) == []
    folder = planner.user_folder(nights.store)
    folder.mkdir()
    (folder / "mine.toml").write_text(MINE)
    assert nights.run(sweep_changes) == seeds("mine.strong")
    assert nights.run(sweep_changes) == []
    assert set(nights.instance.get_dynamic_partitions(str(CONFIGS.name))) == {"mine.strong"}


def test_the_sensor_trains_what_another_corpus_has_made_stale(nights: Nights):
    clips = nights.store.require("clips")
    frame = nights.store.read("clips").assign(player="somebody else")
    nights.store.write("clips", frame, key=clips.key + "'")
    stale = seeds("family.ridge") + seeds("family.kernel_ridge", 0)
    assert nights.run(sweep_changes) == sorted(stale)
    assert nights.run(sweep_changes) == []


def test_what_fails_is_asked_for_once_in_each_state(nights: Nights, monkeypatch):
    folder = planner.user_folder(nights.store)
    folder.mkdir()
    (folder / "mine.toml").write_text(MINE)
    first = {r.run_key for r in nights.ask(sweep_changes)}
    assert {r.run_key for r in nights.ask(sweep_changes)} == first
    (folder / "mine.toml").write_text(MINE.replace("9.0", "90.0"))
    assert first.isdisjoint(r.run_key for r in nights.ask(sweep_changes))
    real = data.code_version
    second = {r.run_key for r in nights.ask(sweep_changes)}
    monkeypatch.setattr(data, "code_version", lambda trial: real(trial) + 1)
    assert second.isdisjoint(r.run_key for r in nights.ask(sweep_changes))


@pytest.mark.parametrize(
    ("zone", "begin", "nights_of"),
    [
        # 29 March 2026: from 2:00 to 3:00; 25 October 2026: from 3:00 back to 2:00.
        ("Europe/Vienna", datetime.datetime(2026, 3, 27, 12), ["28 02:00", "29 03:00", "30 02:00", "31 02:00"]),
        ("Europe/Vienna", datetime.datetime(2026, 10, 23, 12), ["24 02:00", "25 02:00", "26 02:00", "27 02:00"]),
        ("UTC", datetime.datetime(2026, 3, 27, 12), ["28 02:00", "29 02:00", "30 02:00", "31 02:00"]),
    ],
)
def test_every_date_has_one_night_where_clocks_change_too(zone, begin, nights_of):
    """So that `run_key`, which begins with the date, is new every night, and the same when one is asked for again."""
    start = begin.replace(tzinfo=ZoneInfo(zone)).timestamp()
    times = schedule_execution_time_iterator(start, nightly_sweep.cron_schedule, zone, ascending=True)
    assert [f"{next(times):%d %H:%M}" for _ in nights_of] == nights_of


def test_results_are_asked_for_once_a_batch_on_a_graph_that_is_half_filled(nights: Nights, catalogue):
    """Two batches arrive: each asks once for everything below the predictions, and silence asks for nothing."""
    defs = build_defs({"piano": nights.piano})
    instance, below = (
        nights.instance,
        ("subjects", "scores", "calibration", "tests", "leaderboard", "report", "warehouse"),
    )
    instance.add_dynamic_partitions(str(CONFIGS.name), list(catalogue.now.references))

    def tick(cursor=None):
        return dg.evaluate_automation_conditions(defs, instance=instance, cursor=cursor)

    before = tick()
    assert before.total_requested == 0
    for _ in range(2):
        assert nights.run(nightly_sweep)
        for run in nights.store.parts("runs"):
            run.path.unlink() if run.name.startswith("family.kernel_ridge") else None
        after = tick(before.cursor)
        asked = {key: after.get_num_requested(dg.AssetKey(key)) for key in below}
        assert asked == dict.fromkeys(below, 1), asked
        before = tick(after.cursor)
        assert before.total_requested == 0
