"""Where steps run changes nothing of what comes of them, and a process or a node that dies takes nothing with it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pandas as pd
import pytest

from benchmarks.ray_cluster import cluster, descendants, kill, raylet, steps_begun, wait_for
from piano_assets.defs import executors, planner
from piano_assets.defs.executors import ExecutorError
from piano_assets.defs.quickstart import side_by_side
from piano_assets.defs.status import partitions_of
from piano_assets.defs.training import batches_config
from piano_assets.store.parts import Store
from piano_assets_tests.defs.conftest import Graph, copied
from piano_assets_tests.defs.test_resume import VOLATILE

SWEEP = """
import json, sys
import dagster as dg
from piano_assets.defs import planner
from piano_assets.defs.data import PianoData
from piano_assets.defs.quickstart import train_side_by_side

if __name__ == "__main__":
    root, home, batches = sys.argv[1:]
    batches = [planner.tasks_of(batch) for batch in json.loads(batches)]
    piano = PianoData(root=root, corpus="synthetic")
    done = train_side_by_side(dg.DagsterInstance.from_config(home), piano, batches)
    assert done.success
"""
TRAINED = ("predictions", "history", "members", "runs")
BATCHES = [["family.ridge|0", "family.ridge|1"], ["family.ridge|2", "family.ridge|3"]]


def sweep(root: Path, executor: str, batches: list[list[str]]) -> tuple[subprocess.Popen, dg.DagsterInstance]:
    """A process that trains batches side by side, and the instance that sees it."""
    home = root / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", SWEEP, root, home, json.dumps(batches)],
        env=os.environ | {"PIANO_EXECUTOR": executor, "PIANO_AT_ONCE": "2"},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=(root / "said").open("w"),
    )
    return process, dg.DagsterInstance.from_config(str(home))


def published(store: Store) -> dict[Path, int]:
    return {part.path: part.path.stat().st_mtime_ns for part in store.parts("runs")}


def killed_in_its_second_partition(root: Path, store: Store, executor: str, batches, kill_step) -> None:
    """A sweep of which `kill_step(step pids)` kills something in the middle of a batch ends as if nothing had been."""
    process, instance = sweep(root, executor, batches)

    def half_done() -> dict[str, int]:
        """Steps whose first partition is published."""
        stands = {part.name.partition(".float")[0].replace("/", "|") for part in store.parts("runs")}
        return {
            step: pid
            for step, pid in steps_begun(instance).items()
            for batch in [batches[int(step.partition("[")[2][:-1])]]
            if batch[0] in stands and batch[1] not in stands
        }

    try:
        wait_for("a step could be killed", lambda: kill_step(half_done()), lambda: process.poll() is not None)
        before = published(store)
        assert process.wait(300) == 0, (root / "said").read_text()[-3000:]
    finally:
        process.kill()
        process.wait()
    assert before
    assert all(path.stat().st_mtime_ns == at for path, at in before.items()), "what was published was trained again"
    run = instance.get_runs(limit=1)[0]
    assert sorted(partitions_of(instance, run)) == sorted(p for batch in batches for p in batch)
    retried = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_RESTARTED)
    assert len(retried) == 1


def equal_to_in_process(store: Store, graph: Graph, partitions: list[str]) -> None:
    """The tables of a sweep equal those that the shared run of the whole graph, in process, has of its partitions."""
    for name in TRAINED:
        parts = list(store.parts(name))
        assert len(parts) == len(partitions)
        for part in parts:
            ours, theirs = (of.read(name, part.name) for of in (store, graph.store))
            volatile = [column for column in VOLATILE if column in ours]
            pd.testing.assert_frame_equal(ours.drop(columns=volatile), theirs.drop(columns=volatile))


@pytest.mark.xdist_group("graph")
def test_several_processes_make_what_one_makes_though_one_is_killed(graph: Graph, tmp_path):
    batches = [*BATCHES[:1], ["ast.reference@smoke|0"]]
    store = copied(graph, tmp_path, *TRAINED).store()

    def kill_step(half_done: dict[str, int]) -> bool:
        for pid in half_done.values():
            os.kill(pid, signal.SIGKILL)
        return bool(half_done)

    killed_in_its_second_partition(tmp_path, store, "multiprocess", batches, kill_step)
    equal_to_in_process(store, graph, [p for batch in batches for p in batch])


@pytest.mark.slow
@pytest.mark.xdist_group("graph")
def test_a_ray_cluster_makes_what_one_process_makes_though_a_node_is_killed(graph: Graph, tmp_path):
    pytest.importorskip("ray")
    pytest.importorskip("dagster_ray")
    store = copied(graph, tmp_path, *TRAINED).store()
    with cluster(1, head_cpus=1) as (_, (node,)):

        def kill_node(half_done: dict[str, int]) -> bool:
            doomed = set(half_done.values()) & set(descendants(raylet(node)))
            if doomed:
                kill(node)
            return bool(doomed)

        killed_in_its_second_partition(tmp_path, store, "ray", BATCHES, kill_node)
    equal_to_in_process(store, graph, [p for batch in BATCHES for p in batch])


def test_an_unknown_executor_is_refused_with_those_that_there_are(monkeypatch):
    monkeypatch.setenv("PIANO_EXECUTOR", "celery")
    with pytest.raises(ExecutorError, match="PIANO_EXECUTOR='celery' must be one of in_process, multiprocess, ray"):
        executors.executor()


@pytest.mark.parametrize("name", ["PIANO_AT_ONCE", "PIANO_BATCH_CPUS"])
def test_numbers_that_are_none_are_refused(name, monkeypatch):
    monkeypatch.setenv("PIANO_EXECUTOR", "multiprocess")
    monkeypatch.setenv(name, "0")
    with pytest.raises(ExecutorError, match=f"{name}='0' must be a whole number above 0"):
        executors.executor()


def test_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setenv("PIANO_EXECUTOR", "ray")
    monkeypatch.setattr(executors.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ExecutorError, match=r"needs dagster_ray: pip install 'piano_assets\[ray\]'"):
        executors.executor()


def test_one_process_uses_all_cores_and_several_share_them(monkeypatch):
    monkeypatch.delenv("PIANO_EXECUTOR", raising=False)
    assert executors.executor() is dg.in_process_executor
    assert executors.batch_cpus() is None
    monkeypatch.setenv("PIANO_EXECUTOR", "multiprocess")
    monkeypatch.setenv("PIANO_BATCH_CPUS", "3")
    assert executors.batch_cpus() == 3


@pytest.mark.parametrize(("cuda", "share", "gpus"), [(False, None, None), (True, None, 1), (False, "0.25", 0.25)])
def test_networks_ask_ray_for_a_gpu_where_there_is_one_and_tabular_models_never(cuda, share, gpus, monkeypatch):
    monkeypatch.setattr(executors, "has_cuda", lambda: cuda)
    monkeypatch.setenv("PIANO_GPU_SHARE", share or "")
    asked = json.loads(executors.ray_tags(networks=True)["dagster-ray/config"])
    assert asked == {"num_cpus": 1} | ({"num_gpus": gpus} if gpus else {})
    assert json.loads(executors.ray_tags(networks=False)["dagster-ray/config"]) == {"num_cpus": 1}


def test_a_run_of_batches_names_its_partitions_and_where_the_data_lie(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tasks = planner.tasks_of(["family.ridge|0", "family.ridge|1"])
    config = batches_config([tasks], SimpleNamespace(root="data", corpus="synthetic", renderings=["modal"]))
    assert config["ops"]["plan_batches"]["config"]["batches"] == [["family.ridge|0", "family.ridge|1"]]
    assert config["resources"]["piano"]["config"]["root"] == str(tmp_path / "data")


def test_batches_with_networks_are_steps_that_may_ask_for_a_gpu(monkeypatch):
    steps = {node.name: node.tags.get("dagster-ray/config") for node in side_by_side().nodes}
    assert set(steps) == {"plan_batches", "train_tabular", "train_networks"}
    assert steps["train_tabular"] == '{"num_cpus": 1}'


def test_a_step_that_ray_no_longer_waits_for_is_asked_again(monkeypatch):
    """Ray fails a job that no node had room for within a quarter of an hour; the step is not to be blamed."""
    pytest.importorskip("dagster_ray")
    from dagster_ray.core.executor import RayStepHandler
    from ray.job_submission import JobErrorType, JobStatus

    from piano_assets.defs.ray_jobs import PatientHandler

    too_late, died = JobErrorType.JOB_SUPERVISOR_ACTOR_START_TIMEOUT, JobErrorType.JOB_SUPERVISOR_ACTOR_DIED
    jobs = {"job": too_late, "job-again-1": too_late, "job-again-2": died}
    client = SimpleNamespace(
        get_job_status=lambda name: JobStatus.FAILED,
        get_job_info=lambda name: SimpleNamespace(error_type=jobs[name], message=name),
    )
    handler = PatientHandler(client)
    asked = []
    monkeypatch.setattr(RayStepHandler, "_get_ray_job_submission_id", lambda self, context: "job")
    monkeypatch.setattr(RayStepHandler, "_get_step_key", lambda self, context: "train_tabular[0]")
    monkeypatch.setattr(handler, "launch_step", lambda c: iter([asked.append(handler._get_ray_job_submission_id(c))]))
    assert [handler.check_step_health(None).is_healthy for _ in range(3)] == [True, True, False]
    assert asked == ["job-again-1", "job-again-2"]


def test_ray_jobs_start_in_this_folder_with_this_python_and_these_settings(tmp_path, monkeypatch):
    pytest.importorskip("dagster_ray")
    from ray.job_submission import JobSubmissionClient

    from piano_assets.defs.ray_jobs import FromHere, environment

    (tmp_path / "a folder").mkdir()
    monkeypatch.chdir(tmp_path / "a folder")
    monkeypatch.setattr(JobSubmissionClient, "submit_job", lambda self, **given: given["entrypoint"])
    assert FromHere.submit_job(object.__new__(FromHere), entrypoint="dagster api") == (
        f"cd '{tmp_path}/a folder' && dagster api"
    )
    monkeypatch.setenv("PIANO_DATA", "/shared")
    assert environment()["PIANO_DATA"] == "/shared"
    assert environment()["PATH"] == f"{Path(sys.executable).parent}:${{PATH}}"
