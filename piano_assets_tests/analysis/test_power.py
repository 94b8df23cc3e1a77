"""Power against statsmodels, limits, and the choice of a pilot."""

import json

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.power import TTestPower

from piano_assets.analysis.power import DIFFERENCES, power_table, powers
from piano_assets.statistics.clustered import minimal_detectable_effect


def test_the_detectable_difference_is_found_with_80_percent():
    assert powers(0.03, 20.3, [0.03, 0.0, 1.0]) == [pytest.approx(0.8, abs=1e-6), pytest.approx(0.05), pytest.approx(1)]


def test_power_is_statsmodels():
    """A paired t with n = 25: effect sizes are differences over se times sqrt(n)."""
    n, se = 25, 0.01
    want = [TTestPower().power(d / (se * np.sqrt(n)), n, 0.05) for d in DIFFERENCES]
    np.testing.assert_allclose(powers(minimal_detectable_effect(se, n - 1), n - 1), want, rtol=1e-6)


def told(config: str, family: str, neural: bool, budget: str = "full") -> dict:
    return {
        "config": config,
        "family": family,
        "budget": budget,
        "trial_json": json.dumps({"optimisation": {"loss": "mse"} if neural else None}),
    }


TRIALS = pd.DataFrame(
    [
        told("ast.reference", "ast", True),
        told("loss.huber", "ast", True),
        told("loss.ranking", "ast", True),
        told("schedule.step", "ast", True),
        told("family.reference", "random_forest", False),
        told("family.ridge", "ridge", False),
        told("notes", "note_transformer", True),
    ]
)
ARMS = pd.DataFrame(
    [
        ("loss", "mse", "ast.reference", True),
        ("loss", "huber", "loss.huber", False),
        ("loss", "ranking", "loss.ranking", False),
        ("schedule", "warmup", "ast.reference", True),
        ("schedule", "step", "schedule.step", False),
        ("family", "forest", "family.reference", True),
        ("family", "ridge", "family.ridge", False),
        ("family", "notes", "notes", False),
    ],
    columns=["comparison", "arm", "config", "is_reference"],
)


COMPARISONS = ARMS[ARMS["is_reference"]].rename(columns={"config": "reference"})[["comparison", "reference"]]
CATALOGUE = COMPARISONS, ARMS, TRIALS


def results_of(*rows: tuple[str, str, str, float]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=["comparison", "arm", "reference", "mde"])
    return frame.assign(is_primary=True)


def test_the_nearest_pilot_is_taken():
    tests = results_of(("loss", "huber", "ast.reference", 0.01), ("family", "ridge", "family.reference", 0.04))
    loss = power_table("loss", tests, *CATALOGUE, 20).set_index("arm")
    assert loss["pilot"].to_dict() == {"huber": "itself", "ranking": "other arms of loss"}
    schedule = power_table("schedule", tests, *CATALOGUE, 20).set_index("arm")
    assert schedule.loc["step", ["pilot", "mde"]].tolist() == ["other pairs: two of family ast, full", 0.01]
    family = power_table("family", tests, *CATALOGUE, 20).set_index("arm")
    assert family.at["ridge", "pilot"] == "itself"
    assert family.loc["notes", ["pilot", "mde", "power_0.02"]].isna().all()


def test_several_pairs_give_their_mean_and_secondary_tests_none():
    tests = results_of(*(("loss", arm, "ast.reference", m) for arm, m in (("huber", 0.01), ("ranking", 0.04))))
    other = tests.assign(is_primary=False, mde=9.0)
    found = power_table("schedule", pd.concat([tests, other]), *CATALOGUE, 20)
    assert found.loc[0, ["n_pairs", "mde"]].tolist() == [2, pytest.approx(0.025)]
