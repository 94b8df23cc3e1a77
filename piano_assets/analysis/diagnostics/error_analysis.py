"""Where a subject errs: which clips, whose playing, what music, which dimensions; from stored predictions alone.

A clip's error is the root mean square over its 19 dimensions, its residual on a dimension prediction minus label
(positive: rated too high). A linear mixed model (`statistics.mixed`) tells what goes with either: random intercepts of
excerpt and performer, and standardised properties of clip and labels. An excerpt's share of the residuals' variance is
what the model does not hear of that music, a performer's share what it does not hear of the player; the rest is the
single performance and the raters' noise.
"""

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from piano_assets.analysis.diagnostics.rows import table
from piano_assets.analysis.groups import thirds
from piano_assets.dimensions import NAMES
from piano_assets.statistics.clustered import (
    clustered_variance,
    degrees_of_freedom,
    effective_groups,
    interval,
    two_way_se,
)
from piano_assets.statistics.mixed import REST, fit_mixed

GROUPINGS = ("excerpt", "performer")
WORST, WORST_DIMENSIONS = 10, 3
TERCILES = {"duration": "tercile of duration", "raters": "tercile of rater count"}
CONVERGED = "mixed model"
Row = dict[str, object]


class UnknownClips(ValueError):
    """Predictions or labels of clips that the table `clips` does not have."""


def error_analysis(
    pred: pd.DataFrame,
    clips: pd.DataFrame,
    labels: pd.DataFrame,
    *,
    worst: int = WORST,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Rows about the errors of one subject under one label rule.

    Args:
        pred: out-of-fold predictions (see `by_clip`), index clip, columns the 19 dimensions, on the 0..1 scale; clips
            with a NaN or without labels on every dimension are left out.
        clips: table `clips`. labels: table `labels`, of one rule.
        progress: told (mixed models fitted, mixed models).
    Returns:
        rows of all clips (population `all`) of these metrics:

        - `rmse_slope` (dimension `mean`) and `residual_slope` (each dimension, and their `mean`): change of a clip's
          error or residual with one standard deviation of the condition; NULL where it does not vary by itself.
        - `rmse_share`, `residual_share`: share of the variance that the slopes leave; condition `excerpt`, `performer`
          or `rest`.
        - `rmse_converged`, `residual_converged`: 1, or 0 where the model did not converge: its slopes and shares are
          NULL.
        - `mean_rmse`: mean error of the clips of a group. Conditions `all`, `deadpan`, `people`, `excerpt=<name>`,
          `performer=<name>`, and the terciles, numbered by step (clips of equal value stay together, so they may be
          uneven). For each dimension (condition `all`) also `bias` (mean residual) and `dimension_rmse`.
        - `rmse`: the clips with the largest error; condition clip, step rank; with `predicted` and `rated` on the three
          dimensions where the clip's error is largest.
    Raises:
        UnknownClips: a clip that `clips` lacks. ValueError: labels of several rules, or fewer than 10 clips left.
    """
    known, residual = study(pred, clips, labels)
    error = np.sqrt((residual**2).mean(1))
    rows = list(_models(known, residual, error, progress))
    rows += _means(known, residual, error)
    rows += _worst(known, pred.loc[known["clip"], list(NAMES)].to_numpy(np.float64), residual, error, worst)
    return table({"step": np.nan, "population": "all"} | row for row in rows)


def by_clip(predictions: pd.DataFrame) -> pd.DataFrame:
    """Test predictions of one subject, split and tuning as `error_analysis` takes them; a clip's mean where several
    folds or repeats test it.

    predictions: rows of the table of that name.
    Raises:
        ValueError: rows of several subjects, splits or tunings.
    """
    for column in ("subject", "split", "tuning"):
        found = predictions[column].unique()
        if len(found) > 1:
            raise ValueError(f"predictions of one {column} are wanted, got {len(found)}: {found[0]!r}, {found[1]!r}")
    outer = predictions["inner_fold"].isna() & (predictions["role"] == "test") & (predictions["condition"] == "clean")
    wide = predictions[outer].pivot_table(index="clip", columns="dimension", values="value", observed=True)
    return wide.reindex(columns=list(NAMES))


def study(pred: pd.DataFrame, clips: pd.DataFrame, labels: pd.DataFrame) -> tuple[pd.DataFrame, np.ndarray]:
    """(one row per clip that can be judged, sorted, with its properties; residuals (n, 19) in the same order).

    Properties: `duration` (log s), `raters` (mean number over dimensions), `deadpan`, `label_error` (mean standard
    error over dimensions; the corpus's mean where one rater left none), `density` (notes per s), and `composer <name>`
    for all but the most frequent.
    """
    if labels["rule"].nunique() > 1:
        raise ValueError(f"labels of one rule are wanted, got {sorted(labels['rule'].unique())}")
    absent = sorted({*pred.index, *labels["clip"]} - {*clips["clip"]})
    if absent:
        raise UnknownClips(f"table 'clips' lacks {len(absent)} clip(s) with predictions or labels, first {absent[0]!r}")
    wide = {c: labels.pivot(index="clip", columns="dimension", values=c) for c in ("value", "n_raters")}
    spread = labels.groupby("clip")["standard_error"].mean()
    target = wide["value"].reindex(columns=list(NAMES)).dropna()
    complete = pred[list(NAMES)].dropna().index.intersection(target.index).sort_values()
    if len(complete) < 10:
        raise ValueError(f"errors of {len(complete)} clips: at least 10 must be predicted and labelled")
    of = clips.set_index("clip").loc[complete]
    properties = pd.DataFrame(
        {
            "duration": np.log(of["duration_s"].astype(float)),
            "raters": wide["n_raters"].loc[complete].mean(axis=1),
            "deadpan": of["deadpan"].astype(float),
            "label_error": spread.loc[complete].fillna(spread.mean()),
            "density": of["n_notes"] / of["duration_s"],
        }
    )
    for composer in of["composer"].value_counts().index[1:]:
        properties[f"composer {composer}"] = (of["composer"] == composer).astype(float)
    residual = (pred.loc[complete, list(NAMES)] - target.loc[complete]).to_numpy(np.float64)
    kept = of[["excerpt", "cluster", "performer"]].join(properties)
    return kept.reset_index(names="clip"), residual


def _models(
    known: pd.DataFrame, residual: np.ndarray, error: np.ndarray, progress: Callable[[int, int], None] | None
) -> Iterator[Row]:
    """A mixed model of the error, of the mean residual, and of each dimension's."""
    names = list(known.columns[4:])
    x, told = _design(known[names])
    groups = {g: known[g].to_numpy() for g in GROUPINGS if 2 <= known[g].nunique() < len(known)}
    df = degrees_of_freedom(*(pd.factorize(known[g])[0] for g in GROUPINGS))
    responses = [("rmse", "mean", error), ("residual", "mean", residual.mean(1))]
    responses += [("residual", name, residual[:, d]) for d, name in enumerate(NAMES)]
    for done, (what, dimension, y) in enumerate(responses, start=1):
        fit = fit_mixed(y, x, groups) if groups and y.std() > 0 and len(y) > x.shape[1] + 1 else None
        fine = fit is not None and fit.converged
        yield {"condition": CONVERGED, "dimension": dimension, "metric": f"{what}_converged", "value": float(fine)}
        for name in names:
            row: Row = {"condition": name, "dimension": dimension, "metric": f"{what}_slope", "value": np.nan}
            if fit is not None and fit.converged and name in told:
                at = told.index(name) + 1
                low, high = interval(fit.coefficient[at], fit.se[at], df) if df > 0 else (np.nan, np.nan)
                row |= {"value": fit.coefficient[at], "ci_low": low, "ci_high": high}
            yield row
        for part in (*GROUPINGS, REST):
            row = {"condition": part, "dimension": dimension, "metric": f"{what}_share", "value": np.nan}
            if fit is not None and fit.converged and part in fit.share:
                low, high = fit.share_interval[part]
                row |= {"value": fit.share[part], "ci_low": low, "ci_high": high}
            yield row
        if progress:
            progress(done, len(responses))


def _design(properties: pd.DataFrame) -> tuple[np.ndarray, list[str]]:
    """(constant and standardised properties (n, p), their names): those that the ones before them do not decide."""
    x = np.ones((len(properties), 1))
    told: list[str] = []
    for name in properties:
        value = properties[name].to_numpy(np.float64)
        if value.std() <= 1e-9 * (1 + abs(value).max()):
            continue
        wider = np.c_[x, (value - value.mean()) / value.std()]
        if np.linalg.matrix_rank(wider) == wider.shape[1]:
            x, told = wider, [*told, str(name)]
    return x, told


def _means(known: pd.DataFrame, residual: np.ndarray, error: np.ndarray) -> Iterator[Row]:
    """Mean errors by group, and error and bias by dimension."""
    cluster, performer = (pd.factorize(known[g])[0] for g in ("cluster", "performer"))

    def mean(condition: str, rows: np.ndarray, step: float = np.nan) -> Row:
        told = {"condition": condition, "step": step, "dimension": "mean", "metric": "mean_rmse"}
        return told | mean_row(error[rows], cluster[rows], performer[rows])

    yield mean("all", np.arange(len(error)))
    deadpan = known["deadpan"].to_numpy() > 0
    for condition, chosen in (("deadpan", deadpan), ("people", ~deadpan)):
        if chosen.any():
            yield mean(condition, np.flatnonzero(chosen))
    for grouping in GROUPINGS:
        for name, rows in known.groupby(grouping, sort=True).indices.items():
            yield mean(f"{grouping}={name}", rows)
    for column, condition in TERCILES.items():
        for k, third in enumerate(thirds(known[column].to_numpy(np.float64)), start=1):
            if third.any():
                yield mean(condition, np.flatnonzero(third), float(k))
    for d, name in enumerate(NAMES):
        told: Row = {"condition": "all", "dimension": name}
        yield told | {"metric": "bias"} | mean_row(residual[:, d], cluster, performer)
        square = mean_row(residual[:, d] ** 2, cluster, performer)
        # The delta method: an error of the mean square is one of the root, over twice the root.
        root = float(np.sqrt(square["value"]))
        half = (square["ci_high"] - square["value"]) / (2 * root) if root > 0 else np.nan
        yield told | {"metric": "dimension_rmse", "value": root, "ci_low": root - half, "ci_high": root + half}


def mean_row(value: np.ndarray, cluster: np.ndarray, performer: np.ndarray) -> dict[str, float]:
    """Mean of clips (n,) with Student's interval, clustered both ways (codes); one way where all share the other.

    The performances of one excerpt differ in the player alone, those of one player in the music alone. NULL ends where
    neither varies.
    """
    mean, moved = float(value.mean()), ((value - value.mean()) / len(value))[:, None]
    varying = [g for g in (cluster, performer) if len(np.unique(g)) > 1]
    if len(varying) == 2:
        se, df = two_way_se(moved, cluster, performer)
    elif varying:
        se, df = np.sqrt(clustered_variance(moved, varying[0])), effective_groups(varying[0]) - 1
    else:
        return {"value": mean, "ci_low": np.nan, "ci_high": np.nan}
    low, high = interval(mean, float(se[0]), df)
    return {"value": mean, "ci_low": float(low), "ci_high": float(high)}


def _worst(known: pd.DataFrame, pred: np.ndarray, residual: np.ndarray, error: np.ndarray, n: int) -> Iterator[Row]:
    for rank, i in enumerate(np.argsort(-error, kind="stable")[:n], start=1):
        told = {"condition": known["clip"].iloc[i], "step": float(rank)}
        yield told | {"dimension": "mean", "metric": "rmse", "value": error[i]}
        for d in np.argsort(-abs(residual[i]), kind="stable")[:WORST_DIMENSIONS]:
            yield told | {"dimension": NAMES[d], "metric": "predicted", "value": pred[i, d]}
            yield told | {"dimension": NAMES[d], "metric": "rated", "value": pred[i, d] - residual[i, d]}
