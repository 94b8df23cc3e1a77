"""Comparisons of what is made from trials, of all rooms that own such subjects; adding a room's is one line."""

from piano_assets.catalogue.derived import Derived

DERIVED: tuple[Derived, ...] = ()
BY_NAME: dict[str, Derived] = {of.name: of for of in DERIVED}
