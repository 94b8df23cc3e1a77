"""Schedule, sensor, automation, and what loading the definitions costs."""

import dataclasses
import datetime
import subprocess
import sys

import dagster as dg
import pytest

from piano_assets.catalogue.comparisons import catalogue
from piano_assets.catalogue.trial import vary
from piano_assets.defs import planner
from piano_assets.defs.build import build_defs
from piano_assets.defs.data import PianoData
from piano_assets.defs.jobs import nightly_sweep, quickstart, register_configs
from piano_assets.defs.training import CONFIGS, train
from piano_assets.schemas import TABLES
from piano_assets_tests.defs.conftest import NETWORK, SMALL, Graph, copied, tasks


def test_definitions_load_light_and_fast():
    """At most as long again as Dagster, pandas and pyarrow themselves, in processor time; without torch or librosa."""

    def said(code: str) -> list[list[str]]:
        code = f"import sys, time; {code}; print(time.process_time(), *(set(sys.modules) & {heavy}))"
        runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in "12"]
        return [run.stdout.split() for run in runs]

    heavy = {"torch", "librosa", "sklearn", "numba"}
    ours = said("import piano_assets.definitions as d; d.defs.resolve_all_job_defs()")
    theirs = said("import dagster, dagster.components, pandas, pyarrow.parquet")
    assert [run[1:] for run in ours] == [[], []]
    fastest = [min(float(run[0]) for run in of) for of in (ours, theirs)]
    assert fastest[0] <= 2 * fastest[1], fastest


def test_every_asset_says_what_it_is():
    for spec in build_defs().resolve_all_asset_specs():
        assert spec.description, spec.key
        groups = (
            "corpus",
            "features",
            "transcription",
            "training",
            "ensembles",
            "champion",
            "scoring",
            "adaptation",
            "results",
        )
        groups += ("robustness", "diagnostics")
        assert spec.group_name in groups, spec.key
        assert spec.owners, spec.key
        assert spec.kinds, spec.key


def test_every_table_asset_shows_its_columns():
    shown = {s.key.to_user_string(): s.metadata for s in build_defs().resolve_all_asset_specs()}
    schema = shown["labels"]["dagster/column_schema"]
    assert [c.name for c in schema.columns] == ["clip", "dimension", "rule", "value", "standard_error", "n_raters"]
    assert all(c.description for c in schema.columns)
    nullable = {c.name for c in schema.columns if c.constraints.nullable}
    assert nullable == {name for name, column in TABLES["labels"].columns.items() if column.nullable} != set()


def tick(sensor: dg.SensorDefinition, instance: dg.DagsterInstance, resources: dict):
    """What a sensor asks for."""
    with dg.build_sensor_context(instance=instance, resources=resources) as context:
        return sensor(context)


def test_the_sensor_registers_every_config_once(tmp_path):
    resources = {"piano": PianoData(root=str(tmp_path), corpus="synthetic")}
    with dg.instance_for_test() as instance:
        asked = tick(register_configs, instance, resources)
        request = asked.dynamic_partitions_requests[0]
        assert set(request.partition_keys) == set(catalogue())
        instance.add_dynamic_partitions(str(CONFIGS.name), list(request.partition_keys))
        again = tick(register_configs, instance, resources)
        assert isinstance(again, dg.SkipReason)


def test_the_sensor_registers_users_configs_and_logs_what_is_wrong(tmp_path, capfd):
    good = 'hypothesis = "h."\nreference = "family.ridge"\n[arms.strong]\nmodel.settings.alpha = 9.0\n'
    (tmp_path / "comparisons").mkdir()
    (tmp_path / "comparisons" / "mine.toml").write_text(good)
    (tmp_path / "comparisons" / "broken.toml").write_text(good.replace("family.ridge", "family.rigde"))
    resources = {"piano": PianoData(root=str(tmp_path), corpus="synthetic")}
    with dg.instance_for_test() as instance:
        asked = tick(register_configs, instance, resources)
    assert set(asked.dynamic_partitions_requests[0].partition_keys) == {
        *catalogue(),
        "mine.strong",
        "mine.strong@smoke",
    }
    assert "broken.toml:2: unknown reference='family.rigde'" in capfd.readouterr().err


def at(time: datetime.datetime, instance: dg.DagsterInstance, piano: PianoData):
    """What the nightly schedule asks for."""
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=time, resources={"piano": piano}
    ) as context:
        return nightly_sweep(context)


@pytest.mark.xdist_group("graph")
def test_the_night_requests_what_is_missing_and_nothing_else(graph: Graph, monkeypatch):
    night = datetime.datetime(2026, 11, 22, 2, tzinfo=datetime.UTC)
    with dg.instance_for_test() as instance:
        requests = at(night, instance, graph.piano)
        asked = [p for r in requests for p in r.run_config["ops"]["train_batch"]["config"]["partitions"]]
        missing = planner.missing(graph.store, planner.owed(graph.store, planner.swept_configs(graph.store)))
        assert sorted(asked) == sorted(t.partition for t in missing)
        assert len({r.run_key for r in requests}) == len(requests)
        trained = tasks(graph.store, SMALL | NETWORK)
        monkeypatch.setattr(planner, "owed", lambda store, configs: trained)
        assert isinstance(at(night, instance, graph.piano), dg.SkipReason)


@pytest.mark.xdist_group("graph")
def test_results_are_requested_once_after_a_batch_and_not_when_nothing_changed(graph: Graph):
    defs = build_defs({"piano": graph.piano})
    with dg.instance_for_test() as instance:
        instance.add_dynamic_partitions(str(CONFIGS.name), list(SMALL))
        first = dg.evaluate_automation_conditions(defs, instance=instance)
        assert first.total_requested == 0
        for event in ("checkpoints", "history", "predictions"):
            instance.report_runless_asset_event(dg.AssetMaterialization(event, partition="family.ridge|0"))
        second = dg.evaluate_automation_conditions(defs, instance=instance, cursor=first.cursor)
        assert second.get_num_requested(dg.AssetKey("scores")) == 1
        third = dg.evaluate_automation_conditions(defs, instance=instance, cursor=second.cursor)
        assert third.get_num_requested(dg.AssetKey("scores")) == 0


@pytest.mark.xdist_group("graph")
def test_one_failed_partition_is_named_and_the_others_go_on(graph: Graph, monkeypatch):
    three = tasks(graph.store, {"family.ridge": 3})
    three[1] = dataclasses.replace(three[1], trial=vary(three[1].trial, {"model.settings.colour": 1.0}))
    monkeypatch.setattr("piano_assets.defs.training.tasks_of", lambda *_: three)
    logged = []
    with pytest.raises(dg.Failure, match=r"1 of 3 partitions failed: family\.ridge\|1: IllegalTrial: .*colour"):
        train(dg.build_op_context(), graph.piano, [], logged.append)
    assert {e.partition for e in logged} == {"family.ridge|0", "family.ridge|2"}


@pytest.mark.xdist_group("graph")
def test_the_quickstart_job_runs_every_stage_as_a_run_of_its_own(graph: Graph, tmp_path, monkeypatch):
    piano = copied(graph, tmp_path)
    monkeypatch.setattr(planner, "quickstart", lambda store: tasks(store, SMALL | NETWORK))
    with dg.instance_for_test() as instance:
        done = quickstart.execute_in_process(instance=instance, resources={"piano": piano})
        assert done.success
        # corpus, sound, features, spectrogram, catalogue and lookups, one ensemble, results; nothing left to train
        assert len(instance.get_runs()) == 1 + 7
        assert instance.get_latest_materialization_event(dg.AssetKey("warehouse"))
