"""Recordings that somebody lays into the inbox: a partition each, scored by the champions that hold a title."""

import json
import re
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg

from piano_assets.defs.corpus import key
from piano_assets.defs.data import PianoData, result, spec
from piano_assets.ensembles.champion_files import champion_home, current_champion, current_key
from piano_assets.store.parts import file_sha256, read_part, write_file

GROUP = "scoring"
RECORDINGS = dg.DynamicPartitionsDefinition(name="recording")
CHAMPIONS_ASKED = ("performance", "sound")
"""Titles whose champions score recordings."""
SECONDS = 1800.0
"""A recording may take; an hour of sound is transcribed in that time where a GPU is at hand."""
_STILL_S = 5.0
"""A file that changed since is still being written."""
_LONGEST = 60


class InboxError(ValueError):
    """A partition whose file is not in the inbox."""


def inbox(piano: PianoData) -> Path:
    """The folder that is watched: `data/inbox`, for all corpora."""
    return Path(piano.root) / "inbox"


def files_in(folder: Path) -> tuple[list[Path], list[Path]]:
    """(files, what is passed over: links and folders). Hidden files are what programs write before they are done."""
    if not folder.is_dir():
        return [], []
    seen = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files = [path for path in seen if path.is_file() and not path.is_symlink()]
    return files, [path for path in seen if path not in files]


def partition_of(path: Path) -> str:
    """`<beginning of the content's hash>.<name>`: the same music under one name is one recording."""
    return f"{file_sha256(path)[:12]}.{_plain(path)}"


def _plain(path: Path) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "_", path.name).strip("_")[:_LONGEST] or "recording"


def file_of(folder: Path, partition: str) -> Path:
    """The file of a partition.

    Raises:
        InboxError: it is not in the inbox.
    """
    name = partition.split(".", 1)[-1]
    for path in files_in(folder)[0]:
        if _plain(path) == name and partition_of(path) == partition:
            return path
    raise InboxError(f"{folder}: no file has partition {partition!r}; lay it there again to score it")


@dg.multi_asset(
    specs=[spec(table, group=GROUP, deps=["champions"]) for table in ("recordings", "recording_scores")],
    partitions_def=RECORDINGS,
    name="recordings",
)
def recordings(context: dg.AssetExecutionContext, piano: PianoData):
    """Score a recording of the inbox; its page is `data/<corpus>/recordings/<partition>.html`.

    What holds no music is a row with its reason, and no failure. The file stays where it is.
    """
    from piano_assets.scoring.tables import recording_row, score_rows
    from piano_assets.web.worker import Worker

    store, partition = piano.store(), context.partition_key
    for title in CHAMPIONS_ASKED:
        current_champion(store.root, title)  # without one nobody is refused: the run says how it is made
    champions = [current_key(champion_home(store.root, title)) for title in CHAMPIONS_ASKED]
    wanted = key("scoring", partition, *champions)
    page = store.root / "recordings" / f"{partition}.html"
    part = store.part("recordings", partition, key=wanted)
    scores = store.part("recording_scores", partition, key=wanted)
    made = part is None or scores is None
    if part is None or scores is None:
        path = file_of(inbox(piano), partition)
        worker = Worker(store.root, SECONDS)
        try:
            found = worker.score(path, context.log.info)
        finally:
            worker.stop()
        told, at = found.scores, datetime.now(UTC)
        if found.page is not None:
            write_file(page, found.page.encode())
        row = recording_row(partition, path.name, file_sha256(path), at, told, found.refused)
        scores = store.write("recording_scores", score_rows(partition, told), key=wanted, name=partition)
        part = store.write("recordings", row, key=wanted, name=partition)
    told_of = read_part(part).to_pandas().iloc[0]
    reason = {} if told_of["status"] == "scored" else {"reason": told_of["reason"]}
    shown = {"page": dg.MetadataValue.path(str(page))} if page.is_file() else {}
    yield result(part, made, "recordings", status=told_of["status"], **reason, **shown)
    yield result(scores, made)


score_recording = dg.define_asset_job(
    "score_recording",
    selection=dg.AssetSelection.assets("recordings", "recording_scores"),
    description="Score one recording of the inbox.",
)


@dg.sensor(
    job=score_recording,
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Scores what is laid into data/inbox; a file that is still being written waits.",
)
def watch_inbox(context: dg.SensorEvaluationContext, piano: PianoData):
    """Request a run for each new file that has not changed between two looks."""
    files, passed_over = files_in(inbox(piano))
    before: dict[str, list[float]] = json.loads(context.cursor or "{}")
    now, requests, new = {}, [], []
    for path in files:
        state = path.stat()
        sign = [state.st_size, state.st_mtime]
        done = before.get(path.name, [])[2:] == [1]
        still = before.get(path.name, [])[:2] == sign and time.time() - state.st_mtime >= _STILL_S
        if still and not done:
            partition = partition_of(path)
            new.append(partition)
            requests.append(dg.RunRequest(run_key=partition, partition_key=partition))
        now[path.name] = [*sign, int(still)]
    for path in passed_over:
        context.log.warning(f"{path.name} is a link or a folder: only files are scored")
    context.update_cursor(json.dumps(now))
    if not requests:
        waiting = sum(1 for sign in now.values() if not sign[2])
        return dg.SkipReason(f"{len(files)} recordings, {waiting} of them still being written")
    return dg.SensorResult(
        run_requests=requests, dynamic_partitions_requests=[RECORDINGS.build_add_request(sorted(set(new)))]
    )


ASSETS = [recordings]
JOBS = [score_recording]
SENSORS = [watch_inbox]
