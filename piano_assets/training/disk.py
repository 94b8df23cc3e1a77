"""What partitions will write, in bytes, and whether their data folder can take it: asked before a batch trains."""

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from piano_assets.catalogue.trial import Trial
from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.store.capacity import require_room, require_writable
from piano_assets.store.parts import Store
from piano_assets.training.members import search_points
from piano_assets.training.size import n_params

if TYPE_CHECKING:
    from piano_assets.training.partition import Partition

ROW_BYTES = 8
"""Of a prediction in a part: values in float32, names as dictionaries; 5.4 were measured."""

STATE_BYTES = 4 * 4
"""Of a saved state for each parameter: weight, two moments and best weight in float32."""

TABULAR_BYTES = 2**25
"""Of a kept tabular model: forests take 10 to 28 MB."""

AT_ONCE = 256
"""Networks that train at once on a GPU, of which states are saved; on a CPU a fold a core."""


def published_bytes(trial: Trial, n_predictions: int, n_folds: int, params: int | None, kept: bool) -> int:
    """An upper estimate of what a partition publishes, its predictions twice: they wait in the work folder.

    Args:
        n_predictions: predicted clips over all folds, inner ones among them; each on every dimension.
        params: of a network, None for a tabular model. kept: whether the models of its `n_folds` are kept.
    """
    tunings = 2 if search_points(trial) else 1
    models = TABULAR_BYTES if params is None else 4 * params
    return 2 * ROW_BYTES * n_predictions * N_DIMENSIONS * tunings + kept * models * n_folds


def state_bytes(params: int, points: int, n_groups: int, device: str, cores: int | None = None) -> int:
    """What the saved states take of the networks of `params` parameters that train at once.

    points: networks of a fold, one for each point of the search. n_groups: folds of all partitions.
    """
    limit = AT_ONCE if device.startswith("cuda") else points * (cores or os.cpu_count() or 1)
    return STATE_BYTES * params * min(points * n_groups, limit)


def require_place(store: Store, partitions: Iterable["Partition"]) -> int:
    """Refuse a batch that the data folder of its partitions cannot take. Returns the bytes that it may write.

    Raises:
        StoreError: the folder cannot be written, or has too little room; nothing was trained.
    """
    require_writable(store.root)
    needed = largest = points = n_groups = 0
    device = "cpu"
    counted: dict[tuple[str, int], tuple[int, int, int]] = {}
    for p in partitions:
        split = p.trial.split, p.seed
        if split not in counted:
            counted[split] = _count(store, *split)
        predicted, folds, inner = counted[split]
        params = n_params(p.trial, store)
        needed += published_bytes(p.trial, predicted, folds, params, p.keeps_models)
        if params:
            largest, device = max(largest, params), p.device
            points, n_groups = max(points, 1 + len(search_points(p.trial))), n_groups + folds + inner
    needed += state_bytes(largest, points, n_groups, device)
    require_room(store.root, needed)
    return needed


def _count(store: Store, split: str, seed: int) -> tuple[int, int, int]:
    """(predicted clips, outer folds, inner folds) of a seed's repeat of a split; all 0 where it has no such repeat."""
    rows = store.read("splits", split, ["repeat", "fold", "inner_fold", "role"])
    rows = rows[rows["repeat"] == (seed if rows["repeat"].any() else 0)]
    outer = rows["inner_fold"].isna()
    inner = len(rows.loc[~outer, ["fold", "inner_fold"]].drop_duplicates())
    return int(rows["role"].isin(("test", "valid")).sum()), rows.loc[outer, "fold"].nunique(), inner
