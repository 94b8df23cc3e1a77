"""Secondary tests against brute force on the same rows."""

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from piano_assets.analysis import secondary
from piano_assets.analysis.measures import View
from piano_assets.analysis.primary import Side
from piano_assets.analysis.secondary import SECONDARY, Evidence, cluster_bootstrap, corrected_t, zou
from piano_assets.metrics.regression import pearson
from piano_assets.statistics import influence

RNG = np.random.default_rng(17)
N, D = 120, 19
CLUSTER, PERFORMER, FOLD = np.arange(N) // 10, np.arange(N) % 8, np.arange(N) // 10 % 4
TARGET = RNG.normal(size=(N, D))


def side(spread: float) -> Side:
    return Side(View(TARGET + spread * RNG.normal(size=(N, D)), TARGET, FOLD, CLUSTER), CLUSTER, PERFORMER)


PAIRS = [(side(0.7), side(1.0)) for _ in range(2)]


def mean_r(of: Side, rows=slice(None)) -> float:
    return float(np.mean([stats.pearsonr(of.view.pred[rows, d], TARGET[rows, d]).statistic for d in range(D)]))


def evidence(pairs=PAIRS, seed: int = 0) -> Evidence:
    psi = [influence.pearson(a.view.pred, TARGET) - influence.pearson(b.view.pred, TARGET) for a, b in pairs]
    estimate = np.mean([mean_r(a) - mean_r(b) for a, b in pairs])
    return Evidence(estimate, np.mean(psi, axis=0).mean(1) / N, CLUSTER, PERFORMER, pairs, np.random.default_rng(seed))


@pytest.mark.parametrize("name", SECONDARY)
def test_a_large_difference_is_found_and_bracketed(name):
    found = SECONDARY[name](evidence())
    assert found["p"] < 0.05
    if "ci_low" in found:
        assert 0 < found["ci_low"] < found.get("estimate", evidence().estimate) < found["ci_high"]


def test_the_bootstrap_is_brute_force(monkeypatch):
    monkeypatch.setattr(secondary, "N_RESAMPLES", 40)
    got = cluster_bootstrap(evidence(seed=3))
    drawn = np.random.default_rng(3).integers(0, 12, (40, 12))
    rows = [np.concatenate([np.flatnonzero(k == CLUSTER) for k in one]) for one in drawn]
    values = [
        np.mean(
            [pearson(a.view.pred[r], TARGET[r]).mean() - pearson(b.view.pred[r], TARGET[r]).mean() for a, b in PAIRS]
        )
        for r in rows
    ]
    np.testing.assert_allclose([got["ci_low"], got["ci_high"]], np.quantile(values, [0.025, 0.975]), rtol=1e-9)
    assert got["p"] == pytest.approx(2 / 41)


def test_the_corrected_t_is_over_the_folds_of_all_repeats():
    got = corrected_t(evidence())
    gaps = np.array([mean_r(a, k == FOLD) - mean_r(b, k == FOLD) for a, b in PAIRS for k in range(4)])
    assert (got["n_units"], got["unit"]) == (8, "fold")
    assert got["estimate"] == pytest.approx(gaps.mean())
    t = gaps.mean() / np.sqrt((1 / 8 + 1 / 3) * gaps.var(ddof=1))
    assert got["p"] == pytest.approx(2 * stats.t.sf(abs(t), 7))


def test_one_fold_is_no_test():
    alone = [
        tuple(Side(View(s.view.pred, TARGET, 0 * FOLD, CLUSTER), CLUSTER, PERFORMER) for s in pair) for pair in PAIRS
    ]
    assert corrected_t(evidence(alone)) is None


def test_zou_is_of_the_dimensions_own_correlations():
    got = zou(evidence(PAIRS[:1]), 4)
    frame = pd.DataFrame({"a": PAIRS[0][0].view.pred[:, 4], "b": PAIRS[0][1].view.pred[:, 4], "t": TARGET[:, 4]})
    r = frame.corr()
    low, high = secondary.zou_interval(r.at["a", "t"], r.at["b", "t"], r.at["a", "b"], N)
    assert (got["ci_low"], got["ci_high"]) == (pytest.approx(low), pytest.approx(high))
    assert zou(evidence([(PAIRS[0][0], PAIRS[0][0])]), 4) is None, "a side is perfectly its own"


def test_repeats_may_test_other_clusters():
    """A holdout's repeats share only some clusters: each is resampled from the same draws of all."""
    first, second = (np.isin(CLUSTER, kept) for kept in (range(8), range(4, 12)))
    pairs = [
        tuple(
            Side(View(s.view.pred[rows], TARGET[rows], FOLD[rows], CLUSTER[rows]), CLUSTER[rows], PERFORMER[rows])
            for s in pair
        )
        for pair, rows in zip(PAIRS, (first, second), strict=True)
    ]
    found = cluster_bootstrap(Evidence(0.1, np.zeros(N), CLUSTER, PERFORMER, pairs, np.random.default_rng(1)))
    assert found["n_units"] == 12
    assert found["ci_low"] < found["ci_high"]
    few = [
        (pairs[0]),
        tuple(
            Side(View(s.view.pred[:12], TARGET[:12], FOLD[:12], CLUSTER[:12]), CLUSTER[:12], PERFORMER[:12])
            for s in PAIRS[1]
        ),
    ]
    nothing = Evidence(0.1, np.zeros(N), CLUSTER, PERFORMER, few, np.random.default_rng(1))
    assert cluster_bootstrap(nothing) is None


def test_every_row_says_what_its_test_could_find():
    """Each from a standard error of its own: at least about that of the t over clips, which share nothing here."""
    told = evidence(seed=2)
    rows = {name: test(told) for name, test in SECONDARY.items()} | {"zou_interval": zou(told, 0)}
    assert all(row["mde"] > 0 for row in rows.values())
    # One dimension of 19 that err independently: its interval is about sqrt(19) times as wide.
    assert rows["zou_interval"]["mde"] / rows["clip_t"]["mde"] == pytest.approx(np.sqrt(19), rel=0.3)
    for name in ("sign_flip_cluster", "sign_flip_performer", "cluster_bootstrap"):
        assert rows[name]["mde"] / rows["clip_t"]["mde"] == pytest.approx(1, abs=0.5), name


def detectable(se: float, df: float) -> float:
    """80 % power by the noncentral t, searched here."""
    critical = stats.t.ppf(0.975, df)
    return se * optimize.brentq(lambda nc: stats.nct.sf(critical, df, nc) - 0.8, 1, 9)


@pytest.mark.parametrize("unit", ["cluster", "performer"])
def test_the_detectable_effect_of_flips_is_that_of_their_spread(unit):
    """12 equal clusters, 8 equal performers. Sums of groups about the estimate, flipped 20,000 times."""
    told, groups = evidence(seed=4), {"cluster": CLUSTER, "performer": PERFORMER}[unit]
    sums = np.array([told.contributions[groups == g].sum() for g in np.unique(groups)])
    flips = np.random.default_rng(5).choice([-1, 1], (20_000, len(sums))) @ sums
    # A standard deviation from 20,000 draws errs by half a percent.
    want = detectable(flips.std(), len(sums) - 1)
    assert SECONDARY[f"sign_flip_{unit}"](told)["mde"] == pytest.approx(want, rel=0.02)


def test_the_detectable_effect_of_the_bootstrap_is_that_of_its_resamples(monkeypatch):
    monkeypatch.setattr(secondary, "N_RESAMPLES", 40)
    drawn = np.random.default_rng(3).integers(0, 12, (40, 12))
    rows = [np.concatenate([np.flatnonzero(k == CLUSTER) for k in one]) for one in drawn]
    values = [
        np.mean([pearson(a.view.pred[r], TARGET[r]) - pearson(b.view.pred[r], TARGET[r]) for a, b in PAIRS])
        for r in rows
    ]
    got = cluster_bootstrap(evidence(seed=3))["mde"]
    assert got == pytest.approx(detectable(np.std(values, ddof=1), 11), rel=1e-6)


def test_the_detectable_effect_of_zou_is_that_of_half_its_width():
    got = zou(evidence(PAIRS[:1]), 4)
    se = (got["ci_high"] - got["ci_low"]) / 2 / stats.norm.ppf(0.975)
    assert got["mde"] == pytest.approx(detectable(se, N - 3), rel=1e-6)
