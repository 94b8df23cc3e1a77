"""What partitions will write, in bytes, and whether their data folder can take it: asked before a batch trains."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from piano_assets.catalogue.trial import Trial
from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.store.capacity import require_room, require_writable
from piano_assets.store.parts import Store
from piano_assets.training.data import repeat_of
from piano_assets.training.members import search_points
from piano_assets.training.size import n_params

if TYPE_CHECKING:
    from piano_assets.training.partition import Partition

ROW_BYTES = 8
"""Of a prediction in a part: values in float32, names as dictionaries; 5.4 were measured."""

STATE = 4
"""Numbers that a saved state has for each parameter: weight, two moments, best weight."""

TABULAR_BYTES = 2**25
"""Of a kept tabular model: forests take 10 to 28 MB."""


def expected_bytes(trial: Trial, n_predictions: int, n_folds: int, n_inner: int, params: int | None, kept: bool) -> int:
    """An upper estimate of what a partition takes on disk while it trains.

    Args:
        n_predictions: predicted clips over all folds, inner ones among them; each on every dimension.
        n_folds, n_inner: outer and inner folds. params: of a network, None for a tabular model.
        kept: whether models are kept.
    """
    points = 1 + len(search_points(trial))
    rows = n_predictions * N_DIMENSIONS * min(points, 2)
    found = 2 * ROW_BYTES * rows  # folds wait in the work folder while the part is written
    if params is None:
        return found + kept * TABULAR_BYTES * n_folds
    return found + 4 * params * (kept * n_folds + STATE * points * (n_folds + n_inner))


def require_place(store: Store, partitions: Iterable["Partition"]) -> int:
    """Refuse a batch that the data folder of its partitions cannot take. Returns the bytes that it may write.

    Raises:
        StoreError: the folder cannot be written, or has too little room; nothing was trained.
    """
    require_writable(store.root)
    needed = 0
    counted: dict[tuple[str, int], tuple[int, int, int]] = {}
    for p in partitions:
        split = p.trial.split, p.seed
        if split not in counted:
            counted[split] = _count(store, *split)
        needed += expected_bytes(p.trial, *counted[split], n_params(p.trial, store), p.keeps_models)
    require_room(store.root, needed)
    return needed


def _count(store: Store, split: str, seed: int) -> tuple[int, int, int]:
    """(predicted clips, outer folds, inner folds) of a seed's repeat of a split."""
    rows = store.read("splits", split, ["repeat", "fold", "inner_fold", "role"])
    rows = rows[rows["repeat"] == repeat_of(seed, 1 + int(rows["repeat"].max()))]
    outer = rows["inner_fold"].isna()
    inner = len(rows.loc[~outer, ["fold", "inner_fold"]].drop_duplicates())
    return int(rows["role"].isin(("test", "valid")).sum()), rows.loc[outer, "fold"].nunique(), inner
