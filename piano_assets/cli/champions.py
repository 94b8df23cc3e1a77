"""The command that makes a champion from the raw files, and says what it scores."""

import os
import time

import click

from piano_assets.cli.shared import console, instance, run_stages, store_of
from piano_assets.ensembles.titles import TITLES


@click.command()
@click.argument("title", type=click.Choice(list(TITLES)), default=next(iter(TITLES)))
@click.option(
    "--nested", type=click.IntRange(0, 5), default=0, help="Repeats of nested cross-validation to score it by."
)
@click.option("--rollback", is_flag=True, help="Let the champion before score, and hold the title for it.")
@click.option("--release", is_flag=True, help="End a rollback: whom the rule names takes the title again.")
@click.option("--beside/--alone", default=None, help="Whether the champion before scores beside this one.")
@click.option("--reason", default="the score of the champion's procedure", help="Of the look, for the ledger.")
def champion(title: str, nested: int, rollback: bool, release: bool, beside: bool | None, reason: str) -> None:
    """Fit the champion of TITLE on all clips, from the raw files: corpus, sound, features, champion.

    With --nested its procedure is scored as well, which trains each candidate on the inner folds of so many repeats
    (minutes each); the look is entered in the ledger, and stands in the champion's record.
    """
    from piano_assets.defs import planner
    from piano_assets.defs.champion import holder_of
    from piano_assets.defs.data import PianoData
    from piano_assets.defs.quickstart import StageFailed, materializer
    from piano_assets.ensembles import champion_files
    from piano_assets.store.parts import read_part

    started, store = time.perf_counter(), store_of()
    home = champion_files.champion_home(store.root, title)
    piano = PianoData(root=os.environ.get("PIANO_DATA", "data"), corpus=store.corpus)
    try:
        if beside is not None:
            other = champion_files.set_beside(home, beside)
            console.print(f"{title}: {other} scores beside it" if other else f"{title}: it scores alone")
            return
        if rollback:
            console.print(f"{title}: {champion_files.roll_back(home)} scores, and holds the title until --release")
            materializer(instance(), piano)(["reference_scores"], title)
            return
    except champion_files.NoChampion as error:
        raise click.ClickException(str(error)) from error
    if release:
        champion_files.release(home)
    holder, procedure = holder_of(store, TITLES[title])

    def tasks() -> list[planner.Task]:
        return planner.owed(store, procedure.candidates, nested) if nested else []

    for stage in ("corpus", "sound", "features", *(["models"] if nested else [])):
        run_stages(store.corpus, tasks, stage)
    materialize = materializer(instance(), piano)
    try:
        if nested:
            look = {"ops": {"evaluation_ledger": {"config": {"reason": reason}}}}
            for name in TITLES[title].procedures:  # the title may change by their comparison: each is a look
                materialize(["procedures"], name)
                materialize(["evaluation_ledger"], name, look)
        materialize(["champions", "reference_scores"], title)
    except StageFailed as error:
        raise click.ClickException(f"{error}. What was published stays; call again to go on.") from error
    table = read_part(store.require("champions", title)).to_pandas()
    console.print(
        f"[green]{title}[/]: procedure {holder} on {table['n_clips'].iloc[0]} clips, mean inner r "
        f"{table['inner_r'].mean():.3f}, intervals of +- {table['half_width'].mean():.3f} on average"
    )
    console.print(f"{champion_files.current_champion(store.root, title)}, {time.perf_counter() - started:.0f} s")


COMMANDS = (champion,)
