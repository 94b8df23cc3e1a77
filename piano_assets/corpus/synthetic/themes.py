"""The music of the synthetic corpus: short themes as note lists, and the excerpts cut from them.

The melodies are old (public domain: traditional, or their composers died before 1900) or were made up for this
corpus; accompaniments are broken or repeated chords. File names follow PercePiano's works, so that one reader serves
both corpora; the music is not that of those works.
"""

import re
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

import numpy as np

MELODY, ACCOMPANIMENT = 0, 1

_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_SHIFTS = {"": 0, "#": 1, "b": -1}
_NOTE = re.compile(r"([A-G])([#b]?)(\d)(?:\*(\d*\.?\d+))?")
_CHORD = re.compile(r"([A-G])([#b]?)(m?)")
_LOWEST_BASS = 41

# Steps of one beat: (offset in beats, duration in beats, chord tones); tone 3 is the root an octave up.
STYLES: dict[str, list[list[tuple[float, float, tuple[int, ...]]]]] = {
    "alberti": [[(0.0, 0.5, (0,)), (0.5, 0.5, (2,))], [(0.0, 0.5, (1,)), (0.5, 0.5, (2,))]],
    "arpeggio": [[(0.0, 0.5, (0,)), (0.5, 0.5, (1,))], [(0.0, 0.5, (2,)), (0.5, 0.5, (3,))]],
    "waltz": [[(0.0, 1.0, (0,))], [(0.0, 1.0, (1, 2))], [(0.0, 1.0, (1, 2))]],
    "march": [[(0.0, 1.0, (0,))], [(0.0, 1.0, (1, 2, 3))]],
    "pulse": [[(0.0, 1.0, (0, 1, 2))]],
}


@dataclass(frozen=True, kw_only=True)
class Theme:
    """A melody (notes per bar, `C#5*1.5` lasts 1.5 beats), a chord row (comma = half a bar each) and their setting."""

    origin: str
    beats: int
    tempo_bpm: float
    style: str
    melody: str
    chords: str
    transpose: int = 0


THEMES: dict[str, Theme] = {
    "ode": Theme(
        origin="Beethoven, Symphony no. 9 (1824)",
        beats=4,
        tempo_bpm=116,
        style="pulse",
        melody="F#4 F#4 G4 A4 | A4 G4 F#4 E4 | D4 D4 E4 F#4 | F#4*1.5 E4*.5 E4*2 "
        "| F#4 F#4 G4 A4 | A4 G4 F#4 E4 | D4 D4 E4 F#4 | E4*1.5 D4*.5 D4*2",
        chords="D | A | D | D,A | D | A | D | A,D",
    ),
    "ah_vous_dirai_je": Theme(
        origin="French tune, 18th century",
        beats=4,
        tempo_bpm=126,
        style="alberti",
        melody="C5 C5 G5 G5 | A5 A5 G5*2 | F5 F5 E5 E5 | D5 D5 C5*2 "
        "| G5 G5 F5 F5 | E5 E5 D5*2 | G5 G5 F5 F5 | E5 E5 D5*2",
        chords="C | F,C | G,C | G,C | C,F | C,G | C,F | C,G",
    ),
    "minuet": Theme(
        origin="Petzold, Minuet in G (1725)",
        beats=3,
        tempo_bpm=120,
        style="waltz",
        melody="D5 G4*.5 A4*.5 B4*.5 C5*.5 | D5 G4 G4 | E5 C5*.5 D5*.5 E5*.5 F#5*.5 | G5 G4 G4 "
        "| C5 D5*.5 C5*.5 B4*.5 A4*.5 | B4 C5*.5 B4*.5 A4*.5 G4*.5 | F#4 G4*.5 A4*.5 B4*.5 G4*.5 | A4*3",
        chords="G | G | C | G | Am | G | D | D",
    ),
    "greensleeves": Theme(
        origin="English tune, 16th century",
        beats=3,
        tempo_bpm=104,
        style="arpeggio",
        melody="C5*2 D5 | E5*1.5 F5*.5 E5 | D5*2 B4 | G4*1.5 A4*.5 B4 | C5*2 A4 | A4*1.5 G#4*.5 A4 | B4*2 G#4 | E4*3",
        chords="Am | Am | G | G | Am | Am | E | E",
        transpose=-2,
    ),
    "auld_lang_syne": Theme(
        origin="Scottish tune, 18th century",
        beats=4,
        tempo_bpm=92,
        style="march",
        melody="F4*1.5 F4*.5 F4 A4 | G4*1.5 F4*.5 G4 A4 | F4*1.5 F4*.5 A4 C5 | D5*3 D5 "
        "| C5*1.5 A4*.5 A4 F4 | G4*1.5 F4*.5 G4 A4 | F4*1.5 D4*.5 D4 C4 | F4*4",
        chords="F | C | F | Bb | F | C | Dm,Bb | F",
        transpose=-1,
    ),
    "frere_jacques": Theme(
        origin="French tune, 18th century",
        beats=4,
        tempo_bpm=132,
        style="alberti",
        melody="F4 G4 A4 F4 | F4 G4 A4 F4 | A4 Bb4 C5*2 | A4 Bb4 C5*2 "
        "| C5*.5 D5*.5 C5*.5 Bb4*.5 A4 F4 | C5*.5 D5*.5 C5*.5 Bb4*.5 A4 F4 | F4 C4 F4*2 | F4 C4 F4*2",
        chords="F | F | F,C | F,C | F | F | F,C | C,F",
        transpose=6,
    ),
    "siciliana": Theme(
        origin="Mozart, Sonata K. 331 (1783)",
        beats=6,
        tempo_bpm=150,
        style="waltz",
        melody="C#5*1.5 D5*.5 C#5 E5*2 E5 | B4*1.5 C#5*.5 B4 D5*2 D5 | A4*2 A4 B4*2 B4 | C#5*2 E5 D5 C#5 B4",
        chords="A | E | F#m,E | A,E",
    ),
    "largo": Theme(
        origin="Dvorak, Symphony no. 9 (1893): melody after the English horn's",
        beats=4,
        tempo_bpm=66,
        style="arpeggio",
        melody="E4*1.5 G4*.5 G4*2 | E4*1.5 D4*.5 C4*2 | D4*1.5 E4*.5 G4*1.5 E4*.5 | D4*4",
        chords="C | C,Am | G | G",
        transpose=13,
    ),
    "lament": Theme(
        origin="made for this corpus",
        beats=4,
        tempo_bpm=88,
        style="pulse",
        melody="A4*1.5 G4*.5 F4 E4 | F4 D4 A4*2 | Bb4*1.5 A4*.5 G4 F4 | E4*3 A4 "
        "| D5*1.5 C5*.5 Bb4 A4 | G4 Bb4 A4*2 | F4 G4*.5 F4*.5 E4 C#4 | D4*4",
        chords="Dm | Dm | Gm | A | Bb | Gm,Dm | Gm,A | Dm",
    ),
    "lament_answer": Theme(
        origin="made for this corpus",
        beats=4,
        tempo_bpm=88,
        style="arpeggio",
        melody="F5*2 E5 D5 | C5 Bb4 C5*2 | A4 C5 F5 A5 | G5*2 E5*2 "
        "| D5 F5 Bb5 A5 | G5*1.5 F5*.5 E5 D5 | C#5 E5 A5 G5 | F5*2 D5*2",
        chords="F | C | F | C | Bb | Gm | A | Dm",
    ),
    "dance": Theme(
        origin="made for this corpus",
        beats=3,
        tempo_bpm=144,
        style="waltz",
        melody="D5 Bb4 G4 | A4*1.5 Bb4*.5 C5 | Bb4 G4 D4 | F#4*3 "
        "| G4 Bb4 D5 | Eb5*1.5 D5*.5 C5 | Bb4 A4*.5 G4*.5 F#4 | G4*3",
        chords="Gm | D | Gm | D | Gm | Cm | D | Gm",
    ),
    "scherzo": Theme(
        origin="made for this corpus",
        beats=3,
        tempo_bpm=168,
        style="pulse",
        melody="F5*.5 Eb5*.5 D5 Bb4 | C5*.5 D5*.5 Eb5 C5 | D5 F5 Bb5 | A5*2 F5 "
        "| G5*.5 F5*.5 Eb5 C5 | F5*.5 Eb5*.5 D5 Bb4 | C5 Eb5 A4 | Bb4*3",
        chords="Bb | F | Bb | F | Cm | Bb | F | Bb",
    ),
    "scherzo_answer": Theme(
        origin="made for this corpus",
        beats=3,
        tempo_bpm=168,
        style="arpeggio",
        melody="Db5*2 Eb5 | F5 Ab5 Gb5 | F5*2 Db5 | Eb5*3 | Ab4*2 Bb4 | C5 Eb5 Db5 | C5*.5 Db5*.5 Eb5 C5 | Db5*3",
        chords="Db | Gb | Db | Ab | Ab | Ab | Ab | Db",
    ),
    "hymn": Theme(
        origin="made for this corpus",
        beats=4,
        tempo_bpm=84,
        style="march",
        melody="G#4 B4 E5*2 | D#5 C#5 B4*2 | A4 C#5 E5 C#5 | B4*3 G#4",
        chords="E | B | A | E",
    ),
    "barcarolle": Theme(
        origin="made for this corpus",
        beats=6,
        tempo_bpm=138,
        style="arpeggio",
        melody="C5*2 B4 C5*2 Eb5 | G5*3 F5*2 Eb5 | D5*2 Eb5 F5*2 D5 | Eb5*3 C5*3",
        chords="Cm | Cm,Ab | G | Cm",
    ),
    "gavotte": Theme(
        origin="made for this corpus",
        beats=4,
        tempo_bpm=138,
        style="alberti",
        melody="E5 G5 B4*2 | C5*.5 B4*.5 A4 B4*2 | G4 B4 E5 D5 | C5 B4 A4*2 "
        "| F#4 A4 D5 C5 | B4*1.5 A4*.5 G4 E4 | A4 C5 B4 D#4 | E4*4",
        chords="Em | Am,Em | Em,G | Am | D | G,Em | Am,B | Em",
    ),
}


@dataclass(frozen=True, eq=False)
class Score:
    """Notes in beats, sorted by onset, then pitch; harmony changes in beats; metre, length and tempo."""

    onset: np.ndarray
    duration: np.ndarray
    pitch: np.ndarray
    voice: np.ndarray
    harmony: np.ndarray
    beats_per_bar: int
    n_bars: int
    tempo_bpm: float
    minor_share: float

    @property
    def n_beats(self) -> int:
        return self.beats_per_bar * self.n_bars

    def opening(self, n_bars: int) -> "Score":
        """The first bars alone (all, where there are no more); what still sounds at their end stops there."""
        end = self.beats_per_bar * min(n_bars, self.n_bars)
        kept = self.onset < end
        onset, duration, pitch, voice = (x[kept] for x in (self.onset, self.duration, self.pitch, self.voice))
        return replace(
            self,
            onset=onset,
            duration=np.minimum(duration, end - onset),
            pitch=pitch,
            voice=voice,
            harmony=self.harmony[self.harmony < end],
            n_bars=min(n_bars, self.n_bars),
        )


def _pitch_class(letter: str, shift: str) -> int:
    return _STEPS[letter] + _SHIFTS[shift]


def _melody(theme: Theme, name: str) -> list[tuple[float, float, int, int]]:
    found = []
    for number, bar in enumerate(theme.melody.split("|")):
        at = Fraction(0)
        for token in bar.split():
            match = _NOTE.fullmatch(token)
            if match is None:
                raise ValueError(f"theme {name!r}, bar {number + 1}: {token!r} is not a note")
            letter, shift, octave, length = match.groups()
            duration = Fraction(length or "1")
            pitch = 12 * (int(octave) + 1) + _pitch_class(letter, shift) + theme.transpose
            found.append((float(number * theme.beats + at), float(duration), pitch, MELODY))
            at += duration
        if at != theme.beats:
            raise ValueError(f"theme {name!r}, bar {number + 1}: {float(at)} beats instead of {theme.beats}")
    return found


def _accompaniment(theme: Theme, name: str) -> tuple[list[tuple[float, float, int, int]], list[float], float]:
    found, changes, minors = [], [], []
    for number, bar in enumerate(theme.chords.split("|")):
        symbols = bar.strip().split(",")
        span = theme.beats // len(symbols)
        if span * len(symbols) != theme.beats:
            raise ValueError(f"theme {name!r}, bar {number + 1}: {bar!r} does not divide {theme.beats} beats")
        for position, symbol in enumerate(symbols):
            match = _CHORD.fullmatch(symbol)
            if match is None:
                raise ValueError(f"theme {name!r}, bar {number + 1}: {symbol!r} is not a chord")
            letter, shift, minor = match.groups()
            root = _LOWEST_BASS + (_pitch_class(letter, shift) + theme.transpose - _LOWEST_BASS) % 12
            tones = (root, root + (3 if minor else 4), root + 7, root + 12)
            start = number * theme.beats + position * span
            changes.append(float(start))
            minors.append(bool(minor))
            pattern = STYLES[theme.style]
            for beat in range(span):
                for offset, duration, chosen in pattern[beat % len(pattern)]:
                    found += [(start + beat + offset, duration, tones[i], ACCOMPANIMENT) for i in chosen]
    return found, changes, float(np.mean(minors))


@cache
def score(themes: tuple[str, ...]) -> Score:
    """The score of one or several themes, played one after the other at the first one's metre and tempo.

    A chord tone that the melody strikes at the same time is left out: a key cannot sound twice.

    Raises:
        KeyError: no such theme. ValueError: a bar that does not add up, or themes of different metres.
    """
    notes: list[tuple[float, float, int, int]] = []
    changes: list[float] = []
    minors, n_bars = [], 0
    beats = THEMES[themes[0]].beats
    for name in themes:
        theme = THEMES[name]
        if theme.beats != beats:
            raise ValueError(f"themes {themes}: {name!r} has {theme.beats} beats a bar instead of {beats}")
        start = float(n_bars * beats)
        chords, at, minor = _accompaniment(theme, name)
        sung = _melody(theme, name)
        free = [c for c in chords if not any(c[2] == m[2] and c[0] < m[0] + m[1] and m[0] < c[0] + c[1] for m in sung)]
        notes += [(start + onset, duration, pitch, voice) for onset, duration, pitch, voice in sung + free]
        changes += [start + t for t in at]
        minors.append(minor)
        n_bars += theme.melody.count("|") + 1
    table = np.array(sorted(notes, key=lambda n: (n[0], n[2])))
    return Score(
        onset=table[:, 0],
        duration=table[:, 1],
        pitch=table[:, 2].astype(int),
        voice=table[:, 3].astype(int),
        harmony=np.array(changes),
        beats_per_bar=beats,
        n_bars=n_bars,
        tempo_bpm=THEMES[themes[0]].tempo_bpm,
        minor_share=float(np.mean(minors)),
    )


@dataclass(frozen=True)
class Excerpt:
    """What a file name says about the music, and the themes that are played. `score2`: has a second deadpan file."""

    composer: str
    work: str
    movement: str | None
    segment: str
    themes: tuple[str, ...]
    score2: bool = False

    @property
    def score(self) -> Score:
        return score(self.themes)

    def stem(self, player: str) -> str:
        movement = f"_{self.movement}" if self.movement else ""
        return f"{self.composer}_{self.work}{movement}_{self.score.n_bars}bars_{player}_{self.segment}"


# The first six are unrelated; from the seventh on, some contain others (as PercePiano's 16-bar excerpts do).
EXCERPTS: tuple[Excerpt, ...] = (
    Excerpt("Beethoven", "WoO80", "thema", "1", ("ah_vous_dirai_je",)),
    Excerpt("Schubert", "D960", "mv2", "01", ("lament",)),
    Excerpt("Schubert", "D935_no.3", None, "1", ("siciliana",), score2=True),
    Excerpt("Beethoven", "WoO80", "var3", "2", ("greensleeves",)),
    Excerpt("Schubert", "D960", "mv3", "01", ("dance",)),
    Excerpt("Schubert", "D935_no.3", None, "2", ("largo",)),
    Excerpt("Schubert", "D960", "mv2", "02", ("lament", "lament_answer")),
    Excerpt("Schubert", "D960", "mv2", "02", ("lament_answer",)),
    Excerpt("Beethoven", "WoO80", "var6", "5", ("minuet",), score2=True),
    Excerpt("Schubert", "D935_no.3", None, "3", ("hymn",)),
    Excerpt("Schubert", "D960", "mv3", "02", ("scherzo",)),
    Excerpt("Beethoven", "WoO80", "var12", "9", ("auld_lang_syne",), score2=True),
    Excerpt("Schubert", "D960", "mv3", "03", ("scherzo", "scherzo_answer")),
    Excerpt("Schubert", "D935_no.3", None, "10", ("barcarolle",)),
    Excerpt("Beethoven", "WoO80", "var25", "14", ("ode",), score2=True),
    Excerpt("Beethoven", "WoO80", "var30", "17", ("frere_jacques",)),
    Excerpt("Schubert", "D960", "mv3", "05", ("gavotte",)),
)
