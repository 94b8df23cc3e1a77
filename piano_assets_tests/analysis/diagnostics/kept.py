"""Subjects with simple models that stand in for trained ones, on the clips of `analysis.world`."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from piano_assets.analysis.panel import Units, units
from piano_assets.catalogue.trial import Inputs, Tabular, Trial
from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.store.parts import Part
from piano_assets.training.data import TrialData
from piano_assets.training.fitted import Fitted, FittedFold
from piano_assets_tests.analysis import world

TRIAL = Trial(model=Tabular(regressor="ridge"), inputs=Inputs(features="symbolic"))


class Function:
    """A regressor that is a function of the features."""

    def __init__(self, predict: Callable[[np.ndarray], np.ndarray]) -> None:
        self.predict = predict


def linear(weight: np.ndarray) -> Function:
    return Function(lambda x: x @ weight)


def tables(rng: np.random.Generator, n_clusters: int = 8) -> tuple[pd.DataFrame, Units]:
    clips = world.clips(n_clusters)
    labels, _ = world.labels(clips, rng)
    return clips, units(clips, labels[labels["rule"] == "clean"])


def fitted(
    clips: pd.DataFrame, known: Units, features: np.ndarray, names: tuple[str, ...], model: Function, n_folds: int = 2
) -> Fitted:
    """A subject whose folds all have `model`; folds by cluster."""
    target = known.labels["clean"]
    data = TrialData(clips["clip"].to_numpy(object), target, np.full(target.shape, 0.05), {}, features, names)
    fold_of, nobody = known.cluster % n_folds, np.empty(0, np.int64)
    folds = tuple(
        FittedFold(TRIAL, k, nobody, nobody, np.flatnonzero(fold_of == k), np.arange(features.shape[1]), None, model)
        for k in range(n_folds)
    )
    run = Part(*([None] * len(Part.__dataclass_fields__)))
    return Fitted("config", 0, TRIAL, 0, "fixed", run, data, folds)


def weights(rng: np.random.Generator, n_features: int, ignored: tuple[int, ...] = ()) -> np.ndarray:
    """(n_features, 19) coefficients, zero for those that are ignored."""
    found = 0.05 * rng.normal(size=(n_features, N_DIMENSIONS))
    found[list(ignored)] = 0
    return found
