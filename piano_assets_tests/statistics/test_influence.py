"""Influence values against finite differences of independently written weighted metrics, and the jackknife."""

import numpy as np
import pytest

from piano_assets.metrics.regression import FLAT_METRICS, METRICS
from piano_assets.statistics.influence import FLAT_INFLUENCE, INFLUENCE

RNG = np.random.default_rng(11)
TARGET = RNG.normal(0.5, 0.1, (40, 3))
PRED = 0.6 * TARGET + RNG.normal(0.3, 0.08, (40, 3))
ALL_METRICS = METRICS | FLAT_METRICS
ALL_INFLUENCE = INFLUENCE | FLAT_INFLUENCE


def reweighted(metric, clip: int, copies: int, extra: int):
    """The metric with every clip present `copies` times and one `extra` times more: a weight of 1 + extra / copies."""
    times = np.full(len(PRED), copies)
    times[clip] += extra
    chosen = np.repeat(np.arange(len(PRED)), times)
    return np.asarray(metric(PRED[chosen], TARGET[chosen]))


@pytest.mark.parametrize("name", ALL_INFLUENCE)
def test_equals_the_derivative_by_weight(name):
    # Weight by repetition, so that the metric itself needs no weights. Central difference with step h = 1/1000 (one
    # copy more, and one less, of 1000): the error is of the order h^2 of the third derivative, relative to values ~1.
    n, copies = len(PRED), 1000
    got = ALL_INFLUENCE[name](PRED, TARGET)
    for clip in (0, 17, 39):
        up, down = (reweighted(ALL_METRICS[name], clip, copies, extra) for extra in (1, -1))
        np.testing.assert_allclose(got[clip], n * (up - down) / (2 / copies), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ALL_INFLUENCE)
def test_sums_to_zero(name):
    np.testing.assert_allclose(ALL_INFLUENCE[name](PRED, TARGET).sum(0), 0, atol=1e-10)


@pytest.mark.parametrize("name", ALL_INFLUENCE)
def test_agrees_with_the_jackknife(name):
    # Jackknife pseudo-values differ from influence values by O(1/n): 40 clips, so a correlation above .99 between them.
    metric, n = ALL_METRICS[name], len(PRED)
    without = np.array([metric(np.delete(PRED, i, 0), np.delete(TARGET, i, 0)) for i in range(n)])
    jackknife = (n - 1) * (np.asarray(metric(PRED, TARGET)) - without)
    got = ALL_INFLUENCE[name](PRED, TARGET)
    for a, b in zip(np.atleast_2d(jackknife.T), np.atleast_2d(got.T), strict=True):
        assert np.corrcoef(a, b)[0, 1] > 0.99


def test_centring_within_groups_needs_no_other_formula():
    group = np.repeat(np.arange(8), 5)

    def centred(x, groups):
        return x - np.stack([x[groups == g].mean(0) for g in groups])

    got = INFLUENCE["pearson"](centred(PRED, group), centred(TARGET, group))
    n, copies = len(PRED), 1000
    for clip in (3, 22):
        values = []
        for step in (1, -1):
            times = np.full(n, copies)
            times[clip] += step
            chosen = np.repeat(np.arange(n), times)
            g = group[chosen]
            means = {k: (PRED[chosen][g == k].mean(0), TARGET[chosen][g == k].mean(0)) for k in range(8)}
            p = PRED[chosen] - np.stack([means[k][0] for k in range(8)])[g]
            t = TARGET[chosen] - np.stack([means[k][1] for k in range(8)])[g]
            values.append(METRICS["pearson"](p, t))
        np.testing.assert_allclose(got[clip], n * (values[0] - values[1]) / (2 / copies), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["pearson", "ccc"])
def test_undefined_is_nan(name):
    constant = np.full((40, 3), 0.1)
    target = TARGET if name == "pearson" else constant
    assert np.isnan(INFLUENCE[name](constant, target)).all()


@pytest.mark.parametrize("name", ALL_INFLUENCE)
def test_refuses_incomplete_input(name):
    broken = TARGET.copy()
    broken[2, 1] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        ALL_INFLUENCE[name](PRED, broken)
    with pytest.raises(ValueError, match="n_clips >= 2"):
        ALL_INFLUENCE[name](PRED[:1], TARGET[:1])


def test_spearman_without_ties_is_the_formula_of_croux_and_dehon():
    """-3 rho - 9 + 12 (F G + E[G; P > p] + E[F; T > t]), written with plain sums; rho there is 12 E[F G] - 3."""
    n = len(PRED)
    f, g = (np.array([[(x[:, d] <= x[i, d]).mean() for d in range(3)] for i in range(n)]) for x in (PRED, TARGET))
    f, g = f - 0.5 / n, g - 0.5 / n
    carried = [
        np.array([[(b[:, d] * (x[:, d] >= x[i, d])).mean() - b[i, d] / 2 / n for d in range(3)] for i in range(n)])
        for x, b in ((PRED, g), (TARGET, f))
    ]
    rho = 12 * (f * g).mean(0) - 3
    want = -3 * rho - 9 + 12 * (f * g + carried[0] + carried[1])
    # A sample's F has the variance (1 - 1/n^2) / 12, not 1/12: the two differ by the order of 1/n^2.
    np.testing.assert_allclose(INFLUENCE["spearman"](PRED, TARGET), want, atol=10 / n**2)


def test_spearman_knows_ties():
    """Ratings are means of few answers: rounded to a tenth, the derivative by weight is still met."""
    pred, target = np.round(PRED, 1), np.round(TARGET, 1)
    got, copies = INFLUENCE["spearman"](pred, target), 1000
    for clip in (0, 17, 39):
        values = []
        for step in (1, -1):
            times = np.full(len(pred), copies)
            times[clip] += step
            chosen = np.repeat(np.arange(len(pred)), times)
            values.append(METRICS["spearman"](pred[chosen], target[chosen]))
        np.testing.assert_allclose(got[clip], len(pred) * (values[0] - values[1]) / (2 / copies), rtol=1e-4, atol=1e-6)


def test_constant_ranks_have_no_influence_values():
    assert np.isnan(INFLUENCE["spearman"](np.full((40, 3), 0.1), TARGET)).all()
