"""The table `scores`: every metric of every subject, with its interval and its share of the ceiling.

A trial with a seed is judged on its own repeat; an arm (named by its config) is the mean of its seeds' scores, never
the score of their mean prediction; an ensemble or lookup is the mean over its repeats. Intervals are Student's around
the estimate with the two-way clustered standard error of the influence values averaged over repeats; they are NULL
where no influence function is known (`spearman_mean`) or fewer than two clusters or performers were scored.
"""

import itertools
import json
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from piano_assets.analysis.evaluate import METRIC_NAMES, ROW_NAMES, Judged, average, judge
from piano_assets.analysis.panel import Block, Units, blocks, units
from piano_assets.metrics.regression import FLAT_METRICS
from piano_assets.schemas import LEVELS, POPULATIONS, RULES, TABLES
from piano_assets.statistics.clustered import interval, two_way_se

COLUMNS: tuple[str, ...] = tuple(TABLES["scores"].columns)
CEILING: dict[str, str] = {"pearson_mean": "max_r", "r2_pooled": "max_r2"}
"""Metrics that the raters' agreement bounds, and the column with the bound. A single fold's R2 has another one."""


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
        rule. An ensemble is scored by its members' rule (`ensemble_weights`), a lookup by the rule it learnt from:
        `lookup.excerpt_mean` by `clean`, `lookup.excerpt_mean@published` by `published`.

    Raises:
        PredictionError: predictions that cannot be scored (see `panel.blocks`).
        ValueError: a subject that `subjects` or `trials` does not know, or an ensemble whose members differ in rule.
    """
    known = units(clips, labels)
    found, _ = blocks(predictions, splits, known)
    rules = label_rules(sorted({(b.subject, b.split) for b in found}), subjects, trials, ensemble_weights)
    groups = grouped(found, subjects)
    frames: list[pd.DataFrame] = []
    for done, ((name, _, _), members) in enumerate(groups.items(), 1):
        for rule in rules[members[0].subject, members[0].split]:
            frames += _scores(name, members, known, rule)
        if progress:
            progress(done, len(groups))
    table = pd.concat(frames, ignore_index=True) if frames else TABLES["scores"].empty()
    return _with_share(table, ceiling)[list(COLUMNS)]


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
        if kind[subject] == "lookup":
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


def _scores(name: str, members: list[Block], known: Units, rule: str) -> Iterator[pd.DataFrame]:
    """Rows of an arm and of each of its subjects under one label rule, a frame per subject, population and level."""
    for population, level in itertools.product(POPULATIONS, LEVELS):
        judged = [(b.subject, judge(b, known, rule, population, level)) for b in members]
        for subject in dict.fromkeys([name, *(b.subject for b in members)]):
            parts = [part for of, part in judged if part is not None and subject in (of, name)]
            if parts:
                yield _rows(parts, known).assign(
                    subject=subject,
                    split=members[0].split,
                    tuning=members[0].tuning,
                    rule=rule,
                    population=population,
                    level=level,
                )


def _rows(parts: list[Judged], known: Units) -> pd.DataFrame:
    mean = average(parts)
    low, high = _intervals(mean, known)
    frames = []
    for metric in METRIC_NAMES:
        if metric not in mean.value:
            continue
        shown = slice(-1, None) if metric in FLAT_METRICS else slice(None)
        seeds = np.stack([p.value[metric] for p in parts if metric in p.value])
        frames.append(
            pd.DataFrame(
                {
                    "metric": metric,
                    "dimension": ROW_NAMES[shown],
                    "value": mean.value[metric][shown],
                    "ci_low": low[metric][shown],
                    "ci_high": high[metric][shown],
                    "n_seeds": len(seeds),
                    "seed_sd": (seeds.std(0, ddof=1) if len(seeds) > 1 else np.full(len(ROW_NAMES), np.nan))[shown],
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def _intervals(mean: Judged, known: Units) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    nothing = np.full(len(ROW_NAMES), np.nan)
    low, high = dict.fromkeys(mean.value, nothing), dict.fromkeys(mean.value, nothing)
    cluster, performer = known.cluster[mean.scored], known.performer[mean.scored]
    if not mean.contribution or min(len(np.unique(cluster)), len(np.unique(performer))) < 2:
        return low, high
    stacked = np.concatenate([c[mean.scored] for c in mean.contribution.values()], axis=1)
    se, df = two_way_se(stacked, cluster, performer)
    for metric, of in zip(mean.contribution, np.split(se, len(mean.contribution)), strict=True):
        low[metric], high[metric] = interval(mean.value[metric], of, df)
    return low, high


def _with_share(table: pd.DataFrame, ceiling: pd.DataFrame | None) -> pd.DataFrame:
    """Divide by the split-half ceiling of the same rule, population, level and dimension; NULL where there is none."""
    share = np.full(len(table), np.nan)
    if ceiling is not None and len(table):
        keys = ["rule", "population", "level", "dimension"]
        bounds = ceiling[ceiling["method"] == "split_half"].set_index(keys)
        at = bounds.index.get_indexer(pd.MultiIndex.from_frame(table[keys]))
        for metric, column in CEILING.items():
            rows = (table["metric"] == metric).to_numpy() & (at >= 0)
            bound = bounds[column].to_numpy(np.float64)[at[rows]]
            bound = np.where(bound > 0, bound, np.nan)
            share[rows] = table["value"].to_numpy(np.float64)[rows] / bound
    return table.assign(share_of_ceiling=share)
