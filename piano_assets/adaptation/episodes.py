"""Episodes: a few rated clips of one performer (the support), and clips of his that are predicted (the query).

Support and query never share a cluster, so that what is learnt is the performer and not the music. A performer's
clusters are dealt to five groups of nearly equal size; each group is the query once, with a support from the others.
So every clip is predicted exactly once, and its label is in no support that it is predicted from.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from piano_assets.corpus.split_strategies import balanced_folds

N_ROTATIONS = 5
"""Groups of a performer's clusters: so many that ten clips of the others remain for the smallest repertoire (13)."""


@dataclass(frozen=True, eq=False)
class Episode:
    """Rows of a support, in the order in which they would be rated, and of a query."""

    support: np.ndarray
    query: np.ndarray


@dataclass(frozen=True, eq=False)
class Stack:
    """Episodes side by side. support, rated: (n_episodes, k); query, asked: (n_episodes, n_query).

    `rated` and `asked` are False where an episode has fewer clips than others; the rows there mean nothing.
    """

    support: np.ndarray
    rated: np.ndarray
    query: np.ndarray
    asked: np.ndarray


def rotations(rows: np.ndarray, cluster: np.ndarray, rng: np.random.Generator, most: int) -> list[Episode]:
    """The episodes of one performer: every row is in exactly one query.

    Args:
        rows: (n,) his clips. cluster: of every clip of the corpus. most: supports are cut to so many.
    A performer of one cluster has no support that does not share it: his episode's support is empty.
    """
    rows = rng.permutation(np.sort(rows))
    n_groups = min(N_ROTATIONS, len(np.unique(cluster[rows])))
    group = balanced_folds(cluster[rows], n_groups, rng) if n_groups > 1 else np.zeros(len(rows), int)
    found = []
    for g in range(n_groups):
        support = in_rounds(rows[group != g], cluster, rng)[:most]
        found.append(Episode(support, np.sort(rows[group == g])))
    return found


def in_rounds(rows: np.ndarray, cluster: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rows in random order, a clip of every cluster before the second of any."""
    shuffled = rng.permutation(rows)
    seen: dict[int, int] = {}
    turn = np.zeros(len(shuffled), int)
    for i, c in enumerate(cluster[shuffled]):
        turn[i] = seen[c] = seen.get(c, -1) + 1
    return shuffled[np.argsort(turn, kind="stable")]


def by_performer(
    rows: np.ndarray, performer: np.ndarray, cluster: np.ndarray, rng: np.random.Generator, most: int
) -> list[Episode]:
    """The episodes of all performers of some rows, performers in the order of their codes."""
    return [
        episode
        for p in np.unique(performer[rows])
        for episode in rotations(rows[performer[rows] == p], cluster, rng, most)
    ]


def draw_tasks(
    rows: np.ndarray,
    performer: np.ndarray,
    cluster: np.ndarray,
    rng: np.random.Generator,
    *,
    n_tasks: int,
    k: int,
    n_query: int,
) -> Stack:
    """Episodes of so many performers drawn at random: k clips of as many clusters, and a query from other clusters.

    Performers of one cluster are left out; where there are fewer than `n_tasks` others, all of them are taken.

    Raises:
        ValueError: no performer of two clusters.
    """
    names = [p for p in np.unique(performer[rows]) if len(np.unique(cluster[rows[performer[rows] == p]])) > 1]
    if not names:
        raise ValueError(f"tasks need a performer whose clips lie in two clusters (none among {len(rows)} clips)")
    drawn = []
    for p in rng.permutation(names)[:n_tasks]:
        mine = rows[performer[rows] == p]
        # One cluster at least is left for the query.
        n_support = min(k, len(np.unique(cluster[mine])) - 1)
        support = in_rounds(mine, cluster, rng)[:n_support]
        others = mine[~np.isin(cluster[mine], cluster[support])]
        drawn.append(Episode(support, rng.permutation(others)[:n_query]))
    return stacked(drawn, k)


def stacked(episodes: Sequence[Episode], k: int) -> Stack:
    """Episodes side by side, supports cut to their first k clips: so a larger support holds a smaller one."""
    supports, rated = _padded([e.support[:k] for e in episodes], k)
    queries, asked = _padded([e.query for e in episodes], max(len(e.query) for e in episodes))
    return Stack(supports, rated, queries, asked)


def _padded(rows: Sequence[np.ndarray], width: int) -> tuple[np.ndarray, np.ndarray]:
    table, there = np.zeros((len(rows), width), int), np.zeros((len(rows), width), bool)
    for i, of in enumerate(rows):
        table[i, : len(of)], there[i, : len(of)] = of, True
    return table, there
