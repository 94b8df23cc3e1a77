"""Scores over the size of the training set: the inverse power law r(n) = a - b n^-c.

Hestness et al. (2017, arXiv:1712.00409, sec. 3) find it for errors of networks, Viering & Loog (2022, IEEE TPAMI
45:7799, sec. 4.1) for most learners. a is where the scores end, c how soon. A score that cannot exceed 1 may be given
an a above it: then the sizes seen do not tell where it ends, though they may tell the next doubling.
"""

from dataclasses import dataclass

import numpy as np

LEAST_POINTS = 4
EXPONENTS = (0.02, 5.0)
"""Exponents that are looked for; a curve that wants another one is straight or a step, and tells nothing of its end."""


class NoLaw(ValueError):
    """Scores that follow no inverse power law; the message says why."""


@dataclass(frozen=True, eq=False)
class PowerLaw:
    """r(n) = a - b n^-c, fitted to scores at sizes n (k,)."""

    a: float
    b: float
    c: float
    n: np.ndarray

    def __call__(self, n: float) -> float:
        return float(self.a - self.b * n**-self.c)

    def gradient(self, n: float) -> np.ndarray:
        """How much each of the scores moves r(n), (k,): the Gauss-Newton derivative, exact where the law fits."""
        # In sizes relative to the largest, which keeps the columns of alike length.
        scale = self.n.max()
        b = self.b * scale**-self.c

        def columns(m: np.ndarray) -> np.ndarray:
            return np.stack([np.ones_like(m), -(m**-self.c), b * m**-self.c * np.log(m)], -1)

        return (columns(np.array([n / scale])) @ np.linalg.pinv(columns(self.n / scale)))[0]


def power_law(n: np.ndarray, r: np.ndarray) -> PowerLaw:
    """Least squares fit of r(n) = a - b n^-c: for each c a straight line in n^-c, so that c alone is searched for.

    Raises:
        NoLaw: fewer than 4 sizes, scores that are not finite or do not rise, or an exponent at an end of `EXPONENTS`.
    """
    from scipy.optimize import minimize_scalar

    n, r = np.asarray(n, np.float64), np.asarray(r, np.float64)
    if len(np.unique(n)) < LEAST_POINTS:
        raise NoLaw(f"{len(np.unique(n))} sizes, at least {LEAST_POINTS} are needed")
    if not np.isfinite(r).all():
        raise NoLaw("a score is undefined")
    m = n / n.max()

    def line(c: float) -> tuple[np.ndarray, float]:
        x = np.c_[np.ones_like(m), -(m**-c)]
        found = np.linalg.lstsq(x, r, rcond=None)[0]
        return found, float(((r - x @ found) ** 2).sum())

    grid = np.geomspace(*EXPONENTS, 60)
    at = int(np.argmin([line(c)[1] for c in grid]))
    if at in (0, len(grid) - 1):
        raise NoLaw(f"the best exponent lies at the end {grid[at]:.2g} of those looked for: the curve shows no bend")
    around = (float(grid[at - 1]), float(grid[at + 1]))
    c = float(minimize_scalar(lambda c: line(c)[1], bounds=around, method="bounded", options={"xatol": 1e-10}).x)
    (a, b), _ = line(c)
    if b <= 0:
        raise NoLaw("scores do not rise with size")
    return PowerLaw(float(a), float(b * n.max() ** c), c, n)
