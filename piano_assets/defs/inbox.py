"""Recordings that somebody lays into the inbox: a partition each, scored by the champions that hold a title."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pandas as pd

from piano_assets.defs.corpus import key
from piano_assets.defs.data import PianoData, result, spec
from piano_assets.ensembles.champion_files import beside_champion, champion_home, current_champion, current_key
from piano_assets.ensembles.titles import TITLES
from piano_assets.scoring.tables import recording_id, recording_row, score_rows
from piano_assets.store.parts import Store, file_sha256, read_part, write_file

GROUP = "scoring"
RECORDINGS = dg.DynamicPartitionsDefinition(name="recording")
SECONDS = 1800.0
"""A recording may take; an hour of sound is transcribed in that time where a GPU is at hand."""
_STILL_S = 5.0
"""A file that changed since is still being written."""


_TABLES = ("recordings", "recording_scores", "monitoring")


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
    """The partition of a file."""
    return recording_id(path.name, file_sha256(path))


def file_of(folder: Path, partition: str) -> Path:
    """The file of a partition.

    Raises:
        InboxError: it is not in the inbox.
    """
    named = (path for path in files_in(folder)[0] if recording_id(path.name, partition) == partition)
    for path in named:  # files of other names need not be read
        if partition_of(path) == partition:
            return path
    raise InboxError(f"{folder}: no file has partition {partition!r}; lay it there again to score it")


@dg.multi_asset(
    specs=[spec(table, group=GROUP, deps=["champions"]) for table in _TABLES],
    partitions_def=RECORDINGS,
    name="recordings",
)
def recordings(context: dg.AssetExecutionContext, piano: PianoData):
    """Score a recording of the inbox; its page is `data/<corpus>/recordings/<partition>.html`.

    What holds no music is a row with its reason, and no failure. The file stays where it is.
    """
    from piano_assets.scoring.api import titles_asked
    from piano_assets.scoring.monitoring import monitoring_rows
    from piano_assets.web.worker import Worker

    store, partition = piano.store(), context.partition_key
    titles = titles_asked()
    for title in titles:
        current_champion(store.root, title)  # without one nobody is refused: the run says how it is made
    # That of sound is asked whether a sound is strange, whoever scores it.
    champions = [current_key(champion_home(store.root, title)) for title in dict.fromkeys((*titles, "sound"))]
    beside = [beside_champion(store.root, title) for title in titles]
    wanted = key("scoring", partition, *champions, *(folder.name for folder in beside if folder is not None))
    page = store.root / "recordings" / f"{partition}.html"
    standing = {table: store.part(table, partition, key=wanted) for table in _TABLES}
    parts = {table: part for table, part in standing.items() if part is not None}
    made = len(parts) < len(_TABLES)
    if made:
        path = file_of(inbox(piano), partition)
        worker = Worker(store.root, SECONDS)
        try:
            found = worker.score(path, context.log.info)
        finally:
            worker.stop()
        told, at = found.scores, datetime.now(UTC)
        if found.page is not None:
            write_file(page, found.page.encode())
        rows = {
            "recording_scores": score_rows(partition, told),
            "monitoring": monitoring_rows(partition, told),
            # Last: where it stands, all stands.
            "recordings": recording_row(partition, path.name, file_sha256(path), at, told, found.refused),
        }
        parts = {table: store.write(table, of, key=wanted, name=partition) for table, of in rows.items()}
    told_of = read_part(parts["recordings"]).to_pandas().iloc[0]
    reason = {} if told_of["status"] == "scored" else {"reason": told_of["reason"]}
    shown = {"page": dg.MetadataValue.path(str(page))} if page.is_file() else {}
    for table in _TABLES:
        about = {"status": told_of["status"], **reason, **shown} if table == "recordings" else {}
        yield result(parts[table], made, table, **about)


@dg.multi_asset(specs=[spec("drift", group=GROUP, deps=["monitoring", "champions"])], name="drift")
def drift(context: dg.AssetExecutionContext, piano: PianoData):
    """Compare all recordings with what the champions that score them learnt from."""
    from piano_assets.ensembles.champion_files import load_learnt
    from piano_assets.report.drift_plots import drift_figure
    from piano_assets.report.plots import thumbnail
    from piano_assets.scoring.monitoring import drift_table

    store = piano.store()
    folders = _champions(store)

    def make() -> pd.DataFrame:
        return drift_table(store.read("monitoring"), [load_learnt(folder) for folder in folders])

    seen = sorted((p.name, p.key) for p in store.parts("monitoring"))
    wanted = key("scoring", "drift", seen, [folder.name for folder in folders])
    part, made = store.ensure("drift", "all", wanted, make)
    found = read_part(part).to_pandas()
    plots = {
        str(title): dg.MetadataValue.md(f"![drift of {title}]({thumbnail(drift_figure(rows, str(title)))})")
        for title, rows in found.groupby("champion", sort=True)
    }
    yield result(part, made, "drift", **plots)


def _champions(store: Store) -> list[Path]:
    """Folders of the champions that hold a title now."""
    held = [title for title in TITLES if current_key(champion_home(store.root, title)) is not None]
    return [current_champion(store.root, title) for title in held]


@dg.asset_check(asset="drift", description="Recordings are still like what the champions learnt from.")
def no_drift(piano: PianoData) -> dg.AssetCheckResult:
    found = read_part(piano.store().require("drift", "all")).to_pandas()
    moved = found[found["drifted"]].sort_values("psi", ascending=False)
    named = [f"{r['champion']}: {r['name']} (psi {r['psi']:.2f}, shift {r['shift']:+.1f})" for _, r in moved.iterrows()]
    return dg.AssetCheckResult(
        passed=moved.empty,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"compared": len(found), "n_drifted": len(moved), "drifted": named[:50]},
    )


score_recording = dg.define_asset_job(
    "score_recording",
    selection=dg.AssetSelection.assets(*_TABLES, "drift"),
    description="Score one recording of the inbox, and see whether all of them are still like what was learnt from.",
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


ASSETS = [recordings, drift]
CHECKS = [no_drift]
JOBS = [score_recording]
SENSORS = [watch_inbox]
