"""Machines that share a bucket of an S3 server on this machine: what one has trained stands at the other."""

import json
import os
from collections.abc import Iterator
from unittest import mock

import fsspec
import pandas as pd
import pytest
from moto.server import ThreadedMotoServer

from piano_assets.defs import planner
from piano_assets.defs.current import TRIAL_TABLES
from piano_assets.defs.sharing import exchange
from piano_assets.store.bucket import Bucket, BucketError
from piano_assets.store.checkpoints import checkpoint_folder, load_checkpoint
from piano_assets.store.parts import Store
from piano_assets.training.run import run_batch
from piano_assets_tests.training.tiny import build_store

CONFIG = "family.ridge"


@pytest.fixture(scope="module")
def server() -> Iterator[None]:
    """An empty S3 server, which every S3 client of this process talks to."""
    one = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    one.start()
    host, port = one.get_host_and_port()
    environment = {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    with mock.patch.dict(os.environ, environment):
        yield
    one.stop()


@pytest.fixture
def url(server, request) -> str:
    """A new bucket's URL, with a prefix."""
    name = f"b{abs(hash(request.node.name))}"
    fsspec.filesystem("s3").mkdir(name)
    return f"s3://{name}/some/where"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Store:
    """A machine on which two seeds of one config stand; seed 0 with its models. Read only."""
    store = build_store(tmp_path_factory.mktemp("one") / "synthetic")
    tasks = planner.owed(store, [CONFIG], 2)
    run_batch([(t.config, t.trial, t.seed) for t in tasks], store)
    return store


@pytest.fixture
def other(tmp_path) -> Store:
    """A machine with the same corpus, where nothing is trained."""
    return build_store(tmp_path / "synthetic")


def tables(store: Store) -> dict[str, pd.DataFrame]:
    return {table: store.read(table) for table in TRIAL_TABLES}


def bucket(url: str) -> Bucket:
    return Bucket(url, "synthetic", TRIAL_TABLES)


def test_what_one_machine_trained_stands_at_the_other(url, trained, other):
    assert exchange(trained, url) == ([], [f"{CONFIG}|0", f"{CONFIG}|1"])
    assert exchange(other, url, [CONFIG]) == ([f"{CONFIG}|0", f"{CONFIG}|1"], [])
    assert planner.missing(other, planner.owed(other, [CONFIG], 2)) == []
    want = tables(trained)
    assert all(len(want[table]) for table in ("predictions", "members", "runs"))
    for table, frame in tables(other).items():
        pd.testing.assert_frame_equal(frame, want[table])
    assert [exchange(store, url) for store in (trained, other)] == [([], []), ([], [])], "nothing is left to exchange"


def test_models_come_along_and_are_checked(url, trained, other):
    exchange(trained, url)
    exchange(other, url)
    ((name, run),) = ((p.name, p) for p in trained.parts("runs") if p.name.startswith(f"{CONFIG}/0"))
    folders = [checkpoint_folder(store.root, name) for store in (trained, other)]
    folds = [sorted(p.name for p in folder.iterdir()) for folder in folders]
    assert folds[0] == folds[1] == ["fold0", "fold1", "fold2"]
    for fold in folds[0]:
        records = [load_checkpoint(folder / fold, part_key=run.key)[0] for folder in folders]
        assert records[0] == records[1]


def test_runs_of_other_code_or_data_are_left_in_the_bucket(url, trained, other):
    exchange(trained, url)
    labels = other.read("labels", "clean")
    other.write("labels", labels.assign(value=labels["value"] * 0.9), key="another", name="clean")
    assert exchange(other, url) == ([], [])
    assert len(planner.missing(other, planner.owed(other, [CONFIG], 2))) == 2


def test_two_versions_of_a_run_lie_side_by_side_and_neither_is_overwritten(url, trained, other):
    exchange(trained, url)
    labels = other.read("labels", "clean")
    other.write("labels", labels.assign(value=labels["value"] * 0.9), key="another", name="clean")
    (task,) = planner.owed(other, [CONFIG], 1)
    run_batch([(task.config, task.trial, task.seed)], other)
    assert exchange(other, url) == ([], [task.partition])
    names = [name for name, _ in bucket(url).runs()]
    assert len(names) == 3
    assert len(set(names)) == 2
    assert exchange(trained, url) == ([], [])


def test_a_damaged_object_is_refused_and_its_run_does_not_stand(url, trained, other):
    exchange(trained, url)
    files, there = fsspec.filesystem("s3"), bucket(url)
    ((name, key),) = (run for run in there.runs() if run[0].startswith(f"{CONFIG}/0"))
    manifest = json.loads(files.cat_file(f"{url}/synthetic/runs/{name}/{key}.json"))
    for sha256 in (manifest["tables"]["predictions"], manifest["checkpoints"]["fold1/model.skops"]):
        path = f"{url}/synthetic/objects/{sha256}"
        whole = files.cat_file(path)
        for damaged in (whole[: len(whole) // 2], whole[:100] + b"?" + whole[101:]):
            files.pipe_file(path, damaged)
            with pytest.raises(BucketError, match=f"{sha256}: sha256 is [0-9a-f]+: the object was changed or cut"):
                exchange(other, url)
            assert len(planner.missing(other, planner.owed(other, [CONFIG], 1))) == 1
            assert not list(other.root.rglob("*.tmp"))
        files.pipe_file(path, whole)
    assert exchange(other, url)[0] == [f"{CONFIG}|0", f"{CONFIG}|1"]


def test_a_manifest_cannot_write_outside_the_checkpoints(url, trained, other):
    exchange(trained, url)
    files, there = fsspec.filesystem("s3"), bucket(url)
    ((name, key),) = (run for run in there.runs() if run[0].startswith(f"{CONFIG}/0"))
    path = f"{url}/synthetic/runs/{name}/{key}.json"
    manifest = json.loads(files.cat_file(path))
    manifest["checkpoints"]["../../../stolen"] = manifest["tables"]["runs"]
    files.pipe_file(path, json.dumps(manifest).encode())
    with pytest.raises(BucketError, match="leads out of the folder"):
        exchange(other, url)
    assert not list(other.root.parent.rglob("stolen"))


def test_a_run_that_was_given_only_in_part_is_not_there(url, trained, other):
    """As a machine leaves it that dies while it gives: the manifest comes last."""
    given = bucket(url)
    (run,) = (p for p in trained.parts("runs") if p.name.startswith(f"{CONFIG}/1"))
    whole, left = given.files.pipe_file, iter([True, True])

    def dies(*arguments: object) -> None:
        if not next(left, False):
            raise OSError("the network is gone")
        whole(*arguments)

    fails = mock.patch.object(given.files, "pipe_file", dies)
    with fails, pytest.raises(OSError, match="the network is gone"):
        given.put(trained, run)
    assert given.runs() == set()
    given.put(trained, run)
    assert given.runs() == {(run.name, run.key)}
    assert exchange(other, url)[0] == [f"{CONFIG}|1"]


def test_a_shared_folder_is_a_bucket_too(tmp_path, trained, other):
    url = (tmp_path / "shared").as_uri()
    exchange(trained, url)
    assert exchange(other, url)[0] == [f"{CONFIG}|0", f"{CONFIG}|1"]


def test_an_unknown_protocol_is_refused(trained):
    with pytest.raises(ValueError, match="s4"):
        exchange(trained, "s4://bucket")
