"""Comparisons of what is made from trials, of all rooms that own such subjects; adding a room's is one line."""

from piano_assets.adaptation.comparisons import COMPARISONS as ADAPTATION
from piano_assets.catalogue.derived import Derived
from piano_assets.ensembles import recipes, titles

DERIVED: tuple[Derived, ...] = (recipes.COMPARISON, *titles.COMPARISONS, *ADAPTATION)
BY_NAME: dict[str, Derived] = {of.name: of for of in DERIVED}
