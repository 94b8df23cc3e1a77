"""Which note of a performance is which note of another rendition of the same music."""

import numpy as np

from piano_assets.features.symbolic.reading import Reading

# A pair of equal pitches loses up to this share of its worth when the two lie far apart in relative time, so that
# repeated passages are matched to the nearest repetition.
_TIME_PRICE = 0.5
# A leftover note is matched if the time map puts it within this many median intervals of its partner.
_NEAR = 2.0


def align(performance: Reading, reference: Reading) -> tuple[np.ndarray, np.ndarray]:
    """Match notes by pitch and order: (indices into performance, indices into reference), each note used once.

    First the longest common subsequence of the pitches, chords sorted by pitch, with a price on the distance in
    relative time (Needleman and Wunsch 1970, gaps free). Then notes that changed order within a chord: the matched
    notes give a time map, and leftovers of equal pitch that it brings close together are matched too.
    Both arrays are sorted by the reference's index; empty where nothing matches.
    """
    if not performance.n or not reference.n:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    p_order, r_order = (np.lexsort((x.pitch, x.chord)) for x in (performance, reference))
    worth = _worth(performance, reference, p_order, r_order)
    i, j = _common_subsequence(worth)
    pairs = _leftovers(performance, reference, p_order[i], r_order[j])
    order = np.argsort(pairs[1], kind="stable")
    return pairs[0][order], pairs[1][order]


def _relative(x: Reading) -> np.ndarray:
    last = x.onset[-1]
    return x.onset / last if last > 0 else np.zeros(x.n)


def _worth(a: Reading, b: Reading, a_order: np.ndarray, b_order: np.ndarray) -> np.ndarray:
    """(n_a, n_b) worth of pairing two notes; 0 where the pitches differ."""
    gap = np.abs(_relative(a)[a_order][:, None] - _relative(b)[b_order][None, :])
    return np.where(a.pitch[a_order][:, None] == b.pitch[b_order][None, :], 1 - _TIME_PRICE * gap, 0.0)


def _common_subsequence(worth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Heaviest increasing chain of pairs: indices (rows, columns).

    Because gaps cost nothing, a row of the dynamic programme is a running maximum: one vector operation per note.
    """
    n, m = worth.shape
    best = np.zeros((n + 1, m + 1))
    for row in range(n):
        np.maximum(best[row, 1:], best[row, :-1] + worth[row], out=best[row + 1, 1:])
        np.maximum.accumulate(best[row + 1], out=best[row + 1])
    table, rows, columns = best.tolist(), [], []
    i, j = n, m
    while i and j:
        if table[i][j] == table[i - 1][j]:
            i -= 1
        elif table[i][j] == table[i][j - 1]:
            j -= 1
        else:
            i, j = i - 1, j - 1
            rows.append(i)
            columns.append(j)
    return np.array(rows[::-1], np.int64), np.array(columns[::-1], np.int64)


def _leftovers(a: Reading, b: Reading, i: np.ndarray, j: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Add pairs of unmatched notes of equal pitch that the time map of the matched ones brings close together."""
    if len(i) < 2:
        return i, j
    free_a, free_b = np.setdiff1d(np.arange(a.n), i), np.setdiff1d(np.arange(b.n), j)
    if not len(free_a) or not len(free_b):
        return i, j
    order = np.argsort(a.onset[i], kind="stable")
    x, first = np.unique(a.onset[i][order], return_index=True)
    expected = np.interp(a.onset[free_a], x, np.maximum.accumulate(b.onset[j][order])[first])
    away = np.abs(expected[:, None] - b.onset[free_b][None, :])
    limit = _NEAR * float(np.median(b.ioi)) if len(b.ioi) else 0.0
    away[(a.pitch[free_a][:, None] != b.pitch[free_b][None, :]) | (away > limit)] = np.inf
    more_i, more_j = [], []
    while np.isfinite(nearest := away.min()):
        row, column = np.argwhere(away == nearest)[0]
        more_i.append(free_a[row])
        more_j.append(free_b[column])
        away[row], away[:, column] = np.inf, np.inf
    return np.append(i, np.array(more_i, np.int64)), np.append(j, np.array(more_j, np.int64))
