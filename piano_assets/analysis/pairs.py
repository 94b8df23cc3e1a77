"""Who is paired with whom in the table `tests`, in which repeats, and why some are not.

Networks are paired with networks of the same class of device and precision: a partition trained in several ways has
predictions of each, and the first way that both sides have is taken, repeat by repeat.

What is made from trials, as an ensemble, is paired like a trial, but has no machine and goes with anything: it is made
of what stands first of its members, as its reference is. Nor has it to be tuned as its reference is: each side enters
as its makers would use it, tuned where it can be.
"""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from piano_assets.analysis.panel import Block, Units, blocks
from piano_assets.schemas import TUNINGS


class UnfairComparison(ValueError):
    """Arms that must not be compared: they were tested on different clips."""


@dataclass(frozen=True)
class Pair:
    comparison: str
    arm: str
    config: str
    reference: str
    split: str
    rule: str
    margin: float
    derived: bool = False


def pairs_of(
    comparisons: pd.DataFrame, arms: pd.DataFrame, trials: pd.DataFrame, have: set[str]
) -> tuple[list[Pair], list[tuple]]:
    """(arms to test, those that cannot be with the reason, as rows of `untested`).

    Args: the tables of those names; `have`: the subjects, trials by their configs, with complete predictions.
    """
    design = {c: json.loads(j) for c, j in zip(trials["config"], trials["trial_json"], strict=True)}
    found: list[Pair] = []
    untested: list[tuple] = []
    for of in comparisons.itertuples():
        ours = arms[(arms["comparison"] == of.comparison) & ~arms["is_reference"].astype(bool)]
        derived = not pd.isna(of.split)
        for arm in ours.itertuples():
            sides = arm.config, of.reference
            reason = None
            if derived:
                protocol = of.split, of.rule
            else:
                for config in sides:
                    if config not in design:
                        raise ValueError(
                            f"comparison {of.comparison!r}: config {config!r} has no row in the table trials"
                        )
                protocol = tuple(design[arm.config][field] for field in ("split", "label_rule"))
                reason = _unlike(*(design[config] for config in sides))
            absent = [c for c in sides if c not in have]
            if absent and not reason:
                reason = f"no complete predictions of {' and '.join(absent)}"
            if reason:
                untested.append((of.comparison, arm.arm, None, None, None, reason))
            else:
                found.append(Pair(of.comparison, arm.arm, *sides, *protocol, float(of.margin), derived))
    return found, untested


def _unlike(a: Mapping[str, Any], b: Mapping[str, Any]) -> str | None:
    """Why trial `a` must not be compared with its reference `b`."""
    if a["optimisation"] and b["optimisation"] and a["budget"] != b["budget"]:
        return f"trained at budget {a['budget']}, the reference at {b['budget']}"
    if (a["split"], a["label_rule"]) != (b["split"], b["label_rule"]):
        return (
            f"{a['split']} with {a['label_rule']} labels is not the reference's protocol "
            f"({b['split']}, {b['label_rule']}): their test sets differ"
        )
    return None


def trained(
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


def shared(by_arm: dict[tuple[str, str, str], list[Block]], pair: Pair) -> tuple[str, list[tuple[Block, Block]]] | str:
    """(tuning, blocks of arm and reference in each shared repeat), or why there are none.

    A repeat in which no way of training is common to two networks is no pair.
    """
    unlike: list[str] = []
    for tuning, ours, theirs in _tunings(by_arm, pair):
        arm, reference = _by_repeat(ours), _by_repeat(theirs)
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


def _tunings(
    by_arm: dict[tuple[str, str, str], list[Block]], pair: Pair
) -> Iterator[tuple[str, Sequence[Block], Sequence[Block]]]:
    """(tuning, blocks of the arm, of the reference) in the order in which they are tried.

    What is made from trials is compared as it is used: each side tuned where it can be.
    """
    arm, reference = (
        {tuning: by_arm.get((config, pair.split, tuning), []) for tuning in TUNINGS}
        for config in (pair.config, pair.reference)
    )
    if pair.derived:
        sides = [next((t for t in TUNINGS if of[t]), "fixed") for of in (arm, reference)]
        yield "tuned" if set(sides) == {"tuned"} else "fixed", arm[sides[0]], reference[sides[1]]
        return
    for tuning in TUNINGS:
        yield tuning, arm[tuning], reference[tuning]


def _by_repeat(of: Sequence[Block]) -> dict[int, list[Block]]:
    found: dict[int, list[Block]] = {}
    for block in of:
        found.setdefault(block.repeat, []).append(block)
    return found


def _alike(arm: list[Block], reference: list[Block]) -> tuple[Block, Block] | None:
    """The first two of one machine; whatever has none, as a tabular model, goes with anything."""
    pairs = itertools.product(arm, reference)
    return next(((a, b) for a, b in pairs if a.machine == b.machine or None in (a.machine, b.machine)), None)
