"""Ratings without the leniency of those who happened to give them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from piano_assets.corpus.labels import SCALE, clean_votes
from piano_assets.dimensions import N_DIMENSIONS, NAMES

SHRINKAGE = 5.0
"""Variance of the noise over that of the biases, about 1 to 0.2 rating points squared."""
PASSES, ENOUGH = 100, 1e-6


@dataclass(frozen=True)
class Votes:
    """One vote per listener, clip and dimension, under the rule `clean`.

    clip: (n,) rows of a list of clips; dimension: (n,) 0..18; rater: (n,) numbers from 0; value: (n,), 0..1.
    """

    clip: np.ndarray
    dimension: np.ndarray
    rater: np.ndarray
    value: np.ndarray

    @classmethod
    def of(cls, ratings: pd.DataFrame, clips: np.ndarray) -> "Votes":
        """From the table `ratings`; votes on other clips are left out."""
        votes = clean_votes(ratings)
        row = pd.Index(clips).get_indexer(votes["clip"])
        votes, row = votes[row >= 0], row[row >= 0]
        dimension = pd.Index(NAMES).get_indexer(votes["dimension"])
        rater = pd.factorize(votes["rater"], sort=True)[0]
        return cls(row, dimension, rater, votes["vote"].to_numpy(np.float64) / SCALE)


def unbiased_labels(votes: Votes, rows: np.ndarray, shrinkage: float = SHRINKAGE) -> np.ndarray:
    """Labels of the clips at `rows` with each listener's bias on each dimension removed, (n_rows, 19).

    A vote is a clip's worth plus a bias of its listener plus noise. Worths are means of votes less biases, biases are
    shrunk means of votes less worths, alternating until neither moves: the ridge solution (Henderson 1975, Biometrics
    31:423). Votes on other clips are not looked at, so that labels of a fold's training clips know nothing of its test
    clips.

    Args:
        shrinkage: variance of the noise over that of the biases; infinite removes nothing.
    Raises:
        ValueError: a clip without a vote on a dimension.
    """
    place = np.full(votes.clip.max(initial=-1) + 1, -1)
    place[rows] = np.arange(len(rows))
    mine = place[votes.clip] >= 0
    cell = place[votes.clip[mine]] * N_DIMENSIONS + votes.dimension[mine]
    judge = votes.rater[mine] * N_DIMENSIONS + votes.dimension[mine]
    value = votes.value[mine]
    per_cell = np.bincount(cell, minlength=len(rows) * N_DIMENSIONS)
    if (per_cell == 0).any():
        row, dimension = divmod(int((per_cell == 0).argmax()), N_DIMENSIONS)
        raise ValueError(f"clip {rows[row]} has no vote on {NAMES[dimension]!r}: its label cannot be freed of biases")
    per_judge = np.bincount(judge)
    bias, worth = np.zeros(len(per_judge)), np.zeros(len(per_cell))
    for _ in range(PASSES):
        before = worth
        worth = np.bincount(cell, value - bias[judge], minlength=len(per_cell)) / per_cell
        bias = np.bincount(judge, value - worth[cell], minlength=len(per_judge)) / (per_judge + shrinkage)
        if np.abs(worth - before).max() < ENOUGH:
            break
    return worth.reshape(len(rows), N_DIMENSIONS)
