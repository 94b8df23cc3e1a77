"""Commands that show what there is: `status`, `comparisons`, `leaderboard`, `sql`, `describe`, `power`."""

from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from piano_assets.catalogue.comparisons import TABULAR_BUDGETS
from piano_assets.catalogue.trial import BUDGETS
from piano_assets.cli.shared import console, instance, known_configs, print_frame, print_leaderboard, store_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from piano_assets.catalogue.comparison import Comparison
    from piano_assets.catalogue.comparisons import Catalogue
    from piano_assets.catalogue.derived import Derived
    from piano_assets.catalogue.trial import Trial


@click.command()
@click.option("--split", help="Only this split.")
@click.option("--all", "everything", is_flag=True, help="Also protocols on which only lookups stand.")
@click.option("--markdown", is_flag=True, help="Print Markdown tables.")
def leaderboard(split: str | None, everything: bool, markdown: bool) -> None:
    """Print the leaderboard: every score with protocol, interval, lookup and ceiling."""
    print_leaderboard(store_of().corpus, split, everything, markdown)


@click.command()
@click.argument("query")
@click.option("--csv", is_flag=True, help="Print comma-separated values.")
def sql(query: str, csv: bool) -> None:
    """Run QUERY on the newest snapshot. Reading never waits for a writer."""
    from piano_assets.store.warehouse import QueryError
    from piano_assets.store.warehouse import query as run_query

    try:
        frame = run_query(store_of(), query)
    except (QueryError, FileNotFoundError) as error:
        raise click.ClickException(str(error)) from error
    if csv:
        click.echo(frame.to_csv(index=False), nl=False)
    else:
        print_frame(frame)


@click.command()
@click.argument("config")
def describe(config: str) -> None:
    """Show one trial: its fields, what it changes, and which of its partitions stand."""
    from piano_assets.catalogue.tables import to_json
    from piano_assets.defs import planner

    store = store_of()
    known = planner.known(store)
    trial = known_configs(store, (config,))[config]
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


@click.command()
@click.argument("names", nargs=-1)
@click.option("--all", "everything", is_flag=True, help="List the partitions that stand, too.")
def status(names: tuple[str, ...], everything: bool) -> None:
    """Say what stands, runs, failed, is stale or missing of NAMES, and why.

    NAMES are comparisons, comparisons at a budget (loss@reduced), or configs; by default all that this machine trains
    unasked. Every partition that does not stand has a line.
    """
    from piano_assets.defs import planner
    from piano_assets.defs.status import STATES
    from piano_assets.defs.status import status as status_of

    store = store_of()
    try:
        chosen, waiting = planner.chosen_configs(planner.known(store), names) if names else ([], [])
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    wanted = [*chosen, *waiting] if names else planner.swept_configs(store)
    found = status_of(store, planner.owed(store, wanted), instance())
    counts = found["state"].value_counts()
    console.print(", ".join(f"{counts.get(s, 0)} {s}" for s in STATES) + f", of {len(found)} partitions")
    shown = found if everything else found[found["state"] != "stands"]
    if len(shown):
        alike = shown.groupby(["config", "state", "why"], sort=False)["seed"]
        print_frame(alike.agg(lambda seeds: " ".join(map(str, seeds))).rename("seeds").reset_index())


@click.command()
@click.argument("names", nargs=-1)
@click.pass_context
def comparisons(context: click.Context, names: tuple[str, ...]) -> None:
    """Show what is compared: each arm with what it changes, its parameters, search and budgets.

    NAMES are comparisons (default: all, the users' too). Ends with 1 if a file in data/comparisons is broken.
    """
    from piano_assets.defs import planner
    from piano_assets.defs.derived import BY_NAME as DERIVED
    from piano_assets.training.size import n_params

    store = store_of()
    known = planner.known(store)
    by_name = {c.name: c for c in known.comparisons}
    there = [*by_name, *DERIVED]
    unknown = [n for n in names if n not in there]
    if unknown:
        raise click.ClickException(f"no comparison {', '.join(map(repr, unknown))}; there are: {', '.join(there)}")
    for name in names or there:
        if name in by_name:
            _print_comparison(known, by_name[name], lambda trial: n_params(trial, store))
        else:
            _print_derived(DERIVED[name])
    broken = planner.problems(store)
    for problem in broken:
        console.print(f"[bold red]left out[/] {escape(str(problem))}")
    context.exit(1 if broken else 0)


@click.command()
@click.argument("comparison")
def power(comparison: str) -> None:
    """Say which difference in mean r COMPARISON can find, from the variance of pairs that were tested already."""
    import pandas as pd

    from piano_assets.analysis.power import power_table
    from piano_assets.catalogue.derived import derived_arm_table, derived_comparison_table
    from piano_assets.catalogue.tables import arm_table, comparison_table, trial_table
    from piano_assets.defs import planner
    from piano_assets.defs.derived import BY_NAME as DERIVED
    from piano_assets.statistics.clustered import degrees_of_freedom

    store = store_of()
    known = planner.known(store)
    names = [*(name for name, *_ in known.views()), *DERIVED]
    if comparison not in names:
        raise click.ClickException(f"no comparison {comparison!r}; there are: {', '.join(names)}")
    try:
        tests, clips = store.read("tests", "all"), store.read("clips", "all")
    except FileNotFoundError as error:
        raise click.ClickException(str(error)) from error
    derived = DERIVED.values()
    catalogue = (
        pd.concat([comparison_table(known), derived_comparison_table(derived)]),
        pd.concat([arm_table(known), derived_arm_table(derived)]),
        trial_table(known.trials),
    )
    df = degrees_of_freedom(clips["cluster"].to_numpy(), clips["performer"].to_numpy())
    found = power_table(comparison, tests, *catalogue, df)
    console.print(
        f"[bold]{comparison}[/]: differences in mean r that the primary test finds ({df + 1:.0f} effective groups). "
        "More seeds take the seeds' own noise out, not the clips'."
    )
    print_frame(found)
    if found["pilot"].isna().any():
        console.print("No pair of that kind was tested yet: sweep one arm and the reference first, with --seeds 1.")


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


def _print_derived(of: "Derived") -> None:
    table = Table(title=f"{of.name}, against {of.reference}", title_justify="left", caption_justify="left")
    table.caption = f"{of.hypothesis} Split {of.split}, {of.label_rule} labels. {of.budget_note}"
    for column in ("arm", "subject", "what it is"):
        table.add_column(column, overflow="fold")
    for arm, subject in of.arms.items():
        told = {k: ", ".join(map(str, v)) if isinstance(v, list | tuple) else v for k, v in of.about[arm].items()}
        table.add_row(arm, subject, "; ".join(f"{field}: {value}" for field, value in told.items()))
    console.print(table)


def _count(n: int | None) -> str:
    return "" if n is None else f"{n:,}"


COMMANDS = (leaderboard, sql, describe, status, comparisons, power)
