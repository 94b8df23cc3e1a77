"""The one harness: every method answers every fold, and what it says becomes rows of `predictions`."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch

from piano_assets.adaptation.fold import Groups, fold_of
from piano_assets.adaptation.learners import LEARNERS
from piano_assets.adaptation.methods import PREFIX, Method
from piano_assets.dimensions import NAMES
from piano_assets.schemas import TABLES
from piano_assets.training.data import TrialData

N_SEEDS = 5
"""Networks whose predictions are averaged on a split that has one repeat."""


def groups_of(clips: pd.DataFrame, data: TrialData) -> Groups:
    """Cluster, performer and work of every clip of the data."""
    of = clips.set_index("clip").loc[data.clips]
    return Groups(*(pd.factorize(of[column], sort=True)[0] for column in ("cluster", "performer", "work")))


def run_method(
    name: str,
    method: Method,
    data: TrialData,
    groups: Groups,
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Rows of the table `predictions` of one method, subject `adaptation.<name>`.

    A repeat is its own seed. On a split of one repeat five seeds answer: their mean is the prediction, their standard
    deviation (n - 1) its spread. Everything is computed with one thread, so that sums do not depend on the cores.

    Raises:
        FloatingPointError: a prediction under the condition `clean` that is not finite.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        frames, folds = [], sorted(data.roles)
        for done, (repeat, fold) in enumerate(folds, 1):
            seeds = (repeat,) if data.n_repeats > 1 else tuple(range(N_SEEDS))
            answers = [_answer(method, data, groups, repeat, fold, seed) for seed in seeds]
            test = data.rows(repeat, fold, "test", labelled=False)
            for condition in answers[0]:
                values = np.stack([answer[condition] for answer in answers])
                if condition == "clean" and not np.isfinite(values).all():
                    raise FloatingPointError(f"{name}: a prediction of repeat {repeat}, fold {fold} is not finite")
                rows = _rows(data.clips[test], values)
                frames.append(rows.assign(repeat=repeat, fold=fold, condition=condition))
            if progress:
                progress(done, len(folds))
    finally:
        torch.set_num_threads(before)
    told = {
        "subject": f"{PREFIX}{name}",
        "split": method.protocol.split,
        "inner_fold": None,
        "role": "test",
        "tuning": "tuned" if method.tuned else "fixed",
    }
    found = pd.concat(frames, ignore_index=True).assign(**told)
    return found[list(TABLES["predictions"].columns)].astype({"value": "float32", "std": "float32"})


def _answer(
    method: Method, data: TrialData, groups: Groups, repeat: int, fold: int, seed: int
) -> dict[str, np.ndarray]:
    """Condition -> predictions (n_test, 19) on the 0..1 scale."""
    of = fold_of(data, groups, repeat, fold, seed, method.protocol.support)
    return {
        condition: pred * of.std + of.mean
        for condition, pred in LEARNERS[method.learner](of, **method.settings).items()
    }


def _rows(clips: np.ndarray, values: np.ndarray) -> pd.DataFrame:
    """(n_seeds, n, 19) as rows; what a stage does not predict yet has none."""
    std = values.std(0, ddof=1) if len(values) > 1 else np.full(values.shape[1:], np.nan)
    rows = pd.DataFrame(
        {
            "clip": np.repeat(clips, len(NAMES)),
            "dimension": np.tile(np.array(NAMES, dtype=object), len(clips)),
            "value": values.mean(0).ravel(),
            "std": std.ravel(),
        }
    )
    return rows[rows["value"].notna()]
