"""A champion as it is without the clips that it is asked about: what it says of music that it has not learnt from.

The models that it was fitted with (`ensembles.champion`), fitted again for each fold of its split, at its search points
and with its weights. That they say of the fold's clips what the champion's record says of them is checked.
"""

from collections.abc import Callable, Iterator

import numpy as np

from piano_assets.defs.planner import known
from piano_assets.ensembles.champion import REPEAT, SEED
from piano_assets.ensembles.champion_files import Holder
from piano_assets.store.parts import Store
from piano_assets.training.data import load
from piano_assets.training.folds import fit_tabular
from piano_assets.training.members import FIXED, search_points
from piano_assets.training.nested import alone

Predict = Callable[[np.ndarray], np.ndarray]
"""Features (n, d) -> scores (n, 19)."""


def unheard(holder: Holder, store: Store) -> Iterator[tuple[set[str], Predict]]:
    """(clips that a fold tests, the champion without them), fold by fold."""
    trials = known(store).trials
    loaded = {m["config"]: load(trials[m["config"]], store) for m in holder.record["members"]}
    data = next(iter(loaded.values()))
    folds = sorted(fold for repeat, fold in data.roles if repeat == REPEAT)
    for number, fold in enumerate(folds, start=1):
        models = []
        for m in holder.record["members"]:
            trial = trials[m["config"]]
            point = {**search_points(trial), FIXED: trial}[m["search_point"]]
            models.append(fit_tabular(alone(point), loaded[m["config"]], REPEAT, fold, SEED, None).model)

        def predict(x: np.ndarray, models: list = models) -> np.ndarray:
            return sum(w * np.asarray(m.predict(x)) for w, m in zip(holder.weights, models, strict=True))

        mine = {str(clip) for clip in data.clips[data.rows(REPEAT, fold, "test", labelled=False)]}
        rows = np.isin(holder.clips, list(mine))
        np.testing.assert_allclose(predict(holder.features[rows]), holder.out_of_fold[rows], atol=1e-5)
        print(f"folds: {number} of {len(folds)}", flush=True)
        yield mine, predict
