"""The table `scores`: every metric of every subject, with its interval and its share of the ceiling.

A trial with a seed is judged on its own repeat; an arm (named by its config) is the mean of its seeds' scores, never
the score of their mean prediction; an ensemble or lookup is the mean over its repeats. Intervals are Student's around
the estimate with the two-way clustered standard error of the influence values averaged over repeats; they are NULL
where no influence function is known (`spearman_mean`) or fewer than two clusters or performers were scored.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pandas as pd

from piano_assets.analysis.evaluate import ROW_NAMES, Judged, average, judge
from piano_assets.analysis.measures import MEASURES
from piano_assets.analysis.panel import Block, Units, blocks, units
from piano_assets.dimensions import NAMES
from piano_assets.schemas import LEVELS, POPULATIONS, RULES, TABLES
from piano_assets.statistics.clustered import interval, two_way_se

HARD_FOR, HARD_SHARE = "family.reference", 0.1
"""Whose errors say which clips are hard, and how many of them."""

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
    known = replace(known, reliability=_reliability(ceiling), hard=_hardest(groups, known))
    frames: list[pd.DataFrame] = []
    for done, ((name, _, _), members) in enumerate(groups.items(), 1):
        for rule in rules[members[0].subject, members[0].split]:
            frames += _scores(name, members, known, rule)
        if progress:
            progress(done, len(groups))
    table = pd.concat(frames, ignore_index=True) if frames else TABLES["scores"].empty()
    return _with_share(table, ceiling)[list(COLUMNS)]


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
    low, high = intervals(mean, known)
    frames = []
    for metric, measure in MEASURES.items():
        if metric not in mean.value:
            continue
        shown = slice(-1, None) if measure.flat else slice(None)
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


def intervals(mean: Judged, known: Units) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(low, high) of every measure, (20,) each: NaN without contributions or without 2 clusters and performers."""
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
