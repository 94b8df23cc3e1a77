"""What each test is worth: how often it rejects and its interval holds the truth, where the truth is planted.

Without a difference a test at 5 % should reject 5 % of the time; with one, as often as its announced power says; and
its interval should hold the truth 95 % of the time. What is judged are the functions that fill the table `tests`,
called as there, with as many flips and resamples.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from piano_assets.analysis.planted import Draw, Scenario, Structure, draw, evidence, mean_r
from piano_assets.analysis.power import powers, together
from piano_assets.analysis.primary import differences
from piano_assets.analysis.secondary import SECONDARY, Evidence, Row, zou
from piano_assets.statistics import jackknife
from piano_assets.statistics.clustered import (
    ALPHA,
    degrees_of_freedom,
    minimal_detectable_effect,
    two_way_t,
    two_way_variance,
)
from piano_assets.statistics.multiplicity import corrected

N_ARMS = 8
"""Of the comparison in which Holm's family-wise rate is counted."""


def _two_way_t(x: Evidence) -> Row:
    changes = [change[:, -1] for change in differences(x.pairs, "pearson_mean")]
    found = two_way_t(x.estimate, changes, x.cluster, x.performer)
    return {"p": found.p, "ci_low": found.ci_low, "ci_high": found.ci_high}


TESTS: dict[str, Callable[[Evidence], Row | None]] = {
    "two_way_t": _two_way_t,
    **SECONDARY,
    "zou_interval": lambda x: zou(x, 0),
}
"""All that stand in the table `tests`; Zou's interval of the first dimension, since it knows one correlation a side."""


@dataclass(frozen=True)
class Size:
    """How often a test rejected and its interval held the truth (None: it has no interval), in n experiments."""

    scenario: str
    gain: float
    test: str
    rejected: float
    covered: float | None
    n: int


def sizes(
    structure: Structure,
    scenario: Scenario,
    gain: float,
    n: int,
    rng: np.random.Generator,
    tests: Iterable[str] = tuple(TESTS),
) -> Iterator[Size]:
    """Rejections and coverage of each test in n experiments with a true difference of `gain` in mean r.

    Raises:
        ValueError: a test that had nothing to say of an experiment.
    """
    rejected: dict[str, list[bool]] = {name: [] for name in tests}
    covered: dict[str, list[bool]] = {name: [] for name in tests}
    for _ in range(n):
        x = evidence(draw(structure, scenario, rng, gain), rng)
        for name in rejected:
            said = TESTS[name](x)
            if said is None:
                raise ValueError(f"{name} has nothing to say on a structure of {len(x.cluster)} clips")
            rejected[name].append(float(str(said["p"])) < ALPHA)
            if "ci_low" in said:
                covered[name].append(float(str(said["ci_low"])) <= gain <= float(str(said["ci_high"])))
    for name in rejected:
        held = float(np.mean(covered[name])) if covered[name] else None
        yield Size(scenario.name, gain, name, float(np.mean(rejected[name])), held, n)


def primary(x: Draw) -> tuple[np.ndarray, np.ndarray]:
    """(differences, standard errors) of all arms by the primary test, (n_arms,) each: `two_way_t` for many at once."""
    n_sides, n, d = len(x.arms) + 1, *x.target.shape
    sides = np.concatenate([x.arms, x.reference[None]])
    flat = sides.transpose(1, 0, 2).reshape(n, n_sides * d)
    left = jackknife.changes(["pearson"], flat, np.tile(x.target, n_sides), x.structure.cluster, x.structure.performer)[
        "pearson"
    ]
    means = [of.change.reshape(-1, n_sides, d).mean(2) for of in left]
    r = mean_r(sides, x.target)
    return r[:-1] - r[-1], np.sqrt(two_way_variance([of[:, :-1] - of[:, -1:] for of in means])[0])


def p_values(estimate: np.ndarray, se: np.ndarray, df: float) -> np.ndarray:
    """Of the two-sided t test."""
    from scipy.stats import t

    return 2 * t.sf(abs(estimate) / se, df)


@dataclass(frozen=True)
class Power:
    """A difference announced at 80 % power, and what became of it when it was planted n times.

    gain: what n pilots together announce; found: how often it was found; single: the power that one pilot by itself
    announces for it, on average, and spread: its 5 and 95 % quantiles.
    """

    gain: float
    found: float
    single: float
    spread: tuple[float, float]
    n: int


def power(structure: Structure, scenario: Scenario, n: int, rng: np.random.Generator) -> Power:
    """Announce a difference as `piano power` does, plant it, and count.

    Pilots are experiments with that very difference: the first announcement comes from pilots without one.
    """
    df = degrees_of_freedom(structure.cluster, structure.performer)
    gain = 0.0
    for _ in range(2):
        gain = together([_announced(draw(structure, scenario, rng, gain), df) for _ in range(n)])
    found, single = [], []
    for _ in range(n):
        estimate, se = primary(draw(structure, scenario, rng, gain))
        found.append(bool(p_values(estimate, se, df)[0] < ALPHA))
        single += powers(minimal_detectable_effect(float(se[0]), df), df, [gain])
    low, high = np.quantile(single, [0.05, 0.95])
    return Power(gain, float(np.mean(found)), float(np.mean(single)), (float(low), float(high)), n)


def _announced(x: Draw, df: float) -> float:
    return minimal_detectable_effect(float(primary(x)[1][0]), df)


def family_wise(structure: Structure, scenario: Scenario, n_arms: int, n: int, rng: np.random.Generator) -> float:
    """Share of n comparisons, none of whose arms differs from the reference, in which Holm rejects any."""
    df = degrees_of_freedom(structure.cluster, structure.performer)
    any_rejected = 0
    for _ in range(n):
        estimate, se = primary(draw(structure, scenario, rng, n_arms=n_arms))
        any_rejected += bool((corrected(p_values(estimate, se, df))["p_holm"] < ALPHA).any())
    return any_rejected / n


@dataclass(frozen=True)
class Calibration:
    """What one scenario showed: sizes under the null, power at the announced difference, Holm's family-wise rate."""

    scenario: str
    null: list[Size]
    power: Power
    family_wise: float
    n: int


def calibrate(structure: Structure, scenario: Scenario, n: int, seed: int, n_arms: int = N_ARMS) -> Calibration:
    """All of it in n experiments each."""
    null, planted, family = (np.random.default_rng([seed, i]) for i in range(3))
    return Calibration(
        scenario.name,
        list(sizes(structure, scenario, 0.0, n, null)),
        power(structure, scenario, n, planted),
        family_wise(structure, scenario, n_arms, n, family),
        n,
    )


def monte_carlo_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n experiments (1927, JASA 22:209)."""
    from scipy.stats import binomtest

    found = binomtest(round(share * n), n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
