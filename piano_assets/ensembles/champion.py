"""Champions: what a procedure makes of all clips, kept to score recordings that nobody has rated.

Who may be one is decided in `titles`. A champion is fitted as an outer fold of its procedure is, with nothing left to
test: each member searches on the folds of the split's first repeat, weights come from what these predicted, and every
member is fitted again on all clips. What the procedure scores on clips that it did not learn from is its nested score,
by the same code; of the champion itself no such score exists.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from piano_assets.catalogue.trial import Trial
from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.ensembles.combine import EnsembleError
from piano_assets.ensembles.coverage import LEVEL, half_widths
from piano_assets.ensembles.procedures import PREFIX, Procedure
from piano_assets.ensembles.weights import WEIGHTS, by_dimension
from piano_assets.metrics.regression import pearson
from piano_assets.store.parts import Store
from piano_assets.training.data import TrialData, load
from piano_assets.training.folds import fit_point, fit_tabular
from piano_assets.training.loop import mean_r
from piano_assets.training.members import FIXED, search_points
from piano_assets.training.nested import alone

SEED, REPEAT, ALL = 0, 0, 999
"""Seed of the members; repeat of the split on whose folds they search; number of the fit on all clips."""


@dataclass(frozen=True, eq=False)
class Member:
    """One member of a champion: its config, the search point that it chose, its weight and its pipeline."""

    config: str
    trial: Trial
    point: str
    weight: np.ndarray
    model: Any


@dataclass(frozen=True, eq=False)
class Champion:
    """A fitted champion.

    clips: (n,) what it learnt from; out_of_fold: (n, 19) what members of folds that had not learnt from a clip say of
    it, with the champion's weights; target: (n, 19) labels; features: (n, d) what all members read of the clips.
    """

    procedure: str
    members: tuple[Member, ...]
    clips: np.ndarray
    out_of_fold: np.ndarray
    target: np.ndarray
    features: np.ndarray
    feature_names: tuple[str, ...]

    @property
    def residual(self) -> np.ndarray:
        """(n, 19) out-of-fold scores less labels."""
        return self.out_of_fold - self.target


def fit_champion(
    name: str,
    procedure: Procedure,
    trials: Mapping[str, Trial],
    store: Store,
    threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Champion:
    """Fit a procedure on all labelled clips.

    Args:
        trials: config -> trial of the candidates. threads: all cores if None; results do not depend on it.
        progress: called with (fits done, fits in all).
    Raises:
        EnsembleError: candidates that do not all read the same.
        FileNotFoundError: a part that a candidate reads is missing.
    """
    if len({trials[c].inputs for c in procedure.candidates}) > 1:
        raise EnsembleError(f"{name}: candidates of a champion read the same (they are {procedure.candidates})")
    points = {c: search_points(trials[c]) or {FIXED: trials[c]} for c in procedure.candidates}
    loaded = {c: load(trials[c], store) for c in procedure.candidates}
    n_folds = {c: len([fold for repeat, fold in loaded[c].roles if repeat == REPEAT]) for c in loaded}
    total, done = sum(n_folds[c] * len(points[c]) + 1 for c in points), 0

    def step() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    seen, chosen, models = [], {}, {}
    for config, tried in points.items():
        data = loaded[config]
        found = {label: _out_of_fold(point, data, threads, step) for label, point in tried.items()}
        labelled = data.labelled
        r = {label: _mean_r(pred, data, labelled) for label, pred in found.items()}
        chosen[config] = max(r, key=lambda label: r[label])
        seen.append(found[chosen[config]][labelled])
        models[config] = fit_point(alone(tried[chosen[config]]), data, np.flatnonzero(labelled), ALL, SEED, threads)
        step()
    first = loaded[procedure.candidates[0]]
    target = first.targets[first.labelled]
    weights = by_dimension(WEIGHTS[procedure.rule](np.stack(seen), target))
    members = tuple(
        Member(c, trials[c], chosen[c], weight, models[c])
        for c, weight in zip(procedure.candidates, weights, strict=True)
    )
    together = (weights[:, None] * np.stack(seen)).sum(0)
    assert first.features is not None
    read = first.features[first.labelled]
    return Champion(name, members, first.clips[first.labelled], together, target, read, first.feature_names)


def _out_of_fold(point: Trial, data: TrialData, threads: int | None, step: Callable[[], None]) -> np.ndarray:
    """(n, 19): every clip as the fold that does not learn from it predicts it."""
    found = np.full(data.targets.shape, np.nan)
    for repeat, fold in data.roles:
        if repeat == REPEAT:
            result = fit_tabular(alone(point), data, repeat, fold, SEED, threads)
            rows = data.rows(repeat, fold, "test", labelled=False)
            found[rows] = result.predictions["value"].to_numpy(np.float64).reshape(-1, N_DIMENSIONS)
            step()
    return found


def _mean_r(pred: np.ndarray, data: TrialData, labelled: np.ndarray) -> float:
    """Mean over folds and dimensions of r on the labelled clips that a fold does not learn from."""
    each = [data.rows(r, fold, "test", labelled=False) for r, fold in data.roles if r == REPEAT]
    rows = [of[labelled[of]] for of in each]
    return float(np.mean([mean_r(pred[of], data.targets[of]) for of in rows]))


def champion_table(name: str, champion: Champion, part_key: str, git_commit: str | None, at: Any) -> pd.DataFrame:
    """Rows of the table `champions`: a dimension each."""
    from piano_assets.dimensions import NAMES

    width = half_widths(champion.residual)
    r = pearson(champion.out_of_fold, champion.target)
    return pd.DataFrame(
        {
            "champion": name,
            "procedure": f"{PREFIX}{champion.procedure}",
            "dimension": list(NAMES),
            "half_width": width,
            "level": LEVEL,
            "inner_r": r,
            "n_clips": len(champion.clips),
            "part_key": part_key,
            "git_commit": git_commit,
            "fitted_at": at,
        }
    )
