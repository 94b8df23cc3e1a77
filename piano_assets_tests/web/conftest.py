"""The page's server on a free port, in a thread, with a real scoring process."""

import socket
import threading
import time
from contextlib import contextmanager

import pytest
import uvicorn

from piano_assets.web.app import app
from piano_assets.web.jobs import Jobs
from piano_assets.web.worker import Worker


@contextmanager
def served(jobs: Jobs):
    """The address of a server of `jobs`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app(jobs), host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(timeout=20)


def until(true, seconds=120.0):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def jobs(champion_root, tmp_path_factory):
    made = Jobs(tmp_path_factory.mktemp("uploads"), Worker(champion_root, 120.0, transcribe=False))
    yield made
    made.close()


@pytest.fixture(scope="module")
def address(jobs):
    with served(jobs) as found:
        yield found
