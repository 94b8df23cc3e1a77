"""The queue behind the page: files wait in order, one is scored, and what came of each is kept until room is needed."""

import logging
import shutil
import threading
import uuid
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from piano_assets.web.worker import Found, Worker

State = Literal["waiting", "scoring", "scored", "refused"]
MOST_WAITING, MOST_KEPT = 200, 500
LONGEST_NAME = 120

log = logging.getLogger(__name__)


class QueueFull(RuntimeError):
    """More files wait than are accepted."""


@dataclass(frozen=True)
class Job:
    """One file: number as identifier, the name that it came with, and what has become of it."""

    number: str
    name: str
    path: Path
    state: State = "waiting"
    doing: str = ""
    found: Found | None = None


def plain_name(name: str) -> str:
    """A file name without folders, control characters and length: what a browser sends may be anything.

    >>> plain_name("../../etc/passwd\\n")
    'passwd'
    """
    last = name.replace("\\", "/").rsplit("/", 1)[-1]
    kept = "".join(c for c in last if c.isprintable()).strip().lstrip(".")
    if len(kept) > LONGEST_NAME:  # the end says what it is
        kept = kept[: LONGEST_NAME - 20] + kept[-20:]
    return kept or "recording"


class Jobs:
    """All files of one page. Files lie in `folder` while they wait, and are removed once they are scored."""

    def __init__(self, folder: Path, worker: Worker) -> None:
        self.folder, self.worker = folder, worker
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[str] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="scoring", daemon=True)
        self._thread.start()

    def place(self, name: str) -> Job:
        """A job with room for its file, not yet in the queue.

        Raises:
            QueueFull: too many wait.
        """
        with self._changed:
            if len(self._waiting) >= MOST_WAITING:
                raise QueueFull(f"{MOST_WAITING} files are waiting already. Come back when some are scored.")
        number = uuid.uuid4().hex
        place = self.folder / number
        place.mkdir(parents=True)
        return Job(number, plain_name(name), place / plain_name(name))

    def submit(self, job: Job) -> None:
        """Queue a job whose file is there."""
        with self._changed:
            self._jobs[job.number] = job
            self._waiting.append(job.number)
            self._forget()
            self._changed.notify_all()

    def drop(self, job: Job) -> None:
        """Remove the file of a job."""
        shutil.rmtree(job.path.parent, ignore_errors=True)

    def get(self, number: str) -> Job | None:
        with self._changed:
            return self._jobs.get(number)

    def told(self) -> list[dict[str, Any]]:
        """All jobs in words, the newest first."""
        with self._changed:
            ahead = {number: place for place, number in enumerate(self._waiting)}
            jobs = list(self._jobs.values())[::-1]
        return [
            {
                "number": job.number,
                "name": job.name,
                "state": job.state,
                "doing": job.doing,
                "ahead": ahead.get(job.number, 0),
                "refused": None if job.found is None else job.found.refused,
            }
            for job in jobs
        ]

    def close(self) -> None:
        """Stop scoring; what waits is given up."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self.worker.stop()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = self._put(self._jobs[self._waiting.popleft()], state="scoring")

            def doing(text: str, number: str = job.number) -> None:
                with self._changed:
                    self._put(self._jobs[number], doing=text)

            found = self.worker.score(job.path, doing)
            log.info("%s: %s", job.name, found.refused or "scored")
            with self._changed:
                state: State = "refused" if found.refused else "scored"
                self._put(self._jobs[job.number], state=state, doing="", found=found)
            self.drop(job)

    def _put(self, job: Job, **changes: Any) -> Job:
        self._jobs[job.number] = replace(job, **changes)
        return self._jobs[job.number]

    def _forget(self) -> None:
        """Leave out the oldest results beyond `MOST_KEPT`."""
        done = [n for n, job in self._jobs.items() if job.state in ("scored", "refused")]
        for number in done[: max(0, len(self._jobs) - MOST_KEPT)]:
            del self._jobs[number]
