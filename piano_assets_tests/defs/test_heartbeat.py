"""A run shows that it lives; one whose process died blocks nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from piano_assets.defs import status
from piano_assets.defs.data import PianoData
from piano_assets.defs.heartbeat import DEAD_S, beating, in_progress
from piano_assets.defs.jobs import fail_orphans
from piano_assets.defs.training import sweep
from piano_assets.store.parts import Store

LATER = time.time() + 10 * DEAD_S


@pytest.fixture
def piano(tmp_path) -> PianoData:
    return PianoData(root=str(tmp_path), corpus="synthetic")


@pytest.fixture
def instance():
    with dg.instance_for_test() as one:
        yield one


def started(
    instance: dg.DagsterInstance, status: dg.DagsterRunStatus = dg.DagsterRunStatus.STARTED, **more
) -> dg.DagsterRun:
    config = {"ops": {"train_batch": {"config": {"partitions": ["family.ridge|0"]}}}}
    return instance.create_run_for_job(sweep, run_config=config, status=status, **more)


def look(piano: PianoData, instance: dg.DagsterInstance, cursor: str | None = None) -> str:
    """One tick of the sensor; returns its cursor."""
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"piano": piano}) as context:
        assert isinstance(fail_orphans(context), dg.SkipReason)
        return context.cursor


def age(file: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(file, (then, then))


def test_every_run_that_has_the_resource_beats_and_leaves_nothing_behind(piano, instance):
    seen = []

    @dg.op
    def work(context: dg.OpExecutionContext, piano: PianoData) -> None:
        seen.append((context.run_id, [p.name for p in (piano.store().root / "heartbeats").iterdir()]))

    @dg.job
    def job() -> None:
        work()

    assert job.execute_in_process(instance=instance, resources={"piano": piano}).success
    ((run_id, files),) = seen
    assert files == [run_id]
    assert list((piano.store().root / "heartbeats").iterdir()) == []


def test_the_beat_goes_on_while_the_work_does(tmp_path):
    store = Store(tmp_path)
    with beating(store, "one", every_s=0.02):
        file = tmp_path / "heartbeats" / "one"
        age(file, 1000)
        deadline = time.monotonic() + 10
        while time.time() - file.stat().st_mtime > 500:
            assert time.monotonic() < deadline, "no beat in ten seconds"
            time.sleep(0.01)


def test_a_killed_process_is_an_orphan_and_holds_no_partition(piano, instance):
    run = started(instance)
    code = (
        "import sys, time; from pathlib import Path; from piano_assets.defs.heartbeat import beating;"
        "from piano_assets.store.parts import Store\n"
        "with beating(Store(Path(sys.argv[1])), sys.argv[2]): print('on', flush=True); time.sleep(60)"
    )
    store = piano.store()
    process = subprocess.Popen([sys.executable, "-c", code, str(store.root), run.run_id], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"on\n"
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    file = store.root / "heartbeats" / run.run_id
    assert file.exists(), "nobody tidies up behind a killed process"
    assert [r.run_id for r in in_progress(store, instance)[0]] == [run.run_id]
    alive, orphans = in_progress(store, instance, now=LATER)
    assert alive == []
    assert orphans == {run.run_id: pytest.approx(file.stat().st_mtime)}


def test_a_sign_of_life_keeps_a_run_that_dagster_has_not_heard_of_for_long(piano, instance):
    run = started(instance)
    with beating(piano.store(), run.run_id):
        file = piano.store().root / "heartbeats" / run.run_id
        os.utime(file, (LATER, LATER))
        alive, orphans = in_progress(piano.store(), instance, now=LATER + 1)
    assert [r.run_id for r in alive] == [run.run_id]
    assert orphans == {}


def test_a_queued_run_waits_as_long_as_it_must(piano, instance):
    where = InProcessCodeLocationOrigin(LoadableTargetOrigin(module_name="piano_assets.definitions"), "here")
    run = started(
        instance,
        dg.DagsterRunStatus.QUEUED,
        remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(where, "__repository__"), "sweep"),
        job_code_origin=JobPythonOrigin("sweep", RepositoryPythonOrigin(sys.executable, ModuleCodePointer("m", "f"))),
    )
    alive, orphans = in_progress(piano.store(), instance, now=LATER)
    assert ([r.run_id for r in alive], orphans) == ([run.run_id], {})


def test_a_run_that_is_to_start_may_wait_for_its_machine(piano, instance):
    run = started(instance, dg.DagsterRunStatus.STARTING)
    alive, orphans = in_progress(piano.store(), instance, now=LATER)
    assert ([r.run_id for r in alive], orphans) == ([run.run_id], {})


def test_an_orphan_is_failed_at_the_second_look_and_its_partition_is_free(piano, instance, monkeypatch):
    run, store = started(instance), piano.store()
    assert status.running(store, instance) == {"family.ridge|0": run.run_id}
    now = time.time()
    monkeypatch.setattr("piano_assets.defs.heartbeat.time.time", lambda: now + DEAD_S + 60)
    assert status.running(store, instance) == {}
    cursor = look(piano, instance)
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED
    look(piano, instance, cursor)
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE
    said = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.RUN_FAILURE)[0].message
    assert " UTC, 18" in said, "180 s and what the test took"
    assert look(piano, instance) == "{}"


def test_a_run_that_shows_life_between_two_looks_is_left_alone(piano, instance, monkeypatch):
    run, store = started(instance), piano.store()
    now = time.time()
    monkeypatch.setattr("piano_assets.defs.heartbeat.time.time", lambda: now + 1000)
    cursor = look(piano, instance)
    file = store.root / "heartbeats" / run.run_id
    file.parent.mkdir(parents=True)
    file.touch()  # older than it should be still, but newer than at the first look
    os.utime(file, (now + 500, now + 500))
    look(piano, instance, cursor)
    assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.STARTED


def test_between_two_steps_the_last_event_counts(piano, instance):
    run = started(instance)
    instance.report_engine_event("a step is over", run)
    event_at = instance.get_records_for_run(run.run_id).records[-1].timestamp
    assert [r.run_id for r in in_progress(piano.store(), instance, now=event_at + DEAD_S - 1)[0]] == [run.run_id]
    assert in_progress(piano.store(), instance, now=event_at + DEAD_S + 1)[1] == {run.run_id: event_at}


def test_a_clock_that_was_set_back_makes_no_orphan_immortal(piano, instance):
    run = started(instance)
    with beating(piano.store(), run.run_id, every_s=0.02):
        file = piano.store().root / "heartbeats" / run.run_id
        age(file, -1000)
        deadline = time.monotonic() + 10
        while in_progress(piano.store(), instance)[1]:  # alive again with its next beat
            assert time.monotonic() < deadline
            time.sleep(0.01)
    file.touch()
    age(file, -1000)
    assert list(in_progress(piano.store(), instance)[1]) == [run.run_id]
