"""The leaderboard: one row per subject, split and label rule, best first, never without lookup score and ceiling.

Ranked are arms and ensembles, within a split and rule, by the R2 that the split itself aggregates by. Not ranked, yet
always listed: lookups, published results, single seeds, reduced and smoke budgets, incomplete subjects, and arms with
fewer repeats than the best covered one, since the assignment of folds alone moves R2 by .04.
"""

import json
from collections.abc import Mapping

import numpy as np
import pandas as pd

from piano_assets.schemas import TABLES

COLUMNS: tuple[str, ...] = tuple(TABLES["leaderboard_trials"].columns)
KEY = ["subject", "split", "rule", "tuning"]
HEADLINE: dict[str, str] = {"pooled": "r2_pooled", "mean_of_folds": "r2_fold_mean"}
RANKED = ("arm", "ensemble")
SHORT_BUDGETS = ("smoke", "reduced")

# (population, level, metric) -> column; each stands with its interval.
_SHOWN: dict[tuple[str, str, str], str] = {
    ("all", "global", "r2_pooled"): "r2_pooled",
    ("all", "global", "pearson_mean"): "pearson_mean",
    ("all", "global", "r2_fold_mean"): "r2_fold_mean",
    ("all", "global", "pearson_flat_z"): "pearson_flat_z",
    ("humans", "global", "r2_pooled"): "humans_r2",
    ("humans", "within_excerpt", "pearson_mean"): "within_excerpt_r",
}


def leaderboard(
    scores: pd.DataFrame,
    subjects: pd.DataFrame,
    trials: pd.DataFrame,
    published: pd.DataFrame,
    ceiling: pd.DataFrame,
    completeness: pd.DataFrame,
    aggregation: Mapping[str, str],
) -> pd.DataFrame:
    """Build the table `leaderboard_trials`; the view `leaderboard` leaves out its rows of kind `trial`.

    Where a subject has tuned and fixed predictions, the tuned ones stand here.

    Args: the tables of those names; `completeness` from `panel.blocks`; `aggregation`: split -> `pooled` or
        `mean_of_folds`.

    Raises:
        KeyError: a split whose aggregation is not given.
    """
    board = _wide(scores)
    described = subjects.drop_duplicates("subject").set_index("subject")
    board["kind"] = described["kind"].reindex(board["subject"]).to_numpy()
    board["family"] = described["family"].reindex(board["subject"]).to_numpy()
    config = described["config"].reindex(board["subject"]).to_numpy()
    board["budget"] = trials.set_index("config")["budget"].reindex(config).to_numpy()
    board = _add_incomplete(board, completeness, described, trials)
    board["caveat"] = None
    board = pd.concat([board, _published(published)], ignore_index=True)
    board["aggregation"] = [aggregation[s] for s in board["split"]]
    headline = _headline(board)
    board = _with_lookup(board, headline)
    board = _with_ceiling(board, ceiling)
    board = _with_rank(board, headline)
    # The default protocol first; then best first, whatever has no R2 last.
    order = board.assign(_other=board["split"] != "cluster", _headline=headline).sort_values(
        ["_other", "split", "rule", "_headline", "subject"], ascending=[True, True, True, False, True]
    )
    return order.reset_index(drop=True)[list(COLUMNS)].astype({"rank": "Int32", "n_seeds": "Int32"})


def _wide(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per subject, split and rule: its tuned scores, else its fixed ones."""
    means = scores[scores["dimension"] == "mean"]
    view = pd.MultiIndex.from_frame(means[["population", "level", "metric"]])
    means = means.assign(column=[_SHOWN.get(v) for v in view]).dropna(subset="column")
    wide = means.pivot(index=KEY, columns="column", values=["value", "ci_low", "ci_high"])
    board = pd.DataFrame(index=wide.index)
    for column in _SHOWN.values():
        for source, suffix in (("value", ""), ("ci_low", "_low"), ("ci_high", "_high")):
            found = (source, column) in wide.columns
            board[column + suffix] = wide[source, column].astype(float) if found else np.nan
    main = means[means["column"] == "pearson_mean"].set_index(KEY)
    board["n_seeds"] = main["n_seeds"].reindex(board.index).fillna(0).astype(int)
    board["complete"] = True
    board = board.reset_index().sort_values("tuning", ascending=False)  # 'tuned' before 'fixed'
    return board.drop_duplicates(["subject", "split", "rule"]).reset_index(drop=True)


def _add_incomplete(
    board: pd.DataFrame, completeness: pd.DataFrame, described: pd.DataFrame, trials: pd.DataFrame
) -> pd.DataFrame:
    """Mark arms with an unfinished seed, and list subjects of which nothing is complete (without a score)."""
    rule = {c: json.loads(j)["label_rule"] for c, j in zip(trials["config"], trials["trial_json"], strict=True)}
    budget = trials.set_index("config")["budget"]
    unfinished = completeness[~completeness["complete"].astype(bool)]
    config = described["config"].reindex(unfinished["subject"]).to_numpy()
    touched = set(zip(unfinished["subject"], unfinished["split"], unfinished["tuning"], strict=True))
    touched |= set(zip(config, unfinished["split"], unfinished["tuning"], strict=True))
    board["complete"] = [
        key not in touched for key in zip(board["subject"], board["split"], board["tuning"], strict=True)
    ]
    listed = set(zip(board["subject"], board["split"], strict=True))
    rows = []
    for row, of in zip(unfinished.itertuples(), config, strict=True):
        if (row.subject, row.split) not in listed:
            listed.add((row.subject, row.split))
            known = of in rule
            rows.append(
                {
                    "subject": row.subject,
                    "split": row.split,
                    "rule": rule[of] if known else "published" if row.subject.endswith("@published") else "clean",
                    "tuning": row.tuning,
                    "kind": described["kind"].get(row.subject),
                    "family": described["family"].get(row.subject),
                    "budget": budget[of] if known else None,
                    "n_seeds": 0,
                    "complete": False,
                }
            )
    return pd.concat([board, pd.DataFrame(rows)], ignore_index=True) if rows else board


def _published(published: pd.DataFrame) -> pd.DataFrame:
    keys = ["subject", "split", "rule"]
    rows: list[dict[str, object]] = []
    for (subject, split, rule), of in published.groupby(keys, sort=True):
        row: dict[str, object] = {"subject": subject, "split": split, "rule": rule, "kind": "published"}
        row |= {
            "family": "published",
            "tuning": "fixed",
            "n_seeds": 0,
            "complete": True,
            "caveat": of["caveat"].iloc[0],
        }
        for result in of.itertuples():
            row |= {str(result.metric): result.value}
            row |= {f"{result.metric}_low": result.ci_low, f"{result.metric}_high": result.ci_high}
        rows.append(row)
    return pd.DataFrame(rows)


def _headline(board: pd.DataFrame) -> pd.Series:
    """The R2 that the row's split ranks by."""
    pooled = board["aggregation"] == "pooled"
    return board[HEADLINE["pooled"]].where(pooled, board[HEADLINE["mean_of_folds"]]).astype(float)


def _with_lookup(board: pd.DataFrame, headline: pd.Series) -> pd.DataFrame:
    """Put the best lookup of the same split and rule beside every row."""
    best = board.assign(lookup_r2=headline)[board["kind"] == "lookup"].sort_values(["lookup_r2", "subject"])
    best = best.drop_duplicates(["split", "rule"], keep="last")
    best = best.rename(columns={"subject": "lookup", "pearson_mean": "lookup_r", "pearson_flat_z": "lookup_flat_z"})
    columns = ["split", "rule", "lookup", "lookup_r2", "lookup_r", "lookup_flat_z"]
    return board.merge(best[columns], how="left", on=["split", "rule"])


def _with_ceiling(board: pd.DataFrame, ceiling: pd.DataFrame) -> pd.DataFrame:
    chosen = ceiling[
        (ceiling["method"] == "split_half")
        & (ceiling["population"] == "all")
        & (ceiling["level"] == "global")
        & (ceiling["dimension"] == "mean")
    ].set_index("rule")
    for column, source in (("ceiling_r2", "max_r2"), ("ceiling_r", "max_r")):
        board[column] = chosen[source].astype(float).reindex(board["rule"]).to_numpy()
    return board


def _with_rank(board: pd.DataFrame, headline: pd.Series) -> pd.DataFrame:
    """Rank what may be ranked, and say of the rest why not."""
    candidate = board["kind"].isin(RANKED)
    short = board["budget"].isin(SHORT_BUDGETS)
    protocol = [board["split"], board["rule"]]
    most = board["n_seeds"].where(candidate & ~short, 0).groupby(protocol).transform("max").astype(int)
    seeds = board["n_seeds"].astype(int).astype(str) + " of " + most.astype(str) + " repeats: not ranked"
    reasons = (
        (short, board["budget"].astype(str) + " budget, which shows that it runs: not ranked"),
        (~board["complete"].astype(bool), pd.Series("incomplete: not ranked", board.index)),
        (board["n_seeds"] < most, seeds),
        (headline.isna(), pd.Series("R2 undefined: not ranked", board.index)),
    )
    ranked = candidate
    for broken, why in reasons:
        told = board["caveat"].fillna("") + np.where(board["caveat"].isna(), "", "; ") + why
        board["caveat"] = board["caveat"].where(~(broken & candidate), told)
        ranked = ranked & ~broken
    board["rank"] = headline.where(ranked).groupby(protocol).rank(ascending=False, method="min")
    return board
