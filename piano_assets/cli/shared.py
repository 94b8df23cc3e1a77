"""What all commands share: the console, the store and Dagster's instance, stages with their times, and tables."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from piano_assets.store.location import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    import dagster as dg
    import pandas as pd

    from piano_assets.catalogue.trial import Trial
    from piano_assets.defs.planner import Task
    from piano_assets.store.parts import Store

# A pipe or a log has no width, so tables keep theirs; a terminal has one.
console = Console(soft_wrap=True, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
ROOT = Path(__file__).parents[2]


def instance() -> "dg.DagsterInstance":
    """Dagster's own storage: `DAGSTER_HOME`, else the folder of `dagster.yaml`, which the project's root has.

    Raises:
        click.ClickException: there is no `dagster.yaml`.
    """
    home = Path(os.environ.setdefault("DAGSTER_HOME", str(ROOT)))
    if not (home / "dagster.yaml").is_file():
        raise click.ClickException(f"DAGSTER_HOME={home} has no dagster.yaml: call piano from the project's root")
    import warnings

    import dagster as dg

    # Dagster warns of its own beta parameters at every start; nothing here can be done about them.
    warnings.filterwarnings("ignore", category=dg.BetaWarning)
    return dg.DagsterInstance.get()


def store_of(corpus: str | None = None) -> "Store":
    try:
        return open_store(corpus=corpus)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def known_configs(store: "Store", configs: tuple[str, ...]) -> "dict[str, Trial]":
    from piano_assets.defs import planner

    trials = planner.known(store).trials
    for config in configs:
        if config not in trials:
            raise click.ClickException(f"config {config!r} is not in the catalogue; known: {', '.join(trials)}")
    return trials


def run_stages(corpus: str, tasks: "Callable[[], list[Task]]", only: str | None = None) -> None:
    from piano_assets.defs.data import PianoData
    from piano_assets.defs.executors import ExecutorError
    from piano_assets.defs.quickstart import StageFailed, stages

    piano = PianoData(root=os.environ.get("PIANO_DATA", "data"), corpus=corpus)
    started, done = time.perf_counter(), []
    try:
        for stage in stages(instance(), piano, tasks, lambda text: console.print(f"[dim]{text}[/]"), only):
            done.append(stage)
            console.print(f"[green]{stage.name}[/] done in {stage.seconds:.0f} s")
    except ExecutorError as error:
        raise click.ClickException(str(error)) from error
    except StageFailed as error:
        raise click.ClickException(f"{error}. What was published stays; call again to go on.") from error
    table = Table(title=f"wall time, {corpus}")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    for stage in done:
        table.add_row(stage.name, f"{stage.seconds:.1f}")
    table.add_row("all", f"{time.perf_counter() - started:.1f}")
    console.print(table)


def print_leaderboard(corpus: str, split: str | None = None, everything: bool = False, markdown: bool = False) -> None:
    from piano_assets.report.board import board_markdown, board_text, with_models
    from piano_assets.store.warehouse import query

    try:
        frame = query(store_of(corpus), "FROM leaderboard")
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from error
    if split is not None and split not in set(frame["split"]):
        raise click.ClickException(
            f"no split {split!r} on the leaderboard; there are: {', '.join(sorted(set(frame['split'])))}"
        )
    shown = frame[frame["split"] == split] if split else frame if everything else with_models(frame)
    if markdown:
        click.echo(board_markdown(shown))
        return
    for table in board_text(shown, console.width):
        console.print(table)


def print_frame(frame: "pd.DataFrame") -> None:
    table = Table()
    for column in frame.columns:
        table.add_column(str(column))
    for row in frame.head(200).itertuples(index=False):
        table.add_row(*map(_cell, row))
    if Measurement.get(console, console.options.update(width=10_000), table).maximum <= console.width:
        console.print(table)
    else:  # as many lines as columns beat columns that are squeezed to nothing
        for row in frame.head(200).itertuples(index=False):
            lines = (f"{column:>24}: {_cell(v)}" for column, v in zip(frame.columns, row, strict=True))
            console.print("\n".join(lines), end="\n\n", markup=False, highlight=False)
    if len(frame) > 200:
        console.print(f"... {len(frame) - 200} more rows (use --csv)")


def _cell(value: object) -> str:
    import pandas as pd

    if pd.api.types.is_scalar(value) and pd.isna(value):
        return ""
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
