"""Corrected p values against statsmodels and by hand."""

import numpy as np
import pytest

from piano_assets.statistics.multiplicity import corrected

NAMES = {"p_holm": "holm", "p_bonferroni": "bonferroni", "p_bh": "fdr_bh"}


@pytest.mark.parametrize("n", [1, 2, 7, 30])
def test_agrees_with_statsmodels(n):
    from statsmodels.stats.multitest import multipletests

    p = np.random.default_rng(n).random(n) ** 3
    p[: n // 3] = p[0]  # ties
    got = corrected(p)
    assert set(got) == set(NAMES)
    for column, method in NAMES.items():
        np.testing.assert_allclose(got[column], multipletests(p, method=method)[1], rtol=1e-12)


def test_by_hand():
    got = corrected(np.array([0.01, 0.04, 0.03]))
    np.testing.assert_allclose(got["p_bonferroni"], [0.03, 0.12, 0.09], rtol=1e-12)
    np.testing.assert_allclose(got["p_holm"], [0.03, 0.06, 0.06], rtol=1e-12)
    np.testing.assert_allclose(got["p_bh"], [0.03, 0.04, 0.04], rtol=1e-12)


@pytest.mark.parametrize("p", [[0.5, np.nan], [], [1.2]])
def test_refuses_what_is_no_family(p):
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        corrected(np.array(p))
