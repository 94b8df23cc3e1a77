"""The stability index against a hand computation, its own law by simulation, and scipy's divergence."""

import numpy as np
import pytest
from scipy.special import rel_entr
from scipy.stats import ks_2samp

from piano_assets.statistics.drift import chance_psi, kolmogorov_smirnov, psi


def test_by_hand():
    """Two bins at the median 4.5 of 0..9: 5 and 5 of 10; of the other sample 1 and 3 of 4."""
    p, q = np.array([5.5, 5.5]) / 11, np.array([1.5, 3.5]) / 5
    wanted = ((p - q) * np.log(p / q)).sum()
    assert psi(np.arange(10.0), np.array([1.0, 6, 7, 30]), bins=2) == pytest.approx(wanted)
    assert wanted == pytest.approx(rel_entr(p, q).sum() + rel_entr(q, p).sum())


def test_equal_samples_have_none_and_an_empty_bin_is_finite():
    values = np.random.default_rng(0).normal(size=400)
    assert psi(values, values) == 0
    assert 2 < psi(values, values + 10) < 20
    assert psi(np.zeros(50), np.zeros(50)) == 0


def test_by_chance_one_in_twenty_is_exceeded():
    """Of 2,000 pairs of one law: a share of .05 +- .015 (three standard errors) and the tail's bias at n = 100."""
    rng = np.random.default_rng(1)
    found = np.array([psi(rng.normal(size=1000), rng.normal(size=100)) for _ in range(2000)])
    assert np.mean(found > chance_psi(1000, 100)) == pytest.approx(0.05, abs=0.02)


def test_the_distance_is_scipys():
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=300), rng.normal(0.4, size=40)
    assert kolmogorov_smirnov(a, b) == pytest.approx(tuple(ks_2samp(a, b)))


@pytest.mark.parametrize("bad", [np.array([]), np.array([1.0, np.nan])])
def test_samples_without_values_are_refused(bad):
    with pytest.raises(ValueError, match="observed must hold values, none of them NaN"):
        psi(np.arange(10.0), bad)
