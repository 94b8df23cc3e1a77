"""What a file name of PercePiano says: the music, its length, and who plays.

The dataset's README gives player and segment in the wrong order; the file names follow
`[composer]_[work](_[movement])_[n]bars_[player]_[segment]`, which pitch histograms of the notes confirm.
"""

import re
from dataclasses import dataclass

COMPOSERS: dict[str, str] = {"WoO80": "Beethoven", "D935_no.3": "Schubert", "D960": "Schubert"}
"""Who wrote each work, by the work's name in the files."""

DEADPAN_PLAYERS = ("Score", "Score2")
"""Player ids of the renditions by notation software."""

_NAME = re.compile(
    r"\s*(?P<composer>Beethoven|Schubert)_(?P<work>WoO80|D935_no\.3|D960)"
    r"(?:_(?P<movement>thema|var\d+|mv[23]))?"
    r"_(?P<bars>4|8|16)bars_(?P<player>Score2?|\d{1,2})_(?P<segment>\d{1,2})(?:\.(?:mid|wav|musicxml))?\s*",
    re.ASCII,
)


class ClipNameError(ValueError):
    """A name that does not follow PercePiano's pattern; `rule` and `value` go to the quarantine table."""

    def __init__(self, name: str, rule: str) -> None:
        super().__init__(f"{name!r}: {rule}")
        self.rule, self.value = rule, name


@dataclass(frozen=True, order=True)
class ClipName:
    """The parts of a clip's name. Numbers carry no leading zeros here; `clip` restores those of D960."""

    composer: str
    work: str
    movement: str | None
    bars: int
    segment: int
    player: str

    @property
    def clip(self) -> str:
        """The canonical file stem: no surrounding space, segments of D960 with two digits, other numbers bare."""
        return f"{self.composer}_{self._music}_{self.player}_{self._segment}"

    @property
    def excerpt(self) -> str:
        """The music that is played: work, movement, bars and segment."""
        return f"{self._music}_{self._segment}"

    @property
    def performer(self) -> str:
        """Work and player: an id names a person only within a work."""
        return f"{self.work}_{self.player}"

    @property
    def deadpan(self) -> bool:
        """A rendition by notation software, not by a person."""
        return self.player in DEADPAN_PLAYERS

    @property
    def _music(self) -> str:
        movement = "" if self.movement is None else f"_{self.movement}"
        return f"{self.work}{movement}_{self.bars}bars"

    @property
    def _segment(self) -> str:
        return f"{self.segment:02d}" if self.work == "D960" else str(self.segment)


def parse_name(stem: str) -> ClipName:
    """Read a file name, with or without its extension; surrounding spaces and leading zeros do not matter.

    >>> parse_name(" Schubert_D935_no.3_4bars_2_1.mid").clip
    'Schubert_D935_no.3_4bars_2_1'
    >>> parse_name("Schubert_D960_mv3_8bars_9_4.wav").excerpt
    'D960_mv3_8bars_04'

    Raises:
        ClipNameError: the name does not follow the pattern, or gives a work to the wrong composer.
    """
    found = _NAME.fullmatch(stem)
    if found is None:
        raise ClipNameError(stem, "a name reads [composer]_[work](_[movement])_[4|8|16]bars_[player]_[segment]")
    work, player, movement = found["work"], found["player"], found["movement"]
    if COMPOSERS[work] != found["composer"]:
        raise ClipNameError(stem, f"{work} is by {COMPOSERS[work]}")
    return ClipName(
        composer=found["composer"],
        work=work,
        movement=f"var{int(movement[3:])}" if movement and movement.startswith("var") else movement,
        bars=int(found["bars"]),
        segment=int(found["segment"]),
        player=player if player in DEADPAN_PLAYERS else str(int(player)),
    )
