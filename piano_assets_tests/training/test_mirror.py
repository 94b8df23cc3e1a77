"""The mirror: what is logged is made of parts, wandb's own file holds it, and whatever wandb does harms no training."""

import json
import logging
import os
import socket
import struct
import textwrap
import time

import pandas as pd
import pytest

from piano_assets.catalogue.trial import as_dict
from piano_assets.store.parts import Store
from piano_assets.training import mirror as mirroring
from piano_assets.training.mirror import MirrorError, mirror, mode_of, read_record, record_of
from piano_assets.training.run import run_batch
from piano_assets_tests.training.tiny import AST, RIDGE, build_store

pytestmark = pytest.mark.filterwarnings("ignore:n_quantiles")
ITEMS = [("ridge.symbolic", RIDGE, 1), ("ast.reference@smoke", AST, 0)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Store:
    store = build_store(tmp_path_factory.mktemp("data") / "synthetic")
    run_batch(ITEMS, store)
    return store


@pytest.fixture
def store(trained, tmp_path) -> Store:
    """The trained corpus with a mirror of its own."""
    (tmp_path / "synthetic").mkdir()
    (tmp_path / "synthetic" / "parts").symlink_to(trained.root / "parts")
    return Store(tmp_path / "synthetic")


def runs_of(store: Store) -> list:
    names = {f"{config}/{seed}": trial for config, trial, seed in ITEMS}
    return [(names[p.name.partition(".float")[0]], p) for p in store.parts("runs")]


def read_back(path) -> dict:
    """What wandb's own file says: config, history, summary and run, by its protocol; the framing is LevelDB's log."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, whole, found = path.read_bytes(), 7, b"", {"config": {}, "history": [], "summary": {}}
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:  # the rest of a block is filled up
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or last of several
            record = Record()
            record.ParseFromString(whole)
            whole = b""
            note(record, found)
    return found


def note(record, found: dict) -> None:
    def values(items) -> dict:
        return {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}

    kind = record.WhichOneof("record_type")
    if kind == "run":
        found["run"] = record.run
        found["config"] |= values(record.run.config.update)
    elif kind == "history":
        found["history"].append(values(record.history.item))
    elif kind == "summary":
        found["summary"] |= values(record.summary.update)
    elif kind == "exit":
        found["exit"] = record.exit.exit_code


def test_a_record_by_hand():
    run = {"part_key": "k", "config": "a.b", "seed": 2, "trial": RIDGE.key, "device": "cpu", "precision": "float64"}
    run |= {"code_version": 3, "data_version": "d", "hardware": "h", "git_commit": None, "git_dirty": None}
    run |= {"finished_at": pd.Timestamp("2026-01-02", tz="UTC"), "environment": '{"numpy": "2"}'}
    run |= {"status": "finished", "seconds": 1.5, "peak_memory_mb": float("nan")}
    about = {
        "inner_fold": [None, None, None, 0],
        "fold": [0, 0, 1, 0],
        "search_point": ["fixed", "lr=1", "fixed", "fixed"],
    }
    history = pd.DataFrame(about | {"epoch": [0, 0, 1, 0], "valid_r": [0.25, 0.5, 0.75, 9.0]})
    history = history.assign(train_loss=[1.0, float("inf"), 2.0, 9.0], **dict.fromkeys(mirroring.CURVES[3:], None))
    history["valid_loss"] = None
    members = pd.DataFrame(about | {"epoch": [0, 0, 1, 0], "status": "finished", "reason": None})
    members.loc[1, "search_point"] = "tuned"
    got = record_of("synthetic", RIDGE, run, history, members)
    assert (got.id, got.name, got.group, got.job_type) == ("k", "a.b|2", "a.b", "ridge")
    assert got.tags == ["synthetic", "cluster", "full", "cpu", "float64"]
    assert got.history == [
        (0, {"fold0/train_loss": 1.0, "fold0/valid_r": 0.25, "fold0/lr=1/valid_r": 0.5}),
        (1, {"fold1/train_loss": 2.0, "fold1/valid_r": 0.75}),
    ], "inner folds are left out, and what is undefined"
    assert got.summary["fixed/valid_r"] == 0.5
    assert got.summary["tuned/fold0/epoch"] == 0
    assert (got.summary["status"], got.summary["peak_memory_mb"]) == ("finished", None)
    assert got.config["model"] == as_dict(RIDGE)["model"]
    assert got.config["provenance"]["environment"] == {"numpy": "2"}
    assert got.config["provenance"]["finished_at"] == "2026-01-02T00:00:00+00:00"


def test_wandb_offline_holds_what_the_parts_hold_once(store, monkeypatch, tmp_path):
    """Real wandb, its own file read back; nothing of the machine or the environment is in it."""
    secrets = {"HOME": str(tmp_path / "home-of-clara"), "USER": "clara-canary", "MY_TOKEN": "token-canary"}
    secrets |= {"WANDB_API_KEY": "c" * 40, "WANDB_USERNAME": "clara-canary", "WANDB_MODE": "online"}
    listening = socket.create_server(("127.0.0.1", 0))
    home = "http://{}:{}".format(*listening.getsockname())
    secrets |= dict.fromkeys(("WANDB_BASE_URL", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), home)
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "home-of-clara").mkdir()
    runs = runs_of(store)
    assert sorted(mirror(store, runs, "offline")) == sorted(part.key for _, part in runs)
    for trial, part in runs:
        (file,) = (store.root / "wandb").glob(f"offline-run-*/run-{part.key}.wandb")
        got, want = read_back(file), read_record(store, trial, part)
        assert (got["run"].run_id, got["run"].display_name, got["run"].run_group) == (want.id, want.name, want.group)
        assert got["run"].project == "piano_assets"
        assert json.loads(json.dumps(want.config)).items() <= got["config"].items()
        logged = [{k: v for k, v in step.items() if not k.startswith("_")} for step in got["history"]]
        assert logged == [values for _, values in want.history]
        assert [step["_step"] for step in got["history"]] == [step for step, _ in want.history]
        assert {k: v for k, v in want.summary.items() if v is not None}.items() <= got["summary"].items()
        assert got["exit"] == 0
        written = b"".join(p.read_bytes() for p in file.parent.rglob("*") if p.is_file() and p.suffix != ".log")
        for private in ("home-of-clara", "clara-canary", "token-canary", "c" * 40, str(tmp_path)):
            assert private.encode() not in written, private
        # A machine's name may be two letters, which random ids hold by chance: it is looked for as a whole string of
        # wandb's protobuf (behind its length) and of JSON.
        machine = os.uname().nodename.encode()
        for whole in (bytes([len(machine)]) + machine, b'"' + machine + b'"'):
            assert whole not in written, machine
    assert len(read_record(store, *runs[0]).history) == 2, "the network's two epochs"
    before = sorted(store.root.rglob("*"))
    assert mirror(store, runs, "offline") == []
    assert sorted(store.root.rglob("*")) == before
    assert not list((tmp_path / "home-of-clara").rglob("*")), "nothing is left in the home folder"
    with listening, pytest.raises(BlockingIOError):
        listening.setblocking(False)
        listening.accept()  # nobody has phoned home


def stub(folder, monkeypatch, code: str) -> None:
    """A module `wandb` that stands before the real one."""
    (folder / "stub").mkdir()
    (folder / "stub" / "wandb.py").write_text(textwrap.dedent(code))
    monkeypatch.setenv("PYTHONPATH", str(folder / "stub"))


FAILURES = {
    "Settings = dict\ndef init(**_):\n    raise ConnectionError('no route to wandb')": "no route to wandb",
    "raise RuntimeError('broken install')": "broken install",
    "raise ModuleNotFoundError('no wandb', name='wandb')": r"not installed: pip install 'piano_assets\[tracking\]'",
    "raise ModuleNotFoundError('no xxhash', name='xxhash')": "no xxhash",
    "import os\nos._exit(9)": "status 9",
    "import os\nos.kill(os.getpid(), 11)": "status -11",
    "import subprocess\nsubprocess.run(['sleep', '60'])": "it took too long",
}


@pytest.mark.parametrize("code", FAILURES)
def test_no_failure_of_wandb_fails_a_batch_or_holds_it_up(tmp_path, monkeypatch, caplog, code):
    store = build_store(tmp_path / "synthetic")
    stub(tmp_path, monkeypatch, code)
    monkeypatch.setenv("PIANO_WANDB", "online")
    monkeypatch.setattr(mirroring, "PATIENCE_S", 2.0)
    started = time.perf_counter()
    with caplog.at_level(logging.WARNING, "piano_assets.training.mirror"):
        results = run_batch([("ridge.symbolic", RIDGE, 0), ("ridge.symbolic", RIDGE, 1)], store)
    assert [r.status for r in results] == ["finished"] * 2
    assert time.perf_counter() - started < 20
    (said,) = [r.getMessage() for r in caplog.records]
    assert pd.Series([said]).str.contains(FAILURES[code]).all(), said
    assert not list((store.root / "wandb").rglob("mirrored"))


@pytest.mark.parametrize(("key", "why"), [("c" * 40, "then "), (None, "api_key|API key|log ?in")])
def test_without_a_connection_or_a_key_real_wandb_gives_up_in_seconds(store, tmp_path, monkeypatch, key, why):
    """A server that is reached and never answers; and nobody to ask for a key."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("WANDB_BASE_URL", "http://{}:{}".format(*silent.getsockname()))
        monkeypatch.delenv("WANDB_API_KEY", raising=False)
        if key:
            monkeypatch.setenv("WANDB_API_KEY", key)
        started = time.perf_counter()
        with pytest.raises(MirrorError, match=why):
            mirror(store, runs_of(store), "online", 4.0)
        assert time.perf_counter() - started < 15


def test_what_was_logged_before_a_failure_is_not_logged_again(store, tmp_path, monkeypatch):
    stub(
        tmp_path,
        monkeypatch,
        """
        import contextlib
        Settings = dict
        @contextlib.contextmanager
        def init(**about):
            if about["group"] == "ridge.symbolic":
                raise ConnectionError("lost")
            yield Run()
        class Run:
            summary = {}
            def log(self, values, step): pass
        """,
    )
    runs = sorted(runs_of(store), key=lambda run: run[1].name)
    for _ in range(2):
        with pytest.raises(MirrorError, match="lost"):
            mirror(store, runs, "online")
    assert [p.name for p in (store.root / "wandb" / "mirrored" / "online").iterdir()] == [runs[0][1].key]


def test_it_is_off_unless_asked_for(tmp_path, monkeypatch):
    monkeypatch.delenv("PIANO_WANDB", raising=False)
    monkeypatch.setattr(mirroring, "mirror", lambda *_: pytest.fail("was asked"))
    store = build_store(tmp_path / "synthetic")
    run_batch([("ridge.symbolic", RIDGE, 0)], store)
    assert not (store.root / "wandb").exists()


def test_asked_for_without_more_it_is_offline(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(mirroring, "mirror", lambda store, runs, *how: asked.append(([p.name for _, p in runs], *how)))
    monkeypatch.setenv("PIANO_WANDB", "1")
    store = build_store(tmp_path / "synthetic")
    for _ in range(2):
        run_batch([("ridge.symbolic", RIDGE, 0)], store)
    first, again = asked
    assert first == (["ridge.symbolic/0.float64-cpu"], "offline", 30.0)
    assert again[0] == [], "what stood is not trained, and was mirrored"


@pytest.mark.parametrize(("asked", "mode"), [("", None), ("off", None), ("Offline", "offline"), ("online", "online")])
def test_modes(asked, mode):
    assert mode_of(asked) == mode


def test_an_unknown_mode_is_named():
    with pytest.raises(MirrorError, match=r"PIANO_WANDB='onlin' must be one of \('offline', 'online'\)"):
        mode_of("onlin")
