"""The models of a finished partition, and what they predict of clips as they are or as something was done to them.

Probes and diagnostics ask here: whatever is done to a clip is done to `TrialData`, so that an altered clip takes the
very way of an unaltered one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from piano_assets.catalogue.trial import Trial
from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.store.checkpoints import checkpoint_folder, load_checkpoint
from piano_assets.store.parts import Part, Store
from piano_assets.training.data import TrialData, load, repeat_of, standing, way_of
from piano_assets.training.members import FIXED, TUNED, groups_of, rows_of, search_points
from piano_assets.training.restore import restore_network

if TYPE_CHECKING:
    from piano_assets.models.network import Network

SEED = 0
"""The seed whose models are kept."""


class NotFitted(FileNotFoundError):
    """No models are kept of a partition; the message says how to get them."""


@dataclass(frozen=True, eq=False)
class FittedFold:
    """The model of one fold, and the rows of `TrialData` that it was fitted on, stopped by and is tested on.

    columns: the features that it reads; network: on its device, None for a tabular model, with as many members as
    `weights`; regressor: None for a network; precision: in which a network predicts.
    """

    trial: Trial
    fold: int
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    columns: np.ndarray
    network: "Network | None" = None
    regressor: Any = None
    precision: str = "float32"
    weights: tuple[float, ...] = (1.0,)

    def predict(self, data: TrialData, rows: np.ndarray) -> np.ndarray:
        """Predictions (n_rows, 19) on the 0..1 scale of the clips at `rows` of `data`, whole clips in windows.

        Where the trial's predictions are means over views, or of several networks, these are too.
        """
        return np.mean([self._predict(data, x, rows) for x in data.seen(self.trial)], axis=0)

    def _predict(self, data: TrialData, table: np.ndarray | None, rows: np.ndarray) -> np.ndarray:
        if self.network is None:
            assert table is not None
            return np.asarray(self.regressor.predict(table[rows]), np.float64)
        import torch

        from piano_assets.training.loop import predict
        from piano_assets.training.material import Material

        device = str(self.network.target_mean.device)
        features, members = None, len(self.weights)
        if table is not None:
            heard = torch.from_numpy(table[None, :, self.columns]).float().to(device)
            features = self.network.standardise_features(heard.expand(members, -1, -1))
        material = Material(data, self.trial, device)
        preds = predict(self.network, material, features, [rows] * members, self.precision)
        found = np.stack([pred.double().cpu().numpy() for pred in preds])
        return np.tensordot(self.weights, found, 1)


@dataclass(frozen=True, eq=False)
class Fitted:
    """All folds of a finished partition.

    data: as it was trained on; tuning: which of its results these models gave; run: its part in `runs`.
    """

    config: str
    seed: int
    trial: Trial
    repeat: int
    tuning: str
    run: Part
    data: TrialData
    folds: tuple[FittedFold, ...]

    @property
    def subject(self) -> str:
        return f"{self.config}|{self.seed}"

    def tested(self, data: TrialData | None = None) -> Iterator[tuple[FittedFold, np.ndarray]]:
        """(fold, predictions (n_test, 19) of its test clips), clips taken from `data` (default: as they are)."""
        for fold in self.folds:
            yield fold, fold.predict(self.data if data is None else data, fold.test)

    def out_of_fold(self, data: TrialData | None = None) -> np.ndarray:
        """(n_clips, 19): each clip by the folds that test it (their mean), NaN where none does."""
        total = np.zeros((len(self.data.clips), N_DIMENSIONS))
        count = np.zeros((len(self.data.clips), 1))
        for fold, pred in self.tested(data):
            total[fold.test] += pred
            count[fold.test] += 1
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def fitted(store: Store, config: str, trial: Trial, device: str = "cpu") -> Fitted:
    """The models that are kept of a partition (seed 0), with the data that they were fitted on.

    Args:
        device: where networks predict; models trained on another kind of device are moved to it.
    Raises:
        NotFitted: the partition is not finished, or only its predictions are kept here (as of shipped results).
        CheckpointError: a checkpoint is another trial's, another data's or another code's, or was changed.
    """
    where = kept(store, config, trial, device)
    if where is None:
        why = "only its predictions are kept here" if standing(trial, config, SEED, store) else "it is not trained"
        raise NotFitted(f"{config}|{SEED} has no models in {store.root}: {why}; train it here (piano sweep {config})")
    run, folder = where
    data = load(trial, store)
    repeat = repeat_of(SEED, data.n_repeats)
    precision, trained_on = way_of(run)
    folds = []
    if trial.optimisation is not None:
        for group in groups_of(trial, config, SEED, repeat, data):
            found = restore_network(trial, config, SEED, group.fold, store, precision, trained_on, device)
            sides = {"train": group.train, "valid": group.valid, "test": group.test, "columns": group.columns}
            folds.append(
                FittedFold(
                    trial, group.fold, **sides, network=found.network, precision=precision, weights=found.weights
                )
            )
    else:
        assert data.features is not None
        columns = np.arange(data.features.shape[1])
        for fold in sorted(fold for r, fold in data.roles if r == repeat):
            _, regressor = load_checkpoint(folder / f"fold{fold}", part_key=run.key, fold=fold)
            train, valid = (rows_of(trial, data, repeat, fold, role, SEED) for role in ("train", "valid"))
            test = data.rows(repeat, fold, "test", labelled=False)
            folds.append(FittedFold(trial, fold, train, valid, test, columns, regressor=regressor))
    tuning = TUNED if search_points(trial) else FIXED
    return Fitted(config, SEED, trial, repeat, tuning, run, data, tuple(folds))


def kept(store: Store, config: str, trial: Trial, device: str = "cpu") -> tuple[Part, Path] | None:
    """(`runs` part, folder of checkpoints) of the first way of training whose models are kept; None where none are."""
    for run in standing(trial, config, SEED, store, device.split(":")[0]):
        folder = checkpoint_folder(store.root, run.name)
        if folder.is_dir():
            return run, folder
    return None
