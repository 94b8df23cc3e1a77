"""How clips are dealt to folds: one pure function per strategy, from `Sources` to assignments.

Everywhere, folds are balanced by clips, randomness comes from a fixed seed and the strategy's name, and about a sixth
of the clips that are not tested is set aside for inner validation, in whole units (clusters, excerpts, performers).
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from piano_assets.corpus.difficulty import difficulty

SEED = 2024
N_REPEATS = 5
N_FOLDS = 5
N_INNER_FOLDS = 4
HOLDOUT_SHARE = 0.2
VALID_SHARE = 1 / 6


class SplitImpossible(ValueError):
    """A corpus on which a split cannot be made; the message says why."""


@dataclass(frozen=True)
class Sources:
    """What a strategy may look at. `clips` is sorted by clip, so that the order of rows in a file decides nothing."""

    clips: pd.DataFrame
    ratings: pd.DataFrame
    labels: pd.DataFrame
    notes: pd.DataFrame

    def units(self, column: str) -> np.ndarray:
        return self.clips[column].to_numpy(dtype=object)


class Assignment(NamedTuple):
    """The role of every clip (in the order of `Sources.clips`) in one fold; `inner_fold` is None in the outer level."""

    repeat: int
    fold: int
    inner_fold: int | None
    role: np.ndarray


def stream(*names: str | int) -> np.random.Generator:
    """A random stream of its own for each purpose."""
    return np.random.default_rng(
        np.random.SeedSequence([SEED, *(n if isinstance(n, int) else zlib.crc32(n.encode()) for n in names)])
    )


def balanced_folds(units: np.ndarray, n_folds: int, rng: np.random.Generator, n_draws: int = 100) -> np.ndarray:
    """Deal whole units to folds of nearly equal size: the most even of `n_draws` random deals.

    In a deal, units come in random order and each goes to the smallest fold so far. (scikit-learn's GroupKFold either
    ignores the sizes of the groups or gives the same folds whatever the seed.)

    Args:
        units: (n_clips,) unit of each clip.
    Returns:
        (n_clips,) fold of each clip, 0..n_folds-1.
    Raises:
        SplitImpossible: fewer units than folds.
    """
    names, of_clip, sizes = np.unique(units.astype(str), return_inverse=True, return_counts=True)
    if len(names) < n_folds:
        raise SplitImpossible(f"{n_folds} folds need at least {n_folds} groups, found {len(names)}")
    best, best_spread = np.zeros(len(names), int), np.inf
    for _ in range(n_draws):
        fold, filled = np.zeros(len(names), int), np.zeros(n_folds)
        for i in rng.permutation(len(names)):
            fold[i] = filled.argmin()
            filled[fold[i]] += sizes[i]
        if filled.std() < best_spread:
            best, best_spread = fold, filled.std()
        if np.ptp(filled) <= 1:
            break
    return best[of_clip]


def with_validation(test: np.ndarray, units: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Roles of a fold: `test` where told, and among the others whole units of about a sixth of the clips `valid`.

    Raises:
        SplitImpossible: nothing to test, or fewer than two units to learn from.
    """
    role = np.where(test, "test", "train").astype(object)
    learning = np.flatnonzero(~test)
    n_units = len(np.unique(units[learning].astype(str)))
    if not test.any() or n_units < 2:
        raise SplitImpossible(f"a fold needs test clips and two groups to learn from, found {test.sum()} and {n_units}")
    part = balanced_folds(units[learning], min(round(1 / VALID_SHARE), n_units), rng)
    shares = np.bincount(part) / len(learning)
    role[learning[part == np.abs(shares - VALID_SHARE).argmin()]] = "valid"
    return role


def k_fold(s: Sources, unit: str, name: str, n_repeats: int = N_REPEATS) -> Iterator[Assignment]:
    """K folds of whole units, repeated."""
    units = s.units(unit)
    for repeat in range(n_repeats):
        fold_of = balanced_folds(units, N_FOLDS, stream(name, repeat))
        for fold in range(N_FOLDS):
            yield Assignment(repeat, fold, None, with_validation(fold_of == fold, units, stream(name, repeat, fold)))


def cluster(s: Sources) -> Iterator[Assignment]:
    return k_fold(s, "cluster", "cluster")


def excerpt(s: Sources) -> Iterator[Assignment]:
    return k_fold(s, "excerpt", "excerpt")


def performer(s: Sources) -> Iterator[Assignment]:
    return k_fold(s, "performer", "performer")


def random(s: Sources) -> Iterator[Assignment]:
    return k_fold(s, "clip", "random")


def nested(s: Sources) -> Iterator[Assignment]:
    """The folds of `cluster`; inside each, the clips not tested are dealt to inner folds, again by cluster.

    In the inner level, inner fold k is `valid`, the other learning clips `train`, and the outer test clips `unused`.
    """
    units = s.units("cluster")
    for outer in cluster(s):
        yield outer
        learning = np.flatnonzero(outer.role != "test")
        rng = stream("nested", outer.repeat, outer.fold)
        part = balanced_folds(units[learning], N_INNER_FOLDS, rng)
        for inner in range(N_INNER_FOLDS):
            role = np.full(len(units), "unused", dtype=object)
            role[learning] = np.where(part == inner, "valid", "train")
            yield Assignment(outer.repeat, outer.fold, inner, role)


def holdout(s: Sources) -> Iterator[Assignment]:
    """One fixed test set: whole clusters, a fifth of the clips."""
    units = s.units("cluster")
    fold_of = balanced_folds(units, round(1 / HOLDOUT_SHARE), stream("holdout"))
    yield Assignment(0, 0, None, with_validation(fold_of == 0, units, stream("holdout", 0)))


def leave_one_performer_out(s: Sources) -> Iterator[Assignment]:
    """One fold per performer, by name. Deadpan renditions count as performers, so that every clip is tested."""
    from sklearn.model_selection import LeaveOneGroupOut

    units = s.units("performer").astype(str)
    if len(np.unique(units)) < 3:
        raise SplitImpossible(f"leaving one performer out needs three performers, found {len(np.unique(units))}")
    for fold, (_, test) in enumerate(LeaveOneGroupOut().split(units, groups=units)):
        chosen = np.isin(np.arange(len(units)), test)
        yield Assignment(0, fold, None, with_validation(chosen, units, stream("leave_one_performer_out", fold)))


def composer(s: Sources) -> Iterator[Assignment]:
    """One fold per composer: learn from the others. Validation is by cluster."""
    composers = s.units("composer")
    names = sorted(set(composers))
    if len(names) < 2:
        raise SplitImpossible(f"a split by composer needs two composers, found {names}")
    for fold, name in enumerate(names):
        role = with_validation(composers == name, s.units("cluster"), stream("composer", fold))
        yield Assignment(0, fold, None, role)


def temporal(s: Sources) -> Iterator[Assignment]:
    """Test on the clusters that were rated last, validate on those before.

    The data has no recording dates. A clip's time is its first rating id, a proxy: ids grow within a rating round, and
    those of one round need not follow the other's. A cluster's time is the median over its clips. Whole clusters,
    latest first, make up as nearly a fifth of the clips as they can. Clusters without any rating are `unused`.
    """
    first = s.ratings.groupby("clip")["rating_id"].min().reindex(s.clips["clip"]).to_numpy(dtype=np.float64)
    table = pd.DataFrame({"cluster": s.units("cluster"), "time": first}).groupby("cluster")["time"]
    order = table.median().dropna().sort_values(kind="stable", ascending=False)
    if len(order) < 3:
        raise SplitImpossible(f"a temporal split needs three rated clusters, found {len(order)}")
    sizes = s.clips["cluster"].value_counts().reindex(order.index).to_numpy()
    n_test = _nearest_cut(sizes, HOLDOUT_SHARE, leave=2)
    n_valid = _nearest_cut(sizes[n_test:], VALID_SHARE, leave=1)
    role_of = dict.fromkeys(order.index, "train")
    role_of |= dict.fromkeys(order.index[:n_test], "test")
    role_of |= dict.fromkeys(order.index[n_test : n_test + n_valid], "valid")
    yield Assignment(0, 0, None, np.array([role_of.get(c, "unused") for c in s.units("cluster")], dtype=object))


def _nearest_cut(sizes: np.ndarray, share: float, leave: int) -> int:
    """How many leading groups come nearest to `share` of all, leaving at least `leave` groups."""
    return 1 + int(np.abs(np.cumsum(sizes)[: len(sizes) - leave] / sizes.sum() - share).argmin())


def stratified_difficulty(s: Sources) -> Iterator[Assignment]:
    """Folds by cluster in which the quartiles of difficulty are as equally present as the clusters allow."""
    from sklearn.model_selection import StratifiedGroupKFold

    units = s.units("cluster").astype(str)
    if len(np.unique(units)) < N_FOLDS:
        raise SplitImpossible(f"{N_FOLDS} folds need at least {N_FOLDS} clusters, found {len(np.unique(units))}")
    index = difficulty(s.clips, s.notes).reindex(s.clips["excerpt"]).to_numpy()
    quartile = np.searchsorted(np.quantile(index, [0.25, 0.5, 0.75]), index)
    for repeat in range(N_REPEATS):
        random_state = int(stream("stratified_difficulty", repeat).integers(2**31))
        folds = StratifiedGroupKFold(N_FOLDS, shuffle=True, random_state=random_state)
        for fold, (_, test) in enumerate(folds.split(units, quartile, units)):
            chosen = np.isin(np.arange(len(units)), test)
            rng = stream("stratified_difficulty", repeat, fold)
            yield Assignment(repeat, fold, None, with_validation(chosen, units, rng))
