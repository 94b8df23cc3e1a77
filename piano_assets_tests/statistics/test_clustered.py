"""Clustered tests against statsmodels, scipy, brute force and limits; sizes under planted nulls are in test_worth."""

import numpy as np
import pytest
from scipy import stats

from piano_assets.statistics import clustered, jackknife

RNG = np.random.default_rng(5)
N = 240
CLUSTER = RNG.choice(14, N, p=np.linspace(1, 4, 14) / np.linspace(1, 4, 14).sum())
PERFORMER = RNG.integers(0, 9, N)
VALUES = 0.03 + 0.2 * RNG.normal(size=14)[CLUSTER] + 0.2 * RNG.normal(size=9)[PERFORMER] + RNG.normal(size=N)
MEAN = float(VALUES.mean())
CONTRIBUTIONS = (VALUES - MEAN) / N  # of a mean: (value - mean) / n


# Every cluster with every performer three times: all groups of a kind are equally large.
BALANCED = np.repeat(np.arange(10), 24), np.tile(np.repeat(np.arange(8), 3), 10)


def changes(contributions: np.ndarray, cluster: np.ndarray, performer: np.ndarray) -> list[np.ndarray]:
    """What a mean loses without each cluster, performer and pair of both."""
    codes = jackknife.groupings(cluster, performer)
    return [jackknife.first_order(contributions[:, None], of).change[:, 0] for of in codes]


def of_a_mean(cluster: np.ndarray, performer: np.ndarray) -> clustered.Clustered:
    return clustered.two_way_t(MEAN, changes(CONTRIBUTIONS, cluster, performer), cluster, performer)


def statsmodels_variance(groups: np.ndarray, values: np.ndarray = VALUES) -> float:
    import statsmodels.api as sm

    fit = sm.OLS(values, np.ones(N)).fit(cov_type="cluster", cov_kwds={"groups": groups})
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
    got = of_a_mean(alone, alone)
    want = stats.ttest_1samp(VALUES, 0)
    np.testing.assert_allclose([got.t, got.p, got.df], [want.statistic, want.pvalue, want.df], rtol=1e-10)
    np.testing.assert_allclose([got.ci_low, got.ci_high], want.confidence_interval(0.95), rtol=1e-10)
    naive = clustered.clip_t(MEAN, CONTRIBUTIONS)
    assert (naive.t, naive.p) == pytest.approx((got.t, got.p), rel=1e-10)


def test_the_primary_test_is_two_way_with_the_fewest_groups():
    got = of_a_mean(CLUSTER, PERFORMER)
    variances = clustered.two_way_variances(CONTRIBUTIONS[:, None], CLUSTER, PERFORMER)[:, 0]
    assert (got.variance_of, got.se**2) == ("two_way", pytest.approx(variances[2], rel=1e-12))
    assert (got.n_groups, got.unit, got.n_clips) == (9, "performer", N)
    assert got.df == pytest.approx(clustered.effective_groups(PERFORMER) - 1)
    swapped = of_a_mean(PERFORMER, CLUSTER)
    assert swapped.se == pytest.approx(got.se, rel=1e-12)
    assert swapped.unit == "cluster"


def test_on_equal_groups_the_primary_test_is_statsmodels():
    values = VALUES + RNG.normal(size=10)[BALANCED[0]] + RNG.normal(size=8)[BALANCED[1]]
    got = clustered.two_way_t(values.mean(), changes((values - values.mean()) / N, *BALANCED), *BALANCED)
    assert got.variance_of == "two_way"
    assert got.se**2 == pytest.approx(statsmodels_variance(np.column_stack(BALANCED), values), rel=1e-10)


@pytest.mark.parametrize(
    ("squares", "want"),
    # One group of two carries the change x: its variance is x^2 / 2. By cluster, by performer, by both:
    [
        ((9.0, 4.0, 1.0), (6.0, 2)),  # 4.5 + 2 - .5
        ((9.0, 4.0, 8.0), (2.5, 2)),  # 4.5 + 2 - 4, above the smaller one
        ((9.0, 4.0, 10.0), (2.0, 1)),  # 4.5 + 2 - 5 = 1.5 < 2: the performers'
        ((4.0, 9.0, 10.0), (2.0, 0)),  # the clusters'
        ((9.0, 4.0, 20.0), (2.0, 1)),  # negative
    ],
)
def test_the_two_way_variance_is_never_below_the_smaller_one(squares, want):
    variance, which = clustered.two_way_variance([np.array([[np.sqrt(x)], [0.0]]) for x in squares])
    assert (variance[0], which[0]) == (pytest.approx(want[0]), want[1])


def test_to_first_order_the_largest_variance_is_taken():
    variances = clustered.two_way_variances(CONTRIBUTIONS[:, None], CLUSTER, PERFORMER)
    se, df = clustered.two_way_se(CONTRIBUTIONS[:, None], CLUSTER, PERFORMER)
    assert se[0] ** 2 == pytest.approx(variances.max(), rel=1e-12)
    assert df == clustered.degrees_of_freedom(CLUSTER, PERFORMER)


def test_no_spread_is_no_test():
    # Opposite clips in every cluster and every performer: both one-way variances are 0, so V1 + V2 - V12 < 0.
    cluster, performer = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    contributions = np.array([1.0, -1, -1, 1]) / 4
    assert clustered.two_way_variances(contributions[:, None], cluster, performer)[2, 0] < 0
    with pytest.raises(ValueError, match="no spread"):
        clustered.two_way_t(0.1, changes(contributions, cluster, performer), cluster, performer)


def test_refusals():
    with pytest.raises(ValueError, match="at least 2 groups, got 1"):
        of_a_mean(CLUSTER, np.zeros(N, int))
    with pytest.raises(ValueError, match="not finite"):
        clustered.two_way_t(np.nan, changes(CONTRIBUTIONS, CLUSTER, PERFORMER), CLUSTER, PERFORMER)
    with pytest.raises(ValueError, match="without one of its groups"):
        clustered.two_way_t(MEAN, [np.array([np.nan, 0.1])] * 3, CLUSTER, PERFORMER)
    with pytest.raises(ValueError, match="at least 2 clips"):
        clustered.clip_t(MEAN, CONTRIBUTIONS[:1])
    with pytest.raises(ValueError, match="margin=0"):
        clustered.tost(clustered.clip_t(MEAN, CONTRIBUTIONS), 0)


def test_tost_is_statsmodels():
    from statsmodels.stats.weightstats import DescrStatsW

    want = DescrStatsW(VALUES).ttost_mean(-0.2, 0.2)[0]
    assert clustered.tost(clustered.clip_t(MEAN, CONTRIBUTIONS), 0.2) == pytest.approx(want, rel=1e-9)


def test_tost_of_pairs_is_statsmodels():
    """Two sides, clip by clip, none of which shares anything: the paired equivalence test."""
    from statsmodels.stats.weightstats import ttost_paired

    other = RNG.normal(size=N)
    want = ttost_paired(VALUES + other, other, -0.2, 0.2)[0]
    alone = np.arange(N)
    assert clustered.tost(of_a_mean(alone, alone), 0.2) == pytest.approx(want, rel=1e-9)


def test_an_estimate_outside_the_margin_is_not_equivalent():
    assert clustered.tost(clustered.clip_t(MEAN, CONTRIBUTIONS), abs(MEAN) / 2) > 0.5


def test_detectable_effect_is_statsmodels_power():
    # Cohen (1988): d = .5, 80 % power -> n = 33.4; and statsmodels at 31 performers (one-sided far tail < 1e-9).
    from statsmodels.stats.power import TTestPower

    for n in (34, 31):
        want = TTestPower().solve_power(nobs=n, alpha=0.05, power=0.8) * np.sqrt(n)
        assert clustered.minimal_detectable_effect(1.0, n - 1) == pytest.approx(want, rel=1e-5)
    assert 0.49 < clustered.minimal_detectable_effect(1 / np.sqrt(33.4), 32) < 0.51


def test_detectable_effect_of_clips_alone_is_statsmodels_power():
    """When no two clips share anything, the whole way is a paired t test's: planted in standard deviations, found."""
    from statsmodels.stats.power import TTestPower

    found = of_a_mean(np.arange(N), np.arange(N))
    effect = clustered.minimal_detectable_effect(found.se, found.df) / VALUES.std(ddof=1)
    # statsmodels counts differences found on the wrong side as well: one in a million.
    assert TTestPower().power(effect, N, 0.05) == pytest.approx(0.8, abs=2e-6)


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


def test_the_flips_spread_is_that_of_their_estimates():
    """All 64 assignments of six groups, about the estimate: their standard deviation (1/n) by brute force."""
    groups = np.arange(30) % 6
    values = VALUES[:30]
    contributions = (values - values.mean()) / 30
    sums = np.array([contributions[groups == g].sum() for g in range(6)])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 6)).reshape(6, -1)
    assert clustered.flip_spread(contributions, groups) == pytest.approx((sums @ signs).std(), rel=1e-12)


def test_sampled_flips_bound_the_exact_p():
    """Phipson & Smyth (2010): the exact p of m flips drawn with replacement from M possible ones is the mean over
    t = 1..M of P(B <= b), B binomial(m, t / M). That sum of a falling function's right ends misses its integral,
    (b + 1) / (m + 1), by 1 / M at most.
    """
    groups, m, total = np.arange(30) % 6, 199, 2**6
    for seed, shift in enumerate((0.0, 0.3, 0.6)):
        values = VALUES[:30] + shift
        contributions = (values - values.mean()) / 30
        p = clustered.sign_flip(values.mean(), contributions, groups, m, np.random.default_rng(seed))
        b = round(p * (m + 1)) - 1
        exact = stats.binom.cdf(b, m, np.arange(1, total + 1) / total).mean()
        assert p == (b + 1) / (m + 1)
        assert exact <= p <= exact + 1 / total


def test_sign_flip_is_never_zero():
    got = clustered.sign_flip(5.0, np.zeros(100), np.arange(100), 99, np.random.default_rng(1))
    assert got == pytest.approx(1 / 100)


def test_effective_groups():
    assert clustered.effective_groups(np.repeat(np.arange(7), 5)) == pytest.approx(7), "equal groups count fully"
    # Sizes 6, 3, 1: 100 / 46.
    assert clustered.effective_groups(np.repeat(["a", "b", "c"], [6, 3, 1])) == pytest.approx(100 / 46)
