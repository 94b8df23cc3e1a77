"""Verdicts in plain words, by rule: what a test's difference, interval and corrected p value say, and no more."""

import math
import re
from dataclasses import dataclass

from piano_assets.statistics.clustered import ALPHA


@dataclass(frozen=True, kw_only=True)
class Difference:
    """An arm less its reference in mean r, by the primary test: the columns of the table `tests` of those names."""

    estimate: float
    ci_low: float
    ci_high: float
    p_holm: float
    p_tost: float
    margin: float
    mde: float
    verdict: str
    n_seeds: int


def number(x: float | None, digits: int = 3, sign: bool = False) -> str:
    """`.412`, `-.05`, `+.031`, `1.250`; empty where there is none."""
    if x is None or math.isnan(x):
        return ""
    return re.sub(r"^([+-]?)0\.", r"\1.", f"{x:{'+' if sign else ''}.{digits}f}")


def interval(low: float | None, high: float | None, digits: int = 3) -> str:
    """`[.012, .050]`; empty where either end is missing."""
    ends = number(low, digits), number(high, digits)
    return f"[{', '.join(ends)}]" if all(ends) else ""


def p_value(p: float) -> str:
    return "< .001" if p < 0.001 else number(p)


def plain_result(of: Difference) -> str:
    """The verdict, the difference with its interval, and what follows from the two.

    An inconclusive interval is said to hold whatever of these it holds, its ends included: no difference, and the
    margin on either side.
    """
    gap = f"{number(of.estimate, sign=True)} mean r {interval(of.ci_low, of.ci_high)}".strip()
    margin = number(of.margin)
    if of.verdict == "equivalent":
        return f"equivalent: {gap}, less than {margin} either way"
    if of.verdict in ("better", "worse"):
        return f"{of.verdict}: {gap}" + (f", yet by less than the margin of {margin}" if of.p_tost < ALPHA else "")
    detectable = f"; minimal detectable effect {number(of.mde)}" if number(of.mde) else ""
    return f"{of.verdict}: {gap} {_left_open(of)}{detectable}"


def _left_open(of: Difference) -> str:
    margin = number(of.margin)
    if not of.ci_low <= 0 <= of.ci_high:
        return f"excludes 0, but Holm's p is {p_value(of.p_holm)}"
    gain, loss = of.ci_high >= of.margin, of.ci_low <= -of.margin
    if gain and loss:
        return f"holds a gain and a loss of the margin, {margin}"
    if gain or loss:
        return f"holds both no difference and {'the margin' if gain else 'a loss of the margin'}, {margin}"
    return f"holds 0, not the margin, {margin}"
