"""What stands, runs, failed, is stale or missing, and why."""

import dataclasses

import dagster as dg
import pytest
from click.testing import CliRunner

from piano_assets.catalogue.trial import vary
from piano_assets.cli import main
from piano_assets.defs import planner, status
from piano_assets.defs.build import build_defs
from piano_assets.defs.data import PianoData
from piano_assets.defs.jobs import digest_of_failures
from piano_assets.defs.training import CONFIGS, batch_config, batch_tags, sweep
from piano_assets.training import data
from piano_assets_tests.defs.conftest import Graph, copied

pytestmark = pytest.mark.xdist_group("graph")


def states(graph: Graph, instance: dg.DagsterInstance, config: str) -> dict[int, tuple[str, str]]:
    found = status.status(graph.store, planner.owed(graph.store, [config]), instance)
    return {row.seed: (row.state, row.why) for row in found.itertuples()}


def one_of_two_fails(graph: Graph, instance: dg.DagsterInstance, monkeypatch) -> dg.ExecuteInProcessResult:
    """A batch of `family.ridge|0`, which stands, and `family.kernel_ridge|2`, whose trial is illegal."""
    missing = planner.missing(graph.store, planner.owed(graph.store, ["family.kernel_ridge"]))
    broken = dataclasses.replace(missing[0], trial=vary(missing[0].trial, {"model.settings.colour": 1.0}))
    batch = [planner.owed(graph.store, ["family.ridge"])[0], broken]
    monkeypatch.setattr("piano_assets.defs.training.tasks_of", lambda *_: batch)
    return sweep.execute_in_process(
        instance=instance,
        resources={"piano": graph.piano},
        run_config=batch_config(batch),
        tags=batch_tags(batch, "cpu", 0),
        raise_on_error=False,
    )


@pytest.fixture
def instance():
    with dg.instance_for_test() as one:
        yield one


def test_what_was_trained_stands_and_the_rest_is_missing(graph: Graph, instance):
    assert states(graph, instance, "family.kernel_ridge") == {
        0: ("stands", "cpu, float64"),
        1: ("stands", "cpu, float64"),
        **dict.fromkeys((2, 3, 4), ("missing", "never trained")),
    }


def test_what_would_be_trained_otherwise_now_is_stale_and_says_why(graph: Graph, instance, monkeypatch):
    real, key = data.code_version, planner.known(graph.store).trials["family.ridge"].key
    monkeypatch.setattr(data, "code_version", lambda trial: real(trial) + 1)
    version = real(planner.known(graph.store).trials["family.ridge"])
    assert states(graph, instance, "family.ridge")[0] == ("stale", f"code_version {version}, now {version + 1}")
    monkeypatch.undo()
    (task, *_) = planner.owed(graph.store, ["family.ridge"])
    other = dataclasses.replace(task, trial=vary(task.trial, {"model.settings.alpha": 7.0}))
    found = status.status(graph.store, [other], instance)
    assert found["why"].tolist() == [f"trial {key}, now {other.trial.key}"]


def test_a_partition_that_lost_a_part_says_which(graph: Graph, instance, tmp_path):
    store = copied(graph, tmp_path).store()
    (task, *_) = planner.owed(store, ["family.ridge"])
    store.part("predictions", planner.standing(store, task).name).path.unlink()
    found = status.status(store, [task], instance)
    assert found[["state", "why"]].values.tolist() == [["stale", "its predictions were removed"]]


def test_a_part_that_is_read_and_not_there_is_named(graph: Graph, instance, monkeypatch):
    monkeypatch.setattr(data, "lacks", lambda trial, store: ["splits/cluster"])
    assert states(graph, instance, "family.kernel_ridge")[2] == ("missing", "reads splits/cluster, not made yet")


def test_what_a_run_holds_is_running(graph: Graph, instance):
    (two, three, _) = planner.missing(graph.store, planner.owed(graph.store, ["family.kernel_ridge"]))
    begun = instance.create_run_for_job(sweep, run_config=batch_config([two]), status=dg.DagsterRunStatus.STARTED)
    ended = instance.create_run_for_job(sweep, run_config=batch_config([three]), status=dg.DagsterRunStatus.CANCELED)
    found = states(graph, instance, "family.kernel_ridge")
    assert found[2] == ("running", f"run {begun.run_id}")
    assert found[3] == ("missing", "never trained"), ended


def test_a_selection_in_the_ui_holds_its_partitions(graph: Graph, instance):
    job = build_defs().resolve_implicit_global_asset_job_def()
    instance.add_dynamic_partitions(str(CONFIGS.name), ["family.ridge", "family.kernel_ridge"])
    common = {"status": dg.DagsterRunStatus.STARTED, "asset_selection": frozenset({dg.AssetKey("predictions")})}
    one = instance.create_run_for_job(job, tags={"dagster/partition": "family.ridge|3"}, **common)
    ends = {"start": "family.ridge|0", "end": "family.ridge|2"}
    several = {f"dagster/asset_partition_range_{end}": key for end, key in ends.items()}
    many = instance.create_run_for_job(job, tags=several, **common)
    scores = common | {"asset_selection": frozenset({dg.AssetKey("noise")})}
    instance.create_run_for_job(job, tags={"dagster/partition": "family.ridge"}, **scores)
    assert status.running(graph.store, instance) == {
        "family.ridge|3": one.run_id,
        **{f"family.ridge|{seed}": many.run_id for seed in (0, 1, 2)},
    }


def test_what_failed_says_why_and_others_of_its_batch_do_not(graph: Graph, instance, monkeypatch):
    assert not one_of_two_fails(graph, instance, monkeypatch).success
    state, why = states(graph, instance, "family.kernel_ridge")[2]
    assert state == "failed"
    assert why.startswith("IllegalTrial: ")
    assert "colour" in why
    assert states(graph, instance, "family.kernel_ridge")[3] == ("missing", "never trained")
    assert states(graph, instance, "family.ridge")[0][0] == "stands"


def test_a_failure_is_written_down(graph: Graph, instance, monkeypatch, tmp_path):
    """With a batch of which one partition fails and one stands; and with a run that says nothing."""
    done = one_of_two_fails(graph, instance, monkeypatch)
    run = instance.get_run_by_id(done.run_id)
    (event,) = [e for e in done.all_events if e.event_type == dg.DagsterEventType.RUN_FAILURE]
    with dg.build_run_status_sensor_context(
        sensor_name="digest_of_failures",
        dagster_event=event,
        dagster_instance=instance,
        dagster_run=run,
        resources={"piano": PianoData(root=str(tmp_path), corpus="synthetic")},
    ).for_run_failure() as context:
        digest_of_failures(context)
    (path,) = (tmp_path / "synthetic" / "failures").glob("*.md")
    text = path.read_text()
    assert f"Run `{run.run_id}`" in text
    assert "1 of 2 partitions failed, the others stand:" in text
    assert "- `family.kernel_ridge|2`: IllegalTrial:" in text
    assert "`family.ridge|0`" not in text
    assert "- piano/comparisons: family\n" in text
    missing = planner.missing(graph.store, planner.owed(graph.store, ["family.kernel_ridge"]))
    killed = instance.create_run_for_job(sweep, run_config=batch_config(missing), status=dg.DagsterRunStatus.FAILURE)
    said = status.failure_digest(instance, killed, "killed")
    assert "It held 3 partitions; those that it finished stand:\n\n- `family.kernel_ridge|2`\n" in said


def test_a_run_that_was_killed_names_itself(graph: Graph, instance):
    missing = planner.missing(graph.store, planner.owed(graph.store, ["family.kernel_ridge"]))
    run = instance.create_run_for_job(sweep, run_config=batch_config(missing[:1]), status=dg.DagsterRunStatus.FAILURE)
    assert states(graph, instance, "family.kernel_ridge")[2] == ("failed", f"run {run.run_id} failed or was killed")


def test_a_batch_says_comparisons_budgets_and_device(graph: Graph):
    trials = planner.known(graph.store).trials
    batch = [planner.Task(c, 0, trials[c]) for c in ("loss.huber@reduced", "family.ridge")]
    assert batch_tags(batch, "cuda", 4) == {
        "piano/batch": "4",
        "piano/comparisons": "family loss",
        "piano/budget": "full reduced",
        "piano/device": "cpu cuda",
    }


def test_the_command_counts_and_gathers_seeds(graph: Graph, monkeypatch):
    monkeypatch.setenv("PIANO_DATA", graph.piano.root)
    monkeypatch.setenv("PIANO_CORPUS", "synthetic")
    said = CliRunner().invoke(main, ["status", "family.kernel_ridge"], env={"COLUMNS": "200"})
    assert said.exit_code == 0, said.output
    assert "2 stands, 0 running, 0 failed, 0 stale, 3 missing, of 5 partitions" in said.output
    assert "2 3 4" in said.output
    assert CliRunner().invoke(main, ["status", "family.rigde"]).exit_code == 1
