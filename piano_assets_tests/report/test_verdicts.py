"""Verdicts say what difference, interval and corrected p value say, at the boundaries too."""

import numpy as np
import pytest

from piano_assets.report.verdicts import Difference, interval, number, plain_result


def difference(low: float, high: float, verdict: str = "inconclusive", **more) -> Difference:
    told = {"estimate": (low + high) / 2, "ci_low": low, "ci_high": high, "p_holm": 0.08, "p_tost": 0.5}
    return Difference(**(told | {"margin": 0.02, "mde": 0.03, "verdict": verdict, "n_seeds": 5} | more))


@pytest.mark.parametrize(
    ("low", "high", "says"),
    [
        (-0.01, 0.04, "holds both no difference and the margin, .020"),
        (-0.01, 0.02, "holds both no difference and the margin, .020"),  # the end itself is held
        (-0.01, 0.0199, "holds 0, not the margin, .020"),
        (-0.02, 0.01, "holds both no difference and a loss of the margin, .020"),
        (-0.02, 0.02, "holds a gain and a loss of the margin, .020"),
        (0.0, 0.04, "holds both no difference and the margin, .020"),
        (0.0001, 0.04, "excludes 0, but Holm's p is .080"),
        (-0.04, -0.0001, "excludes 0, but Holm's p is .080"),
    ],
)
def test_an_inconclusive_interval_is_said_to_hold_what_it_holds(low, high, says):
    sentence = plain_result(difference(low, high))
    assert sentence.startswith("inconclusive: ")
    assert sentence.endswith(f"] {says}; minimal detectable effect .030")


def test_sentences_of_the_other_verdicts():
    assert plain_result(difference(0.012, 0.05, "better")) == "better: +.031 mean r [.012, .050]"
    assert plain_result(difference(-0.05, -0.012, "worse")) == "worse: -.031 mean r [-.050, -.012]"
    near = "better: +.010 mean r [.004, .016], yet by less than the margin of .020"
    assert plain_result(difference(0.004, 0.016, "better", p_tost=0.049)) == near
    assert "margin" not in plain_result(difference(0.004, 0.016, "better", p_tost=0.05))
    same = "equivalent: +.002 mean r [-.006, .010], less than .020 either way"
    assert plain_result(difference(-0.006, 0.01, "equivalent", p_tost=0.001)) == same
    assert plain_result(difference(-0.01, 0.04, mde=np.nan)).endswith("margin, .020")


@pytest.mark.parametrize(
    ("x", "text"), [(0.4124, ".412"), (-0.05, "-.050"), (1.25, "1.250"), (-10.5, "-10.500"), (None, ""), (np.nan, "")]
)
def test_numbers_are_short(x, text):
    assert number(x) == text


def test_half_an_interval_is_none():
    assert interval(0.1, np.nan) == interval(None, 0.2) == ""
    assert interval(-0.1, 0.2, 2) == "[-.10, .20]"
