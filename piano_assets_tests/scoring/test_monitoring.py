"""Drift: found where it is planted and not by chance; the fixed set, against champions before."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from piano_assets.dimensions import NAMES
from piano_assets.report.drift_plots import drift_figure
from piano_assets.schemas import TABLES
from piano_assets.scoring import monitoring
from piano_assets.scoring.monitoring import MOVED, changes, drift_table, keep, monitoring_rows
from piano_assets.scoring.recordings import read_recording
from piano_assets.scoring.score import score
from piano_assets.scoring.tables import recording_id
from piano_assets.scoring.tell import as_json
from piano_assets.store.parts import Store


def rows_of(holder, features, scores, seconds=10.0):
    """Rows of `monitoring` for recordings (n, d), (n, 19) of one window each."""
    found = []
    for number, (x, y) in enumerate(zip(features, scores, strict=True)):
        told = {
            "champion": {k: holder.record[k] for k in ("champion", "part_key")},
            "windows": [
                {
                    "start_s": 0.0,
                    "end_s": seconds,
                    "features": dict(zip(holder.feature_names, x, strict=True)),
                    "scores": dict(zip(NAMES, y, strict=True)),
                }
            ],
        }
        found.append(monitoring_rows(f"r{number}", told))
    return pd.concat(found, ignore_index=True)


@pytest.fixture
def large(scorer):
    """A holder of 400 random performances with 30 features."""
    rng = np.random.default_rng(0)
    return replace(
        scorer.holder,
        features=rng.normal(size=(400, 30)),
        feature_names=tuple(f"f{k}" for k in range(30)),
        out_of_fold=rng.uniform(size=(400, 19)),
        human=np.ones(400, bool),
    )


def test_what_did_not_drift_is_not_found_and_what_did_is(large):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(60, 30)), rng.uniform(size=(60, 19))
    same = drift_table(rows_of(large, x, y), [large])
    TABLES["drift"].conform(same)
    assert len(same) == 49
    assert not same["drifted"].any()
    x[:, 3] += 1.5
    y[:, 2] *= 0.5
    moved = drift_table(rows_of(large, x, y), [large]).set_index("name")
    assert set(moved.index[moved["drifted"]]) == {"f3", NAMES[2]}
    # By hand: 1.5 in half widths of the middle 90 % of a normal law, 1.645; the median of 60 moves by some .16.
    assert moved.loc["f3", "shift"] == pytest.approx(1.5 / 1.645, abs=0.25)
    assert drift_figure(moved.reset_index(), "performance").axes


def test_a_recording_counts_once_however_many_windows_it_has(large):
    rng = np.random.default_rng(2)
    rows = rows_of(large, rng.normal(size=(10, 30)), rng.uniform(size=(10, 19)))
    short = rows.assign(window_start_s=10.0, window_end_s=12.0, value=99.0)
    both = pd.concat([rows, short], ignore_index=True)
    pd.testing.assert_frame_equal(drift_table(both, [large]), drift_table(rows, [large]))


def test_undefined_features_and_other_champions_are_left_out(large):
    rng = np.random.default_rng(3)
    x = rng.normal(size=(10, 30))
    x[:7, 0] = np.nan
    found = drift_table(rows_of(large, x, rng.uniform(size=(10, 19))), [large])
    assert "f0" not in set(found["name"])
    other = replace(large, record=large.record | {"part_key": "k9"})
    assert drift_table(rows_of(large, x, rng.uniform(size=(10, 19))), [other]).empty
    assert list(drift_table(TABLES["monitoring"].empty(), [large])) == list(TABLES["drift"].columns)


def test_a_recordings_rows_are_what_was_measured(midi_files, scorer):
    scores = score(read_recording(midi_files[0]), scorer)
    rows = monitoring_rows("one", as_json(scores))
    TABLES["monitoring"].conform(rows)
    features = rows[rows["kind"] == "feature"].set_index("name")["value"]
    np.testing.assert_array_equal(features.reindex(scores.feature_names), scores.features[0])
    assert (rows["kind"] == "score").sum() == 19 * len(scores.windows)
    assert monitoring_rows("refused", None).empty


def test_the_fixed_set_is_one_performance_of_each_cluster_and_changes_add_up(scorer):
    holder = scorer.holder
    now = monitoring.reference_scores(holder, True)
    TABLES["reference_scores"].conform(now)
    people = pd.DataFrame({"clip": holder.clips, "cluster": holder.clusters})[holder.human]
    assert sorted(now["clip"].unique()) == sorted(people.groupby("cluster")["clip"].min())
    for clip, rows in now.groupby("clip"):
        (k,) = np.flatnonzero(holder.clips == clip)
        np.testing.assert_array_equal(rows["label"], holder.target[k])
        np.testing.assert_allclose(rows["value"], holder.predict(holder.features[[k]])[0], atol=1e-12)
    before = now.assign(part_key="k0", is_current=False)
    before.loc[before["dimension"] == NAMES[4], "value"] -= 0.1
    found = changes(pd.concat([now, before]), "performance").set_index("dimension")
    assert found.loc[NAMES[4], "mean_change"] == pytest.approx(0.1)
    assert found.drop(NAMES[4])["mean_absolute_change"].max() == 0
    assert found["r"].min() == pytest.approx(1)
    assert list(found.index[found["mean_absolute_change"] > MOVED]) == [NAMES[4]]


def test_a_recording_is_kept_once_for_each_champion(midi_files, scorer, tmp_path):
    store = Store(tmp_path / "synthetic")
    told = as_json(score(read_recording(midi_files[0]), scorer))
    keep(store, told)
    (part,) = store.parts("monitoring")
    assert part.name == recording_id(midi_files[0].name, told["content_hash"])
    before = part.path.stat().st_mtime_ns
    keep(store, told)
    assert part.path.stat().st_mtime_ns == before
    other = told | {"champion": told["champion"] | {"part_key": "k2"}}
    keep(store, other)
    assert set(store.read("monitoring", part.name)["part_key"]) == {"k2"}
