"""The whole graph on the synthetic corpus, whose truth is known."""

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from piano_assets.defs import current
from piano_assets.defs.build import build_defs
from piano_assets.defs.quickstart import StageFailed, stages
from piano_assets.dimensions import NAMES
from piano_assets.schemas import TABLES
from piano_assets.schemas.probes import DIAGNOSTICS, ROBUSTNESS
from piano_assets.store.parts import read_part
from piano_assets.store.warehouse import query
from piano_assets_tests.defs.conftest import NETWORK, SMALL, Graph, copied, prepared, tasks

pytestmark = pytest.mark.xdist_group("graph")


def test_every_stage_ran_and_every_asset_was_materialized(graph: Graph):
    assert [s.name for s in graph.stages] == ["corpus", "sound", "features", "models", "results"]
    known = build_defs().resolve_all_asset_specs()
    logged = {s.key for s in known if graph.instance.get_latest_materialization_event(s.key)}
    asked_for = {
        "adaptation",
        "procedures",
        "evaluation_ledger",
        *("champions", "reference_scores", "recordings", "recording_scores", "monitoring", "drift"),
        *("transcriptions", "transcription_quality", "transcribed_features"),  # with the extra `transcribe`
        "pretraining_clips",
        "pretrained_encoder",
        "pretrained_features",
        *ROBUSTNESS,
        *DIAGNOSTICS,
    }  # by partition, of models that somebody names
    assert logged == {s.key for s in known if s.key.path[-1] not in asked_for}


def test_every_trained_partition_is_logged_with_its_versions(graph: Graph):
    wanted = {t.partition for t in tasks(graph.store, SMALL | NETWORK)}
    for name in ("checkpoints", "history", "predictions"):
        assert graph.instance.get_materialized_partitions(dg.AssetKey(name)) == wanted
        records = graph.instance.fetch_materializations(dg.AssetKey(name), limit=3).records
        assert all("dagster/data_version" in r.asset_materialization.tags for r in records)


def test_the_snapshot_holds_every_table_and_subject(graph: Graph):
    tables = query(graph.store, "SELECT table_name, estimated_size AS n FROM duckdb_tables()").set_index("table_name")
    assert set(tables.index) == set(TABLES)
    empty = set(tables.index[tables["n"] == 0])
    assert empty <= {
        *("champions", "reference_scores", "recordings", "recording_scores", "monitoring", "drift"),
        "transcriptions",
        "transcription_quality",
        "pretraining_clips",
        "quarantine",
        "tests",
        "halted",
        "robustness",
        "diagnostics",
        "adaptation_curves",
        "evaluation_ledger",
    }, empty
    board = query(graph.store, "FROM leaderboard")
    ours = board[(board["split"] == "cluster") & (board["rule"] == "clean")]
    assert set(ours["subject"]) >= {"family.ridge", "family.kernel_ridge", "ast.reference@smoke", "lookup.excerpt_mean"}
    scored = ours[ours["kind"] == "arm"]
    assert scored[["r2_pooled_low", "pearson_mean_low", "lookup_r2", "ceiling_r2"]].notna().all().all()
    assert scored.set_index("subject")["rank"].isna().to_dict()["ast.reference@smoke"], "a smoke budget is not ranked"
    assert (board[board["kind"].isin(["lookup", "published"])]["rank"].isna()).all()
    wide = query(graph.store, "SELECT count(*) AS n FROM features_symbolic")
    assert wide["n"].item() == len(graph.store.read("clips", "all"))


def test_predictions_agree_better_with_the_truth_than_with_the_labels(graph: Graph):
    """The labels carry the raters' noise, which no model can hear; the truth does not."""
    truth = pd.read_csv(graph.source / "truth.csv").pivot(index="clip", columns="dimension", values="value")
    labels = graph.store.read("labels", "clean").pivot(index="clip", columns="dimension", values="value")
    mine = [p for p in current.result_parts(graph.store)["predictions"] if p.name.startswith("family.ridge/")]
    with_truth, with_labels = [], []
    for part in mine:
        rows = read_part(part).to_pandas()
        rows = rows[(rows["role"] == "test") & (rows["tuning"] == "tuned")]
        pred = rows.pivot(index="clip", columns="dimension", values="value")
        for name in NAMES:
            with_truth.append(pred[name].corr(truth[name].reindex(pred.index)))
            with_labels.append(pred[name].corr(labels[name].reindex(pred.index)))
    assert np.mean(with_truth) > np.mean(with_labels) + 0.03
    assert np.mean(with_truth) > 0.6


def test_the_ceilings_interval_covers_the_true_reliability(graph: Graph):
    """The split-half interval of the mean over dimensions, at each population and level. (The ANOVA estimate takes
    raters as drawn afresh for every clip, and is low by construction where few raters share all clips.)"""
    truth = pd.read_csv(graph.source / "truth_reliability.csv")
    ceiling = graph.store.read("noise_ceiling", "all")
    ceiling = ceiling[(ceiling["method"] == "split_half") & (ceiling["rule"] == "clean")]
    joined = ceiling[ceiling["dimension"] != "mean"].merge(truth, on=["population", "level", "dimension"])
    inside = (joined["ci_low"] <= joined["reliability_y"]) & (joined["reliability_y"] <= joined["ci_high"])
    # 76 intervals at 95 %, four correlated views of 19 dimensions: at least 85 % inside.
    assert inside.mean() >= 0.85, joined[~inside]
    means = truth.groupby(["population", "level"])["reliability"].mean()
    for row in ceiling[ceiling["dimension"] == "mean"].itertuples():
        assert row.ci_low <= means[row.population, row.level] <= row.ci_high


def test_a_second_run_computes_nothing(graph: Graph, tmp_path):
    piano = copied(graph, tmp_path)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "synthetic" / "parts").rglob("*.parquet")}
    instance = dg.DagsterInstance.ephemeral()
    list(stages(instance, piano, lambda: tasks(piano.store(), SMALL | NETWORK), print))
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "synthetic" / "parts").rglob("*.parquet")}
    changed = {p.relative_to(tmp_path).as_posix() for p in after if after[p] != before.get(p)}
    assert not changed


def test_a_planted_leak_stops_the_graph(graph: Graph, tmp_path, monkeypatch):
    """A cluster split that puts half of a test fold's cluster mates into training must not reach the models."""
    from piano_assets.corpus import splits

    honest = splits.make_split

    def leaking(name, **tables):
        rows = honest(name, **tables)
        if name == "cluster":
            test = rows.index[(rows["role"] == "test") & rows["inner_fold"].isna()]
            rows.loc[test[::2], "role"] = "train"
        return rows

    monkeypatch.setattr(splits, "make_split", leaking)
    piano = copied(graph, tmp_path, "splits", "leaks", "predictions", "runs")
    instance = dg.DagsterInstance.ephemeral()
    with pytest.raises(StageFailed, match=r"no_promised_leak.*cluster"):
        list(stages(instance, piano, lambda: tasks(piano.store(), SMALL), print))
    assert not list(piano.store().parts("runs")), "nothing may be trained"


def test_training_itself_refuses_a_leaking_split(graph: Graph, tmp_path):
    """A batch run does not pass through the asset checks, so the trainer looks for itself."""
    from piano_assets.training.run import run_trial

    piano = copied(graph, tmp_path, "predictions", "runs")
    store = piano.store()
    leaks = store.read("leaks", "cluster")
    leaks.loc[leaks["kind"] == "cluster", "share"] = 0.5
    store.write("leaks", leaks, key="planted", name="cluster")
    task = tasks(store, {"family.ridge": 1})[0]
    with pytest.raises(ValueError, match=r"cluster.*leak"):
        run_trial(task.trial, task.config, task.seed, store)


def test_labels_that_do_not_belong_to_their_clips_stop_the_graph(graph: Graph, tmp_path, monkeypatch):
    from piano_assets.corpus import labels

    honest = labels.labels

    def shifted(ratings, rule):
        frame = honest(ratings, rule)
        names = list(NAMES)
        return frame.assign(dimension=frame["dimension"].map(lambda d: names[(names.index(d) + 1) % len(names)]))

    monkeypatch.setattr(labels, "labels", shifted)
    piano = prepared(tmp_path, graph.source)
    with pytest.raises(StageFailed, match="labels_join_their_clips"):
        list(stages(dg.DagsterInstance.ephemeral(), piano, list, print))
    assert piano.store().part("splits", "cluster") is None


def test_broken_rows_are_named_by_the_schema_check(graph: Graph, tmp_path):
    """A part that was tampered with on the disk is caught by the check of its table."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    piano = copied(graph, tmp_path)
    part = piano.store().require("labels", "clean")
    table = pq.read_table(part.path)
    broken = table.set_column(3, table.schema.field("value"), pa.array([7.0] * len(table)))
    meta = {b"piano": json.dumps({"key": part.key, "content_hash": "x", "record": {}}).encode()}
    pq.write_table(broken.replace_schema_metadata(meta), part.path)
    with pytest.raises(StageFailed, match=r"labels_as_declared.*must be <= 1"):
        list(stages(dg.DagsterInstance.ephemeral(), piano, list, print))
