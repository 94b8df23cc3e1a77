"""The way to a borrowed GPU and back: what travels is enough, and what comes back counts at home."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from benchmarks import gpu
from piano_assets.defs import planner
from piano_assets.defs.data import PianoData
from piano_assets.defs.features import make_sequence
from piano_assets.defs.quickstart import stages
from piano_assets.features.spectrograms import spectrogram_file
from piano_assets.store.parts import Store
from piano_assets_tests.training.test_standalone import BLOCKER

CONFIGS = ["ast.reference@smoke", "family.note_transformer@smoke"]
ABSENT = ("dagster", "duckdb", "soundfile", "mido", "skops", "lightgbm", "rich", "click")
"""What such a machine lacks."""


@pytest.fixture(scope="module")
def home(tmp_path_factory, tiny_dir) -> Store:
    """A corpus folder with everything that networks read, made as `make run` makes it."""
    root = tmp_path_factory.mktemp("data")
    (root / "synthetic").mkdir()
    os.symlink(tiny_dir, root / "synthetic" / "source")
    piano = PianoData(root=str(root), corpus="synthetic")
    made = stages(dg.DagsterInstance.ephemeral(), piano, list, lambda _: None)
    assert [next(made).name for _ in range(2)] == ["corpus", "sound"]
    store = piano.store()
    for name in ("log_mel_128", "note_events", "mel_128+tempo0.9"):
        make_sequence(store, name, ["modal"], lambda _: lambda done, total: None)
    return store


@pytest.mark.slow
@pytest.mark.parametrize("part", ["log_mel_128.modal", "note_events.midi", "mel_128+tempo0.9.modal"])
def test_a_sequence_made_elsewhere_is_the_one_at_home(home, tmp_path, part):
    key = gpu.recipe(home, part)
    assert key == home.require("spectrograms", part).key
    there = Store(tmp_path)
    for table in ("notes", "controls"):
        there.write(table, home.read(table), key="k")
    gpu.make_sequence(tmp_path, part, key, 2)
    assert there.read("spectrograms", part).equals(home.read("spectrograms", part))
    got, want = (np.load(spectrogram_file(s.root, *part.rsplit(".", 1))) for s in (there, home))
    assert np.array_equal(got, want)


@pytest.mark.slow
def test_there_and_back(home, tmp_path):
    travel, out, work = (tmp_path / n for n in ("travel", "out", "work"))
    packed = gpu.pack(home, CONFIGS, 1, travel)
    assert sorted(packed) == [(config, 0) for config in sorted(CONFIGS)]
    assert not list(travel.rglob("*.npy"))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(BLOCKER.format(absent=ABSENT))
    path = os.pathsep.join([str(tmp_path / "site"), str(Path(__file__).parents[1])])
    command = [sys.executable, "-m", "benchmarks.gpu", "run", "--travel", travel, "--work", work, "--out", out]
    command += ["--device", "cpu", "--processes", "1", "--stages", "build", "train", "collect"]
    command += ["--checkpoints", CONFIGS[0]]
    ran = subprocess.run(command, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "== build: 2 sequences made" in ran.stdout
    assert "== collect: 2 partitions collected, 0 left" in ran.stdout
    tasks = planner.owed(home, CONFIGS, 1)
    assert len(planner.missing(home, tasks)) == 2
    assert gpu.unpack(out, home) == 2
    assert planner.missing(home, tasks) == [], "made elsewhere, and the keys fit here"
    assert (home.root / "checkpoints" / home.require("runs", _run(tasks[0])).name / "fold0" / "record.json").is_file()
    # What stands at home is not packed again, and what was collected does not come twice.
    assert gpu.pack(home, CONFIGS, 1, travel) == []
    assert json.loads((travel / "trials.json").read_text()) == []
    assert gpu.collect(work / "percepiano", work, tmp_path, [], 6) == (0, 0)


def _run(task: planner.Task) -> str:
    return f"{task.config}/{task.seed}.float32-cpu"


def partition(root: Path, name: str, size: int) -> None:
    """Files as a finished partition has them."""
    for table in gpu.RESULTS:
        path = Store(root).path(table, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size))


@pytest.fixture
def finished(tmp_path, monkeypatch) -> Path:
    root = tmp_path / "percepiano"
    for i in range(4):
        partition(root, f"a.b@full/{i}.bfloat16-cuda", 100_000)
    monkeypatch.setattr(gpu, "PIECE", 2**20)
    runs = [type("Part", (), {"name": f"a.b@full/{i}.bfloat16-cuda"}) for i in range(4)]
    monkeypatch.setattr(Store, "parts", lambda self, table: iter(runs))
    return root


def test_pieces_stay_small_and_the_rest_comes_next_time(finished, tmp_path):
    out, back = tmp_path / "out", Store(tmp_path / "back")
    out.mkdir()
    back.root.mkdir()
    # 4 x 404 kB with their headers; two pieces of 1 MB, one of them kept free for tar's own blocks.
    assert gpu.collect(finished, tmp_path, out, [], 2) == (2, 2)
    sizes = [p.stat().st_size for p in sorted(out.iterdir())]
    assert all(s <= 2**20 for s in sizes)
    assert len(sizes) <= 2
    assert gpu.unpack(out, back) == 2
    again = tmp_path / "again"
    again.mkdir()
    assert gpu.collect(finished, tmp_path, again, [], 2) == (2, 0)
    assert gpu.unpack(again, back) == 2
    for table in gpu.RESULTS:
        for i in range(4):
            path = Store(finished).path(table, f"a.b@full/{i}.bfloat16-cuda")
            assert (back.root / path.relative_to(finished)).read_bytes() == path.read_bytes()


def test_only_results_are_unpacked(tmp_path):
    (tmp_path / "x").write_text("x")
    store = Store(tmp_path / "back")
    store.root.mkdir()
    with pytest.raises(ValueError, match=r"no collected\.tar"):
        gpu.unpack(tmp_path, store)
    for name in ("parts/labels/clean.parquet", "parts/runs/../../x.parquet", "/etc/x"):
        with tarfile.open(tmp_path / "collected.tar.0", "w") as tar:
            tar.add(tmp_path / "x", name)
        with pytest.raises(ValueError, match="neither a part"):
            gpu.unpack(tmp_path, store)
    assert list(store.root.iterdir()) == []


def test_training_stops_in_time():
    assert gpu.call("timeit -n 1 -r 1 -s 'import time' 'time.sleep(60)'", 0.5) == 0
    assert gpu.call("timeit --nonsense", None) == 2
