"""Boosting of networks: rounds in a row, each fitted to what the sum of those before leaves over.

Friedman (2001, Annals of Statistics 29:1189, algorithm 2): with squared error the negative gradient is the residual.
F_0 is the training mean, F_m = F_(m-1) + shrinkage * h_m. Every round starts from weights of its own (the first from
those of the same trial without rounds) and stops early by its own validation residuals.

Since F_m = (1 - shrinkage) F_(m-1) + shrinkage * (F_(m-1) + h_m), the sum is a weighted mean of the rounds' own
estimates F_(m-1) + h_m, the later the heavier; their weighted standard deviation is its spread.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd

from piano_assets.catalogue.trial import MOST_SEEDS
from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.training.data import TrialData
from piano_assets.training.folds import FoldResult
from piano_assets.training.members import FIXED, Group

_STEP = MOST_SEEDS**2
"""Seeds of rounds lie beyond those of replicates."""


def boost(
    fit_round: Callable[[int, np.ndarray], np.ndarray], target: np.ndarray, start: np.ndarray, rounds: int, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """(prediction, spread) of every clip after all rounds, (n_clips, 19) each.

    Args:
        fit_round: (number of the round, residuals (n_clips, 19), NaN where a clip has no label) -> its prediction of
            them, of every clip.
        target: (n_clips, 19). start: (19,), F_0. share: the shrinkage.
    Returns:
        spread is NaN where one estimate has all the weight: with one round, or a share of 1.
    """
    total = np.broadcast_to(start, target.shape).astype(np.float64)
    estimates = []
    for number in range(rounds):
        step = fit_round(number, target - total)
        estimates.append(total + step)
        total = total + share * step
    weights = share * (1 - share) ** np.arange(rounds - 1, -1, -1)
    weights = weights / weights.sum()
    if (weights > 0).sum() < 2:
        return total, np.full(target.shape, np.nan)
    found = np.stack(estimates)
    mean = np.average(found, axis=0, weights=weights)
    return total, np.sqrt(np.average((found - mean) ** 2, axis=0, weights=weights))


def boosted(group: Group, data: TrialData, fit_round: Callable[[int, Group, TrialData], FoldResult]) -> FoldResult:
    """Boost one fold.

    Args:
        fit_round: (number of the round, its group, the data with residuals as targets) -> what it leaves.
    Returns:
        predictions of test and validation clips; the model holds the arrays of every round, `round<k>.<name>`, and
        `weights` says how much each counts: the training mean is part of the first.
    """
    trial = group.trial
    plain = dataclasses.replace(trial, rounds=0, shrinkage=0.0)
    # Every clip but those that stop the round: residuals of training clips are wanted too.
    others = np.setdiff1d(np.arange(len(data.clips)), group.valid)
    results: list[FoldResult] = []

    def fitted(number: int, residual: np.ndarray) -> np.ndarray:
        stage = dataclasses.replace(
            group, trial=plain, points={FIXED: plain}, own=FIXED, seed=group.seed + _STEP * number, test=others
        )
        results.append(fit_round(number, stage, dataclasses.replace(data, targets=residual)))
        rows = results[-1].predictions
        wide = rows["value"].to_numpy(np.float64).reshape(-1, N_DIMENSIONS)
        found = np.empty((len(data.clips), N_DIMENSIONS))
        found[pd.Index(data.clips).get_indexer(rows["clip"].to_numpy(object)[::N_DIMENSIONS])] = wide
        return found

    start = data.targets[group.train].mean(0)
    value, spread = boost(fitted, data.targets, start, trial.rounds, trial.shrinkage)
    last = results[-1]
    shown = last.predictions
    tested = shown["clip"].isin(set(data.clips[group.test])) & (shown["role"] == "test")
    shown = shown[tested | (shown["role"] == "valid")].reset_index(drop=True)
    place = pd.Index(data.clips).get_indexer(shown["clip"].to_numpy(object)[::N_DIMENSIONS])
    shown = shown.assign(value=value[place].astype(np.float32).ravel(), std=spread[place].astype(np.float32).ravel())
    models = [r.model for r in results]
    models[0] = {**models[0], "target_mean": models[0]["target_mean"] + (start / trial.shrinkage).astype(np.float32)}
    members = [row | {"search_point": f"round{k}" if k else FIXED} for k, r in enumerate(results) for row in r.members]
    history = [row | {"search_point": f"round{k}" if k else FIXED} for k, r in enumerate(results) for row in r.history]
    return FoldResult(
        shown,
        members,
        history,
        {f"round{k}.{name}": array for k, model in enumerate(models) for name, array in model.items()},
        FIXED,
        diverged=any(r.diverged for r in results),
        n_params=sum(r.n_params or 0 for r in results),
        shape=last.shape,
        weights=(trial.shrinkage,) * trial.rounds,
    )
