"""What stands: the current parts of every table, which results are made of and `piano ship` copies."""

from collections.abc import Iterable

import pandas as pd
import pyarrow as pa

from piano_assets.catalogue.trial import Trial
from piano_assets.defs import planner
from piano_assets.defs.planner import Task
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Part, Store, read_part
from piano_assets.training import data

TRIAL_TABLES = ("predictions", "history", "members", "runs")
PROBES = "probes"
"""Predictions of altered clips are parts `probes/<probe>/<config>`."""
MADE_OF_OTHERS = ("lookups/", "ensembles/", "procedures/", "adaptation/")
"""Folders of the predictions that nobody trains: no dot in them, so that no config's parts lie there."""
PROBED = ("robustness", "diagnostics")


def other_ways(store: Store, tasks: Iterable[Task]) -> list[tuple[str, Part]]:
    """(machine, predictions) of tasks that also stand as trained in another way than `standing` says.

    The machine reads as in the table `tests`: `cpu in bfloat16`. Networks are compared with their like alone, so that
    a reference may be asked for in several ways.
    """
    found = []
    for task in tasks:
        if task.trial.optimisation is not None:
            for run in data.standing(task.trial, task.config, task.seed, store)[1:]:
                precision, device = data.way_of(run)
                part = store.part("predictions", run.name, key=run.key)
                if part is not None:
                    found.append((f"{device} in {precision}", part))
    return found


def current_parts(store: Store, tasks: Iterable[Task]) -> dict[str, list[Part]]:
    """The parts of all standing tasks, by table: what the warehouse and the scores are made of."""
    found: dict[str, list[Part]] = {table: [] for table in TRIAL_TABLES}
    for task in tasks:
        run = planner.standing(store, task)
        for table, part in (_of_run(store, run) if run else {}).items():
            found[table].append(part)
    return found


def _of_run(store: Store, run: Part) -> dict[str, Part]:
    """The parts of one run, by table."""
    found = {table: store.part(table, run.name, key=run.key) for table in TRIAL_TABLES}
    return {table: part for table, part in found.items() if part is not None}


def parts_to_ship(store: Store, names: Iterable[str]) -> list[Part]:
    """What `piano ship` copies: the standing parts of the named configs and comparisons, in every way in which they
    were trained, and what is shipped already.

    Raises:
        ValueError: a name that is neither, or nothing that stands.
    """
    catalogue = planner.known(store)
    chosen, waiting = planner.chosen_configs(catalogue, names)
    before = [] if store.shipped is None else list(Store(store.shipped).parts("runs"))
    already = [_config_of(run) for run in before]
    configs = dict.fromkeys(
        c for c in (*chosen, *waiting, *already) if c in catalogue.trials and c not in planner.QUICKSTART
    )
    runs = [
        r
        for t in planner.owed(store, configs, catalogue=catalogue)
        for r in data.standing(t.trial, t.config, t.seed, store)
    ]
    # Whether a shipped run fits cannot be told where the data that it learnt from are not: it stays.
    kept = [
        run
        for run, config in zip(before, already, strict=True)
        if config in configs and data.lacks(catalogue.trials[config], store)
    ]
    if not runs:
        raise ValueError(f"nothing of {', '.join(names)} is finished (piano sweep {' '.join(names)})")
    return [part for run in (*runs, *kept) for part in _of_run(store, run).values()]


def shipped_trials(store: Store) -> list[Trial]:
    """The trials of configs whose results are shipped: they stand only where what they read has been made."""
    if store.shipped is None:
        return []
    trials = planner.known(store).trials
    configs = dict.fromkeys(_config_of(run) for run in Store(store.shipped).parts("runs"))
    return [trials[config] for config in configs if config in trials]


def _config_of(run: Part) -> str:
    return run.name.split("/")[0]


def probe_parts(store: Store, table: str) -> list[Part]:
    """The parts of a table that probes made (`<probe>/<config>`) of models that still stand."""
    trials = planner.known(store).trials

    def stands(part: Part, config: str) -> bool:
        # What a probe trained anew lies below it, `<probe>/<config>/<seed>...`: no config, and no part of a probe's.
        runs = data.standing(trials[config], config, 0, store) if config in trials else []
        return bool(runs) and part.record["run"] in {run.key for run in runs}

    above = f"{PROBES}/" if table == "predictions" else ""
    named = [(p, p.name.removeprefix(above).partition("/")[2]) for p in store.parts(table) if p.name.startswith(above)]
    return [part for part, config in named if stands(part, config)]


def result_parts(store: Store) -> dict[str, list[Part]]:
    """Every current part by table: of standing tasks, lookups, ensembles, and of all unpartitioned tables.

    What was predicted of altered clips is left out (`probe_parts`): no score is made of it.
    """
    found = {table: list(store.parts(table)) for table in TABLES if table not in TRIAL_TABLES}
    # Features of altered clips are for training and prediction; nobody looks at them.
    found["features"] = [part for part in found["features"] if "+" not in part.name]
    found |= {table: probe_parts(store, table) for table in PROBED}
    found |= current_parts(store, planner.owed(store))
    found["predictions"] += [p for p in store.parts("predictions") if p.name.startswith(MADE_OF_OTHERS)]
    return found


def read_predictions(store: Store) -> pd.DataFrame:
    """All current predictions, one below the other."""
    parts = result_parts(store)["predictions"]
    if not parts:
        return TABLES["predictions"].empty()
    # Names repeat by the million: as dictionaries they take a fifth of the memory.
    names = [name for name, column in TABLES["predictions"].columns.items() if column.type == "text"]
    tables = [read_part(p, dictionaries=names) for p in parts]
    return pa.concat_tables(tables).unify_dictionaries().to_pandas()
