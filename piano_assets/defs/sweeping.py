"""What a sweep trains: named comparisons and configs, against another reference if asked, halved if asked."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from piano_assets.catalogue.comparison import Comparison
from piano_assets.catalogue.comparisons import Catalogue
from piano_assets.catalogue.halving import RUNGS
from piano_assets.catalogue.user import against, with_text
from piano_assets.defs import planner
from piano_assets.defs.halving import going_on, halve
from piano_assets.defs.planner import Task
from piano_assets.store.parts import Store, write_file


class SweepError(ValueError):
    """A sweep that cannot be: what was asked for does not fit together."""


@dataclass(frozen=True)
class Sweep:
    """What is asked for.

    tasks: what is owed now; with halving, the first seeds only, until they stand. waiting: configs that were left out
    because they need a GPU.
    """

    tasks: Callable[[], list[Task]]
    waiting: list[str]


def sweep_of(
    store: Store,
    names: Iterable[str] = (),
    seeds: int | None = None,
    reference: str | None = None,
    halved: bool = False,
    write: bool = True,
) -> Sweep:
    """What `piano sweep` trains.

    Args:
        names: comparisons, `<comparison>@<budget>`, or configs; none: everything that is swept unasked.
        reference: config that the named comparisons are run against instead of their own; the file that says so is
            kept among the users' comparisons, unless `write` is False.
        halved: stop the worse half of each comparison's arms after their first seed.
    Raises:
        SweepError: halving or a reference without comparisons, or arms that the reference cannot have.
        ValueError: a name that nothing has.
    """
    names, catalogue = list(names), planner.known(store)
    if reference is not None:
        names, catalogue = _rerun(store, names, reference, catalogue, write)
    if names:
        configs, waiting = planner.chosen_configs(catalogue, names)
    else:
        configs, waiting = planner.swept_configs(store), []
    if not halved:
        return Sweep(lambda: planner.owed(store, configs, seeds, catalogue), waiting)
    judged = _judged(catalogue, names, configs)

    def tasks() -> list[Task]:
        first = planner.owed(store, configs, RUNGS[0], catalogue)
        if not first or planner.missing(store, first):
            return first
        for of, budget in judged:
            halve(store, catalogue, of, budget)
        all_seeds = planner.owed(store, configs, seeds, catalogue)
        return going_on(store, all_seeds, catalogue, [of for of, _ in judged])

    return Sweep(tasks, waiting)


def _judged(catalogue: Catalogue, names: list[str], configs: list[str]) -> list[tuple[Comparison, str]]:
    """(comparison, budget) whose arms are halved: the named ones; else all at full budget that the sweep touches."""
    views = {name: (of, budget) for name, of, budget in catalogue.views()}
    alien = [n for n in names if n not in views or not views[n][0].tested]
    if alien:
        raise SweepError(
            f"--halve stops arms of comparisons whose arms are judged on the same clips, at full or reduced, "
            f"not {', '.join(map(repr, alien))}"
        )
    if names:
        return [views[n] for n in names]
    mine = set(configs)
    return [
        (of, budget)
        for of, budget in views.values()
        if of.tested and budget == "full" and mine & {config for config, _ in catalogue.arms(of).values()}
    ]


def _rerun(
    store: Store, names: list[str], reference: str, catalogue: Catalogue, write: bool
) -> tuple[list[str], Catalogue]:
    """(names of the comparisons against another reference, the catalogue that has them)."""
    from piano_assets.training.check import check

    if reference not in catalogue.full:
        reference += ".reference"
    if reference not in catalogue.full:
        raise SweepError(f"--reference {reference!r}: no such config; known: {', '.join(catalogue.full)}")
    by_name = {c.name: c for c in catalogue.comparisons}
    unknown = [n for n in names if n.partition("@")[0] not in by_name]
    if unknown or not names:
        raise SweepError(f"--reference goes with comparisons ({', '.join(by_name)}), not {unknown or 'alone'}")
    found = []
    for name in names:
        base, at, budget = name.partition("@")
        other, text = against(by_name[base], reference)
        if other not in {c.name for c in catalogue.comparisons}:
            catalogue, problems = with_text(other, text, catalogue, check)
            if problems:
                raise SweepError("; ".join(p.message for p in problems))
            if write:
                write_file(planner.user_folder(store) / f"{other}.toml", text.encode())
        found.append(other + at + budget)
    return found, catalogue
