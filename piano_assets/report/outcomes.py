"""What has come of each comparison, gathered from the tables: its arms with their scores and tests, its protocols."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pandas as pd

from piano_assets.analysis.leaderboard import HEADLINE
from piano_assets.report.verdicts import Difference, number

READ = (
    *("comparisons", "arms", "trials", "runs", "halted", "scores", "tests"),
    *("leaderboard_trials", "noise_ceiling", "leaks", "published"),
)
"""Tables that the outcomes are gathered from."""

NO_RUN = "no run yet"
R = "pearson_mean"

Frames = Mapping[str, pd.DataFrame]


@dataclass(frozen=True)
class Score:
    """A score with its 95 % interval; NaN where it is undefined."""

    value: float
    ci_low: float
    ci_high: float
    n_seeds: int


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A split and a label rule: how folds are aggregated, what the best lookup scores there, and what can be reached.

    Attributes:
        lookup_scores: metric -> score of the best lookup.
        leaks: kind of kinship -> mean share of test clips with kin in training.
    """

    split: str
    rule: str
    aggregation: str = "pooled"
    lookup: str | None = None
    lookup_scores: Mapping[str, Score]
    ceiling_r2: Score | None = None
    ceiling_r: Score | None = None
    leaks: Mapping[str, float]

    @property
    def name(self) -> tuple[str, str]:
        return self.split, self.rule

    @property
    def r2(self) -> str:
        """The R2 that the protocol ranks by."""
        return HEADLINE[self.aggregation]

    @property
    def lookup_r2(self) -> Score | None:
        return self.lookup_scores.get(self.r2)

    @property
    def lookup_r(self) -> Score | None:
        return self.lookup_scores.get(R)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """An arm: what it changed, its score at the tuning of its test, and what kept it from running in whole.

    Attributes:
        scores: metric -> score; empty where there is none.
        fixed_r: mean r with the trial's own settings, where the score shown is a tuned one.
        reason: why it has no score, or (of one with a score) why not on every seed; None where nothing is missing.
    """

    name: str
    is_reference: bool
    changed: tuple[str, ...]
    n_params: int | None
    claimed: int | None
    protocol: Protocol
    tuning: str = ""
    scores: Mapping[str, Score]
    fixed_r: Score | None = None
    difference: Difference | None = None
    reason: str | None = None

    @property
    def r2(self) -> Score | None:
        return self.scores.get(self.protocol.r2)

    @property
    def r(self) -> Score | None:
        return self.scores.get(R)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A comparison at a budget, arms in their order.

    search_points: points of each arm's search, 0 without one; paired_elsewhere: machines on which arms were paired with
    the reference where its scores shown here are those of another machine.
    """

    name: str
    hypothesis: str
    reference: str
    budget: str
    budget_note: str
    tested: bool
    margin: float
    search_points: tuple[int, ...]
    protocol: Protocol
    arms: tuple[Arm, ...]
    paired_elsewhere: tuple[str, ...] = ()

    @property
    def scored(self) -> list[Arm]:
        return [a for a in self.arms if a.r is not None]

    @property
    def run(self) -> bool:
        """Has any arm a score beside the reference?"""
        return any(not a.is_reference for a in self.scored)


def outcomes(tables: Frames) -> list[Outcome]:
    """Every comparison of the table `comparisons`, in its order. `tables`: frames by name, those of `READ`.

    A reference that is no arm of its comparison stands as its first arm, by the name of its config.
    """
    gathered = _Gathered(tables)
    return [gathered.outcome(row) for row in tables["comparisons"].itertuples()]


class _Gathered:
    """The tables by what they are looked up by."""

    def __init__(self, tables: Frames) -> None:
        self.arms = tables["arms"]
        self.trials = {row.config: row for row in tables["trials"].itertuples()}
        self.halted = {(row.comparison, row.arm): row for row in tables["halted"].itertuples()}
        runs = tables["runs"]
        self.runs = runs.groupby("config")["status"].agg(set).to_dict()
        where = runs["device"].str.split(":").str[0] + " in " + runs["precision"]
        self.machines = where.groupby(runs["config"]).agg(set).to_dict()
        tests = tables["tests"][tables["tests"]["is_primary"].astype(bool)]
        self.tests = {(row.comparison, row.arm): row for row in tests.itertuples()}
        self.scores: dict[tuple[str, str, str, str], dict[str, Score]] = {}
        for row in _means(tables["scores"]).itertuples():
            key = str(row.subject), str(row.split), str(row.rule), str(row.tuning)
            self.scores.setdefault(key, {})[str(row.metric)] = _score(row)
        ceiling = _means(tables["noise_ceiling"])
        ceiling = ceiling[ceiling["method"] == "split_half"]
        self.ceiling = {row.rule: row for row in ceiling.itertuples()}
        board = tables["leaderboard_trials"]
        self.board = {(row.split, row.rule): row for row in board.itertuples()}
        # An arm's own row, or that of a seed, `<config>|<seed>`.
        self.unfinished = {str(s).partition("|")[0] for s in board["subject"][~board["complete"].astype(bool)]}
        leaks = tables["leaks"].groupby(["split", "kind"], sort=True)["share"].mean()
        self.leaks = {split: of.droplevel("split").to_dict() for split, of in leaks.groupby(level="split")}

    def outcome(self, of: Any) -> Outcome:
        rows = list(self.arms[self.arms["comparison"] == of.comparison].itertuples())
        arms = [self.arm(row, of) for row in rows]
        if not any(row.is_reference for row in rows):
            alone = {"arm": of.reference, "config": of.reference, "is_reference": True, "changed_fields": "{}"}
            reference = SimpleNamespace(**alone, label_changing=False, claimed_params=None)
            arms.insert(0, self.arm(reference, of))
        protocol = self.protocol(of.reference, of)
        searches = json.loads(of.search)
        points = [math.prod(len(v) for _, v in searches[row.arm]) if row.arm in searches else 0 for row in rows]
        return Outcome(
            name=of.comparison,
            hypothesis=of.hypothesis,
            reference=of.reference,
            budget=of.budget,
            budget_note=of.budget_note,
            tested=bool(of.tested),
            margin=float(of.margin),
            search_points=() if _derived(of) else tuple(sorted(set(points))),
            protocol=protocol,
            arms=tuple(arms),
            paired_elsewhere=self.paired_elsewhere(of),
        )

    def paired_elsewhere(self, of: Any) -> tuple[str, ...]:
        """Machines of a comparison's pairs that are not those of the shown scores of its reference, if a network."""
        if of.reference not in self.trials or not self.is_network(of.reference):
            return ()
        paired = {row.machine for (name, _), row in self.tests.items() if name == of.comparison}
        shown = self.machines.get(of.reference, paired)
        return tuple(sorted(m for m in paired - shown if isinstance(m, str)))

    def is_network(self, config: str) -> bool:
        return bool(json.loads(self.trials[config].trial_json).get("optimisation"))

    def arm(self, row: Any, of: Any) -> Arm:
        protocol, trial = self.protocol(row.config, of), self.trials.get(row.config)
        test = self.tests.get((of.comparison, row.arm))
        found = {t: self.scores.get((row.config, *protocol.name, t), {}) for t in ("tuned", "fixed")}
        tuning = str(test.tuning) if test and not _derived(of) else "tuned" if found["tuned"] else "fixed"
        fields = json.loads(row.changed_fields)
        if trial is None or _derived(of):
            changed = recipe(fields)
        else:
            changed = changes(fields, trial.family, self.trials[of.reference].family)
        return Arm(
            name=str(row.arm),
            is_reference=bool(row.is_reference),
            changed=changed + (("bends what some labels describe",) if row.label_changing else ()),
            n_params=None if trial is None or pd.isna(trial.n_params) else int(trial.n_params),
            claimed=None if pd.isna(row.claimed_params) else int(row.claimed_params),
            protocol=protocol,
            tuning=tuning if found[tuning] else "",
            scores=found[tuning],
            fixed_r=found["fixed"].get(R) if tuning == "tuned" else None,
            difference=None if test is None else _difference(test),
            reason=self.reason(row, of, bool(found[tuning])),
        )

    def protocol(self, config: str, of: Any) -> Protocol:
        """The protocol of a config's trial, or of what the comparison is made of."""
        if _derived(of):
            split, rule = of.split, of.rule
        else:
            trial = json.loads(self.trials[config].trial_json)
            split, rule = trial["split"], trial["label_rule"]
        known: dict[str, Any] = {"split": split, "rule": rule, "lookup_scores": {}, "leaks": self.leaks.get(split, {})}
        reach = self.ceiling.get(rule)
        if reach is not None:
            # The interval is the reliability's, which is the highest R2; the root's is not known.
            known["ceiling_r2"] = Score(reach.max_r2, reach.ci_low, reach.ci_high, 0)
            known["ceiling_r"] = Score(reach.max_r, math.nan, math.nan, 0)
        row = self.board.get((split, rule))
        if row is not None:
            known["aggregation"] = row.aggregation
            if isinstance(row.lookup, str):
                found = self.scores.get((row.lookup, split, rule, "fixed"), {})
                known |= {"lookup": row.lookup, "lookup_scores": found}
        return Protocol(**known)

    def reason(self, row: Any, of: Any, scored: bool) -> str | None:
        stopped = self.halted.get((of.comparison, row.arm))
        if stopped is not None:
            seeds = f"{stopped.n_seeds} seed{'s' if stopped.n_seeds > 1 else ''}"
            rs = (
                f"{number(stopped.valid_r)} on inner validation clips, of the worst kept {number(stopped.kept_valid_r)}"
            )
            return f"stopped after {seeds}: r {rs}"
        if row.config in self.unfinished:
            return "incomplete predictions" + (" of a seed, left out" if scored else "")
        if scored:
            return None
        statuses = self.runs.get(row.config, set())
        broken = sorted(statuses - {"finished"})
        return f"a run has {' and one '.join(broken)}" if broken else "not scored yet" if statuses else NO_RUN


def changes(fields: Mapping[str, list[Any]], family: str, reference_family: str) -> tuple[str, ...]:
    """What an arm changed, in short: `depth 6 (3)` is 6 in place of the reference's 3.

    Where the kind of model is another one, its family stands for its fields, and the inputs are told. A search that
    follows its model is left out.
    """
    told = {name: pair for name, pair in fields.items() if name != "search"} or dict(fields)
    words = []
    if None in told.get("model.regressor", ()):
        words = [f"{family} ({reference_family})"]
        told = {
            n: pair for n, pair in told.items() if n.startswith(("inputs.", "augmentation.", "split", "label_rule"))
        }
    return *words, *(_change(name.rpartition(".")[2], *pair) for name, pair in told.items())


def recipe(fields: Mapping[str, list[Any]]) -> tuple[str, ...]:
    """What an arm that is made from trials is, in short: `members a, b`."""
    found = []
    for name, (value, _) in fields.items():
        said = ", ".join(map(str, value)) if isinstance(value, list) else value
        found.append(f"{name.replace('_', ' ')} {said}")
    return tuple(found)


def _derived(of: Any) -> bool:
    """Whether a row of `comparisons` compares what is made from trials."""
    return isinstance(of.split, str)


def _change(name: str, value: Any, reference: Any) -> str:
    if name == "search":
        return "another search"
    if isinstance(value, bool):
        return name if value else f"no {name}"
    if value in (None, "", 0):
        return f"no {name} ({reference})"
    return f"{name} {value}" + ("" if reference in (None, "", 0) else f" ({reference})")


def _means(table: pd.DataFrame) -> pd.DataFrame:
    """Rows over all clips as they are, mean over dimensions."""
    return table[(table["dimension"] == "mean") & (table["population"] == "all") & (table["level"] == "global")]


def _score(row: Any) -> Score:
    value, low, high = (math.nan if pd.isna(x) else float(x) for x in (row.value, row.ci_low, row.ci_high))
    return Score(value, low, high, int(row.n_seeds))


def _difference(row: Any) -> Difference:
    values = {c: getattr(row, c) for c in ("estimate", "ci_low", "ci_high", "p_holm", "p_tost", "margin", "mde")}
    known = {c: math.nan if pd.isna(v) else float(v) for c, v in values.items()}
    return Difference(**known, verdict=row.verdict, n_seeds=int(row.n_seeds))
