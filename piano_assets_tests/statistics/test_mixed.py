"""Mixed models against closed forms of balanced designs, statsmodels, and truth that was planted."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import f as fisher

from piano_assets.statistics.mixed import REST, fit_mixed


def one_way(n_groups: int, n: int, sd: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), n)
    return 3 + sd * rng.normal(size=n_groups)[group] + rng.normal(size=len(group)), group


def mean_squares(y: np.ndarray, group: np.ndarray) -> tuple[float, float]:
    """(between, within) of a balanced one-way design."""
    table = pd.Series(y).groupby(group)
    n_groups, n = table.ngroups, len(y) // table.ngroups
    between = n * float(((table.mean() - y.mean()) ** 2).sum()) / (n_groups - 1)
    within = float(((y - table.transform("mean").to_numpy()) ** 2).sum()) / (len(y) - n_groups)
    return between, within


def test_balanced_one_way_is_the_analysis_of_variance():
    y, group = one_way(12, 5, 0.8, 1)
    between, within = mean_squares(y, group)
    component = (between - within) / 5
    found = fit_mixed(y, np.ones((60, 1)), {"g": group}, intervals=False)
    assert found.converged
    # The search stops at a relative step of 1e-6 of the spread.
    assert found.share["g"] == pytest.approx(component / (component + within), rel=1e-5)
    assert found.variance == pytest.approx(component + within, rel=1e-5)
    assert found.coefficient[0] == pytest.approx(y.mean(), rel=1e-10)
    assert found.se[0] == pytest.approx(np.sqrt(between / len(y)), rel=1e-5)


def test_a_negative_component_is_zero():
    y, group = one_way(12, 5, 0.0, 4)
    between, within = mean_squares(y, group)
    assert between < within, "this draw must have a negative component"
    found = fit_mixed(y, np.ones((60, 1)), {"g": group})
    assert found.share["g"] == pytest.approx(0, abs=1e-6)
    assert found.share_interval["g"][0] == 0
    # With no component REML is the ordinary variance.
    assert found.variance == pytest.approx(y.var(ddof=1), rel=1e-6)


def test_balanced_crossed_design_is_the_analysis_of_variance():
    rng = np.random.default_rng(2)
    row, column = (x.ravel() for x in np.meshgrid(np.arange(9), np.arange(7), indexing="ij"))
    y = rng.normal(size=9)[row] + 0.7 * rng.normal(size=7)[column] + rng.normal(size=63)
    table = y.reshape(9, 7)
    ms_row = 7 * ((table.mean(1) - y.mean()) ** 2).sum() / 8
    ms_column = 9 * ((table.mean(0) - y.mean()) ** 2).sum() / 6
    left = table - table.mean(1, keepdims=True) - table.mean(0, keepdims=True) + y.mean()
    rest = (left**2).sum() / 48
    want = np.array([(ms_row - rest) / 7, (ms_column - rest) / 9, rest])
    found = fit_mixed(y, np.ones((63, 1)), {"row": row, "column": column}, intervals=False)
    got = [found.share[k] * found.variance for k in ("row", "column", REST)]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_agrees_with_statsmodels_on_an_unbalanced_crossed_design():
    import statsmodels.formula.api as smf

    rng = np.random.default_rng(3)
    n = 150
    a, b = rng.integers(0, 12, n), rng.integers(0, 8, n)
    x = rng.normal(size=n) + 0.5 * (a % 2)
    y = 1 + 0.4 * x + rng.normal(size=12)[a] + 0.6 * rng.normal(size=8)[b] + rng.normal(size=n)
    frame = pd.DataFrame({"y": y, "x": x, "a": a, "b": b, "all": 1})
    parts = {"a": "0 + C(a)", "b": "0 + C(b)"}
    peer = smf.mixedlm("y ~ x", frame, groups="all", vc_formula=parts).fit(reml=True, gtol=1e-8)
    found = fit_mixed(y, np.c_[np.ones(n), x], {"a": a, "b": b}, intervals=False)
    # statsmodels stops where its gradient is small, on a likelihood that is flat there.
    np.testing.assert_allclose(found.coefficient, peer.fe_params, rtol=1e-4)
    got = [found.share[k] * found.variance for k in ("a", "b", REST)]
    np.testing.assert_allclose(got, [*peer.vcomp, peer.scale], rtol=2e-3)
    # Its errors come from the Hessian of all parameters, ours from the coefficients alone, as lme4's: O(1/n) apart.
    np.testing.assert_allclose(found.se, peer.bse_fe, rtol=5e-3)
    same = [np.equal.outer(code, code) for code in (a, b, np.arange(n))]
    covariance = sum(v * s for v, s in zip(got, same, strict=True))
    x = np.c_[np.ones(n), x]
    want = np.sqrt(np.diag(np.linalg.inv(x.T @ np.linalg.inv(covariance) @ x)))
    np.testing.assert_allclose(found.se, want, rtol=1e-9)  # an inverse of 150 x 150


def test_interval_of_a_share_is_near_the_exact_one_of_a_balanced_design():
    y, group = one_way(60, 6, 1.0, 5)
    between, within = mean_squares(y, group)
    # Exact: Shrout & Fleiss 1979, Psychological Bulletin 86:420, ICC(1,1).
    low, high = (
        (ratio - 1) / (ratio + 5)
        for ratio in (
            between / within / fisher.ppf(0.975, 59, 300),
            between / within * fisher.ppf(0.975, 300, 59),
        )
    )
    found = fit_mixed(y, np.ones((360, 1)), {"g": group})
    # A likelihood ratio is exact to O(1/groups); the whole interval is .2 wide.
    np.testing.assert_allclose(found.share_interval["g"], (low, high), atol=0.01)
    mirrored = tuple(1 - x for x in reversed(found.share_interval["g"]))
    np.testing.assert_allclose(found.share_interval[REST], mirrored, atol=1e-3)


def test_planted_shares_and_slopes_are_found():
    """False alarm: a bound of 4.5 standard errors on 5 numbers, over means of 25 fits: below 1e-4."""
    rng = np.random.default_rng(6)
    slopes, shares = [], []
    for _ in range(25):
        a, b = np.arange(240) % 20, rng.integers(0, 12, 240)
        x = np.c_[np.ones(240), rng.normal(size=240), rng.normal(size=20)[a]]
        y = x @ [1, 0.5, -0.3] + rng.normal(size=20)[a] + 0.5 * rng.normal(size=12)[b] + rng.normal(size=240)
        found = fit_mixed(y, x, {"a": a, "b": b}, intervals=False)
        assert found.converged
        slopes.append(
            np.r_[found.coefficient[1:], found.variance * found.share["a"], found.variance * found.share["b"]]
        )
        shares.append(found.variance * found.share[REST])
    got = np.c_[slopes, shares]
    z = (got.mean(0) - [0.5, -0.3, 1, 0.25, 1]) / (got.std(0, ddof=1) / np.sqrt(len(got)))
    assert abs(z).max() < 4.5


def test_groupings_that_cannot_be_told_apart_do_not_converge():
    y, group = one_way(12, 5, 1.0, 7)
    assert not fit_mixed(y, np.ones((60, 1)), {"g": group, "again": group}, intervals=False).converged


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": {}}, "one or two groupings, got 0"),
        ({"groups": {"g": np.zeros(20)}}, "grouping 'g' has 1 groups of 20"),
        ({"groups": {"g": np.arange(20)}}, "grouping 'g' has 20 groups of 20"),
        ({"y": np.full(20, np.nan)}, "finite"),
        ({"x": np.c_[np.ones(20), np.arange(20.0)]}, "explain y without a rest"),
        ({"x": np.ones((20, 2))}, r"2 columns of x depend on one another \(rank 1\)"),
    ],
)
def test_refuses_what_it_cannot_tell(change, message):
    given = {"y": np.arange(20.0), "x": np.ones((20, 1)), "groups": {"g": np.arange(20) % 4}} | change
    with pytest.raises(ValueError, match=message):
        fit_mixed(**given)
