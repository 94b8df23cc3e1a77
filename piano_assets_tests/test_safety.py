"""What must never be: code in data, private things in what is kept, doors that stand open."""

import ast
import json
import os
import pickle
import subprocess
from pathlib import Path

import dagster as dg
import numpy as np
import pytest
import yaml

from piano_assets.features.spectrograms import open_spectrograms
from piano_assets.training import provenance
from piano_assets_tests.training.tiny import build_store

pytestmark = pytest.mark.filterwarnings("ignore:n_quantiles")

ROOT = Path(__file__).parents[1]
SOURCES = sorted(p for room in ("piano_assets", "benchmarks") for p in (ROOT / room).rglob("*.py"))

UNPICKLERS = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "shelve", "marshal", "jsonpickle"}
RUN_WHAT_THEY_READ = {"joblib.load", "pd.read_pickle", "yaml.load", "yaml.unsafe_load", "yaml.full_load"}
TELL_WHO_RUNS = {"getpass", "pwd", "socket"}
TELL = {"platform.node", "platform.uname", "os.uname", "os.getlogin", "Path.home", "os.path.expanduser"}


def findings(source: str, room: str = "piano_assets") -> list[str]:
    """What a module does that could run code from data, or learn whose machine this is."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [a.name for a in node.names] + ([node.module] if isinstance(node, ast.ImportFrom) else [])
            tops = {str(n).partition(".")[0] for n in names}
            found += sorted(tops & UNPICKLERS) + (sorted(tops & TELL_WHO_RUNS) if room == "piano_assets" else [])
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            given = {k.arg: ast.unparse(k.value) for k in node.keywords}
            if called in RUN_WHAT_THEY_READ or called in ("eval", "exec") or called.endswith(".to_pickle"):
                found.append(called)
            if called == "torch.load" and given.get("weights_only") != "True":
                found.append(called)
            if given.get("allow_pickle", "False") != "False":
                found.append(f"{called} with pickles")
            if room == "piano_assets" and called in TELL:
                found.append(called)
    return found


@pytest.mark.parametrize("path", SOURCES, ids=[str(p.relative_to(ROOT)) for p in SOURCES])
def test_no_module_runs_what_it_reads_or_asks_who_runs_it(path):
    assert findings(path.read_text(encoding="utf-8"), path.relative_to(ROOT).parts[0]) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "import torch\ntorch.load('x')",
        "torch.load('x', weights_only=False)",
        "joblib.load('x')",
        "np.load('x', allow_pickle=True)",
        "frame.to_pickle('x')",
        "yaml.load(text)",
        "eval('1')",
        "import getpass",
        "platform.node()",
    ],
)
def test_the_search_finds_each_of_them(source):
    assert findings(source)


def test_a_pickle_in_the_place_of_frames_is_refused(tmp_path):
    """numpy would unpickle an array of objects."""
    (tmp_path / "spectrograms").mkdir()
    np.save(tmp_path / "spectrograms" / "mel_128.modal.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"[Pp]ython objects|pickle"):
        open_spectrograms(tmp_path, "mel_128", "modal")
    (tmp_path / "spectrograms" / "mel_128.modal.npy").write_bytes(pickle.dumps([1]))
    with pytest.raises(ValueError, match=r"pickle|magic"):
        open_spectrograms(tmp_path, "mel_128", "modal")


PRIVATE = {
    "HOME": "/home/canary-clara",
    "USER": "canary-clara",
    "LOGNAME": "canary-clara",
    "WANDB_API_KEY": "canary-key",
    "AWS_SECRET_ACCESS_KEY": "canary-secret",
    "https_proxy": "http://canary:canary-password@127.0.0.1:9",
    "PIANO_NOTE": "canary-note",
}


def test_nothing_private_lands_in_parts_records_or_dagsters_log(tmp_path, monkeypatch, capfd):
    """A batch under an environment full of secrets, from a checkout whose remote holds a token."""
    from piano_assets.defs import planner
    from piano_assets.defs.data import PianoData
    from piano_assets.defs.training import batch_config, sweep

    for name, value in PRIVATE.items():
        monkeypatch.setenv(name, value)
    checkout = repository(tmp_path / "checkout")
    state = provenance.git_state.__wrapped__
    monkeypatch.setattr(provenance, "git_state", lambda: state(checkout))
    monkeypatch.setattr(provenance, "environment", provenance.environment.__wrapped__)
    store = build_store(tmp_path / "data" / "synthetic")
    piano = PianoData(root=str(tmp_path / "data"), corpus="synthetic")
    tasks = planner.tasks_of(["family.ridge|0"])
    with dg.instance_for_test() as instance:
        config = batch_config(tasks)
        done = sweep.execute_in_process(instance=instance, resources={"piano": piano}, run_config=config)
        assert done.success
        log = "\n".join(dg.serialize_value(entry) for entry in instance.all_logs(done.run_id))
        log += repr(instance.get_run_by_id(done.run_id))
    assert "family.ridge|0" in log
    said = "".join(capfd.readouterr())
    runs = store.read("runs")
    assert set(runs["git_commit"]) == {git(checkout, "rev-parse", "HEAD")}
    kept = [store.read(t).to_csv() + repr([p.record for p in store.parts(t)]) for t in ("runs", "members", "history")]
    kept += [p.read_text() for p in store.root.rglob("*.json")]
    assert any('"trial_key"' in text for text in kept), "records of checkpoints are among them"
    for text in (log, said, *kept):
        assert "canary" not in text


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=canary-clara", "-c", "user.email=canary@example.org"]
    return subprocess.run(
        ["git", *who, "-C", folder, *words], check=True, capture_output=True, text=True
    ).stdout.strip()


def repository(folder: Path) -> Path:
    folder.mkdir()
    git(folder, "init", "-q", "-b", "canary-branch")
    git(folder, "remote", "add", "origin", "https://canary-user:canary-token@example.org/canary.git")
    (folder / "code.py").write_text("a = 1\n")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "canary")
    return folder


def test_a_run_says_its_commit_and_whether_the_checkout_was_changed(tmp_path):
    state = provenance.git_state.__wrapped__
    folder = repository(tmp_path / "checkout")
    commit = git(folder, "rev-parse", "HEAD")
    assert state(folder) == (commit, False)
    (folder / "data.csv").write_text("files that git does not know change no code")
    assert state(folder) == (commit, False)
    (folder / "code.py").write_text("a = 2\n")
    assert state(folder) == (commit, True)
    git(folder, "commit", "-q", "-a", "-m", "more")
    assert state(folder) == (git(folder, "rev-parse", "HEAD"), False)
    assert state(folder)[0] != commit


def test_outside_a_checkout_commit_and_changes_are_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    assert provenance.git_state.__wrapped__(tmp_path) == (None, None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.git_state.__wrapped__(ROOT) == (None, None), "no git command"


def test_environment_and_hardware_are_versions_and_a_processor():
    import platform

    import torch

    versions = json.loads(provenance.environment())
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == torch.__version__.partition("+")[0] or versions["torch"] == torch.__version__
    assert {"numpy", "pandas", "pyarrow", "scikit-learn", "lightgbm"} <= set(versions)
    assert set(versions) <= {"python", *provenance.PACKAGES}
    assert provenance.hardware("cpu").endswith(f"({platform.machine()})")
    assert os.uname().nodename not in provenance.hardware("cpu")


def test_the_ui_listens_on_loopback_alone_and_nothing_is_reported_to_its_makers():
    shown = subprocess.run(["make", "-n", "ui"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    (started,) = [line.split() for line in shown.splitlines() if "dagster dev" in line]
    assert started[started.index("--host") + 1] == "127.0.0.1"
    config = yaml.safe_load((ROOT / "dagster.yaml").read_text())
    assert config["telemetry"]["enabled"] is False
