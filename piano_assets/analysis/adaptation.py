"""The table `adaptation_curves`: scores over the number of rated clips, and what is forgotten from stage to stage.

All from stored predictions. A subject is compared with the reference of its comparison on the same clips and repeats,
so that changes are paired.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from piano_assets.adaptation.conditions import CLEAN, GROUPS, SHOTS, of_stage, of_support
from piano_assets.adaptation.methods import METHODS, PERFORMERS, PREFIX, SEQUENCE
from piano_assets.analysis.evaluate import Judged, average, judge, less
from piano_assets.analysis.panel import Block, Units, blocks, units
from piano_assets.analysis.scores import intervals
from piano_assets.dimensions import NAMES
from piano_assets.schemas import LEVELS, POPULATIONS, TABLES
from piano_assets.statistics.jackknife import Left

METRICS = ("pearson_mean", "r2_pooled")
ALL = "all"
"""The group of all dimensions."""
UNADAPTED = f"{PREFIX}unadapted"


@dataclass(frozen=True, eq=False)
class _World:
    """predictions: test rows of this room's subjects; `known` and `splits` as in `panel.blocks`."""

    predictions: pd.DataFrame
    splits: pd.DataFrame
    known: Units

    def blocks(self, subject: str, condition: str) -> list[Block]:
        """The complete blocks of a subject under a condition, by repeat.

        Dimensions that a stage does not predict yet are taken from the last one: nobody reads them there.
        """
        mine = self.predictions[self.predictions["subject"] == subject]
        rows = mine[mine["condition"] == condition]
        if rows.empty:
            return []
        if condition != CLEAN:
            key = ["repeat", "fold", "clip", "dimension"]
            last = mine[mine["condition"] == CLEAN]
            absent = pd.MultiIndex.from_frame(last[key]).isin(pd.MultiIndex.from_frame(rows[key]))
            rows = pd.concat([rows, last[~absent]]).assign(condition=CLEAN)
        return sorted(blocks(rows, self.splits, self.known)[0], key=lambda b: b.repeat)


def curve_table(
    predictions: pd.DataFrame, labels: pd.DataFrame, clips: pd.DataFrame, splits: pd.DataFrame
) -> pd.DataFrame:
    """Every curve of the subjects that have complete predictions.

    Args: the tables of those names; of `predictions` only this room's subjects are looked at.

    Rows by `curve`:
        support: `pearson_mean` and `r2_pooled` at each number of rated clips (`step`, 0 for the unadapted), and their
            `_change` against the unadapted subject, paired.
        sequence: `pearson_mean` of each group after each stage from its own on (`step`, from 1); after the last stage
            `backward_transfer`, the score less that after the group's own stage (Lopez-Paz & Ranzato 2017, eq. 3), and
            `forgetting`, the best earlier score less the last (Chaudhry et al. 2018, sec. 3.2), both of every group but
            the last, and of group `all` their mean. Forgetting looks for a maximum: it has no interval.
    """
    of_room = predictions["subject"].astype(str).str.startswith(PREFIX)
    world = _World(predictions[of_room], splits, units(clips, labels))
    rows: list[dict[str, object]] = []
    for name, method in METHODS.items():
        draw = {PERFORMERS: _support, SEQUENCE: _sequence}.get(method.protocol)
        if draw is not None:
            told = {"subject": f"{PREFIX}{name}", "split": method.protocol.split, "rule": method.protocol.label_rule}
            rows += [told | row for row in draw(world, f"{PREFIX}{name}", method.protocol.label_rule)]
    return pd.DataFrame(rows, columns=list(TABLES["adaptation_curves"].columns))


def _support(world: _World, subject: str, rule: str) -> Iterator[dict[str, object]]:
    steps = {0: CLEAN} if subject == UNADAPTED else {k: of_support(k) for k in SHOTS}
    before = {b.repeat: b for b in world.blocks(UNADAPTED, CLEAN)}
    for k, condition in steps.items():
        found = world.blocks(subject, condition)
        for population in POPULATIONS:
            for level in LEVELS:

                def seen(block: Block, population: str = population, level: str = level) -> Judged | None:
                    return judge(block, world.known, rule, population, level, METRICS)

                told = {"curve": "support", "group": ALL, "step": k, "population": population, "level": level}
                yield from _told(told, _mean(map(seen, found)), world.known)
                if subject != UNADAPTED:
                    pairs = [(seen(b), seen(before[b.repeat])) for b in found if b.repeat in before]
                    gaps = [less(a, b, METRICS) for a, b in pairs if a is not None and b is not None]
                    yield from _told(told, _mean(gaps), world.known, "_change")


def _sequence(world: _World, subject: str, rule: str) -> Iterator[dict[str, object]]:
    n = len(GROUPS)
    found = {stage: world.blocks(subject, of_stage(stage)) for stage in range(1, n + 1)}
    there = [stage for stage, of in found.items() if of]
    if n not in there:
        return
    judged = {
        stage: _mean(_by_group(judge(b, world.known, rule, "all", "global", METRICS[:1])) for b in found[stage])
        for stage in there
    }
    told = {"curve": "sequence", "population": "all", "level": "global"}
    last = judged[n]
    assert last is not None
    for stage, seen in judged.items():
        learnt = list(GROUPS)[:stage]
        yield from _told(told | {"step": stage}, seen, world.known, groups=learnt)
    if there != list(range(1, n + 1)):
        return
    earlier = list(GROUPS)[:-1]
    own = [judged[stage] for stage in range(1, n)]
    moved = less_by_column(last, own)
    yield from _told(told | {"step": n}, moved, world.known, groups=[*earlier, ALL], name="backward_transfer")
    values = np.array([judged[stage].value["pearson_mean"] for stage in range(1, n + 1)])  # type: ignore[union-attr]
    lost = forgetting(values[:, : n - 1])
    for group, value in zip([*earlier, ALL], [*lost, lost.mean()], strict=True):
        yield told | {
            "step": n,
            "group": group,
            "metric": "forgetting",
            "value": value,
            "ci_low": None,
            "ci_high": None,
        }


def forgetting(scores: np.ndarray) -> np.ndarray:
    """What each group lost from its best earlier stage to the last: (n_stages, n_groups) -> (n_groups,).

    Group g is learnt in stage g (from 0); earlier rows of its column are not looked at (Chaudhry et al. 2018, eq. 3).
    Negative where a group gained.
    """
    return np.array([scores[g:-1, g].max() - scores[-1, g] for g in range(scores.shape[1])])


def backward_transfer(scores: np.ndarray) -> float:
    """Mean over all groups but the last of the last score less that of the own stage: (T, T) -> scalar.

    Lopez-Paz & Ranzato (2017), eq. 3; `scores[i, j]` is group j after stage i.
    """
    n = len(scores)
    return float(np.mean([scores[n - 1, j] - scores[j, j] for j in range(n - 1)]))


def less_by_column(last: Judged, own: list[Judged | None]) -> Judged:
    """Column g of `last` less column g of `own[g]`, and after these columns their mean."""

    def columns(get: Callable[[Judged], np.ndarray]) -> np.ndarray:
        gaps = [get(last)[..., g] - get(of)[..., g] for g, of in enumerate(own) if of is not None]
        return np.stack([*gaps, np.mean(gaps, axis=0)], axis=-1)

    metric = METRICS[0]

    def without(i: int) -> np.ndarray:
        return columns(lambda j: j.left[metric][i].change)

    left = tuple(Left(one.groups, without(i)) for i, one in enumerate(last.left[metric]))
    return Judged(
        {metric: columns(lambda j: j.value[metric])},
        {metric: columns(lambda j: j.contribution[metric])},
        last.scored,
        {metric: left},
    )


def _by_group(judged: Judged | None) -> Judged | None:
    """Scores whose columns are the groups in place of the dimensions."""
    if judged is None:
        return None

    def grouped(x: np.ndarray) -> np.ndarray:
        return np.stack([x[..., list(columns)].mean(-1) for columns in GROUPS.values()], axis=-1)

    return Judged(
        {m: grouped(v) for m, v in judged.value.items()},
        {m: grouped(c) for m, c in judged.contribution.items()},
        judged.scored,
        {m: tuple(Left(of.groups, grouped(of.change)) for of in left) for m, left in judged.left.items()},
    )


def _mean(of: Iterator[Judged | None] | list[Judged]) -> Judged | None:
    there = [one for one in of if one is not None]
    return average(there) if there else None


def _told(
    told: dict[str, object],
    judged: Judged | None,
    known: Units,
    ending: str = "",
    groups: list[str] | None = None,
    name: str = "",
) -> Iterator[dict[str, object]]:
    """Rows of a judged thing: of its columns, the groups named; without groups, of the mean over all dimensions."""
    if judged is None:
        return
    low, high = intervals(judged, known)
    for metric, values in judged.value.items():
        columns = enumerate(groups) if groups else [(len(NAMES), ALL)]
        for i, group in columns:
            ends = {"ci_low": low[metric][i], "ci_high": high[metric][i]}
            yield told | {"group": group, "metric": name or f"{metric}{ending}", "value": values[i]} | ends
