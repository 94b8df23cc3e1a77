"""Scoring in a process of its own, so that a file that hangs, fills the memory or breaks a decoder takes only it along.

The process reads its champions once and scores file after file; when one takes too long or the process dies, a new one
is started for the next.
"""

import logging
import multiprocessing
import resource
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

MOST_MEMORY = 12 * 2**30
"""Bytes of address space of the scoring process."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Found:
    """What came of a file: its JSON and page, or why there are none."""

    scores: dict[str, Any] | None = None
    page: str | None = None
    refused: str | None = None


class Worker:
    """A process that scores files, one at a time.

    root: folder of the corpus whose champions score. seconds: a file may take. transcribe: see `api.score_file`.
    monitor: whether what is scored joins the table `monitoring`.
    """

    def __init__(self, root: Path, seconds: float, transcribe: bool | None = None, monitor: bool = False) -> None:
        self.root, self.seconds, self.transcribe, self.monitor = root, seconds, transcribe, monitor
        self._process: multiprocessing.process.BaseProcess | None = None
        self._connection: Connection | None = None
        self._stopping = threading.Lock()

    def score(self, path: Path, told: Callable[[str], None]) -> Found:
        """Score a file; whatever happens to the process, an answer comes. told: called with what is being done."""
        connection = self._ready()
        deadline = time.monotonic() + self.seconds
        try:
            connection.send(path)
            while connection.poll(max(0.0, deadline - time.monotonic())):
                answer = connection.recv()
                if isinstance(answer, Found):
                    return answer
                told(answer)
        except (EOFError, OSError) as error:
            self.stop()
            log.warning("%s: the scoring process ended (%s)", path.name, type(error).__name__)
            return Found(refused=f"{path.name}: the program that read it broke down. {_EXPORT}")
        self.stop()
        return Found(refused=f"{path.name}: it took over {self.seconds:g} s. Bring a shorter piece.")

    def stop(self) -> None:
        """End the process, whatever it does; may be called from another thread than the one that scores."""
        with self._stopping:  # each process is ended, and its connection closed, once
            process, connection = self._process, self._connection
            self._process = self._connection = None
        if process is not None:
            process.kill()
            process.join()
        if connection is not None:
            connection.close()

    def _ready(self) -> Connection:
        if self._connection is None or self._process is None or not self._process.is_alive():
            self.stop()
            context = multiprocessing.get_context("spawn")
            connection, other = context.Pipe()
            given = other, self.root, self.transcribe, self.monitor
            process = context.Process(target=_serve, args=given, daemon=True)
            process.start()
            other.close()
            self._connection, self._process = connection, process
            return connection
        return self._connection


_EXPORT = "Export it again, as MIDI or wav."


def _serve(connection: Connection, root: Path, transcribe: bool | None, monitor: bool) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    while True:
        try:
            path = connection.recv()
        except EOFError:
            return
        connection.send(_found(path, root, transcribe, connection.send, monitor))


def _found(
    path: Path, root: Path, transcribe: bool | None, told: Callable[[str], None], monitor: bool = False
) -> Found:
    from piano_assets.ensembles.champion_files import NoChampion
    from piano_assets.report.recording import page
    from piano_assets.scoring.api import score_beside, score_file
    from piano_assets.scoring.monitoring import keep
    from piano_assets.scoring.recordings import RecordingError
    from piano_assets.scoring.tell import as_json
    from piano_assets.store.parts import Store

    try:
        scores = score_file(path, root, transcribe, told)
        beside = score_beside(scores, root)
        found = as_json(scores, beside)
        if monitor:
            keep(Store(root), found)
        told("drawing")
        return Found(found, page(scores, beside))
    except (RecordingError, NoChampion) as error:
        return Found(refused=str(error))
    except MemoryError:
        return Found(refused=f"{path.name}: it needs more than {MOST_MEMORY / 2**30:.0f} GB. Bring a shorter piece.")
