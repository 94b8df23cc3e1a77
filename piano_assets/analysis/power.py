"""Power before a sweep: which difference a comparison can find, told from pairs that were tested already.

The variance of a difference depends on how alike two models err: twins of one family differ by little, families by
much. So the pilot of an arm is a tested pair of its own comparison, else of the same kind elsewhere.
"""

import json
from collections.abc import Iterable

import numpy as np
import pandas as pd

from piano_assets.statistics import clustered

DIFFERENCES = (0.01, 0.02, 0.03, 0.05)
COLUMNS = ("arm", "pilot", "n_pairs", "mde", *(f"power_{d:g}" for d in DIFFERENCES))


def power_table(
    comparison: str,
    tests: pd.DataFrame,
    comparisons: pd.DataFrame,
    arms: pd.DataFrame,
    trials: pd.DataFrame,
    df: float,
) -> pd.DataFrame:
    """For each arm: the detectable difference in mean r (80 % power, 5 %), and the power at some differences.

    Args:
        tests, comparisons, arms, trials: the tables; of the tests the primary ones count.
        df: of the primary test on this corpus.

    Returns:
        A frame with `COLUMNS`: pilot says whose detectable difference was taken (the mean of its pairs, `together`);
        NULL where nothing of this kind was tested yet.
    """
    primary = tests[tests["is_primary"].astype(bool) & tests["mde"].notna()]
    told = trials.drop_duplicates("config").set_index("config")
    config = arms.set_index(["comparison", "arm"])["config"].to_dict()
    kinds = [_kind(told, config.get((t.comparison, t.arm)), t.reference) for t in primary.itertuples()]
    primary = primary.assign(kind=kinds)
    ours = arms[arms["comparison"] == comparison]
    reference = str(comparisons.set_index("comparison").at[comparison, "reference"])
    own = primary[primary["comparison"] == comparison]
    rows = []
    for arm in ours[~ours["is_reference"].astype(bool)].itertuples():
        kind = _kind(told, arm.config, reference)
        candidates = {
            "itself": own[own["arm"] == arm.arm],
            f"other arms of {comparison}": own[own["kind"] == kind],
            f"other pairs: {kind}": primary[primary["kind"] == kind],
        }
        pilot, pairs = next(((name, found) for name, found in candidates.items() if len(found)), (None, own.iloc[:0]))
        mde = together(pairs["mde"]) if len(pairs) else np.nan
        rows.append((arm.arm, pilot, len(pairs), mde, *powers(mde, df)))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def together(mdes: Iterable[float]) -> float:
    """What several pilots announce: their mean detectable difference.

    Planted, it is found as often as announced (docs/statistics.md). The root of the mean square is not: squares give
    much weight to the few pilots that erred far, and it is found 1 to 2 % more often.
    """
    return float(np.mean(list(mdes)))


def powers(mde: float, df: float, differences: Iterable[float] = DIFFERENCES) -> list[float]:
    """Probability of finding each difference, where `mde` is found with 80 %: noncentral t; NaN without a pilot."""
    from scipy.stats import nct
    from scipy.stats import t as student

    if not np.isfinite(mde):
        return [np.nan for _ in differences]
    se = mde / clustered.minimal_detectable_effect(1.0, df)
    critical = student.ppf(1 - clustered.ALPHA / 2, df)
    return [float(nct.sf(critical, df, d / se) + nct.cdf(-critical, df, d / se)) for d in differences]


def _kind(trials: pd.DataFrame, arm: str | None, reference: str) -> str:
    """What two models have in common: family and budget, one of them, or neither."""
    sides = [trials.loc[c] for c in (arm, reference) if c in trials.index]
    if len(sides) < 2:
        return "unknown"
    a, b = sides
    neural = ["network" if json.loads(side["trial_json"])["optimisation"] else "tabular" for side in sides]
    if a["family"] == b["family"]:
        return f"two of family {a['family']}, {a['budget']}"
    return f"{' and '.join(sorted(neural))} of two families"
