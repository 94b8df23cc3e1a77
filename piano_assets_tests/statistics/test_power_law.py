"""The inverse power law against exact curves, scipy's fit, and differences of fitting again."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from piano_assets.statistics.power_law import NoLaw, power_law


def test_power_law_is_recovered_and_agrees_with_curve_fit():
    n = np.array([90.0, 180, 350, 720, 1400])
    exact = power_law(n, 0.7 - 3 * n**-0.6)
    # A search for the exponent stops at 1e-10; the sum of squares is flat to the root of rounding.
    np.testing.assert_allclose([exact.a, exact.b, exact.c], [0.7, 3, 0.6], rtol=1e-5)
    r = 0.7 - 3 * n**-0.6 + 0.004 * np.array([1, -1, 0.5, 1, -0.7])
    want, _ = curve_fit(lambda m, a, b, c: a - b * m**-c, n, r, p0=(0.7, 3, 0.6), ftol=1e-14, xtol=1e-14)
    noisy = power_law(n, r)
    np.testing.assert_allclose([noisy.a, noisy.b, noisy.c], want, rtol=1e-4)


def test_gradient_is_that_of_fitting_again():
    n = np.array([100.0, 200, 400, 800])
    r = 0.6 - 2 * n**-0.5
    gradient, step = power_law(n, r).gradient(1600), 1e-5
    for j in range(4):
        ends = [power_law(n, r + sign * step * (np.arange(4) == j))(1600) for sign in (1, -1)]
        # A central difference of a search that stops at 1e-10.
        assert gradient[j] == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-3)
    assert gradient.sum() == pytest.approx(1, rel=1e-9), "scores that all rise by x raise the prediction by x"


@pytest.mark.parametrize(
    ("n", "r", "reason"),
    [
        ([1, 2, 4], [0.1, 0.2, 0.3], "3 sizes, at least 4"),
        ([1, 2, 4, 8], [0.1, np.nan, 0.3, 0.4], "undefined"),
        ([1, 2, 4, 8], [0.5, 0.35, 0.275, 0.2375], "do not rise"),
        ([1, 2, 4, 8], [0.1, 0.2, 0.4, 0.8], "no bend"),
    ],
)
def test_no_law(n, r, reason):
    with pytest.raises(NoLaw, match=reason):
        power_law(np.array(n, float), np.array(r))
