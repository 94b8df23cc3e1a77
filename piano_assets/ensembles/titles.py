"""Titles of champions, and the rule by which they are held.

The rule by which champions are chosen, fixed before nested scores were looked at. For each kind of recording one
procedure holds the title, the first that is named in its comparison. Another takes its place when the comparison's
primary test finds it better on nested predictions, and the best of those if several are; being equivalent is not
enough. A title therefore changes by a verdict in the table `tests`, never by a higher number alone.
"""

from dataclasses import dataclass

import pandas as pd

from piano_assets.ensembles.procedures import PREFIX, PROCEDURES, Procedure, comparison


@dataclass(frozen=True, kw_only=True)
class Title:
    """What a champion hears, and the procedures that may hold the title, its first holder first."""

    hears: str
    procedures: tuple[str, ...]


def _title(hears: str, procedure: str) -> Title:
    return Title(hears=hears, procedures=(procedure, f"{procedure}_best", f"{procedure}_greedy"))


TITLES: dict[str, Title] = {
    "aligned": _title("notes, pedals and sound, beside the score's deadpan rendition", "listener"),
    "performance": _title("notes, pedals and sound, without a score", "performance_listener"),
    "recording": _title("notes and pedals that were transcribed from sound", "recording_listener"),
    "sound": _title("sound alone", "sound_listener"),
}
"""Champion -> who may be it. Adding one is one line."""

COMPARISONS = tuple(
    comparison(
        f"champion_{name}",
        "Weights by least squares are as good as any other way to put the candidates together.",
        *title.procedures,
    )
    for name, title in TITLES.items()
)
"""By their verdicts titles change."""


def holder(title: Title, tests: pd.DataFrame) -> str:
    """The procedure that holds a title, by the verdicts of the table `tests` (see above)."""
    first = f"{PREFIX}{title.procedures[0]}"
    better = tests[(tests["reference"] == first) & tests["is_primary"] & (tests["verdict"] == "better")]
    better = better[better["arm"].isin(title.procedures[1:])]
    if better.empty:
        return title.procedures[0]
    return str(better.sort_values("estimate", ascending=False)["arm"].iloc[0])


def procedure_of(title: Title, tests: pd.DataFrame) -> tuple[str, Procedure]:
    """The holder of a title and what it does."""
    name = holder(title, tests)
    return name, PROCEDURES[name]
