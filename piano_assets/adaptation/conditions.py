"""What predictions of this room are stored under: `clean` is what comparisons are made of, the rest are its curves.

No torch here: results are computed where none is loaded.
"""

from piano_assets.dimensions import NAMES

SHOTS = (1, 2, 5, 10)
"""Sizes of the support: how many clips of a new performer are rated."""
MAIN = 5
"""The size that comparisons are made at, fixed before any result was seen."""

PREFIXES: dict[str, tuple[str, ...]] = {
    "touch": ("timing", "articulation", "pedal"),
    "sound": ("timbre", "dynamic"),
    "shaping": ("tempo", "space", "balance", "drama"),
    "mood": ("mood", "interpretation"),
}
"""Group -> first words of its dimensions' names, in the questionnaire's order."""
GROUPS: dict[str, tuple[int, ...]] = {
    group: tuple(i for i, name in enumerate(NAMES) if name.split("_")[0] in words) for group, words in PREFIXES.items()
}
"""Group of dimensions that are learnt together -> their positions in `NAMES`, in the order of learning."""

CLEAN, SUPPORT, STAGE = "clean", "support", "stage"


def of_support(k: int) -> str:
    """The condition of predictions from k rated clips; of the main size, `clean`."""
    return CLEAN if k == MAIN else f"{SUPPORT}:{k}"


def of_stage(n: int) -> str:
    """The condition of predictions after n groups of dimensions; after the last, `clean`."""
    return CLEAN if n == len(GROUPS) else f"{STAGE}:{n}"
