"""One fold of one trial: choose on inner validation clips, predict. Returns plain tables and the kept model.

Tabular models are judged on `valid` after fitting on `train`, then fitted again on both. Networks are fitted on `train`
and stop early on `valid`. Test clips are predicted and never looked at.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from piano_assets.catalogue.trial import Tabular, Trial
from piano_assets.dimensions import N_DIMENSIONS, NAMES
from piano_assets.training.data import TrialData
from piano_assets.training.lesson import lesson
from piano_assets.training.members import (
    FIXED,
    TUNED,
    Track,
    random_seed,
    require_rows,
    resampled,
    rows_of,
    search_points,
    start_of,
)

if TYPE_CHECKING:
    from piano_assets.training.material import Material


@dataclass(frozen=True)
class FoldResult:
    """What a fold leaves.

    predictions: fold, clip, dimension, role, tuning, value, and inner_fold and std where they are not NULL throughout;
    members and history: rows without trial and seed; model: the tuned model, or the fixed one where nothing was
    searched (array by name, or an estimator); shape: what a network must be built with to hold it; weights: how much
    each counts where the model is several networks, whose arrays are then `<part>.<name>`.
    """

    predictions: pd.DataFrame
    members: list[dict[str, Any]]
    history: list[dict[str, Any]]
    model: Any
    search_point: str
    diverged: bool = False
    n_params: int | None = None
    seconds: float = 0.0
    shape: dict[str, Any] | None = None
    weights: Sequence[float] = ()


def fit_tabular(trial: Trial, data: TrialData, repeat: int, fold: int, seed: int, threads: int | None) -> FoldResult:
    """Fit and predict one fold of a tabular trial.

    Raises:
        ValueError: a search without validation clips, or a fold without labelled training clips.
    """
    from piano_assets.training.loop import mean_r

    train, valid = (rows_of(trial, data, repeat, fold, role, seed) for role in ("train", "valid"))
    points = search_points(trial)
    require_rows(trial, fold, train, valid if points else train)

    def fitted(point: Trial, rows: np.ndarray) -> Any:
        return fit_point(point, data, rows, fold, seed, threads)

    def predicted(model: Any, rows: np.ndarray) -> Estimate:
        return together([model.predict(x[rows]) for x in data.seen(trial) if x is not None])

    members, tables = [], []
    valid_pred: dict[str | None, Estimate] = {}
    for label, point in points.items():
        valid_pred[label] = predicted(fitted(point, train), valid)
        r = mean_r(valid_pred[label].value, data.targets[valid])
        members.append(_member(fold, label, reason=f"valid r {r:.4f}"))
    chosen, own = _choice(trial, points, {k: v.value for k, v in valid_pred.items()}, data.targets[valid])
    both, test = np.concatenate([train, valid]), data.rows(repeat, fold, "test", labelled=False)
    models: dict[str, Any] = {}
    for tuning, kept, point in _kept(trial, points, chosen, own):
        reused = tuning == TUNED and own == chosen
        models[tuning] = models[FIXED] if reused else fitted(point, both)
        members.append(_member(fold, tuning, reason=f"refitted on train and valid: {kept or 'own settings'}"))
        tables.append(_table(fold, data.clips[test], "test", tuning, predicted(models[tuning], test)))
        if kept in valid_pred:
            tables.append(_table(fold, data.clips[valid], "valid", tuning, valid_pred[kept]))
    model = models[TUNED if points else FIXED]
    return FoldResult(pd.concat(tables, ignore_index=True), members, [], model, chosen or FIXED)


def fit_point(point: Trial, data: TrialData, rows: np.ndarray, fold: int, seed: int, threads: int | None) -> Any:
    """The pipeline of one tabular trial without its search, fitted on the clips at `rows`.

    Args:
        fold, seed: decide what is random in it. threads: all cores if None; the result does not depend on it.
    """
    import joblib

    from piano_assets.models.tabular import WEIGHTS, build

    assert isinstance(point.model, Tabular)
    assert data.features is not None
    model = build(
        point.model.regressor,
        dict(point.model.settings),
        random_seed(start_of(point, seed), fold, "fit"),
        point.inputs.top_k,
        point.model.label_rank,
    )
    rows = resampled(point, rows, seed, fold)
    targets, weights = lesson(point.model, data, rows)
    # Threads share the work, not the result: every tree and booster has its own seed.
    with joblib.parallel_config(backend="threading", n_jobs=threads or joblib.cpu_count()):
        return model.fit(data.features[rows], targets, **({} if weights is None else {WEIGHTS: weights}))


def fold_result(tracks: Sequence[Track], material: "Material", precision: str) -> FoldResult:
    """What a group leaves when all its members have ended: the chosen point's predictions and model, and every curve.

    Points are judged by their best validation r. Predictions whose loss leaves their scale free are calibrated on the
    validation clips, and the calibration becomes part of the model.
    """
    import torch

    from piano_assets.models import packing
    from piano_assets.training.loop import begin, predict
    from piano_assets.training.losses import SCALE_FREE, calibration

    group = tracks[0].group
    by_label = {t.label: t for t in tracks}
    searched = search_points(group.trial)
    chosen = max(searched, key=lambda label: by_label[label].best_r) if searched else None
    kept = {FIXED: by_label[group.own]} | ({TUNED: by_label[chosen]} if chosen else {})
    # A member that diverged in its first epoch is what it was at the start: the training mean.
    members_kept: list[Track] = []
    states: list[torch.Tensor | None] = []
    for track in kept.values():
        mine: list[torch.Tensor | None] = [*track.snapshots] or [track.best]
        members_kept += [track] * len(mine)
        states += mine
    network = begin(members_kept, material)
    start = packing.rows(network)
    packing.load_rows(network, torch.stack([start[i] if s is None else s for i, s in enumerate(states)]))
    network.eval()
    seen = [material.features(network, members_kept, x) for x in material.data.seen(group.trial)]
    if any(t.optimisation.loss in SCALE_FREE for t in members_kept):
        preds = predict(network, material, seen[0], [group.valid] * len(states), precision)
        truth = material.targets[torch.from_numpy(group.valid).to(material.device)]
        for i, track in enumerate(members_kept):
            if track.optimisation.loss in SCALE_FREE:
                slope, intercept = calibration(preds[i], truth)
                network.target_mean[i] = intercept + slope * network.target_mean[i]
                network.target_std[i] *= slope
    tables = []
    for role, rows in (("test", group.test), ("valid", group.valid)):
        by_view = [predict(network, material, x, [rows] * len(states), precision) for x in seen]
        for tuning, track in kept.items():
            own = [i for i, t in enumerate(members_kept) if t is track]
            found = together([preds[i].cpu().numpy() for preds in by_view for i in own])
            tables.append(_table(group.fold, material.data.clips[rows], role, tuning, found))
    members = [_member(group.fold, t.label, t.status or "finished", t.best_epoch, t.reason) for t in tracks]
    history = [
        {"fold": group.fold, "inner_fold": None, "search_point": t.label, **row} for t in tracks for row in t.history
    ]
    last = [i for i, t in enumerate(members_kept) if t is members_kept[-1]]
    models = [packing.arrays(network, packing.rows(network)[i]) for i in last]
    model = models[0]
    weights: tuple[float, ...] = ()
    if len(models) > 1:
        model = {f"snapshot{k}.{name}": x for k, of in enumerate(models) for name, x in of.items()}
        weights = (1 / len(models),) * len(models)
    diverged = any(track.status == "diverged" for track in members_kept)
    n_params = len(last) * sum(p[0].numel() for p in network.parameters())
    frame = pd.concat(tables, ignore_index=True)
    shape = dataclasses.asdict(network.shape)
    return FoldResult(frame, members, history, model, chosen or FIXED, diverged, n_params, shape=shape, weights=weights)


@dataclass(frozen=True)
class Estimate:
    """Predictions (n_clips, 19), and their spread over networks and views; None where there is one of each."""

    value: np.ndarray
    std: np.ndarray | None = None


def together(estimates: Sequence[np.ndarray]) -> Estimate:
    """The mean of several predictions of the same clips, and their standard deviation (n - 1)."""
    if len(estimates) == 1:
        return Estimate(estimates[0])
    found = np.stack(estimates).astype(np.float64)
    return Estimate(found.mean(0), found.std(0, ddof=1))


def _choice(
    trial: Trial, points: dict[str, Trial], valid_pred: dict[str | None, np.ndarray], target: np.ndarray
) -> tuple[str | None, str | None]:
    """(label of the grid point with the best mean r on validation clips, label of the trial's own values)."""
    from piano_assets.training.loop import mean_r

    own = next((label for label, point in points.items() if point == trial), None)
    if not points:
        return None, own
    return max(points, key=lambda label: mean_r(valid_pred[label], target)), own


def _kept(
    trial: Trial, points: dict[str, Trial], chosen: str | None, own: str | None
) -> list[tuple[str, str | None, Trial]]:
    """(tuning, label, trial) of the results that are kept: always the own values, and the chosen point if any."""
    kept = [(FIXED, own, trial)]
    return kept if chosen is None else [*kept, (TUNED, chosen, points[chosen])]


def _member(
    fold: int, point: str, status: str = "finished", epoch: int | None = None, reason: str | None = None
) -> dict[str, Any]:
    return {
        "fold": fold,
        "inner_fold": None,
        "search_point": point,
        "status": status,
        "epoch": epoch,
        "reason": reason,
    }


def _table(fold: int, clips: np.ndarray, role: str, tuning: str, pred: Estimate) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "fold": np.int32(fold),
            "clip": np.repeat(clips, N_DIMENSIONS),
            "dimension": np.tile(np.array(NAMES, dtype=object), len(clips)),
            "role": role,
            "tuning": tuning,
            "value": pred.value.astype(np.float32).ravel(),
        }
    )
    return table if pred.std is None else table.assign(std=pred.std.astype(np.float32).ravel())
