"""The noise ceiling: how well listeners agree, and so how well any model can do.

A label is the mean of a few listeners' ratings. The share of its variance over clips that is not noise is its
reliability: no model can reach a higher R2, and none a higher correlation than its root.
"""

from itertools import product

import numpy as np
import pandas as pd
from scipy import special

from piano_assets.corpus.labels import HIGHEST_PUBLISHED, published_clip
from piano_assets.corpus.reliability import Groups, Votes, anova_reliability, split_half_reliability
from piano_assets.dimensions import NAMES
from piano_assets.schemas import LEVELS, POPULATIONS

MIN_CLIPS = 5
"""Clips that an excerpt needs to count within excerpts."""

METHOD_RULES = (("split_half", "clean"), ("split_half", "published"), ("anova_icc", "clean"))
"""The analysis of variance takes votes as independent; the published rule counts repeated rows twice: no ANOVA."""


def noise_ceiling(
    ratings: pd.DataFrame,
    clips: pd.DataFrame,
    rng: np.random.Generator,
    n_splits: int = 100,
    n_bootstrap: int = 1000,
) -> pd.DataFrame:
    """Reliability of the labels by two methods, with 95 % intervals (table `noise_ceiling`).

    - `split_half`: random halves of the raters, equally many of each round in both; the correlation over clips of the
      two halves' mean ratings, averaged over `n_splits` halvings and stepped up by Spearman and Brown
      (`reliability.split_half_reliability`). Clips rated by one half only do not enter that halving.
    - `anova_icc`: one-way ICC(1,k) for unequal numbers of ratings (`reliability.anova_reliability`).

    Level `within_excerpt` centres within excerpts of at least `MIN_CLIPS` clips of the population. Intervals are
    expanded percentile intervals over `n_bootstrap` resamples of clusters of clips; raters are not resampled. `mean` is
    the mean over the dimensions; its max_r is the mean of their max_r, so it stands beside a mean correlation. max_r
    and max_r2 are NULL where the reliability is not positive.

    Rounds share no rater: a difference between two rounds' panels in how they use the scale counts as agreement in
    level `global`, never in level `within_excerpt`. `anova_icc` counts every listener's severity as noise, though it
    cancels between clips that the same listeners rated; so it lies below `split_half`, most within excerpts.

    A population and level with fewer than two clusters has no rows. Ratings of clips that are not in `clips` do not
    enter.

    Args:
        ratings: table `ratings`.
        clips: table `clips`, with clusters.

    Raises:
        ValueError: no rating at all.
    """
    if ratings["value"].notna().sum() == 0:
        raise ValueError("noise_ceiling: the table ratings holds no value between 1 and 7")
    votes = {rule: VOTES[rule](ratings, clips) for rule in VOTES}
    rows = []
    for population, level in product(POPULATIONS, LEVELS):
        chosen = _chosen(clips, population, level)
        for method, rule in METHOD_RULES:
            groups = Groups.of(clips[chosen], level == "within_excerpt")
            part = votes[rule].of_clips(np.flatnonzero(chosen))
            if groups.n_clusters < 2:
                continue
            if method == "split_half":
                estimate, resampled = split_half_reliability(part, groups, rng, n_splits, n_bootstrap)
            else:
                estimate, resampled = anova_reliability(part, groups, rng, n_bootstrap)
            head = {"method": method, "rule": rule, "population": population, "level": level}
            rows += [head | row for row in _rows(estimate, resampled, groups.n_effective)]
    columns = [
        "method",
        "rule",
        "population",
        "level",
        "dimension",
        "reliability",
        "ci_low",
        "ci_high",
        "max_r",
        "max_r2",
    ]
    return pd.DataFrame(rows, columns=columns)


def clean_votes(ratings: pd.DataFrame, clips: pd.DataFrame) -> Votes:
    """One rater, one vote: a rater's ratings of a clip are averaged; repeated rows and non-answers are left out."""
    used = ratings[~ratings["duplicate"].astype(bool) & ratings["value"].notna()]
    votes = _votes(used, used["value"], clips)
    some = votes.weight > 0
    return Votes(
        np.divide(votes.total, votes.weight, where=some, out=np.zeros_like(votes.total)), some * 1.0, votes.round
    )


def published_votes(ratings: pd.DataFrame, clips: pd.DataFrame) -> Votes:
    """Every answer counts as often as it is stored, by the authors' rule (`labels.published_votes`)."""
    broken = ratings.loc[ratings["raw"] > HIGHEST_PUBLISHED, "row"].unique()
    used = ratings[~ratings["row"].isin(broken) & (ratings["raw"] > 0)]
    merged = {clip: published_clip(clip) for clip in used["clip"].unique()}
    return _votes(used.assign(clip=used["clip"].map(merged)), used["raw"], clips)


VOTES = {"clean": clean_votes, "published": published_votes}


def _votes(used: pd.DataFrame, value: pd.Series, clips: pd.DataFrame) -> Votes:
    raters = used.drop_duplicates("rater").sort_values("rater")
    shape = (len(NAMES), len(clips), len(raters))
    at = [
        pd.Index(names).get_indexer(used[column])
        for names, column in ((NAMES, "dimension"), (clips["clip"], "clip"), (raters["rater"], "rater"))
    ]
    known = at[1] >= 0
    cell = np.ravel_multi_index([a[known] for a in at], shape)
    size = int(np.prod(shape))
    total = np.bincount(cell, value.to_numpy(np.float64)[known], size).reshape(shape)
    weight = np.bincount(cell, minlength=size).astype(np.float64).reshape(shape)
    return Votes(total, weight, raters["round"].to_numpy(dtype=object))


def _chosen(clips: pd.DataFrame, population: str, level: str) -> np.ndarray:
    chosen = np.ones(len(clips), bool) if population == "all" else ~clips["deadpan"].to_numpy(bool)
    if level == "within_excerpt":
        sizes = clips["excerpt"].map(clips.loc[chosen, "excerpt"].value_counts()).fillna(0)
        chosen &= sizes.to_numpy() >= MIN_CLIPS
    return chosen


def _rows(estimate: np.ndarray, resampled: np.ndarray, n_effective: float) -> list[dict[str, object]]:
    """Rows of the dimensions and of their mean, from (n_dims,) estimates and (n_bootstrap, n_dims) resampled ones."""
    roots = np.sqrt(np.maximum(estimate, 0.0))
    values = np.r_[estimate, estimate.mean()]
    rows = []
    for name, value, root, draws in zip(
        (*NAMES, "mean"), values, np.r_[roots, roots.mean()], np.c_[resampled, resampled.mean(axis=1)].T, strict=True
    ):
        low, high = expanded_percentile_interval(draws, n_effective)
        positive = value > 0
        rows.append(
            {
                "dimension": name,
                "reliability": float(value),
                "ci_low": low,
                "ci_high": high,
                "max_r": float(root) if positive else None,
                "max_r2": float(value) if positive else None,
            }
        )
    return rows


def expanded_percentile_interval(draws: np.ndarray, n: float) -> tuple[float | None, float | None]:
    """95 % bootstrap percentile interval, widened for n resampled units as Student's t is against the normal.

    Percentile intervals of few units are too short; the quantiles are taken at Phi(-sqrt(n / (n - 1)) t_{.025, n-1})
    instead of .025. Hesterberg (2015), The American Statistician 69:371, section 5.3. NaN draws do not count; without
    any other, or with n <= 1, there is no interval.
    """
    kept = draws[np.isfinite(draws)]
    if len(kept) == 0 or n <= 1:
        return None, None
    tail = special.ndtr(-np.sqrt(n / (n - 1)) * special.stdtrit(n - 1, 0.975))
    low, high = np.quantile(kept, [tail, 1 - tail])
    return float(low), float(high)
