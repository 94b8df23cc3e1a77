"""The table `tests`: every arm against its reference, on the same clips, seeds, splits and labels.

A difference is a paired one: the arm's influence values less the reference's, clip by clip, averaged over the repeats
that both have. The primary test is the two-way clustered t on mean r over all clips; everything else is secondary.
`p_holm` corrects over the arms of a comparison, `p_tost` tests equivalence within the margin fixed beforehand.
"""

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from piano_assets.analysis.evaluate import ROW_NAMES, Judged, average, judge, view_of
from piano_assets.analysis.panel import Block, Units, blocks, units
from piano_assets.analysis.scores import grouped
from piano_assets.analysis.secondary import SECONDARY, Evidence, Side, zou
from piano_assets.schemas import LEVELS, MARGINS, POPULATIONS, TABLES
from piano_assets.statistics import clustered
from piano_assets.statistics.clustered import ALPHA, Clustered
from piano_assets.statistics.multiplicity import corrected

PRIMARY = {"metric": "pearson_mean", "population": "all", "level": "global", "dimension": "mean", "test": "two_way_t"}
METRICS: tuple[str, ...] = ("pearson_mean", "r2_pooled")
FAMILY = ["comparison", "split", "rule", "population", "level", "metric", "dimension", "test"]
"""Tests that are corrected together: one per arm of the comparison."""

EFFECT = "Cohen's d_z of pseudo-values"
UNKNOWN = ("ci_low", "ci_high", "p_tost", "mde")
"""What not every secondary test says."""
UNTESTED = ("comparison", "arm", "population", "level", "metric", "reason")


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
    progress: Callable[[int, int], None] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Test every arm against its comparison's reference.

    Args: the tables of those names; `rng` draws the sign flips.

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
    by_arm = grouped(blocks(predictions, splits, known)[0], subjects)
    pairs, untested = _pairs(comparisons, arms, trials, {config for config, _, _ in by_arm})
    machines = _machines(trials, runs)
    rows: list[dict[str, object]] = []
    for done, pair in enumerate(pairs, 1):
        shared = _shared(by_arm, pair, machines)
        if isinstance(shared, str):
            untested.append((pair.comparison, pair.arm, None, None, None, shared))
            continue
        tuning, sides = shared
        for row in _tests(pair, sides, known, rng):
            if isinstance(row, tuple):
                untested.append(row)
            else:
                rows.append(row | {"tuning": tuning, "n_seeds": len(sides)})
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


def _machines(trials: pd.DataFrame, runs: pd.DataFrame) -> dict[tuple[str, int], str]:
    """(config, seed) of finished networks -> device class and precision that they were trained with."""
    neural = {c for c, j in zip(trials["config"], trials["trial_json"], strict=True) if json.loads(j)["optimisation"]}
    ran = runs[runs["config"].isin(neural) & (runs["status"] == "finished")]
    device = ran["device"].astype(str).str.split(":").str[0]
    where = device + " in " + ran["precision"].astype(str)
    return dict(zip(zip(ran["config"], ran["seed"].astype(int), strict=True), where, strict=True))


def _shared(
    by_arm: dict[tuple[str, str, str], list[Block]], pair: _Pair, machines: dict[tuple[str, int], str]
) -> tuple[str, list[tuple[Block, Block]]] | str:
    """(tuning, blocks of arm and reference in each shared repeat), or why there are none.

    A repeat in which two networks ran on another device class or in another precision is no pair.
    """
    unlike: list[str] = []
    for tuning in ("tuned", "fixed"):
        arm, reference = (
            {b.repeat: b for b in by_arm.get((config, pair.split, tuning), ())}
            for config in (pair.config, pair.reference)
        )
        both = sorted(arm.keys() & reference.keys())
        for r in both:
            pairs = [np.stack([b.fold, b.clip]) for b in (arm[r], reference[r])]
            if pairs[0].shape != pairs[1].shape or (pairs[0] != pairs[1]).any():
                raise UnfairComparison(
                    f"{pair.comparison}.{pair.arm}, split {pair.split!r}, repeat {r}: tested on {pairs[0].shape[1]} "
                    f"clips, the reference on {pairs[1].shape[1]}, or in other folds"
                )
        for r in list(both):
            ours, theirs = machines.get((pair.config, r)), machines.get((pair.reference, r))
            if ours and theirs and ours != theirs:
                both.remove(r)
                unlike.append(f"repeat {r} was trained on {ours}, the reference on {theirs}")
        if both:
            return tuning, [(arm[r], reference[r]) for r in both]
    if unlike:
        return "; ".join(dict.fromkeys(unlike))
    return f"no repeat and tuning in which both {pair.config} and {pair.reference} are complete"


def _tests(
    pair: _Pair, sides: list[tuple[Block, Block]], known: Units, rng: np.random.Generator
) -> Iterator[dict[str, object] | tuple]:
    names = {"comparison": pair.comparison, "arm": pair.arm, "reference": pair.reference}
    for population, level in itertools.product(POPULATIONS, LEVELS):
        gaps = [_gap(a, b, known, pair.rule, population, level) for a, b in sides]
        parts = [g for g in gaps if g is not None]
        if not parts:
            yield pair.comparison, pair.arm, population, level, None, "fewer than 2 clips to score"
            continue
        gap = average(parts)
        cluster, performer = known.cluster[gap.scored], known.performer[gap.scored]
        pairs = [
            (_side(a, known, pair.rule, population, level), _side(b, known, pair.rule, population, level))
            for (a, b), g in zip(sides, gaps, strict=True)
            if g is not None
        ]
        view = names | {"split": pair.split, "rule": pair.rule, "population": population, "level": level}
        for metric in METRICS:
            detailed = metric == "pearson_mean" and (population, level) == ("all", "global")
            margin = pair.margin if metric == "pearson_mean" else MARGINS[metric]
            for column in range(len(ROW_NAMES)) if detailed else [len(ROW_NAMES) - 1]:
                estimate = float(gap.value[metric][column])
                contributions = gap.contribution[metric][gap.scored, column]
                reason = _why_not(estimate, contributions, cluster, performer)
                if reason:
                    yield pair.comparison, pair.arm, population, level, metric, f"{ROW_NAMES[column]}: {reason}"
                    continue
                row = view | {"metric": metric, "dimension": ROW_NAMES[column], "margin": margin}
                row |= {
                    "effect_size": clustered.pseudovalue_d(estimate, contributions),
                    "effect_name": EFFECT,
                }
                two_way = clustered.two_way_t(estimate, contributions, cluster, performer)
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


def _side(block: Block, known: Units, rule: str, population: str, level: str) -> Side:
    seen = view_of(block, known, rule, population, level)
    assert seen is not None
    view, clip = seen
    return Side(view, known.cluster[clip])


def _gap(arm: Block, reference: Block, known: Units, rule: str, population: str, level: str) -> Judged | None:
    """Arm less reference in one repeat: values and contributions."""
    a, b = (judge(side, known, rule, population, level, METRICS) for side in (arm, reference))
    if a is None or b is None:
        return None
    value = {m: a.value[m] - b.value[m] for m in METRICS}
    return Judged(value, {m: a.contribution[m] - b.contribution[m] for m in METRICS}, a.scored)


def _why_not(estimate: float, contributions: np.ndarray, cluster: np.ndarray, performer: np.ndarray) -> str | None:
    if not (np.isfinite(estimate) and np.isfinite(contributions).all()):
        return "undefined (constant predictions)"
    for name, groups in (("cluster", cluster), ("performer", performer)):
        if len(np.unique(groups)) < 2:
            return f"only one {name} was scored"
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
    for _, family in tests.groupby(FAMILY, sort=False):
        for column, p in corrected(family["p"].to_numpy()).items():
            tests.loc[family.index, column] = p
    tests["is_primary"] = np.logical_and.reduce([tests[c] == v for c, v in PRIMARY.items()])
    significant, equivalent = tests["p_holm"] < ALPHA, tests["p_tost"] < ALPHA
    tests["verdict"] = np.select(
        [significant & (tests["estimate"] > 0), significant & (tests["estimate"] < 0), equivalent],
        ["better", "worse", "equivalent"],
        "inconclusive",
    )
    return tests
