"""Secondary comparisons against published worked examples, scipy, limits and a simulation."""

import math

import numpy as np
import pytest
from scipy import optimize, stats

from piano_assets.statistics.paired import cohens_dz, corrected_resampled_t, hedges_gav, zou_interval, zou_p

# Ten viewers' ratings of two films: M = 8.7 (SD .82) and 7.7 (SD .95), t(9) = 4.74 (Lakens 2013, table 1 and sec. 5).
FILM_1 = np.array([9, 7, 8, 9, 8, 9, 9, 10, 9, 9.0])
FILM_2 = np.array([9, 6, 7, 8, 7, 9, 8, 8, 8, 7.0])


def test_the_films_are_those_of_the_paper():
    assert (FILM_1.mean(), FILM_2.mean()) == (8.7, 7.7)
    np.testing.assert_allclose([FILM_1.std(ddof=1), FILM_2.std(ddof=1)], [0.82, 0.95], atol=0.005)
    assert stats.ttest_rel(FILM_1, FILM_2).statistic == pytest.approx(4.74, abs=0.005)


def test_effect_sizes_are_those_of_the_paper():
    assert cohens_dz(FILM_1 - FILM_2) == pytest.approx(1.50, abs=0.005)
    assert hedges_gav(FILM_1, FILM_2) == pytest.approx(1.08, abs=0.005)
    # Cohen's d_av of the paper, 1.13: Hedges' g_av without its factor 1 - 3 / (4 (10 + 10) - 9).
    assert hedges_gav(FILM_1, FILM_2) / (1 - 3 / 71) == pytest.approx(1.13, abs=0.005)


def test_zous_interval_is_that_of_the_paper():
    """Zou (2007), p. 409: correlations .396 and .179 with a third variable, .088 with each other, 66 people: [-.093,
    .517], to the three digits that are printed."""
    np.testing.assert_allclose(zou_interval(0.396, 0.179, 0.088, 66), [-0.093, 0.517], atol=5e-4)


def test_zous_interval_turns_round_with_its_sides():
    low, high = zou_interval(0.7, 0.5, 0.6, 300)
    np.testing.assert_allclose(zou_interval(0.5, 0.7, 0.6, 300), [-high, -low])


def test_zous_interval_of_many_clips_is_the_delta_methods():
    """With n large, half the interval is 1.96 standard errors of the difference, here of 4,000 simulated ones."""
    rng, n = np.random.default_rng(1), 400
    covariance = np.array([[1, 0.7, 0.6], [0.7, 1, 0.8], [0.6, 0.8, 1]])
    drawn = rng.multivariate_normal(np.zeros(3), covariance, (4000, n))
    z = (drawn - drawn.mean(1, keepdims=True)) / drawn.std(1, keepdims=True)
    difference = (z[..., 0] * z[..., 1]).mean(1) - (z[..., 0] * z[..., 2]).mean(1)
    low, high = zou_interval(0.7, 0.6, 0.8, n)
    # A standard deviation of 4,000 values errs by 1.1 %; three times that, and the interval's own asymmetry.
    assert (high - low) / 2 / 1.96 == pytest.approx(difference.std(), rel=0.05)


@pytest.mark.parametrize("given", [(1.0, 0.5, 0.5, 30), (0.9, -0.9, 0.9, 30), (0.5, 0.4, 0.3, 3), (math.nan, 0, 0, 9)])
def test_impossible_correlations_are_refused(given):
    with pytest.raises(ValueError, match=r"no three variables|at least 4 clips, got 3"):
        zou_interval(*given)


def test_the_corrected_t_by_hand():
    """d = .01, .03, .02, .04, .05: mean .03, s^2 = .00025; with n_test / n_train = 1/4 the se is sqrt(.45 * .00025)."""
    found = corrected_resampled_t(np.array([0.01, 0.03, 0.02, 0.04, 0.05]), 0.25)
    assert found.estimate == pytest.approx(0.03)
    assert found.se == pytest.approx(0.0106066, abs=1e-7)
    assert found.p == pytest.approx(2 * stats.t.sf(2.828427, 4), abs=1e-6)
    # 97.5 % point of Student's t with 4 df: 2.7764.
    np.testing.assert_allclose([found.ci_low, found.ci_high], [0.03 - 0.029448, 0.03 + 0.029448], atol=1e-6)


def test_two_sets_of_folds_by_hand():
    """Five folds twice, gaps of .02 and .04 in turn: s^2 = 10 / 9 * .0001, so the variance is (1/10 + 1/4) s^2."""
    found = corrected_resampled_t(np.array([0.02, 0.04] * 5), 0.25)
    assert found.se**2 == pytest.approx(0.35 * 10 / 9 * 1e-4, rel=1e-10)
    assert found.df == 9
    # The plain paired t takes 1/10 for (1/10 + 1/4): its t is larger by the root of 3.5.
    plain = stats.ttest_1samp([0.02, 0.04] * 5, 0).statistic
    assert found.estimate / found.se == pytest.approx(plain / np.sqrt(3.5), rel=1e-10)


def test_without_shared_training_clips_it_is_the_paired_t():
    d = np.random.default_rng(2).normal(0.1, 1, 30)
    found, want = corrected_resampled_t(d, 1e-12), stats.ttest_1samp(d, 0)
    assert (found.p, found.df) == (pytest.approx(want.pvalue, rel=1e-9), want.df)
    np.testing.assert_allclose([found.ci_low, found.ci_high], want.confidence_interval(), rtol=1e-9)


@pytest.mark.parametrize(
    ("differences", "share", "message"),
    [
        ([0.1], 0.25, "at least 2 finite differences"),
        ([0.1, np.nan], 0.25, "at least 2 finite differences"),
        ([0.1, 0.1], 0.25, "the 2 differences are all 0.1"),
        ([0.1, 0.2], 0.0, "test_share=0.0 must be > 0"),
    ],
)
def test_folds_that_cannot_be_tested_are_refused(differences, share, message):
    with pytest.raises(ValueError, match=message):
        corrected_resampled_t(np.array(differences), share)


def test_unpaired_values_have_no_paired_effect():
    with pytest.raises(ValueError, match=r"got \(10,\) and \(9,\)"):
        hedges_gav(FILM_1, FILM_2[1:])


def test_zous_p_is_where_the_interval_reaches_nothing():
    p = zou_p(0.396, 0.179, 0.088, 66)
    low, high = zou_interval(0.396, 0.179, 0.088, 66, 1 - p)
    assert low == pytest.approx(0, abs=1e-9)
    assert high > 0
    assert zou_p(0.179, 0.396, 0.088, 66) == pytest.approx(p)
    assert zou_p(0.3, 0.3, 0.2, 50) == 1
    assert zou_p(0.95, 0.1, 0.1, 5000) < 1e-9


def test_zous_p_is_the_root_of_its_interval():
    """By searching the level: wherever the p value is within what a level of 1 - p can hold."""
    rng, found = np.random.default_rng(6), 0
    while found < 60:
        a, b, c = rng.uniform(-0.95, 0.95, 3)
        if 1 + 2 * a * b * c - a**2 - b**2 - c**2 <= 0:
            continue
        a, b, p = max(a, b), min(a, b), zou_p(a, b, c, 20)
        if p < 1e-8:  # 1 - p keeps 8 digits of it
            continue
        want = optimize.brentq(lambda miss: zou_interval(a, b, c, 20, 1 - miss)[0], 1e-9, 1, xtol=1e-15)  # noqa: B023
        # Levels near 1 are known to 1e-16, so p = 1e-8 to 1e-8 of itself.
        assert p == pytest.approx(want, rel=1e-6)
        found += 1


def test_zous_p_of_any_three_variables_is_a_single_root():
    """The equation of degree 4 in x has one root in (0, 1): nothing to choose between, and none is missing."""
    rng = np.random.default_rng(7)
    for _ in range(300):
        a, b, c = np.corrcoef(rng.normal(size=(3, 5)))[[0, 0, 1], [1, 2, 2]]
        together = ((c - a * b / 2) * (1 - a**2 - b**2 - c**2) + c**3) / ((1 - a**2) * (1 - b**2))
        a, b = max(a, b), min(a, b)
        high, low = np.array([-a, 1.0]), np.array([b, 1.0])
        up, down = (1 - b**2) * high, (1 - a**2) * low
        square = np.polymul(down, down) + np.polymul(up, up) - 2 * together * np.polymul(down, up)
        whole = (a - b) ** 2 * np.polymul(np.polymul(high, high), np.polymul(low, low))
        roots = np.roots(np.polysub([*square, 0, 0], whole))
        (x,) = roots.real[(abs(roots.imag) < 1e-9) & (roots.real > 0) & (roots.real < 1)]
        # Roots of a quartic are good to some 1e-12, and a p value feels ten times as much at most here.
        assert zou_p(a, b, c, 9) == pytest.approx(2 * stats.norm.sf(np.arctanh(x) * np.sqrt(6)), rel=1e-7)
