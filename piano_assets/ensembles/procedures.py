"""Procedures that choose or weight trials, scored by nested cross-validation from stored predictions alone.

In each outer fold a procedure sees what its candidates predicted of the inner folds, and the labels of those clips; it
chooses or weights, and the candidates' predictions of the outer test clips, so weighted, become its own. Labels of
outer test clips enter no choice of their fold, so that the score is that of the whole procedure, its choices among it
(Varma and Simon 2006, BMC Bioinformatics 7:91; Cawley and Talbot 2010, JMLR 11:2079). The best of the candidates' own
outer scores is not such a number: the more candidates, the higher it comes out, even on noise.

The choice may differ from fold to fold: the score belongs to the procedure, not to any config. A champion is what a
procedure makes of all clips (`training.champion`). Adding a procedure is one line.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from piano_assets.catalogue.derived import Derived
from piano_assets.ensembles.combine import EnsembleError
from piano_assets.ensembles.weighted import weighted_members
from piano_assets.ensembles.weights import WEIGHTS

PREFIX = "procedure."
"""Subjects of procedures are named with it."""


@dataclass(frozen=True, kw_only=True)
class Procedure:
    """Candidates' configs, all on one split with inner folds and with one label rule, and how they are weighted.

    rule: key of `weights.WEIGHTS`.
    """

    candidates: tuple[str, ...]
    description: str
    rule: str = "best_inner_r"


def _mixed(name: str, hears: str, candidates: tuple[str, ...]) -> dict[str, Procedure]:
    """The ways to put one set of candidates together that may hold a title, its first holder first."""
    return {
        name: Procedure(
            candidates=candidates,
            rule="stacking_shared",
            description=f"Models of {hears}, each with its search, weighted by non-negative least squares on the inner "
            "folds.",
        ),
        f"{name}_best": Procedure(
            candidates=candidates, description=f"That model of {hears} which predicts the inner folds best."
        ),
        f"{name}_greedy": Procedure(
            candidates=candidates,
            rule="greedy",
            description=f"Models of {hears}, selected greedily with replacement on the inner folds.",
        ),
    }


def _candidates(comparison: str, *arms: str) -> tuple[str, ...]:
    return tuple(f"{comparison}.{arm}" for arm in ("reference", *arms))


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
    **_mixed(
        "listener",
        "notes beside their score, music and sound",
        _candidates("candidate", "unbiased", "gradient_boosting", "extra_trees"),
    ),
    **_mixed(
        "performance_listener",
        "notes, music and sound",
        _candidates("candidate_performance", "unbiased", "gradient_boosting", "extra_trees"),
    ),
    **_mixed(
        "recording_listener",
        "notes and pedals as a transcriber hears them",
        _candidates("candidate_recording", "unbiased", "gradient_boosting", "extra_trees"),
    ),
    **_mixed("sound_listener", "sound", _candidates("candidate_sound", "gradient_boosting", "extra_trees")),
}


def comparison(name: str, hypothesis: str, reference: str, *challengers: str) -> Derived:
    """Procedures on one split against the one that is named first."""
    of = {one: PROCEDURES[one] for one in (reference, *challengers)}
    return Derived(
        name=name,
        hypothesis=hypothesis,
        reference=f"{PREFIX}{reference}",
        arms={one: f"{PREFIX}{one}" for one in of},
        about={one: {"rule": p.rule, "candidates": list(p.candidates)} for one, p in of.items()},
        configs=tuple(dict.fromkeys(c for p in of.values() for c in p.candidates)),
        split="nested",
        budget_note="From stored predictions of what the procedures choose among.",
    )


def run_procedure(
    name: str, procedure: Procedure, candidates: Mapping[str, pd.DataFrame], labels: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Choose or weight in every outer fold, and put the candidates' test predictions together.

    Each candidate's `tuned` predictions are taken where it has any, else its `fixed` ones. Only repeats that every
    candidate has enter.

    Args:
        candidates: config -> rows of the table `predictions` of all its seeds.
        labels: rows of the table `labels` under the candidates' rule.
    Returns:
        Tables `predictions` (subject `procedure.<name>`, tuning `tuned`) and `ensemble_weights`.
    Raises:
        EnsembleError: fewer than two candidates or others than declared, an unknown rule, different splits, no repeat
            in common, labels of several rules, no inner predictions, different clips, or inner predictions of clips
            that the outer fold tests.
    """
    subject = f"{PREFIX}{name}"
    if procedure.rule not in WEIGHTS:
        raise EnsembleError(f"{subject}: rule={procedure.rule!r} must be one of {tuple(WEIGHTS)}")
    if len(candidates) < 2 or set(candidates) != set(procedure.candidates):
        raise EnsembleError(f"{subject} chooses among {procedure.candidates}, at least two (has {tuple(candidates)})")
    ordered = {config: candidates[config] for config in procedure.candidates}
    predictions, weights = weighted_members(subject, procedure.rule, ordered, labels)
    return predictions.assign(tuning="tuned"), weights
