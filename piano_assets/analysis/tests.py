"""The table `tests`: every arm against its reference, on the same clips, seeds, splits and labels.

A difference is a paired one, clip by clip, averaged over the repeats that both have. The primary test is the two-way
clustered t on mean r over all clips: what the difference would be without each cluster and each performer says how far
to trust it. Everything else is secondary.
`p_holm` corrects over the arms of a comparison, `p_tost` tests equivalence within the margin fixed beforehand.

What is paired with what, and why some of it is not: `pairs`.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial

import numpy as np
import pandas as pd

from piano_assets.analysis.evaluate import ROW_NAMES, Judged, average, judge_side, less, side_of
from piano_assets.analysis.pairs import Pair, pairs_of, shared, trained
from piano_assets.analysis.panel import Block, Units, units
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
    by_arm = grouped(trained(predictions, others, splits, known, trials, runs), subjects)
    pairs, untested = pairs_of(comparisons, arms, trials, {config for config, _, _ in by_arm})
    look = lru_cache(N_SEEN)(partial(_seen, known))
    rows: list[dict[str, object]] = []
    for done, pair in enumerate(pairs, 1):
        both = shared(by_arm, pair)
        if isinstance(both, str):
            untested.append((pair.comparison, pair.arm, None, None, None, both))
            continue
        tuning, sides = both
        for row in _tests(pair, sides, known, look, rng):
            if isinstance(row, tuple):
                untested.append(row)
            else:
                rows.append(row | {"tuning": tuning, "n_seeds": len(sides), "machine": _machine(sides)})
        if progress:
            progress(done, len(pairs))
    tests = _with_verdicts(pd.DataFrame(rows)) if rows else TABLES["tests"].empty()
    return tests[list(TABLES["tests"].columns)], pd.DataFrame(untested, columns=list(UNTESTED))


def _machine(sides: list[tuple[Block, Block]]) -> str | None:
    """Where the networks of all pairs were trained; None where there is none."""
    found = {b.machine for pair in sides for b in pair if b.machine is not None}
    return " and ".join(sorted(found)) or None


def _tests(
    pair: Pair, sides: list[tuple[Block, Block]], known: Units, look: Look, rng: np.random.Generator
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
