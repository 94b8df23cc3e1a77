"""Commands that make something, or remove it, or take it elsewhere."""

import os
import time
from pathlib import Path

import click
from rich.markup import escape

from piano_assets.cli.shared import console, instance, known_configs, print_leaderboard, run_stages, store_of


@click.command()
def run() -> None:
    """Do everything once: corpus, sound, features, quick-start models, results; then print the leaderboard."""
    from piano_assets.corpus.obtain import obtain
    from piano_assets.corpus.source import SourceError
    from piano_assets.defs import planner

    store = store_of()
    try:
        obtain(store.corpus, store.root)
    except SourceError as error:
        console.print(f"[bold red]PercePiano cannot be had:[/] {error}")
        console.print("Going on with the synthetic corpus, whose truth is known, in a data folder of its own.")
        store = store_of("synthetic")
    run_stages(store.corpus, lambda: planner.quickstart(store))
    print_leaderboard(store.corpus)
    console.print(f"\nDatabase: {store.root / 'piano.duckdb'}   (read it: piano sql 'FROM leaderboard')")
    console.print(f"Report:   {store.root / 'report.html'}")
    console.print("UI:       make ui, then open http://localhost:3000")


@click.command()
@click.argument("names", nargs=-1)
@click.option("--seeds", type=click.IntRange(1), help="At most so many seeds of each config.")
@click.option("--reference", help="Run the named comparisons against this config instead (hybrid.reference).")
@click.option("--halve", is_flag=True, help="After the first seed the worse half of each comparison's arms stops.")
@click.option("--budget", help="Of device time, the most informative first: 2h, 90m, 45s.")
@click.option("--dry-run", is_flag=True, help="Only say what is missing.")
def sweep(
    names: tuple[str, ...], seeds: int | None, reference: str | None, halve: bool, budget: str | None, dry_run: bool
) -> None:
    """Train what is missing of NAMES, then refresh the results.

    NAMES are comparisons (loss), comparisons with their networks at another budget (loss@reduced), or configs
    (loss.huber); by default everything that this machine trains unasked.
    """
    from piano_assets.defs import planner
    from piano_assets.defs.night import night, seconds_of, within
    from piano_assets.defs.sweeping import SweepError, sweep_of

    store = store_of()
    device = planner.device()
    try:
        budget_s = None if budget is None else seconds_of(budget)
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
    plan = night(store, todo, budget_s, device)
    if todo:
        console.print(
            f"{len(plan.chosen)} are trained, about {plan.expected_s / 60:.0f} minutes on this kind of device"
        )
    if plan.left:
        console.print(f"no place in the budget for {', '.join(t.partition for t in plan.left)}")
    for task in plan.chosen if dry_run else []:
        console.print(f"  {task.partition}  {plan.seconds[task.partition]:.0f} s")
    if not dry_run:
        tasks = wanted.tasks if budget_s is None else within(wanted.tasks, store, budget_s, device)
        run_stages(store.corpus, tasks)


@click.command()
@click.argument("names", nargs=-1, required=True)
def ship(names: tuple[str, ...]) -> None:
    """Copy the finished results of NAMES (as for `sweep`) to results/, to be kept with the code.

    What was shipped before stays while it fits. The quick start trains its own and is left out.
    """
    from piano_assets.defs import current
    from piano_assets.store.location import SHIPPED
    from piano_assets.store.parts import Store
    from piano_assets.store.shipping import TooLarge
    from piano_assets.store.shipping import ship as copy

    store = store_of()
    try:
        parts = current.parts_to_ship(store, names)
        size = copy(parts, Store(SHIPPED / store.corpus))
    except (TooLarge, ValueError) as error:
        raise click.ClickException(str(error)) from error
    n = sum(part.table == "runs" for part in parts)
    console.print(f"{n} partitions in {SHIPPED / store.corpus}, {size:.1f} MB")


@click.command()
@click.argument("url")
@click.argument("names", nargs=-1)
def share(url: str, names: tuple[str, ...]) -> None:
    """Exchange finished partitions with other machines through URL, as s3://bucket/prefix.

    NAMES as for `sweep`; by default everything that the catalogue has. What stands there and is missing here is taken;
    what was trained here and is missing there is given.
    """
    from piano_assets.defs.sharing import exchange

    try:
        taken, given = exchange(store_of(), url, names)
    except (ValueError, ImportError) as error:
        raise click.ClickException(str(error)) from error
    console.print(f"{len(taken)} partitions taken from {url}, {len(given)} given")


@click.command()
@click.argument("configs", nargs=-1, required=True)
@click.option("--only", multiple=True, metavar="PROBE", help="One probe or diagnostic (repeatable); default: all.")
@click.option("--clips", type=click.IntRange(0), help="Test clips that are altered (400, by adversaries 40); 0: all.")
@click.option("--shares", help="Of the clips, for the learning curve over size: 0.125,0.25,0.5,1; none leaves it out.")
def probe(configs: tuple[str, ...], only: tuple[str, ...], clips: int | None, shares: str | None) -> None:
    """Ask the trained models of CONFIGS: how robust they are, and what goes on inside them.

    What cannot be asked of a model is said and passed over. `piano sweep` CONFIG trains it first.
    """
    from piano_assets.defs.probes import applicable, asset_config
    from piano_assets.defs.quickstart import StageFailed, materializer
    from piano_assets.schemas.probes import DIAGNOSTICS, ROBUSTNESS

    unknown = sorted(set(only) - {*ROBUSTNESS, *DIAGNOSTICS})
    if unknown:
        raise click.ClickException(
            f"no probe {', '.join(unknown)}; there are: {', '.join((*ROBUSTNESS, *DIAGNOSTICS))}"
        )
    try:
        sizes = None if shares is None else [float(s) for s in shares.split(",") if s not in ("", "none")]
    except ValueError as error:
        raise click.ClickException(f"--shares {shares!r}: {error}") from error
    from piano_assets.defs.data import PianoData
    from piano_assets.defs.training import CONFIGS

    store, where = store_of(), instance()
    known = known_configs(store, configs)
    where.add_dynamic_partitions(str(CONFIGS.name), sorted(set(configs)))
    materialize = materializer(where, PianoData(root=os.environ.get("PIANO_DATA", "data"), corpus=store.corpus))
    failed = []
    for config in configs:
        for name in only or (*ROBUSTNESS, *DIAGNOSTICS):
            reason = applicable(name, known[config], store)
            if reason:
                console.print(f"[dim]{name} of {config}: passed over, {escape(reason)}[/]")
                continue
            started = time.perf_counter()
            try:
                materialize([name], config, asset_config(name, clips, sizes))
                console.print(f"[green]{name}[/] of {config}: {time.perf_counter() - started:.0f} s")
            except StageFailed as error:
                failed.append(str(error))
                console.print(f"[bold red]{escape(str(error))}[/]")
    if failed:
        raise click.ClickException(f"{len(failed)} failed")
    console.print(
        "Results: piano sql 'FROM robustness' and 'FROM diagnostics', once `piano results` has refreshed them."
    )


@click.command()
@click.argument("methods", nargs=-1)
def adapt(methods: tuple[str, ...]) -> None:
    """Predict by METHODS of adaptation (default: all): to new performers, to other works, dimension after dimension."""
    from piano_assets.adaptation.methods import METHODS
    from piano_assets.defs.data import PianoData
    from piano_assets.defs.quickstart import StageFailed, materializer

    unknown = sorted(set(methods) - set(METHODS))
    if unknown:
        raise click.ClickException(f"no method {', '.join(unknown)}; there are: {', '.join(METHODS)}")
    piano = PianoData(root=os.environ.get("PIANO_DATA", "data"), corpus=store_of().corpus)
    materialize = materializer(instance(), piano)
    for name in methods or METHODS:
        started = time.perf_counter()
        try:
            materialize(["adaptation"], name)
        except StageFailed as error:
            raise click.ClickException(f"{error}. What was published stays; call again to go on.") from error
        console.print(f"[green]{name}[/]: {time.perf_counter() - started:.0f} s")
    console.print("Results: `piano comparisons adaptation`, once `piano results` has refreshed them.")


@click.command()
def results() -> None:
    """Make scores, tests, leaderboard, report and database anew from what stands."""
    store = store_of()
    run_stages(store.corpus, list, "results")


@click.command()
def smoke() -> None:
    """Train every config for two epochs (networks) on eight clips, on a small synthetic corpus in data/smoke."""
    from piano_assets.corpus.synthetic import write_synthetic
    from piano_assets.defs import planner

    os.environ["PIANO_DATA"] = str(Path(os.environ.get("PIANO_DATA", "data")) / "smoke")
    store = store_of("synthetic")
    if not (store.root / "source").is_dir():
        # The smallest corpus that every split of the catalogue can be made of: PercePiano's own needs ten players.
        # Clips of two bars: most of what a large network takes here is hearing all clips to their ends.
        write_synthetic(store.root / "source", n_excerpts=6, n_performers=10, n_bars=2)
    wanted = [config for config, trial in planner.known(store).trials.items() if trial.budget == "smoke"]
    run_stages("synthetic", lambda: planner.owed(store, wanted, 1))


@click.command()
@click.argument("names", nargs=-1)
@click.option("--online", is_flag=True, help="Upload at once, instead of writing for `wandb sync`.")
def mirror(names: tuple[str, ...], online: bool) -> None:
    """Mirror what stands of NAMES (as for `sweep`; default: everything) to wandb, each run once.

    Without --online files are written to data/<corpus>/wandb, and nothing leaves the machine.
    """
    from piano_assets.defs import planner
    from piano_assets.training import data
    from piano_assets.training.mirror import MirrorError
    from piano_assets.training.mirror import mirror as copy

    store = store_of()
    catalogue = planner.known(store)
    try:
        chosen, waiting = planner.chosen_configs(catalogue, names)
        owed = planner.owed(store, [*chosen, *waiting] if names else None, catalogue=catalogue)
        runs = [(t.trial, r) for t in owed for r in data.standing(t.trial, t.config, t.seed, store)]
        done = copy(store, runs, "online" if online else "offline")
    except (MirrorError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    console.print(f"{len(done)} runs mirrored, {len(runs) - len(done)} were before")
    if done and not online:
        console.print(f"To upload them: wandb sync {store.root / 'wandb'}/offline-run-*")


@click.command()
@click.option("--days", type=click.FloatRange(0), default=7.0, show_default=True, help="Old snapshots and states stay.")
@click.option("--remove", "removes", is_flag=True, help="Remove what is shown.")
def gc(days: float, removes: bool) -> None:
    """Show what nobody reads any more: what killed processes left, superseded checkpoints, old snapshots.

    Predictions are never removed while a run vouches for them, nor checkpoints of what stands.
    """
    from piano_assets.defs.housekeeping import remove, rubbish

    store = store_of()
    found = rubbish(store, instance(), days)
    for item in found:
        console.print(f"{item.n_bytes / 1e6:9.1f} MB  {item.path.relative_to(store.root)}: {escape(item.reason)}")
    if removes:
        remove(store, found)
    size = sum(item.n_bytes for item in found) / 1e6
    console.print(f"{len(found)} items, {size:.1f} MB{' removed' if removes else ''}")
    if found and not removes:
        console.print("Nothing was removed: piano gc --remove")


COMMANDS = (run, sweep, ship, share, probe, adapt, results, smoke, mirror, gc)
