"""The command that scores recordings."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np
from rich.markup import escape
from rich.table import Table

from piano_assets.cli.shared import console, store_of

if TYPE_CHECKING:
    from piano_assets.scoring.score import Scores


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_lines", is_flag=True, help="Print one JSON object a line instead of tables.")
@click.option("--html", type=click.Path(path_type=Path, file_okay=False), help="Write a page for each FILE here.")
@click.option("--transcribe/--no-transcribe", default=None, help="Notes of sound (default: if the extra is there).")
@click.option("--monitor/--no-monitor", default=True, help="Whether features and scores join the table `monitoring`.")
def score(files: tuple[Path, ...], as_lines: bool, html: Path | None, transcribe: bool | None, monitor: bool) -> None:
    """Say how listeners would rate the recordings in FILES (MIDI, or sound), and what in the playing says so."""
    from piano_assets.corpus.transcription.transcriber import TranscriberMissing
    from piano_assets.ensembles.champion_files import NoChampion
    from piano_assets.scoring.api import score_beside, score_file
    from piano_assets.scoring.monitoring import keep
    from piano_assets.scoring.recordings import RecordingError
    from piano_assets.scoring.tell import about_champion, as_json, warnings

    store, refused = store_of(), []
    root = store.root
    for path in files:
        try:
            with console.status("") as status:
                scores = score_file(path, root, transcribe, status.update)
                beside = score_beside(scores, root)
        except RecordingError as error:
            refused.append(path)
            click.echo(json.dumps({"recording": path.name, "error": str(error)}) if as_lines else f"{error}")
            continue
        except (NoChampion, TranscriberMissing) as error:
            raise click.ClickException(str(error)) from error
        told = as_json(scores, beside)
        if monitor:
            keep(store, told)
        if as_lines:
            click.echo(json.dumps(told))
        else:
            for warning in warnings(scores):
                console.print(warning, style="yellow", markup=False, highlight=False)
            console.print(_table(scores, beside))
            console.print(about_champion(scores), style="dim", markup=False, highlight=False)
        if html is not None:
            from piano_assets.report.recording import page

            html.mkdir(parents=True, exist_ok=True)
            (html / f"{path.name}.html").write_text(page(scores, beside))
            if not as_lines:
                console.print(html / f"{path.name}.html")
    if refused:
        raise SystemExit(1)


def _table(scores: "Scores", beside: "Scores | None") -> Table:
    """A row a dimension: poles, score, interval, percentile, what a champion beside says, and the aspect and its
    feature that moved the score most."""
    from piano_assets.dimensions import DIMENSIONS
    from piano_assets.scoring.tell import strongest

    windows = "1 window" if len(scores.windows) == 1 else f"{len(scores.windows)} windows"
    table = Table(title=f"{escape(scores.recording.name)}: {scores.recording.duration_s:.0f} s, {windows}")
    for name in ("from", "to"):
        table.add_column(name)
    for name in ("score", f"{100 * scores.champion['level']:.0f} %", "of 100", *(["before"] if beside else [])):
        table.add_column(name, justify="right")
    table.add_column("moved most by")
    for k, of in enumerate(DIMENSIONS):
        largest = int(np.abs(scores.moved[:, k]).argmax())
        aspect, by = scores.aspects[largest], scores.moved[largest, k]
        features = ", ".join(found["feature"] for found in strongest(scores, k, aspect)[:1])
        interval = f"{scores.low[k]:.2f} - {scores.high[k]:.2f}"
        moved = f"{aspect} {by:+.2f} ({features})" if features else f"{aspect} {by:+.2f}"
        before = [] if beside is None else [f"{beside.value[k]:.2f}"]
        cells = f"{scores.value[k]:.2f}", interval, f"{scores.percentile[k]:.0f}", *before, moved
        table.add_row(of.low, of.high, *cells)
    return table


@click.command()
@click.argument("first", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.argument("second", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--json", "as_object", is_flag=True, help="Print one JSON object instead of a table.")
@click.option("--html", type=click.Path(path_type=Path, dir_okay=False), help="Write a page here.")
@click.option("--transcribe/--no-transcribe", default=None, help="Notes of sound (default: if the extra is there).")
def compare(first: Path, second: Path, as_object: bool, html: Path | None, transcribe: bool | None) -> None:
    """Say how differently listeners would rate two recordings of the same piece, FIRST and SECOND."""
    from piano_assets.corpus.transcription.transcriber import TranscriberMissing
    from piano_assets.ensembles.champion_files import NoChampion, current_champion, load_learnt
    from piano_assets.scoring.api import score_file, title_for
    from piano_assets.scoring.compare import CompareError
    from piano_assets.scoring.compare import compare as set_side_by_side
    from piano_assets.scoring.recordings import RecordingError
    from piano_assets.scoring.tell import about_champion, difference_as_json

    root = store_of().root
    try:
        with console.status("") as status:
            a, b = (score_file(path, root, transcribe, status.update) for path in (first, second))
        found = set_side_by_side(a, b, load_learnt(current_champion(root, title_for(a.recording))))
    except (RecordingError, NoChampion, CompareError, TranscriberMissing) as error:
        raise click.ClickException(str(error)) from error
    told = difference_as_json(found)
    if html is not None:
        from piano_assets.report.comparison import page as page_of

        html.parent.mkdir(parents=True, exist_ok=True)
        html.write_text(page_of(found))
    if as_object:
        click.echo(json.dumps(told))
        return
    for warning in told["warnings"]:
        console.print(warning, style="yellow", markup=False, highlight=False)
    table = Table(title=f"{escape(second.name)} less {escape(first.name)}")
    for name in ("from", "to"):
        table.add_column(name)
    for name in (escape(first.name), escape(second.name), "difference", f"{100 * told['level']:.0f} %"):
        table.add_column(name, justify="right")
    table.add_column("mostly by")
    for of in told["differences"]:
        interval = f"{of['low']:+.2f} .. {of['high']:+.2f}"
        mostly = f"{of['mostly_by']} {of['moved_by'][of['mostly_by']]:+.2f}"
        cells = f"{of['first']:.2f}", f"{of['second']:.2f}", f"{of['value']:+.2f}", interval, mostly
        table.add_row(of["low_pole"], of["high_pole"], *cells, style="bold" if of["told_apart"] else "")
    console.print(table)
    console.print(f"bold: the interval leaves out 0. {about_champion(a)}", style="dim", markup=False, highlight=False)
    if html is not None:
        console.print(html)


@click.command()
@click.option("--port", default=8765, show_default=True, help="Of 127.0.0.1.")
@click.option(
    "--minutes", default=20.0, show_default=True, type=click.FloatRange(min=0, min_open=True), help="A file may take."
)
@click.option("--transcribe/--no-transcribe", default=None, help="Notes of sound (default: if the extra is there).")
@click.option("--monitor/--no-monitor", default=True, help="Whether features and scores join the table `monitoring`.")
def page(port: int, minutes: float, transcribe: bool | None, monitor: bool) -> None:
    """Serve a page on this machine that scores what is dropped into it."""
    import logging
    import tempfile

    import uvicorn

    from piano_assets.web.app import app
    from piano_assets.web.jobs import Jobs
    from piano_assets.web.worker import Worker

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    with tempfile.TemporaryDirectory(prefix="piano-page-") as folder:
        jobs = Jobs(Path(folder), Worker(store_of().root, 60 * minutes, transcribe, monitor))
        console.print(f"http://127.0.0.1:{port} (Ctrl+C ends it)")
        uvicorn.run(app(jobs), host="127.0.0.1", port=port, log_level="warning")


COMMANDS = (score, compare, page)
