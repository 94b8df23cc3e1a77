"""The page's server by its requests: what is taken, refused and shown."""

import socket

import pytest
import requests

from piano_assets.web import app as module
from piano_assets.web import jobs as queue
from piano_assets.web.jobs import Jobs, plain_name
from piano_assets.web.worker import Found
from piano_assets_tests.web.conftest import served, until

PAGE = {"x-piano": "page"}


def send(address, name, content, headers=PAGE):
    return requests.post(f"{address}/recordings", params={"name": name}, data=content, headers=headers, timeout=30)


def state(address, number):
    (job,) = [j for j in requests.get(f"{address}/recordings", timeout=30).json() if j["number"] == number]
    return job


def test_a_recording_is_scored_shown_and_removed(address, jobs, midi_files):
    number = send(address, midi_files[0].name, midi_files[0].read_bytes()).json()["number"]
    until(lambda: state(address, number)["state"] == "scored")
    told = requests.get(f"{address}/recordings/{number}/json", timeout=30).json()
    assert told["recording"] == midi_files[0].name.strip()
    assert len(told["scores"]) == 19
    page = requests.get(f"{address}/recordings/{number}/page", timeout=30)
    assert "What in the playing moved each score" in page.text
    assert "sandbox" in page.headers["content-security-policy"]
    until(lambda: not any(jobs.folder.iterdir()))


def test_what_holds_no_music_is_refused_with_reasons(address):
    number = send(address, "picture.mp3", b"\x89PNG\r\n\x1a\n" + bytes(5000)).json()["number"]
    until(lambda: state(address, number)["state"] == "refused")
    assert "neither MIDI nor sound" in state(address, number)["refused"]
    answer = requests.get(f"{address}/recordings/{number}/page", timeout=30)
    assert (answer.status_code, "neither MIDI nor sound" in answer.json()["error"]) == (404, True)
    assert requests.get(f"{address}/recordings/none/page", timeout=30).status_code == 404


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\music\\a.mid", "a.mid"),
        ("..", "recording"),
        (".hidden.mid", "hidden.mid"),
        ("a\x00b\n.mid", "ab.mid"),
        ("x" * 500 + ".flac", "x" * 100 + "x" * 15 + ".flac"),
        ("", "recording"),
    ],
)
def test_names_lead_nowhere(sent, kept):
    assert plain_name(sent) == kept


def test_uploads_lie_in_folders_of_their_own(address, jobs, tmp_path):
    before = set(tmp_path.parent.rglob("*"))
    number = send(address, "../../../escaped.mid", b"no midi").json()["number"]
    until(lambda: state(address, number)["state"] == "refused")
    assert state(address, number)["name"] == "escaped.mid"
    assert not [p for p in set(tmp_path.parent.rglob("*")) - before if p.name == "escaped.mid"]


def test_other_origins_and_names_are_refused(address):
    assert send(address, "a.mid", b"x", headers={}).status_code == 403
    port = int(address.rsplit(":", 1)[1])
    answer = requests.get(address, headers={"host": f"evil.example:{port}"}, timeout=30)
    assert answer.status_code == 400
    assert requests.get(address, headers={"host": f"localhost:{port}"}, timeout=30).status_code == 200


def test_a_file_that_is_too_large_is_cut_short(address, jobs, monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    answer = send(address, "large.wav", bytes(5000))
    assert (answer.status_code, "large.wav has over 0 MB" in answer.json()["error"]) == (413, True)
    until(lambda: not any(jobs.folder.iterdir()))


def test_a_disk_that_is_almost_full_takes_nothing(address, monkeypatch):
    monkeypatch.setattr(module, "LEAST_FREE", 2**60)
    assert send(address, "a.mid", b"x").status_code == 507


def test_a_file_that_breaks_off_is_dropped(address, jobs):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as half:
        half.sendall(
            f"POST /recordings?name=half.mid HTTP/1.1\r\nhost: {host}\r\nx-piano: page\r\n"
            "content-length: 100000\r\n\r\nMThd".encode()
        )
        until(lambda: any(jobs.folder.iterdir()))
    until(lambda: not any(jobs.folder.iterdir()))
    assert "half.mid" not in [j["name"] for j in jobs.told()]


class Slow:
    """In place of the scoring process: waits for leave, then says what it was given."""

    def __init__(self, leave):
        self.leave, self.seen = leave, []

    def score(self, path, told):
        told("listening")
        self.leave.wait(60)
        self.seen.append(path.read_bytes())
        return Found({"recording": path.name}, f"<p>{path.name}</p>")

    def stop(self):
        self.leave.set()


def test_fifty_at_once_are_queued_and_none_is_lost(tmp_path, monkeypatch):
    import threading
    from concurrent.futures import ThreadPoolExecutor

    worker = Slow(threading.Event())
    jobs = Jobs(tmp_path, worker)
    with served(jobs) as address, ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(lambda k: send(address, f"take{k}.mid", f"number {k}".encode()), range(50)))
        assert {a.status_code for a in answers} == {202}
        told = requests.get(f"{address}/recordings", timeout=30).json()
        assert sorted(j["ahead"] for j in told if j["state"] == "waiting") == list(range(49))
        assert [j["doing"] for j in told if j["state"] == "scoring"] == ["listening"]
        monkeypatch.setattr(queue, "MOST_WAITING", 49)
        full = send(address, "late.mid", b"x")
        assert (full.status_code, "49 files are waiting already" in full.json()["error"]) == (503, True)
        worker.leave.set()
        until(lambda: all(j["state"] == "scored" for j in requests.get(f"{address}/recordings", timeout=30).json()))
        assert sorted(worker.seen) == sorted(f"number {k}".encode() for k in range(50))
        for answer in answers:
            number = answer.json()["number"]
            assert requests.get(f"{address}/recordings/{number}/page", timeout=30).status_code == 200


def test_old_results_make_room(tmp_path, monkeypatch):
    import threading

    leave = threading.Event()
    leave.set()
    monkeypatch.setattr(queue, "MOST_KEPT", 3)
    jobs = Jobs(tmp_path, Slow(leave))
    for k in range(6):
        job = jobs.place(f"take{k}.mid")
        job.path.write_bytes(b"x")
        jobs.submit(job)
        until(lambda number=job.number: jobs.get(number).state == "scored")
    assert [j["name"] for j in jobs.told()] == ["take5.mid", "take4.mid", "take3.mid"]
    jobs.close()
