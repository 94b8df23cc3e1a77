"""The inbox: what is requested, what waits, what is passed over, and what becomes of a recording."""

import os
import shutil
import time

import dagster as dg
import pytest

from piano_assets.defs import inbox as room
from piano_assets.defs.build import build_defs
from piano_assets.defs.data import PianoData
from piano_assets.defs.inbox import (
    RECORDINGS,
    InboxError,
    drift,
    file_of,
    no_drift,
    partition_of,
    recordings,
    watch_inbox,
)
from piano_assets.ensembles.champion_files import set_beside
from piano_assets.web import worker


@pytest.fixture
def piano(champion_root, tmp_path):
    """A data folder of its own with both champions and an empty inbox."""
    shutil.copytree(champion_root, tmp_path / "data" / "synthetic")
    (tmp_path / "data" / "inbox").mkdir()
    return PianoData(root=str(tmp_path / "data"), corpus="synthetic")


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def look(piano, instance, cursor=None):
    with dg.build_sensor_context(instance=instance, cursor=cursor, resources={"piano": piano}) as context:
        return watch_inbox(context), context.cursor


def lay(piano, path, name="take.mid", age=60.0):
    to = room.inbox(piano) / name
    shutil.copyfile(path, to)
    then = time.time() - age
    os.utime(to, (then, then))
    return to


def requested(found):
    return [r.partition_key for r in found.run_requests] if isinstance(found, dg.SensorResult) else []


def test_a_file_is_requested_once_it_has_stood_still_for_two_looks(piano, instance, midi_files):
    path = lay(piano, midi_files[0])
    first, cursor = look(piano, instance)
    assert "1 recordings, 1 of them still being written" in first.skip_message
    second, cursor = look(piano, instance, cursor)
    assert requested(second) == [partition_of(path)]
    assert [r.partition_keys for r in second.dynamic_partitions_requests] == [[partition_of(path)]]
    third, cursor = look(piano, instance, cursor)
    assert requested(third) == []
    # It grows: another content, so another recording, once it stands still again.
    path.write_bytes(midi_files[1].read_bytes())
    growing, cursor = look(piano, instance, cursor)
    assert requested(growing) == []
    too_fresh, cursor = look(piano, instance, cursor)
    assert requested(too_fresh) == []
    then = time.time() - 30
    os.utime(path, (then, then))
    _, cursor = look(piano, instance, cursor)
    again, _ = look(piano, instance, cursor)
    assert requested(again) == [partition_of(path)]


def test_links_folders_and_hidden_files_are_passed_over(piano, instance, midi_files):
    folder = room.inbox(piano)
    (folder / "leaves.mid").symlink_to(midi_files[0])
    (folder / "sub").mkdir()
    lay(piano, midi_files[0], ".half.mid")
    found, cursor = look(piano, instance)
    found, _ = look(piano, instance, cursor)
    assert "0 recordings" in found.skip_message
    shutil.rmtree(folder)
    assert "0 recordings" in look(piano, instance)[0].skip_message


class Here:
    """Scores in this process: that of the worker takes ten seconds to start, and is tested once below."""

    def __init__(self, root, seconds, transcribe=None):
        self.root = root

    def score(self, path, told):
        return worker._found(path, self.root, False, told)

    def stop(self):
        """Nothing was started."""


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(worker, "Worker", Here)


def materialized(piano, instance, partition):
    instance.add_dynamic_partitions(str(RECORDINGS.name), [partition])
    done = dg.materialize(
        [recordings], instance=instance, partition_key=partition, resources={"piano": piano}, raise_on_error=False
    )
    return done, piano.store()


def test_a_recording_is_scored_into_tables_and_a_page(piano, instance, midi_files):
    path = lay(piano, midi_files[2], "An étude, take 2.mid")
    partition = partition_of(path)
    assert partition.endswith(".An_tude_take_2_mid")
    done, store = materialized(piano, instance, partition)
    assert done.success
    (row,) = store.read("recordings", partition).to_dict("records")
    assert (row["file"], row["kind"], row["status"], row["in_domain"]) == (path.name, "midi", "scored", True)
    scores = store.read("recording_scores", partition)
    overall = scores[scores["window_start_s"].isna()]
    assert len(overall) == 19
    assert len(scores) == 19 * (1 + scores["window_start_s"].nunique())
    assert overall["percentile"].notna().all()
    assert ((scores["ci_low"] <= scores["value"]) & (scores["value"] <= scores["ci_high"])).all()
    page = store.root / "recordings" / f"{partition}.html"
    assert "How listeners would rate it" in page.read_text()
    # Asked again, it stands, and so it does without its file.
    path.unlink()
    again, _ = materialized(piano, instance, partition)
    assert again.success
    kept = again.get_asset_materialization_events()[0].step_materialization_data.materialization.metadata
    assert kept["reused"].value is True


def test_what_holds_no_music_is_a_row_with_its_reason(piano, instance, midi_files, here):
    path = room.inbox(piano) / "picture.mp3"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(5000))
    done, store = materialized(piano, instance, partition_of(path))
    assert done.success
    (row,) = store.read("recordings", partition_of(path)).to_dict("records")
    assert row["status"] == "refused"
    assert "neither MIDI nor sound that can be read" in row["reason"]
    assert store.read("recording_scores", partition_of(path)).empty


def test_without_champions_the_run_says_how_one_is_made(piano, instance, midi_files):
    path = lay(piano, midi_files[0])
    shutil.rmtree(piano.store().root / "champions" / "sound")
    done, store = materialized(piano, instance, partition_of(path))
    assert not done.success
    message = str(done.get_step_failure_events()[0].event_specific_data.error)
    assert "`piano champion sound` fits one" in message
    assert store.part("recordings", partition_of(path)) is None


def test_a_new_champion_scores_again(piano, instance, midi_files, here):
    path = lay(piano, midi_files[0])
    _, store = materialized(piano, instance, partition_of(path))
    home = store.root / "champions" / "performance"
    shutil.copytree(home / "k1", home / "k2")
    record = home / "k2" / "record.json"
    record.write_text(record.read_text().replace('"k1"', '"k2"'))
    (home / "current.json").write_text('{"part_key": "k2", "before": ["k1"]}')
    partition = partition_of(path)
    before = store.require("recordings", partition).key
    done, store = materialized(piano, instance, partition)
    assert done.success
    assert store.require("recordings", partition).key != before
    # Asked to, the champion before scores beside it: the same models here, so the same numbers under another key.
    alone = store.require("recordings", partition).key
    assert set_beside(home, True) == "k1"
    assert materialized(piano, instance, partition)[0].success
    assert store.require("recordings", partition).key != alone
    overall = store.read("recording_scores", partition)
    overall = overall[overall["window_start_s"].isna()].pivot_table(
        index="dimension", columns="part_key", values="value"
    )
    assert overall.shape == (19, 2)
    assert set_beside(home, False) is None
    assert materialized(piano, instance, partition)[0].success
    assert store.require("recordings", partition).key == alone


def test_drift_is_looked_for_in_all_recordings(piano, instance, midi_files, here):
    for number in range(6):
        materialized(piano, instance, partition_of(lay(piano, midi_files[number], f"take{number}.mid")))
    done = dg.materialize([drift, no_drift], instance=instance, resources={"piano": piano})
    assert done.success
    found = piano.store().read("drift", "all")
    assert set(found["champion"]) == {"performance"}
    assert found["n_recordings"].max() == 6
    (check,) = done.get_asset_check_evaluations()
    assert check.metadata["compared"].value == len(found)
    assert check.passed == (not found["drifted"].any())
    (event,) = done.get_asset_materialization_events()
    assert "data:image/png" in event.step_materialization_data.materialization.metadata["performance"].value


def test_the_job_scores_a_recording_and_looks_for_drift(piano, instance, midi_files, here):
    partition = partition_of(lay(piano, midi_files[0]))
    instance.add_dynamic_partitions(str(RECORDINGS.name), [partition])
    job = build_defs({"piano": piano}).resolve_job_def("score_recording")
    done = job.execute_in_process(instance=instance, partition_key=partition)
    assert done.success
    assert piano.store().part("drift", "all") is not None


def test_the_file_of_a_partition_is_found_by_its_content(piano, midi_files):
    path = lay(piano, midi_files[0])
    assert file_of(room.inbox(piano), partition_of(path)) == path
    gone = partition_of(path)
    shutil.copyfile(midi_files[1], path)
    with pytest.raises(InboxError, match=f"no file has partition '{gone}'; lay it there again"):
        file_of(room.inbox(piano), gone)
