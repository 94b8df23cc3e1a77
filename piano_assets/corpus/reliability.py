"""Reliability of mean ratings: split halves of the raters and one-way analysis of variance, with cluster bootstrap.

Both reduce the votes to sums per cluster of clips, so that a resample of clusters is one matrix product.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from piano_assets.corpus.clusters import effective_number


@dataclass(frozen=True, eq=False)
class Votes:
    """Ratings as arrays.

    Shapes: total and weight (n_dims, n_clips, n_raters): sum and number of a rater's votes for a clip; round
    (n_raters,).
    """

    total: np.ndarray
    weight: np.ndarray
    round: np.ndarray

    def of_clips(self, index: np.ndarray) -> "Votes":
        """The votes for some clips, by the raters who gave any."""
        weight = self.weight[:, index]
        raters = weight.any(axis=(0, 1))
        return Votes(self.total[:, index][:, :, raters], weight[:, :, raters], self.round[raters])


@dataclass(frozen=True, eq=False)
class Groups:
    """Which cluster and which centring cell (excerpt, or one for all) each clip belongs to, as one-hot matrices.

    Shapes: cluster (n_clusters, n_clips), cell (n_cells, n_clips), cell_cluster (n_cells,) row of the cell's cluster.
    """

    cluster: np.ndarray
    cell: np.ndarray
    cell_cluster: np.ndarray
    within: bool

    @classmethod
    def of(cls, clips: pd.DataFrame, within: bool) -> "Groups":
        cluster, _ = pd.factorize(clips["cluster"], sort=True)
        cell = pd.factorize(clips["excerpt"], sort=True)[0] if within else np.zeros(len(clips), int)
        first = np.unique(cell, return_index=True)[1]
        return cls(_one_hot(cluster), _one_hot(cell), cluster[first], within)

    @property
    def n_clusters(self) -> int:
        return len(self.cluster)

    @property
    def n_effective(self) -> float:
        """Effective number of clusters by clips (Kish), which unequal sizes make smaller than their number."""
        return effective_number(self.cluster.sum(axis=1))

    def resamples(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """(n, n_clusters) how often each cluster is drawn when n_clusters are drawn with replacement."""
        even = np.full(self.n_clusters, 1 / self.n_clusters)
        return rng.multinomial(self.n_clusters, even, size=n).astype(np.float64)


def _one_hot(code: np.ndarray) -> np.ndarray:
    return (np.arange(code.max() + 1 if len(code) else 0)[:, None] == code).astype(np.float64)


def rater_halves(rounds: np.ndarray, n_splits: int, rng: np.random.Generator) -> np.ndarray:
    """(n_splits, n_raters) 1 for the raters of the first half: half of each round's (an odd one by chance)."""
    half = np.zeros((n_splits, len(rounds)))
    for name in pd.unique(rounds):
        members = np.flatnonzero(rounds == name)
        for s in range(n_splits):
            size = (len(members) + rng.integers(2)) // 2
            half[s, rng.permutation(members)[:size]] = 1.0
    return half


def spearman_brown(r: np.ndarray, factor: float = 2.0) -> np.ndarray:
    """Reliability of a test `factor` times as long as the one whose reliability is r: factor r / (1 + (factor - 1) r).

    Spearman (1910) and Brown (1910), British Journal of Psychology 3. NaN where the formula has no value.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(1 + (factor - 1) * r > 0, factor * r / (1 + (factor - 1) * r), np.nan)


def split_half_reliability(
    votes: Votes, groups: Groups, rng: np.random.Generator, n_splits: int, n_bootstrap: int
) -> tuple[np.ndarray, np.ndarray]:
    """Reliability of mean ratings from random halves of the raters, stepped up by Spearman and Brown.

    With few raters, chance gives a clip unequal halves, whose means are noisier than those of equal ones; stepping up
    by 2 would be too little (by .02 to .03 with five raters). The factor is the measured one: the noise variance of a
    half's mean over that of the whole mean, which is 2 for equal halves. A rater's repeated votes for a clip share
    their noise.

    Returns:
        (n_dims,) estimates, 0 where the halves' means do not vary, and (n_bootstrap, n_dims) resampled ones (NaN
        there).
    """
    half = rater_halves(votes.round, n_splits, rng).T
    draws = np.concatenate([np.ones((1, groups.n_clusters)), groups.resamples(n_bootstrap, rng)])
    found = np.full((len(draws), len(votes.total)), np.nan)
    for d, (total, weight) in enumerate(zip(votes.total, votes.weight, strict=True)):
        (a, a_noise), (b, b_noise) = (_means(total, weight, side) for side in (half, 1 - half))
        whole_noise = _means(total, weight, np.ones((len(half), 1)))[1]
        both = np.isfinite(a_noise) & np.isfinite(b_noise)
        if both.any():
            factor = (a_noise[both].mean() + b_noise[both].mean()) / 2 / np.nanmean(whole_noise)
            mask = both * 1.0
            a, b = _centred(a, mask, groups.cell), _centred(b, mask, groups.cell)
            sums = [draws @ (groups.cluster @ x) for x in (mask, a, b, a * a, b * b, a * b)]
            found[:, d] = spearman_brown(_mean_correlation(*sums), factor)
    return np.nan_to_num(found[0], nan=0.0), found[1:]


def _means(total: np.ndarray, weight: np.ndarray, side: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean vote of the raters on each side, and its noise variance in units of one vote's; (n_clips, n_splits) both.

    Where no rater of a side voted, the mean is 0 and the noise NaN.
    """
    n = weight @ side
    some = np.maximum(n, 1)
    return total @ side / some, np.where(n > 0, weight**2 @ side / some**2, np.nan)


def _centred(x: np.ndarray, mask: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """x (n_clips, n_splits) minus its mean over the unmasked clips of each cell; 0 where masked."""
    mean = (cell @ (x * mask)) / np.maximum(cell @ mask, 1)
    return (x - cell.T @ mean) * mask


def _mean_correlation(
    n: np.ndarray, a: np.ndarray, b: np.ndarray, aa: np.ndarray, bb: np.ndarray, ab: np.ndarray
) -> np.ndarray:
    """Pearson r from sums (n_draws, n_splits), averaged over splits; NaN where no split has three clips that vary."""
    with np.errstate(divide="ignore", invalid="ignore"):
        var_a, var_b, cov = aa - a * a / n, bb - b * b / n, ab - a * b / n
        # Sums of squares of identical ratings cancel to rounding error, not to 0.
        varies = (n >= 3) & (var_a > 1e-9 * n) & (var_b > 1e-9 * n)
        r = np.where(varies, cov / np.sqrt(var_a * var_b), np.nan)
    count = np.isfinite(r).sum(axis=1)
    return np.where(count > 0, np.nansum(r, axis=1) / np.maximum(count, 1), np.nan)


@dataclass(frozen=True, eq=False)
class Components:
    """One-way random-effects analysis of variance.

    between: variance of the clips' true values; within: variance of one rating; k: harmonic mean of ratings per clip.
    """

    between: np.ndarray
    within: np.ndarray
    k: np.ndarray

    @property
    def icc_single(self) -> np.ndarray:
        """ICC(1,1): reliability of one rating."""
        return self.between / (self.between + self.within)

    @property
    def icc_mean(self) -> np.ndarray:
        """ICC(1,k): reliability of the mean of k ratings."""
        return self.between / (self.between + self.within / self.k)


def anova_components(votes: Votes, groups: Groups, draws: np.ndarray) -> Components:
    """Variance components of the clips, each (n_draws, n_dims), for clusters counted as often as `draws` says.

    Shrout & Fleiss (1979), Psychological Bulletin 86:420, case 1, with the n0 of unequal group sizes (Searle 1971).
    Within excerpts, clips are nested in excerpts: each excerpt gives up one degree of freedom. The mean over unequally
    many ratings has the reliability for their harmonic mean, which with equal numbers is (MSB - MSW) / MSB.

    Args:
        draws: (n_draws, n_clusters).
    """
    n = votes.weight.sum(axis=2)
    mean = votes.total.sum(axis=2) / np.maximum(n, 1)
    within = (votes.weight * (votes.total - mean[:, :, None]) ** 2).sum(axis=2)
    # One origin for all clips keeps the sums of squares small against their differences.
    mean = np.where(n > 0, mean - mean.mean(axis=1, keepdims=True), 0.0)
    rated = (n > 0) * 1.0
    per_clip = np.stack([n, n * n, n * mean, n * mean**2, rated])
    if groups.within:
        cells = _between(per_clip @ groups.cell.T)
        ss_between, n_excess, df_between = cells @ draws[:, groups.cell_cluster].T
    else:
        ss_between, n_excess, df_between = _between(per_clip @ groups.cluster.T @ draws.T)
    others = np.stack([within, n - rated, rated, rated / np.maximum(n, 1)])
    ss_within, df_within, n_clips, inverse = others @ groups.cluster.T @ draws.T
    with np.errstate(divide="ignore", invalid="ignore"):
        ms_within = ss_within / df_within
        between = (ss_between / df_between - ms_within) / (n_excess / df_between)
        return Components(between.T, ms_within.T, (n_clips / inverse).T)


def _between(sums: np.ndarray) -> np.ndarray:
    """Sum of squares, n0 times its degrees of freedom, and degrees of freedom between the clips that were summed."""
    n, nn, nm, nmm, rated = sums
    some = np.maximum(n, 1)
    return np.stack([nmm - nm**2 / some, n - nn / some, np.maximum(rated - 1, 0)])


def anova_reliability(
    votes: Votes, groups: Groups, rng: np.random.Generator, n_bootstrap: int
) -> tuple[np.ndarray, np.ndarray]:
    """ICC(1,k) of mean ratings; `votes` must hold one vote at most per rater and clip.

    Returns:
        (n_dims,) estimates, 0 where no rating varies, and (n_bootstrap, n_dims) resampled ones (NaN there).
    """
    draws = np.concatenate([np.ones((1, groups.n_clusters)), groups.resamples(n_bootstrap, rng)])
    with np.errstate(divide="ignore", invalid="ignore"):
        found = anova_components(votes, groups, draws).icc_mean
    found = np.where(np.isfinite(found), found, np.nan)
    return np.nan_to_num(found[0], nan=0.0), found[1:]
