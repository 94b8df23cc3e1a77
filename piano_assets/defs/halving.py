"""Halving a sweep: after the first seed the worse arms of a comparison stop, by the rule of `catalogue.halving`."""

from collections.abc import Iterable
from datetime import UTC, datetime

import numpy as np
import pandas as pd

from piano_assets.catalogue.comparison import Comparison
from piano_assets.catalogue.comparisons import Catalogue
from piano_assets.catalogue.halving import RULE, RUNGS, worse_half
from piano_assets.defs import planner
from piano_assets.defs.planner import Task
from piano_assets.dimensions import NAMES
from piano_assets.metrics.regression import pearson
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Store, digest, read_part


def valid_r(store: Store, task: Task) -> float | None:
    """Mean over folds of a finished task's r on inner validation clips, at its best epoch or point of its search.

    r is the mean over dimensions; predictions that are constant hear nothing: 0. None where a trial was judged on no
    validation clips, or is not finished.
    """
    run = planner.standing(store, task)
    part = store.part("predictions", run.name, key=run.key) if run else None
    if part is None:
        return None
    rows = read_part(part, ["fold", "inner_fold", "clip", "dimension", "role", "tuning", "value"]).to_pandas()
    rows = rows[(rows["role"] == "valid") & rows["inner_fold"].isna()]
    tuned = rows["tuning"] == "tuned"
    rows = rows[tuned if tuned.any() else ~tuned]
    if rows.empty:
        return None
    labels = store.read("labels", task.trial.label_rule).pivot(index="clip", columns="dimension", values="value")
    found = []
    for _, fold in rows.groupby("fold"):
        pred = fold.pivot(index="clip", columns="dimension", values="value")[list(NAMES)]
        target = labels.reindex(pred.index)[list(NAMES)].to_numpy()
        known = ~np.isnan(target).any(1)
        found.append(np.nan_to_num(pearson(pred.to_numpy()[known], target[known])).mean())
    return float(np.mean(found))


def halve(store: Store, catalogue: Catalogue, of: Comparison, budget: str) -> pd.DataFrame:
    """Judge a comparison's arms after their first seed, and publish those that stop in the table `halted`.

    Arms that were not judged go on.
    """
    name = of.name if budget == "full" else f"{of.name}@{budget}"
    reference = catalogue.reference(of, budget)[0]
    arms = {arm: config for arm, (config, _) in catalogue.arms(of, budget).items()}
    judged = {arm: valid_r(store, t) for arm, c in arms.items() for t in planner.owed(store, [c], RUNGS[0])}
    known = {arm: r for arm, r in judged.items() if r is not None}
    stopped = worse_half(known, frozenset(arm for arm, config in arms.items() if config == reference))
    rows = [(name, s.arm, arms[s.arm], 1, RUNGS[0], s.valid_r, s.kept_valid_r, RULE) for s in stopped]

    def made() -> pd.DataFrame:
        frame = pd.DataFrame(rows, columns=[c for c in TABLES["halted"].columns if c != "at"])
        return frame.assign(at=pd.Timestamp(datetime.now(UTC)))

    store.ensure("halted", name, digest(name, RULE, sorted(known.items())), made)
    return store.read("halted", name)


def going_on(
    store: Store, tasks: Iterable[Task], catalogue: Catalogue, comparisons: Iterable[Comparison] | None = None
) -> list[Task]:
    """`tasks` without the further seeds of arms that were stopped.

    A config that is a reference, or an arm of another one of `comparisons` (default: all) that did not stop it, goes
    on. A comparison is one, whatever the budget of its networks.
    """
    halted = store.read("halted")
    stopped = {
        (name.partition("@")[0], config) for name, config in zip(halted["comparison"], halted["config"], strict=True)
    }
    seeds = dict(zip(halted["config"], halted["n_seeds"], strict=True))
    asked = {of.name for of in (catalogue.comparisons if comparisons is None else comparisons)}
    kept: set[str] = set()
    for _, of, budget in catalogue.views():
        if of.name in asked:
            kept.add(catalogue.reference(of, budget)[0])
            kept |= {config for config, _ in catalogue.arms(of, budget).values() if (of.name, config) not in stopped}
    return [t for t in tasks if t.config in kept or t.seed < seeds.get(t.config, t.seed + 1)]
