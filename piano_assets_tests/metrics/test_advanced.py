"""Distribution, ranking and calibration metrics against scipy, numerical integrals, brute force and limits."""

import itertools

import numpy as np
import pytest
from scipy import integrate, stats

from piano_assets.metrics.calibration import conformal_quantile, coverage, crps, ence, gaussian_half_width
from piano_assets.metrics.distribution import ks, wasserstein
from piano_assets.metrics.ranking import top_k_accuracy

RNG = np.random.default_rng(6)
N, D = 60, 3
TARGET = 0.5 + 0.1 * RNG.normal(size=(N, D))
PRED = 0.5 + 0.3 * (TARGET - 0.5) + 0.05 * RNG.normal(size=(N, D))
GAPS = np.where(RNG.random((N, D)) < 0.1, np.nan, TARGET)


@pytest.mark.parametrize("target", [TARGET, GAPS], ids=["complete", "with gaps"])
def test_distances_are_scipys(target):
    known = ~np.isnan(target)
    columns = [(PRED[k, d], target[k, d]) for d, k in enumerate(known.T)]
    np.testing.assert_allclose(wasserstein(PRED, target), [stats.wasserstein_distance(*c) for c in columns], rtol=1e-12)
    np.testing.assert_allclose(ks(PRED, target), [stats.ks_2samp(*c).statistic for c in columns], rtol=1e-12)


def test_a_shift_is_the_wasserstein_distance_and_a_permutation_is_none():
    np.testing.assert_allclose(wasserstein(TARGET + 0.07, TARGET), 0.07)
    shuffled = TARGET[RNG.permutation(N)]
    np.testing.assert_allclose([wasserstein(shuffled, TARGET), ks(shuffled, TARGET)], 0, atol=1e-15)


def by_enumeration(pred: np.ndarray, target: np.ndarray, k: int) -> float:
    """Expected overlap of the two top sets of one excerpt, over all orders in which ties could be broken."""
    orders = list(itertools.permutations(range(len(pred))))

    def tops(values):
        return [frozenset(sorted(order, key=lambda i: -values[i])[:k]) for order in orders]

    mine, theirs = tops(pred), tops(target)
    chosen = [np.mean([i in top for top in side]) for side in (mine, theirs) for i in range(len(pred))]
    return float(np.dot(chosen[: len(pred)], chosen[len(pred) :]) / k)


@pytest.mark.parametrize("k", [1, 3])
def test_top_k_is_the_overlap_of_all_orders(k):
    pred = np.array([0.3, 0.9, 0.3, 0.3, 0.1, 0.8, 0.7, 0.2, 0.2, 0.5])[:, None]
    target = np.array([0.2, 0.7, 0.6, 0.6, 0.4, 0.1, 0.9, 0.9, 0.3, 0.9])[:, None]
    group = np.repeat([0, 1], 5)
    want = np.mean([by_enumeration(pred[group == g, 0], target[group == g, 0], k) for g in (0, 1)])
    assert top_k_accuracy(pred, target, group, k)[0] == pytest.approx(want)


def test_top_k_limits():
    group = np.repeat(np.arange(6), 10)
    np.testing.assert_allclose(top_k_accuracy(3 * TARGET - 1, TARGET, group), 1)
    np.testing.assert_allclose(top_k_accuracy(np.zeros_like(TARGET), TARGET, group), 0.3)  # k / n
    np.testing.assert_allclose(top_k_accuracy(-TARGET, TARGET, group), 0)
    # An excerpt of four performances is too small to be ranked, and changes nothing.
    few = np.r_[group, [6] * 4]
    more = [np.vstack([x, np.full((4, D), 0.5)]) for x in (PRED, TARGET)]
    np.testing.assert_array_equal(top_k_accuracy(*more, few), top_k_accuracy(PRED, TARGET, group))


@pytest.mark.parametrize(
    ("group", "k", "message"),
    [
        (np.arange(N), 3, "no excerpt has 5 performances"),
        (np.zeros(N), 5, r"k=5 must lie in 1\.\.4"),
        (np.zeros(N - 1), 3, r"group \(59,\)"),
    ],
)
def test_what_cannot_be_ranked_is_refused(group, k, message):
    with pytest.raises(ValueError, match=message):
        top_k_accuracy(PRED, TARGET, group, k)


def test_crps_is_the_integral_of_its_definition():
    std = RNG.uniform(0.02, 0.2, (N, D))
    got = crps(PRED[:4, :1], std[:4, :1], TARGET[:4, :1])[0]

    def one(mean, s, y):
        def gap(x):
            return (stats.norm.cdf(x, mean, s) - (x >= y)) ** 2

        ends = mean - 12 * s - abs(y - mean), y, mean + 12 * s + abs(y - mean)
        return sum(integrate.quad(gap, a, b, epsabs=1e-12)[0] for a, b in itertools.pairwise(ends))

    want = np.mean([one(*row) for row in zip(PRED[:4, 0], std[:4, 0], TARGET[:4, 0], strict=True)])
    assert got == pytest.approx(want, rel=1e-7)


def test_crps_without_spread_is_the_absolute_error():
    np.testing.assert_allclose(crps(PRED, np.full((N, D), 1e-9), TARGET), abs(PRED - TARGET).mean(0), rtol=1e-6)


def test_a_true_gaussian_is_calibrated():
    rng, n = np.random.default_rng(9), 40_000
    mean, std = rng.normal(size=(n, 2)), rng.uniform(0.5, 2, (n, 2))
    drawn = mean + std * rng.normal(size=(n, 2))
    for level in (0.5, 0.9):
        got = coverage(mean, gaussian_half_width(std, level), drawn)
        # A share of 40,000 errs by at most .0025 (one sd); four of them.
        np.testing.assert_allclose(got, level, atol=0.01)
    # A bin's RMSE of 4,000 errs by 1.1 %; the mean of ten absolute errors is .9 %.
    assert (ence(mean, std, drawn) < 0.02).all()
    np.testing.assert_allclose(ence(mean, std / 2, drawn), 1, atol=0.04)


def test_ence_by_hand():
    """Two bins: spread .1 with errors .1 and .3 (RMSE .2236), spread .2 with errors 0 and .2 (RMSE .1414)."""
    std, error = np.array([[0.2], [0.1], [0.2], [0.1]]), np.array([[0.0], [0.1], [0.2], [0.3]])
    want = (abs(0.1 - np.sqrt(0.05)) / 0.1 + abs(0.2 - np.sqrt(0.02)) / 0.2) / 2
    assert ence(np.zeros((4, 1)), std, error, n_bins=2)[0] == pytest.approx(want)


@pytest.mark.parametrize("level", [0.5, 0.8, 0.9])
def test_conformal_intervals_hold_what_they_promise(level):
    """Exchangeable scores: a new one lies below the quantile with probability between level and level + 1 / (n + 1)."""
    rng, n, repeats = np.random.default_rng(10), 39, 20_000
    scores = rng.exponential(size=(n + 1, repeats))
    covered = (scores[-1] <= conformal_quantile(scores[:-1], level)).mean()
    assert level - 0.01 <= covered <= level + 1 / (n + 1) + 0.01


def test_too_few_clips_for_a_level_promise_nothing():
    assert np.isinf(conformal_quantile(np.ones((8, D)), 0.9)).all()
    np.testing.assert_array_equal(conformal_quantile(np.arange(9.0)[:, None], 0.9), [8])


@pytest.mark.parametrize(
    ("std", "message"),
    [(np.zeros((N, D)), "180 spreads are not > 0, the first 0.0"), (np.ones((N, 1)), r"spread \(60, 1\)")],
)
def test_a_spread_must_be_one(std, message):
    with pytest.raises(ValueError, match=message):
        crps(PRED, std, TARGET)


def test_crps_is_what_torchmetrics_gives_for_an_ensemble_of_its_quantiles():
    torch = pytest.importorskip("torch")
    from torchmetrics.functional.regression import continuous_ranked_probability_score

    std, m = RNG.uniform(0.02, 0.2, (N, 1)), 200
    # An ensemble of the Gaussian's quantiles at (i - 1/2) / m; its score departs from the Gaussian's by O(1/m).
    ensemble = PRED[:, :1] + std * stats.norm.ppf((np.arange(m) + 0.5) / m)
    want = continuous_ranked_probability_score(torch.tensor(ensemble), torch.tensor(TARGET[:, 0])).item()
    assert crps(PRED[:, :1], std, TARGET[:, :1])[0] == pytest.approx(want, rel=2e-3)


@pytest.mark.parametrize(("n", "level"), [(39, 0.9), (40, 0.9), (19, 0.95), (100, 0.5), (57, 0.8)])
def test_the_conformal_quantile_is_numpys_at_the_corrected_level(n, level):
    """As split-conformal libraries write it: the higher quantile at ceil((n + 1) level) / n."""
    scores = RNG.exponential(size=(n, 2))
    want = np.quantile(scores, min(np.ceil((n + 1) * level - 1e-9) / n, 1), axis=0, method="inverted_cdf")
    np.testing.assert_array_equal(conformal_quantile(scores, level), want)


def test_coverage_counts_the_ends_and_is_a_share():
    pred, half, target = np.zeros((4, 1)), np.full((4, 1), 0.5), np.array([[0.5], [-0.5], [0.51], [0.1]])
    assert coverage(pred, half, target)[0] == 0.75
