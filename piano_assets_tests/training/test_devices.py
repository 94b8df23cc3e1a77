"""One training on a device at a time, whoever is killed."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from piano_assets.training.devices import gpu_share, held

TWO = ["uuid-a", "uuid-b"]

HOLDER = """
import sys, time
from pathlib import Path
from piano_assets.training.devices import held

with held("cuda", print, lambda: ["uuid-a"], Path(sys.argv[1])) as device:
    print(device, flush=True)
    time.sleep(60)
"""


def take(folder: Path, asked: str = "cuda", uuids: list[str] = TWO, say=pytest.fail):
    return held(asked, say, lambda: uuids, folder, poll_s=0.01)


def test_two_trainings_take_two_devices_and_a_third_waits_and_says_so(tmp_path):
    said, done = [], threading.Event()

    def third() -> None:
        with take(tmp_path, say=said.append) as device:
            said.append(device)
        done.set()

    with take(tmp_path) as first:
        with take(tmp_path) as second:
            assert (first, second) == ("cuda:0", "cuda:1")
            thread = threading.Thread(target=third)
            thread.start()
            assert not done.wait(0.2)
        assert done.wait(10)
        thread.join()
    assert said == ["cuda:0, cuda:1 taken by other trainings: waiting for one of them", "cuda:1"]


def test_a_killed_holder_holds_nothing(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "cuda:0\n"
    waited = []

    def kill(text: str) -> None:
        waited.append(text)
        os.kill(holder.pid, signal.SIGKILL)

    with take(tmp_path, uuids=["uuid-a"], say=kill) as device:
        assert device == "cuda:0"
    assert len(waited) == 1
    assert holder.wait() == -signal.SIGKILL


def test_a_device_that_raised_is_free_again(tmp_path):
    with pytest.raises(TimeoutError, match="of the training"), take(tmp_path, uuids=["uuid-a"]):
        raise TimeoutError("of the training")
    with take(tmp_path, uuids=["uuid-a"]) as device:
        assert device == "cuda:0"


def test_devices_are_told_apart_by_what_they_are_not_by_their_number(tmp_path):
    """Two processes with other CUDA_VISIBLE_DEVICES both call theirs cuda:0."""
    with take(tmp_path, uuids=["uuid-a"]) as mine, take(tmp_path, uuids=["uuid-b"]) as yours:
        assert mine == yours == "cuda:0"
        with take(tmp_path, uuids=["uuid-b", "uuid-a", "uuid-c"]) as third:
            assert third == "cuda:2"


def test_a_named_device_is_the_one(tmp_path):
    with take(tmp_path, "cuda:1") as device:
        assert device == "cuda:1"
    with (
        pytest.raises(ValueError, match="'cuda:2' is not there: this process sees 2 CUDA devices"),
        take(tmp_path, "cuda:2"),
    ):
        pass


def test_the_cpu_is_nobodys(tmp_path):
    with held("cpu", pytest.fail, pytest.fail, tmp_path / "locks") as device:
        assert device == "cpu"
    assert not (tmp_path / "locks").exists()


def test_half_a_device_each_but_another_device_first(tmp_path, monkeypatch):
    monkeypatch.setenv("PIANO_GPU_SHARE", "0.5")
    with take(tmp_path) as a, take(tmp_path) as b, take(tmp_path) as c, take(tmp_path) as d:
        assert [a, b, c, d] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
        full = []
        with pytest.raises(KeyboardInterrupt), take(tmp_path, say=lambda text: interrupt(full, text)):
            pass
    assert len(full) == 1


def interrupt(said: list, text: str) -> None:
    said.append(text)
    raise KeyboardInterrupt


@pytest.mark.parametrize("share", ["0", "1.5", "all", "-1"])
def test_a_share_that_is_none_is_refused(share, monkeypatch):
    monkeypatch.setenv("PIANO_GPU_SHARE", share)
    with pytest.raises(ValueError, match=f"PIANO_GPU_SHARE='{share}' must be a number in"):
        gpu_share()


def test_thirds_are_three(tmp_path, monkeypatch):
    monkeypatch.setenv("PIANO_GPU_SHARE", str(1 / 3))
    one = ["uuid-a"]
    with take(tmp_path, uuids=one), take(tmp_path, uuids=one), take(tmp_path, uuids=one) as device:
        assert device == "cuda:0"
