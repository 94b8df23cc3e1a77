"""Tables made by hand: random predictions of members on a split with inner folds, and labels."""

import numpy as np
import pandas as pd

from piano_assets.dimensions import NAMES

N_CLIPS, N_FOLDS, N_INNER = 24, 3, 2
CLIPS = np.array([f"clip{i:02d}" for i in range(N_CLIPS)], dtype=object)
FOLD_OF = np.arange(N_CLIPS) % N_FOLDS


def long(value: np.ndarray, at: np.ndarray, **where) -> pd.DataFrame:
    frame = {"clip": np.repeat(CLIPS[at], 19), "dimension": np.tile(NAMES, len(at)), "value": value[at].ravel()}
    return pd.DataFrame(frame).assign(condition="clean", std=np.nan, **where)


def candidate(config: str, seed: int, repeats=(0, 1), tuning="fixed", split="nested") -> pd.DataFrame:
    """Random predictions of every clip, others in each fold and level."""
    rng, frames = np.random.default_rng(seed), []
    for repeat in repeats:
        for fold in range(N_FOLDS):
            where = {"subject": f"{config}|{repeat}", "split": split, "repeat": repeat, "fold": fold, "tuning": tuning}
            test, learn = np.flatnonzero(fold == FOLD_OF), np.flatnonzero(fold != FOLD_OF)
            frames.append(long(rng.random((N_CLIPS, 19)), test, inner_fold=None, role="test", **where))
            for k in range(N_INNER):
                mine = learn[np.arange(len(learn)) % N_INNER == k]
                frames.append(long(rng.random((N_CLIPS, 19)), mine, inner_fold=k, role="valid", **where))
    return pd.concat(frames, ignore_index=True).astype({"inner_fold": "Int32"})


def labels_of(value: np.ndarray) -> pd.DataFrame:
    frame = {"clip": np.repeat(CLIPS, 19), "dimension": np.tile(NAMES, N_CLIPS), "value": value.ravel()}
    return pd.DataFrame(frame).assign(rule="clean", standard_error=0.05, n_raters=5)


TRUTH = np.random.default_rng(9).random((N_CLIPS, 19))
LABELS = labels_of(TRUTH)
A, B = candidate("a", 0), candidate("b", 1)
