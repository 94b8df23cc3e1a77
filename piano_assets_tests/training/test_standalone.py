"""`python -m piano_assets.training` on a machine that has only the training packages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from piano_assets.catalogue.trial import IllegalTrial, as_dict, vary
from piano_assets.store.parts import Store
from piano_assets.training.__main__ import main, read_trials
from piano_assets.training.data import done
from piano_assets_tests.training.tiny import AST, RIDGE, build_store

pytestmark = pytest.mark.filterwarnings("ignore:n_quantiles")

ABSENT = ("dagster", "duckdb", "librosa", "statsmodels", "matplotlib", "numba", "soundfile", "mido")

BLOCKER = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""


def write_trials(path: Path, *entries: tuple) -> Path:
    path.write_text(json.dumps([{"config": c, "seed": s, "trial": as_dict(t)} for c, t, s in entries]))
    return path


def test_it_trains_without_the_rest_of_the_project(tmp_path):
    build_store(tmp_path / "data")
    trials = write_trials(tmp_path / "trials.json", ("ridge.symbolic", RIDGE, 0), ("ast.reference@smoke", AST, 0))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCKER.format(absent=ABSENT))
    path = os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).parents[2])])
    blocked = subprocess.run(
        [sys.executable, "-c", "import duckdb"], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert "No module named 'duckdb'" in blocked.stderr
    command = [sys.executable, "-m", "piano_assets.training", "--trials", trials, "--data", tmp_path / "data"]
    ran = subprocess.run(
        [*command, "--out", tmp_path / "out"], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()
    assert "0/2 ridge.symbolic|0: 3 of 3 folds" in said
    assert any(line.startswith("1/2 ridge.symbolic seed 0: finished in") for line in said)
    assert said[-1].startswith("2/2 ast.reference@smoke seed 0: finished in")
    out = Store(tmp_path / "out", shipped=tmp_path / "data")
    assert done(RIDGE, "ridge.symbolic", 0, out) is not None
    assert done(AST, "ast.reference@smoke", 0, out) is not None
    # The data folder was only read.
    assert list(Store(tmp_path / "data").parts("predictions")) == []


def test_a_second_call_reuses(tmp_path, capsys):
    build_store(tmp_path / "data")
    trials = write_trials(tmp_path / "trials.json", ("ridge.symbolic", RIDGE, 0))
    arguments = ["--trials", str(trials), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "data")]
    assert main(arguments) == 0
    assert main(arguments) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "1/1 ridge.symbolic seed 0: reused"


def test_what_fails_is_said_and_the_rest_is_trained(tmp_path, capsys):
    build_store(tmp_path / "data")
    trials = write_trials(tmp_path / "trials.json", ("a", vary(RIDGE, {"label_rule": "published"}), 0), ("b", RIDGE, 0))
    assert main(["--trials", str(trials), "--data", str(tmp_path / "data"), "--out", str(tmp_path / "data")]) == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("1/2 a|0 failed: FileNotFoundError: part labels/published is missing")
    assert said[-1].startswith("2/2 b seed 0: finished in")


def test_bad_trial_files_are_refused(tmp_path):
    path = tmp_path / "trials.json"
    path.write_text('{"config": "a"}')
    with pytest.raises(ValueError, match="must be a list of trials, is a dict"):
        read_trials(path)
    path.write_text('[{"config": "a", "seed": 0}]')
    with pytest.raises(ValueError, match="entry 0: must have the fields config, seed and trial"):
        read_trials(path)
    write_trials(path, ("a", RIDGE, 0), ("b", vary(RIDGE, {"model.regressor": "rigde"}), 0))
    with pytest.raises(IllegalTrial, match="rigde"):
        read_trials(path)
