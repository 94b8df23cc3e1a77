"""The table `tests`: every arm against its reference, on the same clips, seeds, splits and labels.

A difference is a paired one, clip by clip, averaged over the repeats that both have. The primary test is the two-way
clustered t on mean r over all clips: what the difference would be without each cluster and each performer says how far
to trust it. Everything else is secondary.
`p_holm` corrects over the arms of a comparison, `p_tost` tests equivalence within the margin fixed beforehand.

Networks are paired with networks of the same class of device and precision: a partition trained in several ways has
predictions of each, and the first way that both sides have is taken, repeat by repeat.
"""

import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import pandas as pd

from piano_assets.analysis.evaluate import ROW_NAMES, Judged, average, judge_side, less, side_of
from piano_assets.analysis.panel import Block, Units, blocks, units
from piano_assets.analysis.primary import Side, differences
from piano_assets.analysis.scores import grouped
from piano_assets.analysis.secondary import SECONDARY, Evidence, zou
from piano_assets.schemas import LEVELS, MARGINS, POPULATIONS, TABLES
from piano_assets.statistics import clustered
from piano_assets.statistics.clustered import ALPHA, Clustered
from piano_assets.statistics.multiplicity import CORRECTIONS, corrected

PRIMARY = {"metric": "pearson_mean", "population": "all", "level": "global", "dimension": "mean", "test": "two_way_t"}
METRICS: tuple[str, ...] = ("pearson_mean", "r2_pooled")
FAMILY = ["comparison", "split", "rule", "population", "level", "metric", "dimension", "test"]
"""Tests that are corrected together: one per arm of the comparison."""

EFFECT = "Cohen's d_z of pseudo-values"
UNKNOWN = ("ci_low", "ci_high", "p_tost", "mde")
"""What not every secondary test says."""
UNTESTED = ("comparison", "arm", "population", "level", "metric", "reason")
N_SEEN = 64
"""Views kept: those of an arm and a reference in five repeats, so that a reference is judged once for all its arms."""

Seen = tuple[Judged, Side] | None
"""What a block scored in one population at one level, and its rows; None for fewer than 2 clips."""

Look = Callable[[Block, str, str, str], Seen]


class UnfairComparison(ValueError):
    """Arms that must not be compared: they were tested on different clips."""


@dataclass(frozen=True)
class _Pair:
    comparison: str
    arm: str
    config: str
    reference: str
    split: str
    rule: str
    margin: float


def comparison_tests(
    comparisons: pd.DataFrame,
    arms: pd.DataFrame,
    trials: pd.DataFrame,
    runs: pd.DataFrame,
    subjects: pd.DataFrame,
    predictions: pd.DataFrame,
    labels: pd.DataFrame,
    clips: pd.DataFrame,
    splits: pd.DataFrame,
    *,
    rng: np.random.Generator,
    others: Sequence[tuple[str, pd.DataFrame]] = (),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test every arm against its comparison's reference.

    Args: the tables of those names; `rng` draws the sign flips. `runs` tells where the networks of `predictions` were
        trained; `others` are predictions of some of the same subjects trained elsewhere: (machine, as "cpu in
        bfloat16", rows of `predictions`), the preferred first.

    Returns:
        (tests, untested): what could be tested, and every arm or view that could not, with the reason: no complete
        predictions yet, another split or label rule than the reference's (comparisons of protocols), networks of
        another budget, device class or precision than the reference's, predictions equal to the reference's, or an
        undefined metric.

    Raises:
        UnfairComparison: two sides were tested on different clips.
        PredictionError: predictions that cannot be scored (see `panel.blocks`).
    """
    known = units(clips, labels)
    by_arm = grouped(_trained(predictions, others, splits, known, trials, runs), subjects)
    pairs, untested = _pairs(comparisons, arms, trials, {config for config, _, _ in by_arm})
    look = lru_cache(N_SEEN)(partial(_seen, known))
    rows: list[dict[str, object]] = []
    for done, pair in enumerate(pairs, 1):
        shared = _shared(by_arm, pair)
        if isinstance(shared, str):
            untested.append((pair.comparison, pair.arm, None, None, None, shared))
            continue
        tuning, sides = shared
        for row in _tests(pair, sides, known, look, rng):
            if isinstance(row, tuple):
                untested.append(row)
            else:
                rows.append(row | {"tuning": tuning, "n_seeds": len(sides), "machine": _machine(sides)})
        if progress:
            progress(done, len(pairs))
    tests = _with_verdicts(pd.DataFrame(rows)) if rows else TABLES["tests"].empty()
    return tests[list(TABLES["tests"].columns)], pd.DataFrame(untested, columns=list(UNTESTED))


def _pairs(
    comparisons: pd.DataFrame, arms: pd.DataFrame, trials: pd.DataFrame, have: set[str]
) -> tuple[list[_Pair], list[tuple]]:
    design = {c: json.loads(j) for c, j in zip(trials["config"], trials["trial_json"], strict=True)}
    found: list[_Pair] = []
    untested: list[tuple] = []
    for of in comparisons.itertuples():
        ours = arms[(arms["comparison"] == of.comparison) & ~arms["is_reference"].astype(bool)]
        for arm in ours.itertuples():
            for config in (arm.config, of.reference):
                if config not in design:
                    raise ValueError(f"comparison {of.comparison!r}: config {config!r} has no row in the table trials")
            a, b = design[arm.config], design[of.reference]
            reason = None
            if (a["split"], a["label_rule"]) != (b["split"], b["label_rule"]):
                reason = (
                    f"{a['split']} with {a['label_rule']} labels is not the reference's protocol "
                    f"({b['split']}, {b['label_rule']}): their test sets differ"
                )
            if a["optimisation"] and b["optimisation"] and a["budget"] != b["budget"]:
                reason = f"trained at budget {a['budget']}, the reference at {b['budget']}"
            absent = [c for c in (arm.config, of.reference) if c not in have]
            if absent and not reason:
                reason = f"no complete predictions of {' and '.join(absent)}"
            if reason:
                untested.append((of.comparison, arm.arm, None, None, None, reason))
            else:
                protocol = a["split"], a["label_rule"]
                found.append(_Pair(of.comparison, arm.arm, arm.config, of.reference, *protocol, float(of.margin)))
    return found, untested


def _trained(
    predictions: pd.DataFrame,
    others: Sequence[tuple[str, pd.DataFrame]],
    splits: pd.DataFrame,
    known: Units,
    trials: pd.DataFrame,
    runs: pd.DataFrame,
) -> list[Block]:
    """Blocks of `predictions`, then of `others`; those of networks with the machine that they were trained on."""
    neural = {c for c, j in zip(trials["config"], trials["trial_json"], strict=True) if json.loads(j)["optimisation"]}
    ran = runs[runs["config"].isin(neural) & (runs["status"] == "finished")]
    device = ran["device"].astype(str).str.split(":").str[0]
    subject = ran["config"].astype(str) + "|" + ran["seed"].astype(int).astype(str)
    shown = dict(zip(subject, device + " in " + ran["precision"].astype(str), strict=True))
    found = [replace(b, machine=shown.get(b.subject)) for b in blocks(predictions, splits, known)[0]]
    for machine, of in others:
        for b in blocks(of, splits, known)[0]:
            network = b.subject.rpartition("|")[0] in neural
            found.append(replace(b, machine=machine if network else None))
    return found


def _shared(
    by_arm: dict[tuple[str, str, str], list[Block]], pair: _Pair
) -> tuple[str, list[tuple[Block, Block]]] | str:
    """(tuning, blocks of arm and reference in each shared repeat), or why there are none.

    A repeat in which no way of training is common to two networks is no pair.
    """
    unlike: list[str] = []
    for tuning in ("tuned", "fixed"):
        arm, reference = (
            _by_repeat(by_arm.get((config, pair.split, tuning), ())) for config in (pair.config, pair.reference)
        )
        paired = []
        for r in sorted(arm.keys() & reference.keys()):
            alike = _alike(arm[r], reference[r])
            if alike is None:
                where = [" or ".join(dict.fromkeys(str(b.machine) for b in side[r])) for side in (arm, reference)]
                unlike.append(f"repeat {r} was trained on {where[0]}, the reference on {where[1]}")
                continue
            pairs = [np.stack([b.fold, b.clip]) for b in alike]
            if pairs[0].shape != pairs[1].shape or (pairs[0] != pairs[1]).any():
                raise UnfairComparison(
                    f"{pair.comparison}.{pair.arm}, split {pair.split!r}, repeat {r}: tested on {pairs[0].shape[1]} "
                    f"clips, the reference on {pairs[1].shape[1]}, or in other folds"
                )
            paired.append(alike)
        if paired:
            return tuning, paired
    if unlike:
        return "; ".join(dict.fromkeys(unlike))
    return f"no repeat and tuning in which both {pair.config} and {pair.reference} are complete"


def _by_repeat(of: Sequence[Block]) -> dict[int, list[Block]]:
    found: dict[int, list[Block]] = {}
    for block in of:
        found.setdefault(block.repeat, []).append(block)
    return found


def _alike(arm: list[Block], reference: list[Block]) -> tuple[Block, Block] | None:
    """The first two of one machine; whatever has none, as a tabular model, goes with anything."""
    pairs = itertools.product(arm, reference)
    return next(((a, b) for a, b in pairs if a.machine == b.machine or None in (a.machine, b.machine)), None)


def _machine(sides: list[tuple[Block, Block]]) -> str | None:
    """Where the networks of all pairs were trained; None where there is none."""
    found = {b.machine for pair in sides for b in pair if b.machine is not None}
    return " and ".join(sorted(found)) or None


def _tests(
    pair: _Pair, sides: list[tuple[Block, Block]], known: Units, look: Look, rng: np.random.Generator
) -> Iterator[dict[str, object] | tuple]:
    names = {"comparison": pair.comparison, "arm": pair.arm, "reference": pair.reference}
    for population, level in itertools.product(POPULATIONS, LEVELS):
        seen = [tuple(look(b, pair.rule, population, level) for b in both) for both in sides]
        kept = [(a, b) for a, b in seen if a is not None and b is not None]
        if not kept:
            yield pair.comparison, pair.arm, population, level, None, "fewer than 2 clips to score"
            continue
        gap = average([less(a, b, METRICS) for (a, _), (b, _) in kept])
        cluster, performer = known.cluster[gap.scored], known.performer[gap.scored]
        pairs = [(a, b) for (_, a), (_, b) in kept]
        view = names | {"split": pair.split, "rule": pair.rule, "population": population, "level": level}
        for metric in METRICS:
            detailed = metric == "pearson_mean" and (population, level) == ("all", "global")
            margin = pair.margin if metric == "pearson_mean" else MARGINS[metric]
            several = min(len(np.unique(of)) for of in (cluster, performer)) > 1
            without = differences(pairs, metric) if several else []
            for column in range(len(ROW_NAMES)) if detailed else [len(ROW_NAMES) - 1]:
                estimate = float(gap.value[metric][column])
                contributions = gap.contribution[metric][gap.scored, column]
                changes = [change[:, column] for change in without]
                reason = _why_not(estimate, contributions, changes, cluster, performer)
                if reason:
                    yield pair.comparison, pair.arm, population, level, metric, f"{ROW_NAMES[column]}: {reason}"
                    continue
                row = view | {"metric": metric, "dimension": ROW_NAMES[column], "margin": margin}
                row |= {
                    "effect_size": clustered.pseudovalue_d(estimate, contributions),
                    "effect_name": EFFECT,
                }
                two_way = clustered.two_way_t(estimate, changes, cluster, performer)
                yield row | _result("two_way_t", two_way) | {"p_tost": clustered.tost(two_way, margin)}
                if metric != "pearson_mean":
                    continue
                evidence = Evidence(estimate, contributions, cluster, performer, pairs, rng)
                if ROW_NAMES[column] == "mean":
                    found = {name: test(evidence) for name, test in SECONDARY.items()}
                else:
                    found = {"zou_interval": zou(evidence, column)}
                for name, said in found.items():
                    if said is not None:
                        yield row | {"test": name, "estimate": estimate} | dict.fromkeys(UNKNOWN, np.nan) | said


def _seen(known: Units, block: Block, rule: str, population: str, level: str) -> Seen:
    seen = side_of(block, known, rule, population, level)
    return None if seen is None else (judge_side(*seen, known, level, METRICS), seen[0])


def _why_not(
    estimate: float, contributions: np.ndarray, changes: list[np.ndarray], cluster: np.ndarray, performer: np.ndarray
) -> str | None:
    if not (np.isfinite(estimate) and np.isfinite(contributions).all()):
        return "undefined (constant predictions)"
    for name, groups in (("cluster", cluster), ("performer", performer)):
        if len(np.unique(groups)) < 2:
            return f"only one {name} was scored"
    if not all(np.isfinite(change).all() for change in changes):
        return "undefined without one of its clusters or performers"
    if not abs(contributions).max() > 0:
        return "predictions are the reference's, or differ in scale only"
    return None


def _result(test: str, of: Clustered) -> dict[str, object]:
    return {
        "test": test,
        "estimate": of.estimate,
        "ci_low": of.ci_low,
        "ci_high": of.ci_high,
        "p": of.p,
        "n_units": float(of.n_groups),
        "unit": of.unit,
        "mde": clustered.minimal_detectable_effect(of.se, of.df),
    }


def _with_verdicts(rows: pd.DataFrame) -> pd.DataFrame:
    """Add corrected p values, `is_primary` and the verdict; only the primary test's verdict decides."""
    tests = rows.reset_index(drop=True)
    p, found = tests["p"].to_numpy(), {column: np.empty(len(tests)) for column in CORRECTIONS}
    for at in tests.groupby(FAMILY, sort=False).indices.values():
        for column, of in corrected(p[at]).items():
            found[column][at] = of
    tests = tests.assign(**found)
    tests["is_primary"] = np.logical_and.reduce([tests[c] == v for c, v in PRIMARY.items()])
    significant, equivalent = tests["p_holm"] < ALPHA, tests["p_tost"] < ALPHA
    tests["verdict"] = np.select(
        [significant & (tests["estimate"] > 0), significant & (tests["estimate"] < 0), equivalent],
        ["better", "worse", "equivalent"],
        "inconclusive",
    )
    return tests
