"""Recipes of ensembles, as data: what is combined, never retrained. Adding a recipe is one line."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from piano_assets.catalogue.derived import Derived
from piano_assets.catalogue.ensembles import N_MEMBERS
from piano_assets.ensembles.combine import mean_of_members
from piano_assets.ensembles.procedures import PROCEDURES
from piano_assets.ensembles.weighted import weighted_members
from piano_assets.ensembles.weights import WEIGHTS

PREFIX = "ensemble."
"""Subjects of recipes are named with it."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An ensemble: its members' configs (all on one split, with one label rule) and how they are combined.

    Attributes:
        combine: `mean`, or a key of `weights.WEIGHTS`, which needs members with inner folds.
        split: under which the result stands, where members' folds are also those of that split; default: the members'.
        seeds: at most so many repeats; default: all that every member has.
    """

    members: tuple[str, ...]
    description: str
    combine: str = "mean"
    split: str = ""
    seeds: int | None = None

    def __post_init__(self) -> None:
        if self.combine not in ("mean", *WEIGHTS):
            raise ValueError(f"combine={self.combine!r} must be one of {('mean', *WEIGHTS)}")


_FAMILIES = tuple(f"mixed_members.{name}" for name in ("ridge", "kernel_ridge", "extra_trees", "gradient_boosting"))
_STACKED = (*_FAMILIES, "mlp_nested.reference")
_MIXED = (*_STACKED, "mixed_members.mlp_wide_transposed", "mixed_members.mlp_all")

E1: dict[str, Recipe] = {
    "deep_ensemble": Recipe(
        members=("mlp.reference", *(f"ensemble_members.replicate_{k}" for k in range(1, N_MEMBERS))),
        description="Five starts of one network on the same folds (Lakshminarayanan et al. 2017).",
    ),
    "bagging": Recipe(
        members=tuple(f"ensemble_members.resample_{k}" for k in range(1, N_MEMBERS + 1)),
        description="One start on five bootstrap resamples of the training clips (Breiman 1996).",
    ),
    "boosting": Recipe(
        members=("ensemble_members.boosting",),
        description="Five networks in a row, each on half of what those before leave over (Friedman 2001).",
    ),
    "snapshot": Recipe(
        members=("ensemble_members.snapshot",),
        description="One network at the ends of five cosine cycles (Huang et al. 2017).",
    ),
    "test_time_augmentation": Recipe(
        members=("ensemble_members.views",),
        description="One network, the clip transposed by -2 to 2 semitones.",
    ),
    "test_time_augmentation_trained": Recipe(
        members=("ensemble_members.transposed_views",),
        description="The same of a network that learnt from transposed clips too.",
    ),
    "stacking": Recipe(
        members=_STACKED,
        combine="stacking",
        split="cluster",
        description="Five families, non-negative weights for each dimension from inner predictions.",
    ),
    "stacking_shared": Recipe(
        members=_STACKED,
        combine="stacking_shared",
        split="cluster",
        description="The same with one weight a family for all dimensions.",
    ),
    "mixed": Recipe(
        members=_MIXED,
        split="cluster",
        description="Seven models that differ in family, start, width, features and augmentation: plain mean.",
    ),
    "mixed_greedy": Recipe(
        members=_MIXED,
        combine="greedy",
        split="cluster",
        description="The same, selected greedily with replacement by inner predictions (Caruana et al. 2004).",
    ),
}
"""The arms of the comparison `ensemble`."""

_CHAMPION = PROCEDURES["listener"]
_LITERATURE = ("excerpt", "percepiano_performer", "performer", "founding", "performer_clean")

LISTENERS: dict[str, Recipe] = {
    "listener": Recipe(
        members=_CHAMPION.candidates,
        combine=_CHAMPION.rule,
        split="cluster",
        description="The champion's procedure: four models of notes, music and sound, weighted on inner folds.",
    ),
    "listener_mean": Recipe(
        members=("listener.reference", "ingredient.gradient_boosting", "ingredient.extra_trees"),
        description="Three families on notes, music and sound: plain mean.",
    ),
    **{
        f"listener_{split}": Recipe(
            members=(f"literature.{split}_listener", f"literature.{split}_boosting"),
            description=f"Kernel ridge with relevance and boosting on split {split}: plain mean.",
        )
        for split in _LITERATURE
    },
}
"""The best listener on each protocol."""

RECIPES: dict[str, Recipe] = {
    "mean_audio_only": Recipe(
        members=("audio_only.rich_relevance", "audio_only.rich_extra_trees", "audio_only.rich_gradient_boosting"),
        description="Plain mean of a kernel machine, randomised trees and boosting on sound without notes.",
    ),
    "mean_of_families": Recipe(
        members=("family.kernel_ridge", "family.extra_trees", "family.gradient_boosting"),
        description="Plain mean of a kernel machine, randomised trees and boosting on the same note-level features.",
    ),
    **E1,
    **LISTENERS,
}

COMPARISON = Derived(
    name="ensemble",
    hypothesis="Several models together hear more than one: by .02 to .04 in mean r, the more the less they are alike.",
    reference="mlp.reference",
    arms={"single": "mlp.reference", **{name: f"{PREFIX}{name}" for name in E1}},
    about={
        "single": {},
        **{name: {"combine": r.combine, "members": list(r.members)} for name, r in E1.items()},
    },
    configs=tuple(dict.fromkeys(("mlp.reference", *(m for r in E1.values() for m in r.members)))),
    split="cluster",
    budget_note="From stored predictions; what the members take stands with them. Five seeds, each with its repeat.",
)


def combined(
    name: str, recipe: Recipe, members: Mapping[str, pd.DataFrame], labels: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What a recipe makes of its members' rows of `predictions`: tables `predictions` and `ensemble_weights`.

    Raises:
        EnsembleError: members that cannot be combined.
    """
    if recipe.seeds is not None:
        members = {config: rows[rows["repeat"] < recipe.seeds] for config, rows in members.items()}
    if recipe.combine == "mean":
        return mean_of_members(name, members, recipe.split)
    return weighted_members(name, recipe.combine, members, labels, recipe.split)
