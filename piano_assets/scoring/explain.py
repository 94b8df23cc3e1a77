"""Why a score is what it is: what each aspect of the playing, and each feature, moved it by.

Against one reference, the median human performance of the corpus. Aspects share the difference exactly, by Shapley
values over all their coalitions (Shapley 1953; Lundberg & Lee 2017, sec. 2, with one reference in place of a mean over
many): of seven aspects there are 128, so that nothing is sampled. A single feature's effect is the difference that it
makes alone, all others being as they are; such effects do not add up where features stand in for one another.
"""

import itertools
from collections.abc import Callable, Sequence
from math import factorial

import numpy as np

Predict = Callable[[np.ndarray], np.ndarray]
"""Features (n, d) -> scores (n, 19)."""


def shapley(predict: Predict, x: np.ndarray, reference: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """What each group of features brings to the score of one clip: (n_groups, 19), summing to f(x) - f(reference).

    Args:
        x, reference: (d,). groups: columns of each group, together all of them.
    Raises:
        ValueError: groups that do not hold every column once.
    """
    columns = np.sort(np.concatenate(list(groups)))
    if not np.array_equal(columns, np.arange(len(x))):
        raise ValueError(f"groups must hold each of {len(x)} columns once (hold {len(columns)})")
    n = len(groups)
    coalitions = np.array(list(itertools.product([False, True], repeat=n)))
    rows = np.tile(reference, (len(coalitions), 1))
    for k, group in enumerate(groups):
        rows[np.ix_(coalitions[:, k], group)] = x[group]
    value = predict(rows)
    place = 1 << np.arange(n)[::-1]  # of a coalition, as `product` counts
    size = coalitions.sum(1)
    found = np.zeros((n, value.shape[1]))
    for k in range(n):
        without = np.flatnonzero(~coalitions[:, k])
        weight = np.array([factorial(s) * factorial(n - s - 1) / factorial(n) for s in size[without]])
        found[k] = (weight[:, None] * (value[without + place[k]] - value[without])).sum(0)
    return found


def effects(predict: Predict, x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """(d, 19): what the score of one clip would lose if a single feature were as in the reference.

    A feature that is undefined in the clip or in the reference moves nothing.
    """
    moved = np.flatnonzero(np.isfinite(x) & np.isfinite(reference) & (x != reference))
    rows = np.tile(x, (len(moved) + 1, 1))
    rows[np.arange(len(moved)), moved] = reference[moved]
    value = predict(rows)
    found = np.zeros((len(x), value.shape[1]))
    found[moved] = value[-1] - value[:-1]
    return found
