"""One fold of one trial: fit, choose on inner validation clips, predict. Returns plain tables and the kept model.

Tabular models are judged on `valid` after fitting on `train`, then fitted again on both. Networks are fitted on `train`
and stop early on `valid`. Test clips are predicted and never looked at.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from piano_assets.catalogue.trial import BUDGETS, Encoder, Tabular, Trial, vary
from piano_assets.dimensions import N_DIMENSIONS, NAMES
from piano_assets.store.parts import digest
from piano_assets.training.data import TrialData

FIXED, TUNED = "fixed", "tuned"


@dataclass(frozen=True)
class FoldResult:
    """What a fold leaves.

    predictions: fold, clip, dimension, role, tuning, value; members and history: rows without trial and seed;
    model: the tuned model, or the fixed one where nothing was searched (array by name, or an estimator).
    """

    predictions: pd.DataFrame
    members: list[dict[str, Any]]
    history: list[dict[str, Any]]
    model: Any
    search_point: str
    diverged: bool = False
    n_params: int | None = None
    seconds: float = 0.0


def random_seed(trial: Trial, seed: int, fold: int, purpose: str) -> int:
    """A seed of its own for each purpose, so that no two streams are shared: 0 <= value < 2**31."""
    return int(digest(trial.key, seed, fold, purpose), 16) % 2**31


def search_points(trial: Trial) -> dict[str, Trial]:
    """The grid of a trial's search: label -> trial; empty where nothing is to be searched."""
    if not trial.search or not BUDGETS[trial.budget].searches:
        return {}
    fields, values = zip(*trial.search, strict=True)
    points = (dict(zip(fields, point, strict=True)) for point in itertools.product(*values))
    return {",".join(f"{f}={v}" for f, v in point.items()): vary(trial, point) for point in points}


def fit_tabular(trial: Trial, data: TrialData, repeat: int, fold: int, seed: int, threads: int | None) -> FoldResult:
    """Fit and predict one fold of a tabular trial.

    Raises:
        ValueError: a search without validation clips, or a fold without labelled training clips.
    """
    import joblib

    from piano_assets.models.tabular import build
    from piano_assets.training.loop import mean_r

    assert data.features is not None
    train, valid = (data.rows(repeat, fold, role) for role in ("train", "valid"))
    points = search_points(trial)
    _require_rows(trial, fold, train, valid if points else train)

    def fitted(point: Trial, rows: np.ndarray) -> Any:
        assert isinstance(point.model, Tabular)
        assert data.features is not None
        model = build(point.model.regressor, dict(point.model.settings), random_seed(trial, seed, fold, "fit"))
        # Threads share the work, not the result: every tree and booster has its own seed.
        with joblib.parallel_config(backend="threading", n_jobs=threads or joblib.cpu_count()):
            return model.fit(data.features[rows], data.targets[rows])

    members, tables = [], []
    valid_pred: dict[str | None, np.ndarray] = {}
    for label, point in points.items():
        valid_pred[label] = fitted(point, train).predict(data.features[valid])
        members.append(_member(fold, label, reason=f"valid r {mean_r(valid_pred[label], data.targets[valid]):.4f}"))
    chosen, own = _choice(trial, points, valid_pred, data.targets[valid])
    both, test = np.concatenate([train, valid]), data.rows(repeat, fold, "test", labelled=False)
    models: dict[str, Any] = {}
    for tuning, kept, point in _kept(trial, points, chosen, own):
        reused = tuning == TUNED and own == chosen
        models[tuning] = models[FIXED] if reused else fitted(point, both)
        members.append(_member(fold, tuning, reason=f"refitted on train and valid: {kept or 'own settings'}"))
        tables.append(_table(fold, data.clips[test], "test", tuning, models[tuning].predict(data.features[test])))
        if kept in valid_pred:
            tables.append(_table(fold, data.clips[valid], "valid", tuning, valid_pred[kept]))
    model = models[TUNED if points else FIXED]
    return FoldResult(pd.concat(tables, ignore_index=True), members, [], model, chosen or FIXED)


def fit_network(
    trial: Trial,
    data: TrialData,
    repeat: int,
    fold: int,
    seed: int,
    device: str,
    precision: str,
    progress: Callable[[int, int], None] | None = None,
) -> FoldResult:
    """Fit and predict one fold of a network's trial.

    Raises:
        ValueError: no labelled training or validation clips.
    """
    import torch

    from piano_assets.models.transformer import SpectrogramTransformer, initialise
    from piano_assets.training.batches import Spectra
    from piano_assets.training.loop import Fit, fit, predict

    assert isinstance(trial.model, Encoder)
    assert data.frames is not None
    budget = BUDGETS[trial.budget]
    crop = round(budget.crop_s * data.frame_rate)
    everything = Spectra.of(data, device)
    train, valid = (data.rows(repeat, fold, role) for role in ("train", "valid"))
    _require_rows(trial, fold, train, valid)
    test = data.rows(repeat, fold, "test", labelled=False)

    def generator(purpose: str, where: str = "cpu") -> torch.Generator:
        return torch.Generator(where).manual_seed(random_seed(trial, seed, fold, purpose))

    def some(rows: np.ndarray, purpose: str) -> np.ndarray:
        if budget.n_clips is None:
            return rows
        return rows[torch.randperm(len(rows), generator=generator(purpose))[: budget.n_clips].sort().values.numpy()]

    valid = some(valid, "valid clips")
    learning, judging, testing = (
        everything.subset(torch.from_numpy(rows)) for rows in (some(train, "train clips"), valid, test)
    )
    moments = learning.moments()
    points = search_points(trial)
    fits: dict[str, Fit] = {}
    pred: dict[str, dict[str | None, np.ndarray]] = {"valid": {}, "test": {}}
    for label, point in (points if trial in points.values() else {**points, FIXED: trial}).items():
        assert isinstance(point.model, Encoder)
        assert point.optimisation is not None
        # Every point of the search starts from the same weights and sees the same crops.
        model = SpectrogramTransformer(point.model, data.frames.shape[1])
        initialise(model, generator("init"))
        model.to(device).standardise(*moments, learning.targets)
        streams = {"order": generator("order"), "noise": generator("noise", device)}
        fits[label] = fit(
            model,
            learning,
            judging,
            point.optimisation,
            budget,
            crop=crop,
            **streams,
            precision=precision,
            progress=progress,
        )
        for role, spectra in (("valid", judging), ("test", testing)):
            batch_size = point.optimisation.batch_size
            pred[role][label] = predict(model, spectra, crop, batch_size, precision).cpu().numpy()
    chosen, own = _choice(trial, points, pred["valid"], data.targets[valid])
    tables = [
        _table(fold, data.clips[rows], role, tuning, pred[role][label])
        for tuning, label, _ in _kept(trial, points, chosen, own or FIXED)
        for role, rows in (("test", test), ("valid", valid))
    ]
    members = [_member(fold, n, f.status, f.best_epoch, _ending(f.status, budget.patience)) for n, f in fits.items()]
    history = [
        {"fold": fold, "inner_fold": None, "search_point": n, **row} for n, f in fits.items() for row in f.history
    ]
    best = fits[chosen or FIXED]
    state = {name: value.cpu().numpy() for name, value in best.best_state.items()}
    n_params = sum(p.numel() for p in model.parameters())
    diverged = best.status == "diverged"
    frame = pd.concat(tables, ignore_index=True)
    return FoldResult(frame, members, history, state, chosen or FIXED, diverged, n_params)


def _require_rows(trial: Trial, fold: int, train: np.ndarray, valid: np.ndarray) -> None:
    for role, rows in (("train", train), ("valid", valid)):
        if len(rows) < 2:
            raise ValueError(
                f"split {trial.split!r}, fold {fold}: at least 2 clips labelled {trial.label_rule!r} must have role "
                f"{role!r}, found {len(rows)}"
            )


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


def _ending(status: str, patience: int) -> str | None:
    reasons = {"stopped_early": f"no better validation r in {patience} epochs", "diverged": "loss is not finite"}
    return reasons.get(status)


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


def _table(fold: int, clips: np.ndarray, role: str, tuning: str, pred: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "fold": np.int32(fold),
            "clip": np.repeat(clips, N_DIMENSIONS),
            "dimension": np.tile(np.array(NAMES, dtype=object), len(clips)),
            "role": role,
            "tuning": tuning,
            "value": pred.astype(np.float32).ravel(),
        }
    )
