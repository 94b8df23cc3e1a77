"""Planted truth: what each test does when the answer is known.

Labels and predictions are drawn on the corpus's own structure (which clip has which music, player and fold), so that
errors share music, players, both or neither. Without a difference a test at 5 % should reject 5 % of the time; with
one, as often as its announced power says; and its interval should hold the truth 95 % of the time.

Model: a label is a mixture of effects of music, player and clip with variance 1; a prediction of accuracy r is
r label + sqrt(1 - r^2) error, its error again such a mixture, half of it shared with the reference. The correlation of
label and prediction is then r in every dimension, and the true difference of two sides is known.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from piano_assets.statistics import clustered, influence
from piano_assets.statistics.multiplicity import corrected
from piano_assets.statistics.paired import corrected_resampled_t, zou_interval
from piano_assets.statistics.resampling import draw_counts, group_sums, percentile_interval, resampled

ALPHA = clustered.ALPHA
N_DIMENSIONS = 5
"""Independent ones: as many signals as the 19 dimensions have."""

SHARED = 0.5
"""Share of an arm's error that is the reference's too."""

LABEL = (0.4, 0.2)
"""Shares of the labels' variance between clusters and between performers."""

REFERENCE_R = 0.7
N_RESAMPLES = 999


@dataclass(frozen=True, eq=False)
class Structure:
    """Which clip has which music, player and fold: integer codes, (n_clips,) each."""

    cluster: np.ndarray
    performer: np.ndarray
    fold: np.ndarray


def structure_of(clips: pd.DataFrame, labels: pd.DataFrame, splits: pd.DataFrame, rule: str = "clean") -> Structure:
    """The structure of the labelled clips, with the folds of the cluster split's first repeat."""
    labelled = clips[clips["clip"].isin(labels["clip"][labels["rule"] == rule])]
    tested = splits[(splits["split"] == "cluster") & (splits["repeat"] == 0) & (splits["role"] == "test")]
    fold = tested[tested["inner_fold"].isna()].set_index("clip")["fold"].reindex(labelled["clip"])
    cluster, performer = (pd.factorize(labelled[c])[0] for c in ("cluster", "performer"))
    return Structure(cluster, performer, fold.to_numpy(int))


@dataclass(frozen=True)
class Scenario:
    """Shares of the errors' variance between clusters and between performers."""

    name: str
    cluster: float
    performer: float


SCENARIOS = (
    Scenario("clips alone", 0.0, 0.0),
    Scenario("cluster", 0.4, 0.0),
    Scenario("performer", 0.0, 0.4),
    Scenario("both", 0.25, 0.25),
)


@dataclass(frozen=True, eq=False)
class Draw:
    """One drawn experiment: labels and predictions, (n_clips, d) each; true difference in mean r."""

    structure: Structure
    target: np.ndarray
    arm: np.ndarray
    reference: np.ndarray
    truth: float
    rng: np.random.Generator
    estimate: float = field(init=False)
    contributions: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        r, psi = zip(*(_mean_r(side, self.target) for side in (self.arm, self.reference)), strict=True)
        object.__setattr__(self, "estimate", r[0] - r[1])
        object.__setattr__(self, "contributions", (psi[0] - psi[1]) / len(self.target))


@dataclass(frozen=True)
class Outcome:
    """What a test said: whether it rejected, and whether its interval held the truth (None: it has no interval)."""

    rejected: bool
    covered: bool | None


def effects(structure: Structure, shares: tuple[float, float], d: int, rng: np.random.Generator) -> np.ndarray:
    """A mixture of effects of music, player and clip with variance 1, (n_clips, d)."""
    own = 1 - sum(shares)
    parts = [np.sqrt(own) * rng.standard_normal((len(structure.cluster), d))]
    for share, groups in zip(shares, (structure.cluster, structure.performer), strict=True):
        if share:
            parts.append(np.sqrt(share) * rng.standard_normal((groups.max() + 1, d))[groups])
    return np.sum(parts, axis=0)


def draws(
    structure: Structure,
    scenario: Scenario,
    rng: np.random.Generator,
    gains: Sequence[float] = (0.0,),
    d: int = N_DIMENSIONS,
) -> list[Draw]:
    """One experiment: an arm for each gain, all against one reference of accuracy `REFERENCE_R`."""
    shares = scenario.cluster, scenario.performer
    target = effects(structure, LABEL, d, rng)
    common = effects(structure, shares, d, rng)

    def side(r: float) -> np.ndarray:
        error = np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * effects(structure, shares, d, rng)
        return r * target + np.sqrt(1 - r**2) * error

    reference = side(REFERENCE_R)
    return [Draw(structure, target, side(REFERENCE_R + gain), reference, gain, rng) for gain in gains]


def _mean_r(pred: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean r over dimensions, and its influence values (n_clips,)."""
    p, t = ((x - x.mean(0)) / x.std(0) for x in (pred, target))
    return float((p * t).mean()), influence.pearson(pred, target).mean(1)


def _two_way_t(x: Draw) -> Outcome:
    found = clustered.two_way_t(x.estimate, x.contributions, x.structure.cluster, x.structure.performer)
    return Outcome(found.p < ALPHA, found.ci_low <= x.truth <= found.ci_high)


def _clip_t(x: Draw) -> Outcome:
    found = clustered.clip_t(x.estimate, x.contributions)
    return Outcome(found.p < ALPHA, found.ci_low <= x.truth <= found.ci_high)


def _sign_flip(groups: str) -> Callable[[Draw], Outcome]:
    def test(x: Draw) -> Outcome:
        by = getattr(x.structure, groups)
        return Outcome(clustered.sign_flip(x.estimate, x.contributions, by, N_RESAMPLES, x.rng) < ALPHA, None)

    return test


def _folds(x: Draw) -> Outcome:
    """The corrected t over folds, which share music in no fold and players in all."""
    folds = np.unique(x.structure.fold)
    gaps = [
        _mean_r(x.arm[k], x.target[k])[0] - _mean_r(x.reference[k], x.target[k])[0]
        for k in map(x.structure.fold.__eq__, folds)
    ]
    found = corrected_resampled_t(np.array(gaps), 1 / (len(folds) - 1))
    return Outcome(found.p < ALPHA, found.ci_low <= x.truth <= found.ci_high)


def _cluster_bootstrap(x: Draw) -> Outcome:
    sides = [group_sums(side, x.target, x.structure.cluster) for side in (x.arm, x.reference)]
    counts = draw_counts(len(sides[0]), N_RESAMPLES, x.rng)
    arm, reference = (resampled("pearson", sums, counts).mean(1) for sums in sides)
    low, high = percentile_interval(arm - reference)
    return Outcome(not low <= 0 <= high, bool(low <= x.truth <= high))


def _zou(x: Draw) -> Outcome:
    """Of the first dimension: the interval knows one correlation a side."""
    sides = np.stack([x.arm[:, 0], x.reference[:, 0], x.target[:, 0]])
    (_, between, a), (_, _, b), _ = np.corrcoef(sides)
    low, high = zou_interval(a, b, between, len(x.target))
    return Outcome(not low <= 0 <= high, low <= x.truth <= high)


TESTS: dict[str, Callable[[Draw], Outcome]] = {
    "two_way_t": _two_way_t,
    "clip_t": _clip_t,
    "sign_flip_cluster": _sign_flip("cluster"),
    "sign_flip_performer": _sign_flip("performer"),
    "corrected_resampled_t": _folds,
    "cluster_bootstrap": _cluster_bootstrap,
    "zou_interval": _zou,
}


@dataclass(frozen=True)
class Size:
    """How often a test rejected and its interval held the truth, in n experiments."""

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
    tests: Sequence[str] = tuple(TESTS),
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Size]:
    """Rejections and coverage of each test in n experiments with a true difference of `gain` in mean r."""
    found: dict[str, list[Outcome]] = {name: [] for name in tests}
    for done in range(1, n + 1):
        (x,) = draws(structure, scenario, rng, (gain,))
        for name in tests:
            found[name].append(TESTS[name](x))
        if progress:
            progress(done, n)
    for name, outcomes in found.items():
        covered = None if outcomes[0].covered is None else float(np.mean([o.covered for o in outcomes]))
        yield Size(scenario.name, gain, name, float(np.mean([o.rejected for o in outcomes])), covered, n)


def detectable(structure: Structure, scenario: Scenario, n: int, rng: np.random.Generator) -> float:
    """The difference that the primary test announces to find with 80 % power: mean over n null experiments."""
    found = []
    for _ in range(n):
        (x,) = draws(structure, scenario, rng)
        se, df = clustered.two_way_se(x.contributions[:, None], structure.cluster, structure.performer)
        found.append(clustered.minimal_detectable_effect(float(se[0]), df))
    return float(np.mean(found))


def family_wise(structure: Structure, scenario: Scenario, n_arms: int, n: int, rng: np.random.Generator) -> float:
    """Share of n comparisons, none of whose arms differs from the reference, in which Holm rejects any."""
    any_rejected = 0
    for _ in range(n):
        p = [
            clustered.two_way_t(x.estimate, x.contributions, structure.cluster, structure.performer).p
            for x in draws(structure, scenario, rng, (0.0,) * n_arms)
        ]
        any_rejected += bool((corrected(np.array(p))["p_holm"] < ALPHA).any())
    return any_rejected / n


@dataclass(frozen=True)
class Calibration:
    """What one scenario showed: sizes under the null, power at the announced difference, Holm's family-wise rate."""

    scenario: str
    null: list[Size]
    gain: Size
    family_wise: float
    n: int


def calibrate(structure: Structure, scenario: Scenario, n: int, seed: int, n_arms: int = 8) -> Calibration:
    """All of it in n experiments each; the announced difference is the mean of n / 10 null experiments."""
    null, announced, power, family = (np.random.default_rng([seed, i]) for i in range(4))
    gain = detectable(structure, scenario, max(n // 10, 1), announced)
    (found,) = sizes(structure, scenario, gain, n, power, ("two_way_t",))
    rate = family_wise(structure, scenario, n_arms, n, family)
    return Calibration(scenario.name, list(sizes(structure, scenario, 0.0, n, null)), found, rate, n)


def monte_carlo_interval(share: float, n: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a share of n experiments (1927, JASA 22:209)."""
    from scipy.stats import binomtest

    found = binomtest(round(share * n), n).proportion_ci(method="wilson")
    return float(found.low), float(found.high)
