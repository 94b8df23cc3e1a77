"""Comparisons of what is made from trials, and how they stand in the tables."""

import json

import pytest

from piano_assets.catalogue.derived import Derived, derived_arm_table, derived_comparison_table
from piano_assets.schemas import MARGINS, TABLES

TOLD = {
    "name": "mixture",
    "hypothesis": "Two hear more than one.",
    "reference": "family.ridge",
    "arms": {"alone": "family.ridge", "both": "ensemble.both"},
    "about": {"alone": {}, "both": {"members": ["family.ridge", "family.extra_trees"], "combine": "mean"}},
    "configs": ("family.ridge", "family.extra_trees"),
    "split": "cluster",
    "budget_note": "Minutes.",
}


def test_its_rows_keep_the_declarations_and_say_the_protocol_and_the_recipe():
    of = Derived(**TOLD)
    comparisons, arms = derived_comparison_table([of]), derived_arm_table([of])
    assert TABLES["comparisons"].conform(comparisons).num_rows == 1
    assert TABLES["arms"].conform(arms).num_rows == 2
    row = comparisons.iloc[0]
    assert (row["split"], row["rule"], row["reference"], row["margin"]) == (
        "cluster", "clean", "family.ridge", MARGINS["pearson_mean"])  # fmt: skip
    by_arm = arms.set_index("arm")
    assert by_arm["is_reference"].to_dict() == {"alone": True, "both": False}
    assert by_arm["config"].to_dict() == TOLD["arms"]
    assert by_arm["trial"].isna().all()
    assert json.loads(by_arm.at["both", "changed_fields"]) == {
        "combine": ["mean", None],
        "members": [["family.ridge", "family.extra_trees"], None],
    }


@pytest.mark.parametrize("about", [{"alone": {}}, {"alone": {}, "both": {}, "third": {}}])
def test_an_arm_that_is_not_told_of_or_does_not_exist_is_refused(about):
    with pytest.raises(ValueError, match=r"mixture: each arm must be told of.*(both|third)"):
        Derived(**TOLD | {"about": about})
