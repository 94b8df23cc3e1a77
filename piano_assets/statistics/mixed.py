"""A linear mixed model with crossed random intercepts, fitted by restricted maximum likelihood (REML).

Clips share their music and their player, so what is left of an error is not independent either. The criterion is
lme4's penalised least squares (Bates, Maechler, Bolker & Walker 2015, J. Stat. Softw. 67(1), sec. 3.4, eq. 41), in
which only the ratios of the random effects' spreads to the rest's are searched for: one Cholesky factor for each try.
statsmodels' `MixedLM` has crossed effects too, but not a search to rely on: of 25 simulated sets of 400 clips it left
7 without convergence, and with responses 50 times as large it announced convergence up to 8.6 above the least value of
the criterion.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from piano_assets.statistics import LEVEL

STARTS = (0.3, 2.0)
"""Spreads of the random effects, in those of the rest, from which the search sets out."""
SAME = 1e-3
"""The searches agree when their shares of variance differ by less."""
REST = "rest"
_LEAST_REST = 1e-6
_NO_REST = 1e-14  # of the sum of squares: rounding


@dataclass(frozen=True, eq=False)
class Mixed:
    """A fitted model.

    coefficient, se: (p,) of the columns of `x`. share: grouping (and `rest`) -> share of the variance that `x` leaves;
    share_interval: its 95 % profile likelihood interval, empty where not asked for. variance: all of that variance.
    converged: whether searches from different starts ended at the same shares; where they did not, nothing else here
    is worth reading.
    """

    coefficient: np.ndarray
    se: np.ndarray
    share: dict[str, float]
    share_interval: dict[str, tuple[float, float]]
    variance: float
    converged: bool


def fit_mixed(y: np.ndarray, x: np.ndarray, groups: Mapping[str, np.ndarray], intervals: bool = True) -> Mixed:
    """Fit y = x b + a random intercept for each grouping + rest.

    Args:
        y: (n,). x: (n, p) of full rank, with a constant. groups: one or two groupings, (n,) codes each.
        intervals: also find the shares' intervals (most of the time).
    Raises:
        ValueError: another number of groupings, a grouping with one group or with n, values that are not finite,
            columns of x that depend on one another, or columns that explain y without a rest.
    """
    _refuse(y, x, groups)
    criterion = _criterion(y, x, list(groups.values()))
    found = [_search(criterion, len(groups), start) for start in STARTS]
    shares = [_shares_of(spread) for spread, _ in found]
    best = int(np.argmin([value for _, value in found]))
    converged = bool(np.ptp(shares, axis=0).max() < SAME)
    _, (coefficient, covariance, rest) = criterion(found[best][0])
    share, names = shares[best], [*groups, REST]
    held = {}
    if intervals and converged:
        lowest = found[best][1]
        held = {name: _profile_interval(criterion, share, j, lowest) for j, name in enumerate(names)}
    return Mixed(
        coefficient,
        np.sqrt(np.diag(covariance)),
        dict(zip(names, share.tolist(), strict=True)),
        held,
        rest / share[-1],
        converged,
    )


Fit = tuple[np.ndarray, np.ndarray, float]
"""Coefficients, their covariance, variance of the rest."""
Criterion = Callable[[np.ndarray], tuple[float, Fit]]


def _criterion(y: np.ndarray, x: np.ndarray, groups: list[np.ndarray]) -> Criterion:
    """Spreads of the random effects in those of the rest, (k,) -> (-2 log restricted likelihood, what it leaves)."""
    from scipy.linalg.lapack import dpotrf, dtrtrs

    codes = [np.unique(g, return_inverse=True)[1] for g in groups]
    z = np.concatenate([np.eye(code.max() + 1)[code] for code in codes], axis=1)
    which = np.repeat(np.arange(len(codes)), [code.max() + 1 for code in codes])
    both = np.c_[x, y]
    zz, zb, bb = z.T @ z, z.T @ both, both.T @ both
    (n, p), one = x.shape, np.eye(len(which))

    def at(spread: np.ndarray) -> tuple[float, Fit]:
        s = spread[which]
        # LAPACK without scipy's wrappers, which would take as long as the factor itself.
        factor, _ = dpotrf(s[:, None] * zz * s + one, lower=1)
        solved, _ = dtrtrs(factor, s[:, None] * zb, lower=1)
        left = bb - solved.T @ solved
        root, failed = dpotrf(left, lower=1)
        if failed or root[p, p] ** 2 <= _NO_REST * bb[p, p]:
            raise ValueError("the columns of x explain y without a rest: there is no variance to share")
        # The last row of the root holds the coefficients in its own terms, its end the root of the residual.
        coefficient, _ = dtrtrs(root[:p, :p], root[p, :p], lower=1, trans=1)
        inverse, _ = dtrtrs(root[:p, :p], np.eye(p), lower=1)
        rest = float(root[p, p] ** 2 / (n - p))
        logs = np.log(np.diag(factor)).sum() + np.log(np.diag(root)[:p]).sum()
        value = 2 * logs + (n - p) * (1 + np.log(2 * np.pi * rest))
        return float(value), (coefficient, rest * inverse.T @ inverse, rest)

    return at


def _search(criterion: Criterion, k: int, start: float) -> tuple[np.ndarray, float]:
    from scipy.optimize import minimize

    # Only the squares of the spreads count, so that a spread of zero is no edge to get stuck at.
    options = {"xatol": 1e-6, "fatol": 1e-9, "maxiter": 2000}
    found = minimize(lambda spread: criterion(spread)[0], np.full(k, start), method="Nelder-Mead", options=options)
    return found.x, float(found.fun)


def _shares_of(spread: np.ndarray) -> np.ndarray:
    parts = np.append(spread**2, 1.0)
    return parts / parts.sum()


def _deviance(criterion: Criterion, share: np.ndarray) -> float:
    return criterion(np.sqrt(share[:-1] / max(share[-1], _LEAST_REST)))[0]


def _profile(criterion: Criterion, n_shares: int, j: int, value: float) -> float:
    """The criterion where share j is `value` and the others are what suits it best."""
    from scipy.optimize import minimize_scalar

    def split(first: float) -> float:
        others = [first, 1 - first] if n_shares == 3 else [1.0]
        return _deviance(criterion, np.insert((1 - value) * np.array(others), j, value))

    if n_shares == 2:
        return split(1.0)
    ends = (split(0.0), split(1.0))
    return min(*ends, float(minimize_scalar(split, bounds=(0, 1), method="bounded", options={"xatol": 1e-3}).fun))


def _profile_interval(criterion: Criterion, share: np.ndarray, j: int, lowest: float) -> tuple[float, float]:
    """Shares whose likelihood ratio is not refused at 5 % (chi-square, 1 degree of freedom; wide at the edges)."""
    from scipy.optimize import brentq
    from scipy.stats import chi2

    profile = partial(_profile, criterion, len(share), j)
    bound = lowest + float(chi2.ppf(LEVEL, 1))

    def above(value: float) -> float:
        return profile(value) - bound

    low, high = 0.0, 1 - _LEAST_REST
    at = float(np.clip(share[j], low, high))
    # The rest cannot vanish: without it the likelihood has no bound.
    first = low + _LEAST_REST
    low = low if at <= first or above(first) <= 0 else float(brentq(above, first, at, xtol=1e-3))
    high = 1.0 if above(high) <= 0 else float(brentq(above, at, high, xtol=1e-3))
    return low, high


def _refuse(y: np.ndarray, x: np.ndarray, groups: Mapping[str, np.ndarray]) -> None:
    if not 1 <= len(groups) <= 2:
        raise ValueError(f"a mixed model takes one or two groupings, got {len(groups)}")
    if not (np.isfinite(y).all() and np.isfinite(x).all()):
        raise ValueError("a mixed model needs finite values; some are not")
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise ValueError(f"the {x.shape[1]} columns of x depend on one another (rank {np.linalg.matrix_rank(x)})")
    for name, of in groups.items():
        n_groups = len(np.unique(of))
        if not 2 <= n_groups < len(y):
            raise ValueError(f"grouping {name!r} has {n_groups} groups of {len(y)} values: its share cannot be told")
