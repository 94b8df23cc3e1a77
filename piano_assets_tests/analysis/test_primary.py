"""What the primary test rests on, against scores computed anew from the clips that are left."""

import numpy as np
import pytest
from sklearn.metrics import r2_score

from piano_assets.analysis.measures import View
from piano_assets.analysis.primary import Side, differences

RNG = np.random.default_rng(19)
N, D = 90, 19
CLUSTER, PERFORMER = np.arange(N) // 10, np.arange(N) % 6
TARGET = RNG.normal(size=(N, D))


def side(spread: float, rows: np.ndarray) -> Side:
    pred = TARGET[rows] + spread * RNG.normal(size=(len(rows), D))
    return Side(View(pred, TARGET[rows], rows, rows), CLUSTER[rows], PERFORMER[rows])


ROWS = [np.arange(N), np.flatnonzero(CLUSTER != 2)]
PAIRS = [(side(0.7, rows), side(1.0, rows)) for rows in ROWS]
SCORES = {
    "pearson_mean": lambda p, t: np.diag(np.corrcoef(p, t, rowvar=False)[:D, D:]),
    "r2_pooled": lambda p, t: r2_score(t, p, multioutput="raw_values"),
}


@pytest.mark.parametrize("measure", SCORES)
@pytest.mark.parametrize("column", [0, 4, D])
def test_a_difference_without_each_group_is_computed_anew(measure, column):
    """Of one dimension and of their mean (the last column), over two repeats of which one lacks a cluster."""

    def difference(gone: np.ndarray) -> float:
        found = []
        for (a, b), rows in zip(PAIRS, ROWS, strict=True):
            kept = ~gone[rows]
            sides = [SCORES[measure](s.view.pred[kept], s.view.target[kept]) for s in (a, b)]
            found.append(np.subtract(*sides))
        values = np.mean(found, axis=0)
        return float(np.append(values, values.mean())[column])

    whole = difference(np.zeros(N, bool))
    groupings = CLUSTER, PERFORMER, CLUSTER * 10 + PERFORMER
    for codes, change in zip(groupings, differences(PAIRS, measure), strict=True):
        groups = np.unique(codes)
        assert change.shape == (len(groups), D + 1)
        for g in groups[:: len(groups) // 3]:
            at = int(np.flatnonzero(groups == g)[0])
            # Differences of values near 1 from sums over 90 clips: good to 1e-13.
            assert change[at, column] == pytest.approx(whole - difference(codes == g), rel=1e-8, abs=1e-12)
