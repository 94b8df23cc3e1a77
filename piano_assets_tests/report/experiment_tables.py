"""Hand-made tables of results: an arm for each way to end."""

import json

import numpy as np
import pandas as pd

from piano_assets.schemas import TABLES
from piano_assets_tests.report.small_tables import board, board_row, conformed

NOTE = "x<n> takes n times as long."
LOOKUP = "lookup.performer_mean"

TESTED = {
    "light": {},
    "heavy": {"model.dropout": [0.3, 0.1]},
    "worse": {"model.depth": [4, 3], "optimisation.loss": ["a|b", "mse"]},
    "same": {"augmentation.mixup": [0.2, 0.0]},
    "unclear": {"augmentation.rerender": [True, False]},
    "constant": {"model.fusion": ["", "gated"]},
    "half": {"model.dim": [8, 4]},
    "stopped": {"model.dim": [9, 4]},
    "partial": {"model.dim": [10, 4]},
    "broken": {"model.dim": [11, 4]},
    "absent": {"model.dim": [12, 4]},
}
DIFFERENCES = {  # estimate, low, high, p_holm, p_tost, verdict
    "heavy": (0.031, 0.012, 0.05, 0.004, 0.9, "better"),
    "worse": (-0.0301, -0.05, -0.012, 0.0004, 0.9, "worse"),
    "same": (0.002, -0.006, 0.01, 0.6, 0.001, "equivalent"),
    "unclear": (0.015, -0.01, 0.04, 0.4, 0.4, "inconclusive"),
    "half": (0.03, 0.001, 0.059, 0.08, 0.7, "inconclusive"),
    "stopped": (0.0, -0.03, 0.03, 1.0, 0.3, "inconclusive"),
}


def rows(table: str, *found: dict) -> pd.DataFrame:
    """Rows of a table; columns that may be missing are, where they are not given."""
    empty = {c: None for c, d in TABLES[table].columns.items() if d.nullable}
    return conformed(table, pd.DataFrame([empty | r for r in found], columns=list(TABLES[table].columns)))


def comparison(name: str, reference: str, tested: bool = True) -> dict:
    told = {"comparison": name, "hypothesis": f"{name} helps if n < 2.", "reference": reference, "margin": 0.02}
    return told | {"budget": "full", "search": "{}", "tested": tested, "budget_note": NOTE}


def arm(of: str, name: str, config: str, changed: dict, reference: bool = False, claimed: int | None = None) -> dict:
    told = {"comparison": of, "arm": name, "config": config, "trial": config, "is_reference": reference}
    return told | {"changed_fields": json.dumps(changed), "label_changing": False, "claimed_params": claimed}


def trial(config: str, split: str = "cluster", rule: str = "clean", n_params: int = 1_650_000) -> dict:
    told = {"trial": config, "config": config, "family": "ast", "n_params": n_params, "budget": "full"}
    return told | {"trial_json": json.dumps({"split": split, "label_rule": rule})}


def scores(subject: str, r: float, split: str = "cluster", rule: str = "clean", n_seeds: int = 5, **more) -> list[dict]:
    """R2 (r - .2) and r of a subject."""
    told = {"subject": subject, "split": split, "rule": rule, "population": "all", "level": "global"}
    told |= {"dimension": "mean", "tuning": "fixed", "n_seeds": n_seeds} | more
    return [
        told | {"metric": m, "value": v, "ci_low": v - 0.05, "ci_high": v + 0.05}
        for m, v in (("r2_pooled", r - 0.2), ("r2_fold_mean", r - 0.3), ("pearson_mean", r))
    ]


def primary(of: str, name: str, reference: str, figures: tuple) -> dict:
    told = dict(zip(("estimate", "ci_low", "ci_high", "p_holm", "p_tost", "verdict"), figures, strict=True))
    told |= {"comparison": of, "arm": name, "reference": reference, "split": "cluster", "rule": "clean"}
    told |= {"population": "all", "level": "global", "metric": "pearson_mean", "dimension": "mean", "tuning": "fixed"}
    told |= {"test": "two_way_t", "is_primary": True, "n_units": 21, "unit": "cluster", "n_seeds": 5, "margin": 0.02}
    return told | {"p": 0.5, "p_bonferroni": 0.5, "p_bh": 0.5, "mde": 0.03}


def experiment_tables() -> dict[str, pd.DataFrame]:
    """A tested comparison with an arm for each way to end, one of protocols, one of a user, one that waits."""
    names = {"dropout": TESTED, "waiting": {"first": {}, "second": {"model.dim": [2, 4]}}}
    configs = {"light": "ast.reference"}
    arms = [
        arm(of, a, configs.get(a, f"{of}.{a}"), changed, not changed, 5_000_000 if of == "dropout" else None)
        for of, its in names.items()
        for a, changed in its.items()
    ]
    arms += [
        arm("protocols", s, f"protocols.{s}", {"split": [s, "cluster"]}, s == "cluster") for s in ("cluster", "random")
    ]
    arms += [arm("user", "mine", "user.mine", {"model.dim": [2, 4]})]
    trials = [trial(a["config"]) for a in arms if a["comparison"] != "protocols"]
    trials += [trial("protocols.cluster"), trial("protocols.random", "random")]
    found = [s for a in ("heavy", "worse", "same", "unclear") for s in scores(f"dropout.{a}", 0.6)]
    found += scores("ast.reference", 0.6) + scores("user.mine", 0.55) + scores("dropout.half", 0.63, n_seeds=3)
    found += scores("dropout.stopped", 0.6, n_seeds=1) + scores("dropout.constant", np.nan)
    found += scores("dropout.heavy", 0.61, tuning="tuned")
    found += scores("protocols.cluster", 0.5) + scores("protocols.random", 0.8, "random")
    found += scores(LOOKUP, 0.4) + scores(LOOKUP, 0.7, "random")
    # The wrong view of the same subject must not be taken for the score.
    found += [s | {"population": "humans", "value": 0.111} for s in scores("dropout.heavy", 0.6)]
    given = {"lookup": LOOKUP, "lookup_r2": 0.2, "lookup_r": 0.4}
    lines = [board_row("ast.reference", **given), board_row("dropout.half", complete=False, **given)]
    lines += [board_row("dropout.partial|0", complete=False, kind="trial", **given)]
    lines += [board_row("protocols.random", split="random", aggregation="mean_of_folds", **given)]
    ceiling = {"method": "split_half", "rule": "clean", "population": "all", "level": "global", "dimension": "mean"}
    ceiling |= {"reliability": 0.76, "ci_low": 0.74, "ci_high": 0.78, "max_r": 0.87, "max_r2": 0.76}
    run = dict.fromkeys(TABLES["runs"].columns, "x") | {"config": "dropout.broken", "seed": 0, "seconds": 1}
    run |= {"peak_memory_mb": 1, "code_version": 1, "git_dirty": False, "status": "diverged"}
    stopped = {"comparison": "dropout", "arm": "stopped", "config": "dropout.stopped", "rung": 1, "n_seeds": 1}
    stopped |= {"valid_r": 0.31, "kept_valid_r": 0.35, "rule": "the worse half stops", "at": pd.Timestamp(0, tz="UTC")}
    paper = {"subject": "Net", "source": "A paper", "split": "random", "rule": "clean", "metric": "r2_fold_mean"}
    return {
        "comparisons": rows(
            "comparisons",
            comparison("dropout", "ast.reference"),
            comparison("protocols", "protocols.cluster", tested=False),
            comparison("waiting", "waiting.first"),
            comparison("user", "ast.reference"),
        ),
        "arms": rows("arms", *arms),
        "trials": rows("trials", *trials),
        "runs": rows("runs", run | {"finished_at": pd.Timestamp(0, tz="UTC")}),
        "halted": rows("halted", stopped),
        "scores": rows("scores", *found),
        "tests": rows("tests", *(primary("dropout", a, "ast.reference", d) for a, d in DIFFERENCES.items())),
        "leaderboard_trials": board(*lines),
        "noise_ceiling": rows("noise_ceiling", ceiling),
        "leaks": rows(
            "leaks",
            *(
                {"split": s, "repeat": 0, "fold": f, "kind": k, "share": v, "promised_zero": False}
                for s, v in (("cluster", 0.0), ("random", 0.5))
                for f in (0, 1)
                for k in ("cluster", "excerpt", "performer", "identical_notes")
            ),
        ),
        "published": rows("published", paper | {"value": 0.285, "caveat": "one fixed test set"}),
    }
