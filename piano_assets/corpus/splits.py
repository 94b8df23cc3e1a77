"""Splits: which clips are learnt from, validated on and tested, by name.

A split says what it promises (kinds of kinship that never cross from training to test; `leaks` measures them all) and
how its folds are put together into one score. Adding one is a function in `split_strategies` and a line here.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from piano_assets.corpus import split_protocols, split_strategies
from piano_assets.corpus.split_strategies import N_INNER_FOLDS, N_REPEATS, Assignment, Sources, SplitImpossible
from piano_assets.store.parts import digest

__all__ = ["SPLITS", "Split", "SplitImpossible", "make_split"]

KINDS = ("cluster", "excerpt", "performer", "identical_notes")
"""Kinds of kinship between clips."""

MUSIC = ("cluster", "excerpt", "identical_notes")


@dataclass(frozen=True, kw_only=True)
class Split:
    """What a split is.

    Args:
        assign: makes the assignments.
        unit: what is kept whole, a column of `clips`; inner validation keeps `valid_unit` whole (None: no unit).
        aggregation: `pooled` (test clips of all folds are scored as one set) or `mean_of_folds`.
        n_repeats: repeats of the fold assignment; a seed picks one.
        n_inner_folds: inner folds in each outer fold, on which trials are fitted as well.
        promises: kinds of kinship whose leak must be 0.
        reference: where the protocol comes from.
    """

    name: str
    description: str
    assign: Callable[[Sources], Iterable[Assignment]]
    unit: str
    valid_unit: str | None
    aggregation: str = "pooled"
    n_repeats: int = 1
    n_inner_folds: int = 0
    promises: tuple[str, ...] = ()
    reference: str = "this project"


_REGISTERED = (
    Split(
        name="cluster",
        description="5 folds of whole clusters, 5 fixed repeats: no music of a test clip is in training. The default.",
        assign=split_strategies.cluster,
        unit="cluster",
        valid_unit="cluster",
        n_repeats=N_REPEATS,
        promises=MUSIC,
        reference="grouped cross-validation: Roberts et al. 2017, Ecography 40:913",
    ),
    Split(
        name="excerpt",
        description="5 folds of whole excerpts; excerpts that contain each other leak.",
        assign=split_strategies.excerpt,
        unit="excerpt",
        valid_unit="excerpt",
        aggregation="mean_of_folds",
        n_repeats=N_REPEATS,
        promises=("excerpt",),
        reference="the kind of PercePiano's piece split: Park et al. 2024, Sci. Rep. 14:23002",
    ),
    Split(
        name="performer",
        description="5 folds of whole performers (work + player); the test music is in training, played by others.",
        assign=split_strategies.performer,
        unit="performer",
        valid_unit="performer",
        aggregation="mean_of_folds",
        n_repeats=N_REPEATS,
        promises=("performer",),
    ),
    Split(
        name="random",
        description="5 random folds of clips: nothing is kept apart.",
        assign=split_strategies.random,
        unit="clip",
        valid_unit=None,
        aggregation="mean_of_folds",
        n_repeats=N_REPEATS,
    ),
    Split(
        name="founding",
        description="Random 70/15/15 of the clips with published labels, as in the founding documents.",
        assign=split_protocols.founding,
        unit="clip",
        valid_unit=None,
        aggregation="mean_of_folds",
        reference="the founding documents: 832/178/179 of 1,189, random_state 42",
    ),
    Split(
        name="percepiano_performer",
        description="PercePiano's performer split, exactly: one fixed test set, 4 sets of validation players.",
        assign=split_protocols.percepiano_performer,
        unit="performer",
        valid_unit="performer",
        aggregation="mean_of_folds",
        promises=("performer",),
        reference="Park et al. 2024, Sci. Rep. 14:23002, and its code",
    ),
    Split(
        name="composer",
        description="One fold per composer: learn from the others' music only.",
        assign=split_strategies.composer,
        unit="composer",
        valid_unit="cluster",
        aggregation="mean_of_folds",
        promises=KINDS,
    ),
    Split(
        name="temporal",
        description="Test on the fifth of the clips (whole clusters) that was rated last, by first rating id (proxy).",
        assign=split_strategies.temporal,
        unit="cluster",
        valid_unit="cluster",
        promises=MUSIC,
    ),
    Split(
        name="stratified_difficulty",
        description="5 folds of whole clusters in which quartiles of difficulty are equally present, 5 repeats.",
        assign=split_strategies.stratified_difficulty,
        unit="cluster",
        valid_unit="cluster",
        n_repeats=N_REPEATS,
        promises=MUSIC,
        reference="scikit-learn StratifiedGroupKFold",
    ),
    Split(
        name="leave_one_performer_out",
        description="One fold per performer (work + player), deadpan renditions included.",
        assign=split_strategies.leave_one_performer_out,
        unit="performer",
        valid_unit="performer",
        promises=("performer",),
        reference="scikit-learn LeaveOneGroupOut",
    ),
    Split(
        name="holdout",
        description="A fixed fifth of the clips, whole clusters: it confirms, it cannot rank.",
        assign=split_strategies.holdout,
        unit="cluster",
        valid_unit="cluster",
        promises=MUSIC,
    ),
    Split(
        name="nested",
        description="The folds of `cluster`, and 4 inner folds in each: for procedures that search and stack.",
        assign=split_strategies.nested,
        unit="cluster",
        valid_unit="cluster",
        n_repeats=N_REPEATS,
        n_inner_folds=N_INNER_FOLDS,
        promises=MUSIC,
        reference="Cawley & Talbot 2010, JMLR 11",
    ),
)

SPLITS: dict[str, Split] = {s.name: s for s in _REGISTERED}


def make_split(
    name: str, clips: pd.DataFrame, ratings: pd.DataFrame, labels: pd.DataFrame, notes: pd.DataFrame
) -> pd.DataFrame:
    """Make the rows of table `splits` for one split; equal corpora give equal rows, whatever the order of their rows.

    Within one (repeat, fold, inner_fold) every clip has exactly one role.

    Raises:
        KeyError: an unknown name.
        SplitImpossible: the corpus does not have what the split needs (two composers, PercePiano's players, ...).
    """
    if name not in SPLITS:
        raise KeyError(f"unknown split {name!r}; known: {', '.join(SPLITS)}")
    ordered = clips.sort_values("clip", kind="stable").reset_index(drop=True)
    try:
        assignments = list(SPLITS[name].assign(Sources(ordered, ratings, labels, notes)))
    except SplitImpossible as error:
        raise SplitImpossible(f"split {name!r}: {error}") from error
    n = len(ordered)
    inner = [None if a.inner_fold is None else int(a.inner_fold) for a in assignments]
    return pd.DataFrame(
        {
            "split": name,
            "repeat": np.repeat([a.repeat for a in assignments], n).astype(np.int32),
            "fold": np.repeat([a.fold for a in assignments], n).astype(np.int32),
            "inner_fold": pd.array(inner, dtype="Int32").repeat(n),
            "clip": np.tile(ordered["clip"].to_numpy(dtype=object), len(assignments)),
            "role": np.concatenate([a.role for a in assignments]),
            "split_hash": split_hash(name, ordered["clip"], assignments),
        }
    )


def split_hash(name: str, clips: Iterable[str], assignments: Iterable[Assignment]) -> str:
    """Hash of the whole assignment: the same on every machine, another when one clip changes its role."""
    folds = [[a.repeat, a.fold, a.inner_fold, ",".join(a.role)] for a in assignments]
    return digest(name, list(map(str, clips)), folds)
