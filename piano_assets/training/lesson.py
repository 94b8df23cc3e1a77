"""What a tabular model is taught of its training clips: their labels, or something truer, and how much each counts."""

import numpy as np

from piano_assets.catalogue.trial import Tabular
from piano_assets.corpus.rater_bias import unbiased_labels
from piano_assets.training.data import TrialData

SPREAD = 0.1
"""Spread of labels that no model explains (0..1 scale): a clip heard by a crowd counts no more than one over its
square."""
UNKNOWN_ERROR = 0.1
"""Standard error of a label of one rater, who has none: a label's own spread."""


def lesson(model: Tabular, data: TrialData, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """(targets (n_rows, 19), weights (n_rows,) with mean 1, or None where all count alike) of clips to learn from."""
    targets = data.targets[rows]
    if model.unbiased_labels:
        assert data.votes is not None
        once, place = np.unique(rows, return_inverse=True)  # a bootstrap sample holds clips several times
        targets = unbiased_labels(data.votes, once)[place]
    return targets, error_weights(data.errors[rows]) if model.error_weights else None


def error_weights(errors: np.ndarray) -> np.ndarray:
    """Inverse variance of labels around what a model can say of them, standard errors (n, 19) -> (n,), mean 1."""
    variance = np.where(np.isfinite(errors), errors, UNKNOWN_ERROR) ** 2
    weights = (1 / (variance + SPREAD**2)).mean(1)
    return weights / weights.mean()
