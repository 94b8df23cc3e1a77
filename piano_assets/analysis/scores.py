"""The table `scores`: every metric of every subject, with its interval and its share of the ceiling.

A trial with a seed is judged on its own repeat; an arm (named by its config) is the mean of its seeds' scores, never
the score of their mean prediction; an ensemble or lookup is the mean over its repeats. Intervals are Student's around
the estimate with the two-way clustered standard error: that of the primary test for functions of moments, which are
computed anew without each cluster, performer and pair of both; elsewhere that of influence values averaged over
repeats. They are NULL where no influence function is known (`top3_accuracy`, `wasserstein`, `ks`, and within excerpts
`spearman_mean`) or fewer than two clusters or performers were scored.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pandas as pd

from piano_assets.analysis.evaluate import ROW_NAMES, Judged, average, judge
from piano_assets.analysis.measures import MEASURES
from piano_assets.analysis.panel import Block, Units, blocks, units
from piano_assets.analysis.share import with_share
from piano_assets.dimensions import NAMES
from piano_assets.schemas import LEVELS, POPULATIONS, RULES, TABLES
from piano_assets.statistics.clustered import degrees_of_freedom, interval, two_way_se, two_way_variance

HARD_FOR, HARD_SHARE = "family.reference", 0.1
"""Whose errors say which clips are hard, and how many of them."""

COLUMNS: tuple[str, ...] = tuple(TABLES["scores"].columns)


@dataclass(frozen=True, eq=False)
class _Scores:
    """What one subject scored in one population at one level: measures, and (rows,) columns of numbers."""

    told: dict[str, str]
    measures: tuple[str, ...]
    numbers: dict[str, np.ndarray]


def score_table(
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    clips: pd.DataFrame,
    splits: pd.DataFrame,
    subjects: pd.DataFrame,
    trials: pd.DataFrame,
    *,
    ceiling: pd.DataFrame | None = None,
    ensemble_weights: pd.DataFrame | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Score every subject that has complete test predictions.

    Args: the tables of those names (`piano_assets.schemas`). `subjects` tells a trial's config; `trials` its label
        rule. An ensemble is scored by its members' rule (`ensemble_weights`), a lookup and an adapted model by the rule
        it learnt from: `lookup.excerpt_mean` by `clean`, `lookup.excerpt_mean@published` by `published`.

    Raises:
        PredictionError: predictions that cannot be scored (see `panel.blocks`).
        ValueError: a subject that `subjects` or `trials` does not know, or an ensemble whose members differ in rule.
    """
    known = units(clips, labels)
    found, _ = blocks(predictions, splits, known)
    rules = label_rules(sorted({(b.subject, b.split) for b in found}), subjects, trials, ensemble_weights)
    groups = grouped(found, subjects)
    known = replace(known, reliability=_reliability(ceiling), hard=_hardest(groups, known))
    scored: list[_Scores] = []
    for done, ((name, _, _), members) in enumerate(groups.items(), 1):
        for rule in rules[members[0].subject, members[0].split]:
            scored += _scores(name, members, known, rule)
        if progress:
            progress(done, len(groups))
    table = _table(scored) if scored else TABLES["scores"].empty()
    return with_share(table, ceiling)[list(COLUMNS)]


def _reliability(ceiling: pd.DataFrame | None) -> dict[tuple[str, str, str], np.ndarray]:
    """(rule, population, level) -> split-half reliability of each dimension, (19,); 0 where it is not known."""
    if ceiling is None:
        return {}
    halves = ceiling[(ceiling["method"] == "split_half") & ceiling["dimension"].isin(NAMES)]
    found = {}
    for key, rows in halves.groupby(["rule", "population", "level"]):
        shares = rows.set_index("dimension")["max_r2"].reindex(list(NAMES)).to_numpy(np.float64)
        found[key] = np.nan_to_num(shares.clip(min=0))
    return found


def _hardest(groups: dict[tuple[str, str, str], list[Block]], known: Units) -> dict[tuple[str, str], np.ndarray]:
    """(split, rule) -> the clips on which `HARD_FOR` errs most, a tenth of those it predicts: (n_clips,) bool.

    An error counts in standard deviations of its dimension, averaged over dimensions and repeats.
    """
    found = {}
    for (name, split, _), members in groups.items():  # sorted: `tuned` comes last and stands
        if name != HARD_FOR:
            continue
        for rule, target in known.labels.items():
            errors = np.full((len(members), len(known.clip)), np.nan)
            for row, block in zip(errors, members, strict=True):
                row[block.clip] = (abs(block.pred - target[block.clip]) / np.nanstd(target, axis=0)).mean(1)
            labelled = np.flatnonzero(~np.isnan(errors).all(0))
            error = np.nanmean(errors[:, labelled], axis=0)
            hard = np.zeros(len(known.clip), bool)
            hard[labelled[np.argsort(-error, kind="stable")[: round(HARD_SHARE * len(labelled))]]] = True
            found[split, rule] = hard
    return found


def label_rules(
    pairs: list[tuple[str, str]],
    subjects: pd.DataFrame,
    trials: pd.DataFrame,
    ensemble_weights: pd.DataFrame | None = None,
) -> dict[tuple[str, str], tuple[str, ...]]:
    """The label rules that each (subject, split) is scored by.

    Raises:
        ValueError: a subject without a row, a trial without a config that `trials` knows, an ensemble without members
            or whose members differ in rule.
    """
    kind = dict(zip(subjects["subject"], subjects["kind"], strict=True))
    config = dict(zip(subjects["subject"], subjects["config"], strict=True))
    by_config = {c: json.loads(j)["label_rule"] for c, j in zip(trials["config"], trials["trial_json"], strict=True)}

    def of(subject: str, split: str) -> tuple[str, ...]:
        if subject in by_config:  # an ensemble may name an arm as its member
            return (by_config[subject],)
        if subject not in kind:
            raise ValueError(f"subject {subject!r} has predictions on {split!r} but no row in the table subjects")
        if kind[subject] in ("lookup", "adaptation"):
            rule = subject.rpartition("@")[2]
            return (rule,) if rule in RULES else RULES[:1]
        if kind[subject] == "ensemble":
            return _members_rule(subject, split)
        if config[subject] not in by_config:
            raise ValueError(f"subject {subject!r}: config {config[subject]!r} has no row in the table trials")
        return (by_config[config[subject]],)

    def _members_rule(subject: str, split: str) -> tuple[str, ...]:
        w = pd.DataFrame(columns=["ensemble", "split", "member"]) if ensemble_weights is None else ensemble_weights
        members = sorted(set(w["member"][(w["ensemble"] == subject) & (w["split"] == split)]))
        found = {of(member, split) for member in members}
        if len(found) != 1:
            raise ValueError(f"ensemble {subject!r}, split {split!r}: its {len(members)} members have rules {found}")
        return found.pop()

    return {(subject, split): of(subject, split) for subject, split in pairs}


def grouped(found: list[Block], subjects: pd.DataFrame) -> dict[tuple[str, str, str], list[Block]]:
    """Blocks by (arm, split, tuning): an arm is a trial's config; any other subject is its own."""
    trials = subjects[subjects["kind"] == "trial"]
    config = dict(zip(trials["subject"], trials["config"], strict=True))
    groups: dict[tuple[str, str, str], list[Block]] = {}
    for block in found:
        groups.setdefault((config.get(block.subject, block.subject), block.split, block.tuning), []).append(block)
    return dict(sorted(groups.items()))


def _scores(name: str, members: list[Block], known: Units, rule: str) -> Iterator[_Scores]:
    """Scores of an arm and of each of its subjects under one label rule, by population and level."""
    split, tuning = members[0].split, members[0].tuning
    for population, level in itertools.product(POPULATIONS, LEVELS):
        judged = [(b.subject, judge(b, known, rule, population, level)) for b in members]
        told = {"split": split, "tuning": tuning, "rule": rule, "population": population, "level": level}
        for subject in dict.fromkeys([name, *(b.subject for b in members)]):
            parts = [part for of, part in judged if part is not None and subject in (of, name)]
            if parts:
                mean = average(parts)
                measures = tuple(m for m in MEASURES if m in mean.value)
                yield _Scores(told | {"subject": subject}, measures, _numbers(parts, mean, measures, known))


def _numbers(parts: list[Judged], mean: Judged, measures: tuple[str, ...], known: Units) -> dict[str, np.ndarray]:
    """The columns of numbers, a row for each measure and dimension that it has."""
    low, high = intervals(mean, known)
    seeds = [np.stack([p.value[m] for p in parts if m in p.value]) for m in measures]
    sd = [x.std(0, ddof=1) if len(x) > 1 else np.full(len(ROW_NAMES), np.nan) for x in seeds]
    wide = {
        "value": [mean.value[m] for m in measures],
        "ci_low": [low[m] for m in measures],
        "ci_high": [high[m] for m in measures],
        "n_seeds": [np.full(len(ROW_NAMES), len(x)) for x in seeds],
        "seed_sd": sd,
    }
    shown = _rows_of(measures)[0]
    return {column: np.concatenate(values)[shown] for column, values in wide.items()}


@cache
def _rows_of(measures: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(which of each measure's 20 rows are shown, the measure of each shown row, its dimension)."""
    n = len(ROW_NAMES)
    flat = np.repeat([MEASURES[m].flat for m in measures], n)
    shown = np.flatnonzero(~flat | (np.arange(len(flat)) % n == n - 1))
    metric, dimension = np.repeat(measures, n).astype(object), np.tile(ROW_NAMES, len(measures)).astype(object)
    return shown, metric[shown], dimension[shown]


def _table(scored: list[_Scores]) -> pd.DataFrame:
    """All scores in one frame: many thousand small frames take longer than what stands in them."""
    rows = [_rows_of(s.measures) for s in scored]
    length = [len(metric) for _, metric, _ in rows]
    columns = {name: np.repeat([s.told[name] for s in scored], length).astype(object) for name in scored[0].told}
    columns |= {"metric": np.concatenate([m for _, m, _ in rows]), "dimension": np.concatenate([d for *_, d in rows])}
    columns |= {name: np.concatenate([s.numbers[name] for s in scored]) for name in scored[0].numbers}
    return pd.DataFrame(columns)


def intervals(mean: Judged, known: Units) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(low, high) of every measure, (20,) each: NaN without contributions or without 2 clusters and performers."""
    nothing = np.full(len(ROW_NAMES), np.nan)
    low, high = dict.fromkeys(mean.value, nothing), dict.fromkeys(mean.value, nothing)
    cluster, performer = known.cluster[mean.scored], known.performer[mean.scored]
    if not mean.contribution or min(len(np.unique(cluster)), len(np.unique(performer))) < 2:
        return low, high
    df = degrees_of_freedom(cluster, performer)
    exact, moved = list(mean.left), [m for m in mean.contribution if m not in mean.left]
    se = []
    if exact:
        changes = [np.concatenate([left.change for left in of], axis=1) for of in zip(*mean.left.values(), strict=True)]
        se.append(np.sqrt(two_way_variance(changes)[0]))
    if moved:
        stacked = np.concatenate([mean.contribution[m][mean.scored] for m in moved], axis=1)
        se.append(two_way_se(stacked, cluster, performer)[0])
    ends = interval(np.concatenate([mean.value[m] for m in (*exact, *moved)]), np.concatenate(se), df)
    for side, of in zip((low, high), ends, strict=True):
        side.update(zip((*exact, *moved), np.split(of, len(exact) + len(moved)), strict=True))
    return low, high
