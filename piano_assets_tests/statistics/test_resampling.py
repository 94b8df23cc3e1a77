"""The cluster bootstrap by moments against resampling by index, scipy's bootstrap, and limits."""

import numpy as np
import pytest
from scipy import stats

from piano_assets.metrics.regression import METRICS
from piano_assets.statistics.resampling import (
    MOMENTS,
    bca_interval,
    counts_of,
    draw_counts,
    group_sums,
    of_sums,
    percentile_interval,
    resampled,
    resampled_by_index,
    summed,
    without_each,
)

RNG = np.random.default_rng(8)
N, D, G = 90, 3, 7
GROUPS = RNG.choice(G, N, p=np.arange(1, G + 1) / (G * (G + 1) / 2))
TARGET = 0.5 + 0.1 * RNG.normal(size=(N, D))
PRED = 0.4 * TARGET + 0.3 + 0.05 * RNG.normal(size=(N, D))
SUMS = group_sums(PRED, TARGET, GROUPS)
# Sums of squares around the labels' mean lose nothing; what is left is the order of float64 sums.
EXACT = {"rtol": 1e-9, "atol": 1e-12}


def by_index(metric: str, drawn: np.ndarray) -> np.ndarray:
    """The metric of each resample, with every clip of a drawn cluster repeated: (B, d)."""
    names = np.unique(GROUPS)
    rows = [np.concatenate([np.flatnonzero(names[g] == GROUPS) for g in one]) for one in drawn]
    return np.array([METRICS[metric](PRED[r], TARGET[r]) for r in rows])


@pytest.mark.parametrize("metric", MOMENTS)
def test_moments_are_exactly_resampling_by_index(metric):
    drawn = np.random.default_rng(1).integers(0, G, (60, G))
    np.testing.assert_allclose(resampled(metric, SUMS, counts_of(drawn, G)), by_index(metric, drawn), **EXACT)


@pytest.mark.parametrize("metric", MOMENTS)
def test_every_cluster_once_is_the_metric_itself(metric):
    got = resampled(metric, SUMS, np.ones((1, len(SUMS))))[0]
    np.testing.assert_allclose(got, METRICS[metric](PRED, TARGET), **EXACT)


@pytest.mark.parametrize("metric", MOMENTS)
def test_leaving_out_is_the_metric_of_the_rest(metric):
    want = [METRICS[metric](PRED[g != GROUPS], TARGET[g != GROUPS]) for g in np.unique(GROUPS)]
    np.testing.assert_allclose(without_each(metric, SUMS), want, **EXACT)


@pytest.mark.parametrize("shift", [0.0, 1e4])
def test_an_offset_of_both_sides_changes_no_interval(shift):
    """Raw second moments of values around 10,000 would keep 8 digits of 16; counted from the labels' mean, 12."""
    counts = draw_counts(G, 200, np.random.default_rng(2))
    for metric in MOMENTS:
        moved = resampled(metric, group_sums(PRED + shift, TARGET + shift, GROUPS), counts)
        np.testing.assert_allclose(moved, resampled(metric, SUMS, counts), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("method", ["percentile", "BCa"])
def test_single_clips_are_scipys_bootstrap(method):
    """Each clip its own cluster, scipy's own draws: the same resamples, and the same interval."""
    pred, target = PRED[:40, 0], TARGET[:40, 0]
    want = stats.bootstrap(
        (pred, target),
        lambda p, t, axis: _rowwise_r(p, t),
        paired=True,
        vectorized=True,
        n_resamples=999,
        method=method,
        rng=np.random.default_rng(3),
    )
    drawn = np.random.default_rng(3).integers(0, 40, (999, 40))
    sums = group_sums(pred[:, None], target[:, None], np.arange(40))
    values = resampled("pearson", sums, counts_of(drawn, 40))
    np.testing.assert_allclose(np.sort(values[:, 0]), np.sort(want.bootstrap_distribution), **EXACT)
    if method == "percentile":
        low, high = percentile_interval(values)
    else:
        estimate = resampled("pearson", sums, np.ones((1, 40)))[0]
        low, high = bca_interval(estimate, values, without_each("pearson", sums))
    np.testing.assert_allclose([low[0], high[0]], want.confidence_interval, rtol=1e-7)


def _rowwise_r(p: np.ndarray, t: np.ndarray) -> np.ndarray:
    p, t = (x - x.mean(-1, keepdims=True) for x in (p, t))
    return (p * t).sum(-1) / np.sqrt((p**2).sum(-1) * (t**2).sum(-1))


@pytest.mark.parametrize("metric", MOMENTS)
def test_any_statistic_by_index_is_the_moments_where_there_are_some(metric):
    drawn = np.random.default_rng(6).integers(0, G, (40, G))
    got = resampled_by_index(lambda rows, _: METRICS[metric](PRED[rows], TARGET[rows]), GROUPS, drawn)
    np.testing.assert_allclose(got, resampled(metric, SUMS, counts_of(drawn, G)), **EXACT)


@pytest.mark.parametrize("metric", ["spearman", "pearson"])
def test_by_index_single_clips_are_scipys_bootstrap(metric):
    """Each clip its own cluster, scipy's own draws: the same resamples, and the same percentile interval."""
    pred, target = PRED[:40, 0], TARGET[:40, 0]
    function = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}[metric]
    want = stats.bootstrap(
        (pred, target),
        lambda p, t: function(p, t).statistic,
        paired=True,
        vectorized=False,
        n_resamples=99,
        method="percentile",
        rng=np.random.default_rng(3),
    )
    drawn = np.random.default_rng(3).integers(0, 40, (99, 40))
    values = resampled_by_index(lambda rows, _: METRICS[metric](PRED[rows, :1], TARGET[rows, :1]), np.arange(40), drawn)
    np.testing.assert_allclose(np.sort(values[:, 0]), np.sort(want.bootstrap_distribution), **EXACT)
    low, high = percentile_interval(values)
    np.testing.assert_allclose([low[0], high[0]], want.confidence_interval, rtol=1e-9)


def test_copies_of_a_cluster_are_told_apart():
    """Top 3 of an excerpt that is drawn twice is that of each copy, not of twice as many performances."""
    from piano_assets.metrics.ranking import top_k_accuracy

    excerpt = np.repeat(np.arange(6), 15)
    cluster = excerpt // 2
    of_excerpt = np.stack(
        [top_k_accuracy(PRED[excerpt == e], TARGET[excerpt == e], excerpt[excerpt == e]) for e in range(6)]
    )
    drawn = np.random.default_rng(4).integers(0, 3, (20, 3))
    got = resampled_by_index(
        lambda rows, copy: top_k_accuracy(PRED[rows], TARGET[rows], excerpt[rows] * 3 + copy), cluster, drawn
    )
    want = [of_excerpt[np.repeat(2 * one, 2) + np.tile([0, 1], 3)].mean(0) for one in drawn]
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize("drawn", [np.array([[0, G]]), np.array([[-1, 0]]), np.zeros((0, G), int), np.zeros(G, int)])
def test_draws_of_no_cluster_are_refused(drawn):
    with pytest.raises(ValueError, match=rf"drawn must be \(B, n_drawn\) positions in 0\.\.{G - 1}"):
        resampled_by_index(lambda rows, _: rows.mean(), GROUPS, drawn)


def test_sums_are_those_of_each_group():
    names, sums, size = summed(PRED, GROUPS)
    assert size.tolist() == [(g == GROUPS).sum() for g in names]
    np.testing.assert_allclose(sums, [PRED[g == GROUPS].sum(0) for g in names], rtol=1e-12)


def test_counts_are_draws_with_replacement():
    counts = draw_counts(G, 4000, np.random.default_rng(4))
    assert (counts.sum(1) == G).all()
    # Multinomial: variance 1 - 1/G, so the mean over 4,000 draws errs by .015 (one sd); 5 sd over 7 means.
    np.testing.assert_allclose(counts.mean(0), 1, atol=0.075)
    np.testing.assert_allclose(counts.var(), 1 - 1 / G, rtol=0.05)


def test_constant_predictions_are_undefined_not_zero():
    sums = group_sums(np.full_like(PRED, 0.3), TARGET, GROUPS)
    values = resampled("pearson", sums, draw_counts(G, 50, np.random.default_rng(5)))
    assert np.isnan(values).all()
    assert np.isnan(percentile_interval(values)).all()
    assert np.isnan(bca_interval(values[0], values, values[:G])).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": np.zeros(N)}, "at least 2 clusters, got 1"),
        ({"groups": GROUPS[1:]}, r"groups \(89,\)"),
        ({"pred": np.where(np.arange(N)[:, None] == 3, np.nan, PRED)}, "3 values are not finite"),
        ({"target": TARGET[:, :2]}, r"target \(90, 2\)"),
    ],
)
def test_what_cannot_be_resampled_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        group_sums(**({"pred": PRED, "target": TARGET, "groups": GROUPS} | change))


def test_only_functions_of_moments_are_resampled_by_moments():
    with pytest.raises(ValueError, match=r"metric='spearman' must be one of \('pearson', 'r2'"):
        resampled("spearman", SUMS, np.ones((1, len(SUMS))))
    with pytest.raises(ValueError, match="metric='spearman'"):
        of_sums("spearman", SUMS)
