"""Clustered tests against statsmodels, brute force, limits, and a simulation with a planted null."""

import numpy as np
import pytest
from scipy import stats

from piano_assets.metrics.regression import pearson
from piano_assets.statistics import clustered, influence

RNG = np.random.default_rng(5)
N = 240
CLUSTER = RNG.choice(14, N, p=np.linspace(1, 4, 14) / np.linspace(1, 4, 14).sum())
PERFORMER = RNG.integers(0, 9, N)
VALUES = 0.03 + 0.2 * RNG.normal(size=14)[CLUSTER] + 0.2 * RNG.normal(size=9)[PERFORMER] + RNG.normal(size=N)
MEAN = float(VALUES.mean())
CONTRIBUTIONS = (VALUES - MEAN) / N  # of a mean: (value - mean) / n


# Every cluster with every performer three times: all groups of a kind are equally large.
BALANCED = np.repeat(np.arange(10), 24), np.tile(np.repeat(np.arange(8), 3), 10)


def statsmodels_variance(groups: np.ndarray) -> float:
    import statsmodels.api as sm

    fit = sm.OLS(VALUES, np.ones(N)).fit(cov_type="cluster", cov_kwds={"groups": groups})
    return float(fit.cov_params()[0, 0])


def test_two_way_variance_is_statsmodels():
    # Regressing on a constant alone, statsmodels' factor (n - 1) / (n - k) is 1, so what is left is G / (G - 1) for
    # each of the three parts; with equally large groups ours is the same, to rounding.
    got = clustered.two_way_variances(CONTRIBUTIONS[:, None], *BALANCED)[2, 0]
    assert got == pytest.approx(statsmodels_variance(np.column_stack(BALANCED)), rel=1e-10)


@pytest.mark.parametrize("groups", BALANCED)
def test_one_way_is_statsmodels(groups):
    got = clustered.clustered_variance(CONTRIBUTIONS[:, None], groups)
    np.testing.assert_allclose(got, statsmodels_variance(groups), rtol=1e-10)


@pytest.mark.parametrize("groups", [CLUSTER, PERFORMER, CLUSTER * 100 + PERFORMER])
def test_unequal_groups_are_the_jackknife(groups):
    # Of a mean, leaving out one group after the other is exact; statsmodels' factor is too small there.
    names = np.unique(groups)
    without = np.array([VALUES[groups != g].mean() for g in names])
    want = (len(names) - 1) / len(names) * ((without - MEAN) ** 2).sum()
    got = clustered.clustered_variance(CONTRIBUTIONS[:, None], groups)[0]
    assert got == pytest.approx(want, rel=1e-10)


def test_more_weight_on_large_groups_than_statsmodels():
    got = clustered.clustered_variance(CONTRIBUTIONS[:, None], CLUSTER)[0]
    assert 1 < got / statsmodels_variance(CLUSTER) < 1.3


def test_variance_by_pairs():
    # Cameron, Gelbach & Miller's eq. 2.8: every pair of clips that shares a cluster or a performer, once the three
    # factors G / (G - 1) of equal groups are taken off.
    cluster, performer = BALANCED
    shares = (cluster[:, None] == cluster) | (performer[:, None] == performer)
    want = float(CONTRIBUTIONS @ shares @ CONTRIBUTIONS)
    plain = [
        clustered.clustered_variance(CONTRIBUTIONS[:, None], g)[0] * (n - 1) / n
        for g, n in ((cluster, 10), (performer, 8), (cluster * 100 + performer, 80))
    ]
    assert plain[0] + plain[1] - plain[2] == pytest.approx(want, rel=1e-10)


def test_singletons_are_the_ordinary_t_test():
    # When no two clips share anything, all three variances are the ordinary one.
    alone = np.arange(N)
    got = clustered.two_way_t(MEAN, CONTRIBUTIONS, alone, alone)
    want = stats.ttest_1samp(VALUES, 0)
    np.testing.assert_allclose([got.t, got.p, got.df], [want.statistic, want.pvalue, want.df], rtol=1e-10)
    np.testing.assert_allclose([got.ci_low, got.ci_high], want.confidence_interval(0.95), rtol=1e-10)
    naive = clustered.clip_t(MEAN, CONTRIBUTIONS)
    assert (naive.t, naive.p) == pytest.approx((got.t, got.p), rel=1e-10)


def test_takes_the_largest_variance_and_the_fewest_groups():
    got = clustered.two_way_t(MEAN, CONTRIBUTIONS, CLUSTER, PERFORMER)
    variances = clustered.two_way_variances(CONTRIBUTIONS[:, None], CLUSTER, PERFORMER)[:, 0]
    assert got.se**2 == pytest.approx(max(variances), rel=1e-12)
    assert got.variance_of == ("cluster", "performer", "two_way")[variances.argmax()]
    assert (got.n_groups, got.unit, got.n_clips) == (9, "performer", N)
    assert got.df == pytest.approx(clustered.effective_groups(PERFORMER) - 1)
    swapped = clustered.two_way_t(MEAN, CONTRIBUTIONS, PERFORMER, CLUSTER)
    assert swapped.se == pytest.approx(got.se, rel=1e-12)
    assert swapped.unit == "cluster"


def test_an_impossible_two_way_variance_is_not_used():
    # Opposite clips in every cluster and every performer: both one-way variances are 0, so V1 + V2 - V12 < 0.
    cluster, performer = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    contributions = np.array([1.0, -1, -1, 1]) / 4
    assert clustered.two_way_variances(contributions[:, None], cluster, performer)[2, 0] < 0
    with pytest.raises(ValueError, match="no spread"):
        clustered.two_way_t(0.1, contributions, cluster, performer)


def test_refusals():
    with pytest.raises(ValueError, match="at least 2 groups, got 1"):
        clustered.two_way_t(MEAN, CONTRIBUTIONS, CLUSTER, np.zeros(N))
    with pytest.raises(ValueError, match="not finite"):
        clustered.two_way_t(np.nan, CONTRIBUTIONS, CLUSTER, PERFORMER)
    with pytest.raises(ValueError, match="at least 2 clips"):
        clustered.clip_t(MEAN, CONTRIBUTIONS[:1])
    with pytest.raises(ValueError, match="margin=0"):
        clustered.tost(clustered.clip_t(MEAN, CONTRIBUTIONS), 0)


def test_tost_is_statsmodels():
    from statsmodels.stats.weightstats import DescrStatsW

    want = DescrStatsW(VALUES).ttost_mean(-0.2, 0.2)[0]
    assert clustered.tost(clustered.clip_t(MEAN, CONTRIBUTIONS), 0.2) == pytest.approx(want, rel=1e-9)


def test_an_estimate_outside_the_margin_is_not_equivalent():
    assert clustered.tost(clustered.clip_t(MEAN, CONTRIBUTIONS), abs(MEAN) / 2) > 0.5


def test_detectable_effect_is_statsmodels_power():
    # Cohen (1988): d = .5, 80 % power -> n = 33.4; and statsmodels at 31 performers (one-sided far tail < 1e-9).
    from statsmodels.stats.power import TTestPower

    for n in (34, 31):
        want = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8) * np.sqrt(n)
        assert clustered.minimal_detectable_effect(1.0, n - 1) == pytest.approx(want, rel=1e-5)
    assert 0.49 < clustered.minimal_detectable_effect(1 / np.sqrt(33.4), 32) < 0.51


def test_pseudovalue_d_of_a_mean_is_d_z():
    want = MEAN / VALUES.std(ddof=1)
    assert clustered.pseudovalue_d(MEAN, CONTRIBUTIONS) == pytest.approx(want, rel=1e-12)


def test_sign_flip_equals_all_flips():
    # Six groups: 64 assignments by brute force. m = 20000 draws: the estimate of p has a standard error below .0036,
    # so .015 is passed by chance with probability < 1e-4.
    groups = np.arange(30) % 6
    values = VALUES[:30] + 0.4
    mean = values.mean()
    sums = np.array([values[groups == g].sum() / 30 for g in range(6)])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
    want = np.mean(abs(sums @ signs) >= abs(mean) - 1e-12)
    got = clustered.sign_flip(mean, (values - mean) / 30, groups, 20_000, np.random.default_rng(1))
    assert got == pytest.approx(want, abs=0.015)


def test_sign_flip_is_never_zero():
    got = clustered.sign_flip(5.0, np.zeros(100), np.arange(100), 99, np.random.default_rng(1))
    assert got == pytest.approx(1 / 100)


def like_the_corpus(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cluster and performer of about 1,200 clips: 46 unequal clusters in 4 works, each work with its own performers."""
    clips: list[tuple[int, int]] = []
    cluster, performer = 0, 0
    for n_clusters, n_performers in ((16, 10), (8, 7), (12, 7), (10, 7)):
        size = np.ceil(6 * rng.pareto(1.5, n_clusters) + 2).clip(max=20).astype(int)
        for k in range(n_clusters):
            for _ in range(size[k]):
                who = rng.random(n_performers) < 0.6
                clips += [(cluster + k, performer + p) for p in np.flatnonzero(who)]
        cluster, performer = cluster + n_clusters, performer + n_performers
    chosen = rng.permutation(len(clips))[:1200]
    return tuple(np.array(clips).T[:, chosen])


def test_size_under_a_planted_null():
    """Two predictors of equal true correlation, whose errors have cluster and performer parts of their own.

    400 tests at a true size of 5 % have a standard error of 1.1 points, so 1 to 9 % is 3.7 of them to each
    side (two-sided false alarm 2e-4; the seed is fixed besides). The clip-level t must be seen to fail: above 20 %.
    """
    rng = np.random.default_rng(2024)
    cluster, performer = like_the_corpus(rng)
    assert (len(np.unique(cluster)), len(np.unique(performer))) == (46, 31)
    n = len(cluster)

    def effects(share: float) -> np.ndarray:
        parts = rng.normal(size=(46, 1))[cluster], rng.normal(size=(31, 1))[performer], rng.normal(size=(n, 1))
        return np.sqrt(share) * parts[0] + np.sqrt(share) * parts[1] + np.sqrt(1 - 2 * share) * parts[2]

    primary, naive, trials = 0, 0, 400
    for _ in range(trials):
        label = effects(0.25)
        a, b = (label + 0.8 * effects(0.2) for _ in range(2))
        difference = float((pearson(a, label) - pearson(b, label))[0])
        contributions = (influence.pearson(a, label) - influence.pearson(b, label))[:, 0] / n
        primary += clustered.two_way_t(difference, contributions, cluster, performer).p < 0.05
        naive += clustered.clip_t(difference, contributions).p < 0.05
    assert 0.01 <= primary / trials <= 0.09
    assert naive / trials > 0.20


def test_effective_groups():
    assert clustered.effective_groups(np.repeat(np.arange(7), 5)) == pytest.approx(7), "equal groups count fully"
    # Sizes 6, 3, 1: 100 / 46.
    assert clustered.effective_groups(np.repeat(["a", "b", "c"], [6, 3, 1])) == pytest.approx(100 / 46)
