"""The scoring process: what hangs, breaks it or fills the memory takes only itself along."""

import os
import signal
import threading

from piano_assets.web import worker as module
from piano_assets.web.worker import Worker


def test_a_file_that_takes_too_long_is_given_up_and_the_next_is_scored(champion_root, midi_files):
    worker = Worker(champion_root, seconds=0.5)
    try:
        assert worker.score(midi_files[0], lambda _: None).refused == (
            f"{midi_files[0].name}: it took over 0.5 s. Bring a shorter piece."
        )
        worker.seconds = 120.0
        told = []
        found = worker.score(midi_files[0], told.append)
        assert found.refused is None
        assert told[0] == f"reading {midi_files[0].name}"
        assert told[-1] == "drawing"
    finally:
        worker.stop()


def test_a_process_that_dies_is_replaced(champion_root, midi_files):
    worker = Worker(champion_root, seconds=120.0)
    try:
        assert worker.score(midi_files[0], lambda _: None).refused is None
        process = worker._process

        def kill(_):
            os.kill(process.pid, signal.SIGKILL)

        killed = worker.score(midi_files[1], kill)
        assert killed.refused.startswith(f"{midi_files[1].name}: the program that read it broke down.")
        assert worker.score(midi_files[1], lambda _: None).refused is None
        assert worker._process.pid != process.pid
    finally:
        worker.stop()


def test_the_memory_of_the_process_is_limited(champion_root, midi_files, monkeypatch):
    answers = []

    class Connection:
        def recv(self):
            if answers:
                raise EOFError
            return midi_files[0]

        def send(self, answer):
            answers.append(answer)

    limits = []
    monkeypatch.setattr(module.resource, "setrlimit", lambda what, limit: limits.append((what, limit)))
    monkeypatch.setattr("piano_assets.scoring.api.score_file", lambda *_: (_ for _ in ()).throw(MemoryError))
    module._serve(Connection(), champion_root, None, False)
    assert limits == [(module.resource.RLIMIT_AS, (module.MOST_MEMORY, module.MOST_MEMORY))]
    assert answers[0].refused.endswith("it needs more than 12 GB. Bring a shorter piece.")


def test_stopping_ends_what_is_under_way(champion_root, midi_files):
    worker = Worker(champion_root, seconds=120.0)
    stopper = threading.Timer(0.3, worker.stop)
    stopper.start()
    found = worker.score(midi_files[0], lambda _: None)
    stopper.join()
    assert found.refused is not None
    assert worker._process is None
