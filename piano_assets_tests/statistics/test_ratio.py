"""The interval of a ratio against Fieller's quadratic, ratios of drawn normals, limits and simulated coverage."""

import numpy as np
import pytest
from scipy.stats import norm

from piano_assets.statistics.ratio import ratio_interval

Z = norm.ppf(0.975)
RNG = np.random.default_rng(31)


def around(estimate, se):
    estimate = np.asarray(estimate, np.float64)
    return estimate, (estimate - Z * se, estimate + Z * se)


@pytest.mark.parametrize("above", [0.6, 0.05, -0.05, -0.4])
def test_symmetric_intervals_give_fiellers(above):
    a, b, se_a, se_b = above, 0.8, 0.06, 0.04
    # Fieller: the R between the roots of (b^2 - z^2 se_b^2) R^2 - 2 a b R + a^2 - z^2 se_a^2 = 0.
    want = np.sort(np.roots([b**2 - (Z * se_b) ** 2, -2 * a * b, a**2 - (Z * se_a) ** 2]).real)
    np.testing.assert_allclose(ratio_interval(*around(a, se_a), *around(b, se_b)), want, rtol=1e-10)


@pytest.mark.parametrize("above", [0.6, -0.3])
def test_ends_are_quantiles_of_a_ratio_of_normals(above):
    """P(A / B < R) = P(A - R B < 0) where B > 0, so Fieller's ends are the ratio's own quantiles."""
    n = 400_000
    drawn = (above + 0.06 * RNG.standard_normal(n)) / (0.8 + 0.04 * RNG.standard_normal(n))
    got = ratio_interval(*around(above, 0.06), *around(0.8, 0.04))
    # A 2.5 % quantile of n draws errs by sqrt(.025 x .975 / n) over the density, here .0005 (one sd); four of them.
    np.testing.assert_allclose(got, np.quantile(drawn, [0.025, 0.975]), atol=0.002)


def test_a_known_denominator_divides_the_ends():
    above = np.array([0.6, 0.02, -0.3, 0.5])
    ends = above - np.array([0.1, 0.1, 0.2, 0.0]), above + np.array([0.05, 0.1, 0.4, 0.2])
    below = np.full(4, 0.8)
    low, high = ratio_interval(above, ends, below, (below, below))
    np.testing.assert_allclose(low, ends[0] / 0.8, rtol=1e-10)
    np.testing.assert_allclose(high, ends[1] / 0.8, rtol=1e-10)


def test_a_known_numerator_divides_by_the_ends():
    above, below = np.array([0.6, -0.6]), np.array([0.8, 0.8])
    low, high = ratio_interval(above, (above, above), below, (below - 0.1, below + 0.05))
    np.testing.assert_allclose(low, [0.6 / 0.85, -0.6 / 0.7], rtol=1e-10)
    np.testing.assert_allclose(high, [0.6 / 0.7, -0.6 / 0.85], rtol=1e-10)


def test_turning_the_sign_turns_the_interval():
    above, ends, below, of = np.array(0.3), (np.array(0.1), np.array(0.6)), np.array(0.8), (np.array(0.7), np.array(1))
    low, high = ratio_interval(above, ends, below, of)
    turned = ratio_interval(-above, (-ends[1], -ends[0]), below, of)
    np.testing.assert_allclose(turned, (-high, -low), rtol=1e-10)


def test_it_holds_the_true_ratio_as_often_as_it_says():
    n, truth = 20_000, 0.6 / 0.8
    a, b = 0.6 + 0.06 * RNG.standard_normal(n), 0.8 + 0.05 * RNG.standard_normal(n)
    low, high = ratio_interval(*around(a, 0.06), *around(b, 0.05))
    held = ((low <= truth) & (truth <= high)).mean()
    assert held == pytest.approx(0.95, abs=0.006)  # four binomial standard errors


def test_what_has_no_interval_is_nan():
    above, below = np.full(4, 0.5), np.array([0.1, 0.1, np.nan, 0.8])
    ends = (above - 0.1, np.array([0.6, 0.6, 0.6, np.nan]))
    down, up = np.array([0.1, 0.05, 0, 0]), np.array([0.05, 0.1, 0, 0])
    low, high = ratio_interval(above, ends, below, (below - down, below + up))
    assert np.isnan(low[:3]).all()
    assert np.isnan(high).all()


def test_an_estimate_outside_its_interval_is_refused():
    with pytest.raises(ValueError, match="below: 1 estimates lie outside"):
        ratio_interval(np.ones(2), (np.ones(2), np.ones(2)), np.ones(2), (np.array([0.5, 1.5]), np.full(2, 2.0)))
