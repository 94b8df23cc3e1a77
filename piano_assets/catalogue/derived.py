"""Comparisons of whatever has predictions: trials, and what is made from trials, as ensembles and adapted models.

The rooms that own such subjects list their comparisons; here stands what one is, and how it looks in the tables.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from piano_assets.schemas import MARGINS, TABLES


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A hypothesis, the subject that it starts from, and named subjects; all of them on one split with one label rule.

    Attributes:
        reference: a subject: a config (its trials' seeds together), `ensemble.<recipe>`, `adaptation.<method>`.
        arms: name -> subject.
        about: name of the arm -> what it is, field by field, in values that JSON has.
        configs: the trials that must be trained before the subjects can be made.
        needs_gpu: those of them that a CPU trains only where each is named itself.
        budget_note: what it takes, in a sentence.
        margin: of equivalence in mean r.

    Raises:
        ValueError: an arm that is told of and does not exist, or one that is not told of.
    """

    name: str
    hypothesis: str
    reference: str
    arms: Mapping[str, str]
    about: Mapping[str, Mapping[str, Any]]
    configs: tuple[str, ...]
    split: str
    label_rule: str = "clean"
    needs_gpu: frozenset[str] = field(default_factory=frozenset)
    budget_note: str = ""
    margin: float = MARGINS["pearson_mean"]

    def __post_init__(self) -> None:
        untold = sorted(set(self.arms) ^ set(self.about))
        if untold:
            raise ValueError(f"{self.name}: each arm must be told of, and no other (differing: {untold})")


def derived_comparison_table(of: Iterable[Derived]) -> pd.DataFrame:
    """Rows of the table `comparisons`."""
    rows = [
        {
            "comparison": one.name,
            "hypothesis": one.hypothesis,
            "reference": one.reference,
            "budget": "full",
            "search": "{}",
            "margin": one.margin,
            "tested": True,
            "budget_note": one.budget_note,
            "split": one.split,
            "rule": one.label_rule,
        }
        for one in of
    ]
    return pd.DataFrame(rows, columns=list(TABLES["comparisons"].columns))


def derived_arm_table(of: Iterable[Derived]) -> pd.DataFrame:
    """Rows of the table `arms`; what an arm is stands where others have their changed fields, against nothing."""
    rows = [
        {
            "comparison": one.name,
            "arm": arm,
            "config": subject,
            "trial": None,
            "is_reference": subject == one.reference,
            "changed_fields": json.dumps({k: [v, None] for k, v in one.about[arm].items()}, sort_keys=True),
            "label_changing": False,
            "claimed_params": None,
        }
        for one in of
        for arm, subject in one.arms.items()
    ]
    return pd.DataFrame(rows, columns=list(TABLES["arms"].columns)).astype({"claimed_params": "Int64"})
