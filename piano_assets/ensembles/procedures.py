"""Procedures that choose among trials, scored by nested cross-validation from stored predictions alone.

In each outer fold a procedure sees what its candidates predicted of the inner folds, and the labels of those clips; it
chooses, and the chosen candidate's predictions of the outer test clips become its own. Labels of outer test clips
enter no choice of their fold, so that the score is that of the whole procedure, its choices among it (Varma and Simon
2006, BMC Bioinformatics 7:91; Cawley and Talbot 2010, JMLR 11:2079). The best of the candidates' own outer scores is
not such a number: the more candidates, the higher it comes out, even on noise.

The choice may differ from fold to fold: the score belongs to the procedure, not to any config. Adding a procedure is
one line.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from piano_assets.ensembles.combine import EnsembleError
from piano_assets.ensembles.inner import folds_of, long
from piano_assets.metrics.regression import pearson
from piano_assets.schemas import TABLES

PREFIX = "procedure."
"""Subjects of procedures are named with it."""


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """A choice: its candidates' configs (all on one split with inner folds, with one label rule) and its rule."""

    candidates: tuple[str, ...]
    description: str
    rule: str = "best_inner_r"


def best_inner_r(inner: Mapping[str, np.ndarray], target: np.ndarray) -> str:
    """The candidate with the highest r over pooled inner predictions, mean over dimensions; the first among equals.

    Args:
        inner: candidate -> (n_clips, 19). target: (n_clips, 19), without NaN. An undefined r (constant predictions)
            counts as 0.
    """
    return max(inner, key=lambda name: np.nan_to_num(pearson(inner[name], target)).mean())


RULES: dict[str, Callable[[Mapping[str, np.ndarray], np.ndarray], str]] = {"best_inner_r": best_inner_r}
"""Rules by which one of the candidates is chosen in an outer fold."""

PROCEDURES: dict[str, Procedure] = {
    "best_family": Procedure(
        candidates=(
            "procedure.reference",
            "procedure.ridge",
            "procedure.kernel_ridge",
            "procedure.extra_trees",
            "procedure.gradient_boosting",
        ),
        description="The family of tabular models, each with its search, that predicts the inner folds best.",
    ),
}


def run_procedure(
    name: str, procedure: Procedure, candidates: Mapping[str, pd.DataFrame], labels: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose in every outer fold and take the chosen candidate's test predictions.

    Each candidate's `tuned` predictions are taken where it has any, else its `fixed` ones. Only repeats that every
    candidate has enter.

    Args:
        candidates: config -> rows of the table `predictions` of all its seeds.
        labels: rows of the table `labels` under the candidates' rule.
    Returns:
        Tables `predictions` (subject `procedure.<name>`, tuning `tuned`) and `ensemble_weights` (weight 1 for the
        chosen).
    Raises:
        EnsembleError: fewer than two candidates or others than declared, an unknown rule, different splits, no repeat
            in common, labels of several rules, no inner predictions, different clips, or inner predictions of clips
            that the outer fold tests.
    """
    subject = f"{PREFIX}{name}"
    if procedure.rule not in RULES:
        raise EnsembleError(f"{subject}: rule={procedure.rule!r} must be one of {tuple(RULES)}")
    if len(candidates) < 2 or set(candidates) != set(procedure.candidates):
        raise EnsembleError(f"{subject} chooses among {procedure.candidates}, at least two (has {tuple(candidates)})")
    split, folds = folds_of(subject, {config: candidates[config] for config in procedure.candidates}, labels)
    taken, chosen = [], []
    for fold in folds:
        choice = RULES[procedure.rule](fold.seen, fold.target)
        chosen.append((fold.repeat, fold.fold, choice))
        taken.append(long(fold.tested[choice]).assign(repeat=fold.repeat, fold=fold.fold))
    predictions = pd.concat(taken, ignore_index=True).assign(
        subject=subject, split=split, inner_fold=None, role="test", condition="clean", tuning="tuned", std=np.nan
    )
    weights = pd.DataFrame(chosen, columns=["repeat", "fold", "member"]).assign(
        ensemble=subject, split=split, dimension="mean", weight=1.0
    )
    columns = list(TABLES["predictions"].columns), list(TABLES["ensemble_weights"].columns)
    return predictions[columns[0]].astype({"value": "float32", "std": "float32"}), weights[columns[1]]
