"""Recipes of ensembles, as data: what is combined, never retrained. Adding a recipe is one line."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """An ensemble: its members' configs (all on one split, with one label rule) and how they are combined."""

    members: tuple[str, ...]
    description: str
    combine: str = "mean"


RECIPES: dict[str, Recipe] = {
    "mean_audio_only": Recipe(
        members=("audio_only.rich_relevance", "audio_only.rich_extra_trees", "audio_only.rich_gradient_boosting"),
        description="Plain mean of a kernel machine, randomised trees and boosting on sound without notes.",
    ),
    "mean_of_families": Recipe(
        members=("family.kernel_ridge", "family.extra_trees", "family.gradient_boosting"),
        description="Plain mean of a kernel machine, randomised trees and boosting on the same note-level features.",
    ),
}
