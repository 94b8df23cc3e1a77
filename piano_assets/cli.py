"""The command line: `piano run`, `sweep`, `comparisons`, `leaderboard`, `sql`, `describe`."""

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

from piano_assets.catalogue.comparisons import TABULAR_BUDGETS
from piano_assets.catalogue.trial import BUDGETS
from piano_assets.store.location import open_store

if TYPE_CHECKING:
    from collections.abc import Callable

    import dagster as dg
    import pandas as pd

    from piano_assets.catalogue.comparison import Comparison
    from piano_assets.catalogue.comparisons import Catalogue
    from piano_assets.catalogue.trial import Trial
    from piano_assets.store.parts import Store

# A pipe or a log has no width, so tables keep theirs; a terminal has one.
console = Console(soft_wrap=True, width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else 200)
ROOT = Path(__file__).parents[1]


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


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """What makes a model hear a piano performance as listeners do?

    PIANO_CORPUS (percepiano or synthetic) and PIANO_DATA (default: data) say which corpus and where.
    """


@main.command()
def run() -> None:
    """Do everything once: corpus, sound, features, quick-start models, results; then print the leaderboard."""
    from piano_assets.corpus.obtain import obtain
    from piano_assets.corpus.source import SourceError
    from piano_assets.defs import planner

    store = _store()
    try:
        obtain(store.corpus, store.root)
    except SourceError as error:
        console.print(f"[bold red]PercePiano cannot be had:[/] {error}")
        console.print("Going on with the synthetic corpus, whose truth is known, in a data folder of its own.")
        store = _store("synthetic")
    _stages(store.corpus, lambda: planner.quickstart(store))
    _print_leaderboard(store.corpus)
    console.print(f"\nDatabase: {store.root / 'piano.duckdb'}   (read it: piano sql 'FROM leaderboard')")
    console.print(f"Report:   {store.root / 'report.html'}")
    console.print("UI:       make ui, then open http://localhost:3000")


@main.command()
@click.argument("names", nargs=-1)
@click.option("--seeds", type=click.IntRange(1), help="At most so many seeds of each config.")
@click.option("--reference", help="Run the named comparisons against this config instead (hybrid.reference).")
@click.option("--halve", is_flag=True, help="After the first seed the worse half of each comparison's arms stops.")
@click.option("--dry-run", is_flag=True, help="Only say what is missing.")
def sweep(names: tuple[str, ...], seeds: int | None, reference: str | None, halve: bool, dry_run: bool) -> None:
    """Train what is missing of NAMES, then refresh the results.

    NAMES are comparisons (loss), comparisons with their networks at another budget (loss@reduced), or configs
    (loss.huber); by default everything that this machine trains unasked.
    """
    from piano_assets.defs import planner
    from piano_assets.defs.sweeping import SweepError, sweep_of

    store = _store()
    try:
        wanted = sweep_of(store, names, seeds, reference, halve, write=not dry_run)
    except (SweepError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    if wanted.waiting:
        console.print(f"waiting for a GPU: {', '.join(wanted.waiting)}")
        console.print(
            "  on a CPU, <comparison>@reduced trains its networks shorter; a config's own name trains it anyway"
        )
    owed = wanted.tasks()
    todo = planner.missing(store, owed)
    console.print(f"{len(todo)} of {len(owed)} partitions are missing")
    for task in todo if dry_run else []:
        console.print(f"  {task.partition}")
    if not dry_run:
        _stages(store.corpus, wanted.tasks)


@main.command()
@click.argument("comparison")
def power(comparison: str) -> None:
    """Say which difference in mean r COMPARISON can find, from the variance of pairs that were tested already."""
    from piano_assets.analysis.power import power_table
    from piano_assets.catalogue.tables import arm_table, comparison_table, trial_table
    from piano_assets.defs import planner
    from piano_assets.statistics.clustered import degrees_of_freedom

    store = _store()
    known = planner.known(store)
    names = [name for name, *_ in known.views()]
    if comparison not in names:
        raise click.ClickException(f"no comparison {comparison!r}; there are: {', '.join(names)}")
    try:
        tests, clips = store.read("tests", "all"), store.read("clips", "all")
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from error
    catalogue = comparison_table(known), arm_table(known), trial_table(known.trials)
    df = degrees_of_freedom(clips["cluster"].to_numpy(), clips["performer"].to_numpy())
    found = power_table(comparison, tests, *catalogue, df)
    console.print(
        f"[bold]{comparison}[/]: differences in mean r that the primary test finds ({df + 1:.0f} effective groups). "
        "More seeds take the seeds' own noise out, not the clips'."
    )
    _print(found)
    if found["pilot"].isna().any():
        console.print("No pair of that kind was tested yet: sweep one arm and the reference first, with --seeds 1.")


@main.command()
@click.argument("names", nargs=-1, required=True)
def ship(names: tuple[str, ...]) -> None:
    """Copy the finished results of NAMES (as for `sweep`) to results/, to be kept with the code.

    What was shipped before stays while it fits. The quick start trains its own and is left out.
    """
    from piano_assets.defs import planner
    from piano_assets.store.location import SHIPPED
    from piano_assets.store.parts import Store
    from piano_assets.store.shipping import TooLarge
    from piano_assets.store.shipping import ship as copy

    store = _store()
    try:
        parts = planner.parts_to_ship(store, names)
        size = copy(parts, Store(SHIPPED / store.corpus))
    except (TooLarge, ValueError) as error:
        raise click.ClickException(str(error)) from error
    n = sum(part.table == "runs" for part in parts)
    console.print(f"{n} partitions in {SHIPPED / store.corpus}, {size:.1f} MB")


@main.command()
@click.argument("names", nargs=-1)
@click.pass_context
def comparisons(context: click.Context, names: tuple[str, ...]) -> None:
    """Show what is compared: each arm with what it changes, its parameters, search and budgets.

    NAMES are comparisons (default: all, the users' too). Ends with 1 if a file in data/comparisons is broken.
    """
    from piano_assets.defs import planner
    from piano_assets.training.size import n_params

    store = _store()
    known = planner.known(store)
    by_name = {c.name: c for c in known.comparisons}
    unknown = [n for n in names if n not in by_name]
    if unknown:
        raise click.ClickException(f"no comparison {', '.join(map(repr, unknown))}; there are: {', '.join(by_name)}")
    for name in names or by_name:
        _print_comparison(known, by_name[name], lambda trial: n_params(trial, store))
    broken = planner.problems(store)
    for problem in broken:
        console.print(f"[bold red]left out[/] {escape(str(problem))}")
    context.exit(1 if broken else 0)


@main.command()
def smoke() -> None:
    """Train every config for two epochs (networks) on eight clips, on a small synthetic corpus in data/smoke."""
    from piano_assets.corpus.synthetic import write_synthetic
    from piano_assets.defs import planner

    os.environ["PIANO_DATA"] = str(Path(os.environ.get("PIANO_DATA", "data")) / "smoke")
    store = _store("synthetic")
    if not (store.root / "source").is_dir():
        # The smallest corpus that every split of the catalogue can be made of: PercePiano's own needs ten players.
        # Clips of two bars: most of what a large network takes here is hearing all clips to their ends.
        write_synthetic(store.root / "source", n_excerpts=6, n_performers=10, n_bars=2)
    wanted = [config for config, trial in planner.known(store).trials.items() if trial.budget == "smoke"]
    _stages("synthetic", lambda: planner.owed(store, wanted, 1))


@main.command()
@click.option("--split", help="Only this split.")
@click.option("--all", "everything", is_flag=True, help="Also protocols on which only lookups stand.")
@click.option("--markdown", is_flag=True, help="Print Markdown tables.")
def leaderboard(split: str | None, everything: bool, markdown: bool) -> None:
    """Print the leaderboard: every score with protocol, interval, lookup and ceiling."""
    _print_leaderboard(_store().corpus, split, everything, markdown)


@main.command()
@click.argument("query")
@click.option("--csv", is_flag=True, help="Print comma-separated values.")
def sql(query: str, csv: bool) -> None:
    """Run QUERY on the newest snapshot. Reading never waits for a writer."""
    from piano_assets.store.warehouse import QueryError
    from piano_assets.store.warehouse import query as run_query

    try:
        frame = run_query(_store(), query)
    except (QueryError, FileNotFoundError) as error:
        raise click.ClickException(str(error)) from error
    if csv:
        click.echo(frame.to_csv(index=False), nl=False)
    else:
        _print(frame)


@main.command()
@click.argument("config")
def describe(config: str) -> None:
    """Show one trial: its fields, what it changes, and which of its partitions stand."""
    from piano_assets.catalogue.tables import to_json
    from piano_assets.defs import planner

    store = _store()
    known = planner.known(store)
    if config not in known.trials:
        raise click.ClickException(f"config {config!r} is not in the catalogue; known: {', '.join(known.trials)}")
    trial = known.trials[config]
    console.print(f"[bold]{config}[/]   trial {trial.key}   family {trial.family}   budget {trial.budget}")
    console.print_json(to_json(trial))
    for name, of, budget in known.views("full", "reduced", "smoke"):
        for arm, (owner, _) in known.arms(of, budget).items():
            if owner == config:
                changes = {f: new for f, (new, _) in known.changed_fields(of, arm).items()}
                console.print(f"arm [bold]{arm}[/] of {name}: {changes or 'the reference'}")
                console.print(f"  {of.hypothesis}")
    for task in planner.owed(store, [config]):
        part = planner.standing(store, task)
        console.print(f"  {task.partition}: {'stands, part ' + part.key if part else 'missing'}")


def _store(corpus: str | None = None) -> "Store":
    try:
        return open_store(corpus=corpus)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _stages(corpus: str, tasks) -> None:
    from piano_assets.defs.data import PianoData
    from piano_assets.defs.quickstart import StageFailed, stages

    piano = PianoData(root=os.environ.get("PIANO_DATA", "data"), corpus=corpus)
    started, done = time.perf_counter(), []
    try:
        for stage in stages(instance(), piano, tasks, lambda text: console.print(f"[dim]{text}[/]")):
            done.append(stage)
            console.print(f"[green]{stage.name}[/] done in {stage.seconds:.0f} s")
    except StageFailed as error:
        raise click.ClickException(f"{error}. What was published stays; call again to go on.") from error
    table = Table(title=f"wall time, {corpus}")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    for stage in done:
        table.add_row(stage.name, f"{stage.seconds:.1f}")
    table.add_row("all", f"{time.perf_counter() - started:.1f}")
    console.print(table)


def _print_leaderboard(corpus: str, split: str | None = None, everything: bool = False, markdown: bool = False) -> None:
    from piano_assets.report.board import board_markdown, board_text, with_models
    from piano_assets.store.warehouse import query

    try:
        frame = query(_store(corpus), "FROM leaderboard")
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


def _print_comparison(known: "Catalogue", of: "Comparison", n_params: "Callable[[Trial], int | None]") -> None:
    table = Table(title=f"{of.name}, against {of.reference}", title_justify="left", caption_justify="left")
    table.caption = f"{of.hypothesis} {of.budget_note}"
    for column in ("arm", "config", "changes"):
        table.add_column(column, overflow="fold")
    for column in ("parameters", "claimed"):
        table.add_column(column, justify="right")
    for column in ("search", "changes labels", "budgets"):
        table.add_column(column)
    arms = known.arms(of)
    if of.reference not in {config for config, _ in arms.values()}:
        arms = {"(reference)": known.reference(of), **arms}
    for arm, (config, trial) in arms.items():
        changed = known.changed_fields(of, arm) if arm in of.arms else {}
        if (trial.optimisation is None) != (known.reference(of)[1].optimisation is None):
            # Another kind of model: every field of it differs, which tells nobody anything.
            changed = {f: v for f, v in changed.items() if f.startswith("inputs.") and v[0]}
            changed = {"family": (trial.family, None), **changed}
        table.add_row(
            arm,
            config,
            ", ".join(f"{field}={new}" for field, (new, _) in changed.items() if field != "search"),
            _count(n_params(trial)),
            _count(of.claims.get(arm)),
            ", ".join(f"{len(values)} x {field.rpartition('.')[2]}" for field, values in trial.search),
            "yes" if trial.augmentation.bends_sound else "",
            " ".join(TABULAR_BUDGETS if trial.optimisation is None else BUDGETS),
        )
    console.print(table)


def _count(n: int | None) -> str:
    return "" if n is None else f"{n:,}"


def _print(frame: "pd.DataFrame") -> None:
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


if __name__ == "__main__":
    sys.exit(main())
