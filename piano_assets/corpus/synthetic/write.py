"""Write the synthetic corpus in PercePiano's own file layout, with the truth beside it."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.corpus.synthetic import raters as listeners
from piano_assets.corpus.synthetic.answers import Answers, collect, write_answers
from piano_assets.corpus.synthetic.impressions import impressions
from piano_assets.corpus.synthetic.midi_files import D960_TEMPO_US, TEMPO_US, write_performance, write_score
from piano_assets.corpus.synthetic.performers import DEADPAN_VELOCITY, deadpan, draw_habits, measure, perform, vary
from piano_assets.corpus.synthetic.themes import EXCERPTS, Excerpt
from piano_assets.dimensions import NAMES

TINY = {"n_excerpts": 7, "n_performers": 4}
"""Sizes for tests: six clusters, 36 clips."""

# PercePiano's own ids in the order of its performer split, so that the split finds the same indices here.
BEETHOVEN_PLAYERS = (1, 2, 3, 4, 7, 11, 14, 18, 19, 22, 24, 26)
MAX_PERFORMERS = len(BEETHOVEN_PLAYERS)
FIRST_ROUND_USERS = np.arange(201, 212)
SHARE_HELD = 0.03
SCORE2_TEMPO, SCORE2_VELOCITY = 0.92, 80

_HABITS, _CLIP, _PANEL, _FILE, _DIRT = range(5)
_WORKS = ("WoO80", "D935_no.3", "D960")


@dataclass(frozen=True)
class Clip:
    """One rendition of an excerpt: which excerpt (place in `EXCERPTS`), and who plays (place, -1 for deadpan)."""

    excerpt: int
    player: int
    player_id: str

    @property
    def stem(self) -> str:
        return EXCERPTS[self.excerpt].stem(self.player_id)


def clips_of(n_excerpts: int, n_performers: int) -> list[Clip]:
    """All renditions, by excerpt: people first, then the deadpan ones."""
    found = []
    for e, excerpt in enumerate(EXCERPTS[:n_excerpts]):
        for p in range(n_performers):
            found.append(Clip(e, p, str(BEETHOVEN_PLAYERS[p] if excerpt.composer == "Beethoven" else p + 1)))
        found += [Clip(e, -1, name) for name in ("Score", "Score2")[: 1 + excerpt.score2]]
    return found


def write_synthetic(
    folder: Path,
    rng_seed: int = 0,
    *,
    n_excerpts: int = 14,
    n_performers: int = 10,
    n_raters: int = 30,
    raters_per_clip: Sequence[tuple[int, int]] = ((5, 6), (9, 10)),
    n_bars: int | None = None,
) -> None:
    """Generate a corpus in PercePiano's layout under `folder`, which must not exist or be empty.

    The same arguments give the same bytes. Beside PercePiano's own files there are, with clips by file stem:
    `truth.csv` (clip, dimension, value: what infinitely many listeners would answer, 0..1), `truth_reliability.csv`
    (population, level, dimension, reliability: share of the variance of `clean` labels over clips that is true
    variance) and `truth_performance.csv` (clip, then the parameters really played, see `performers.measure`).

    Args:
        n_excerpts: 2..17; the first six share no music, and some of the later ones contain others.
        n_performers: 2..12 people per work.
        n_raters: listeners of D960; the other works' round always has the users 201..211.
        raters_per_clip: least and most listeners of a clip, for the round of WoO80 and D935 and for that of D960.
        n_bars: only the first so many bars of every excerpt are played (file names keep the whole number).

    Raises:
        ValueError: an argument out of range. FileExistsError: `folder` holds something already.
    """
    _refuse("n_excerpts", n_excerpts, 2, len(EXCERPTS))
    _refuse("n_performers", n_performers, 2, MAX_PERFORMERS)
    if n_bars is not None:
        _refuse("n_bars", n_bars, 1, max(e.score.n_bars for e in EXCERPTS))
    panel_sizes = (len(FIRST_ROUND_USERS), n_raters)
    for (least, most), size in zip(raters_per_clip, panel_sizes, strict=True):
        _refuse("raters_per_clip", least, 1, most)
        _refuse("raters_per_clip", most, least, size)
    folder = Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty: the synthetic corpus is only written to a new folder")
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)

    clips = clips_of(n_excerpts, n_performers)
    parameters = _write_music(unfinished / "virtuoso" / "data", clips, rng_seed, n_bars)
    human = np.array([c.player >= 0 for c in clips])
    heard = impressions(parameters, human).to_numpy()
    first_round = np.array([EXCERPTS[c.excerpt].work != "D960" for c in clips])
    panels = [
        listeners.draw_panel(users, len(NAMES), np.random.default_rng([rng_seed, _PANEL, i]))
        for i, users in enumerate((FIRST_ROUND_USERS, np.arange(1, n_raters + 1)))
    ]
    answers = collect(heard, first_round, panels, raters_per_clip, np.random.default_rng([rng_seed, _DIRT]))
    stems = [c.stem for c in clips]
    write_answers(unfinished / "labels" / "total_2rounds.csv", stems, answers)
    _write_truth(unfinished, stems, heard, answers, human, np.array([c.excerpt for c in clips]))
    table = parameters.round(6)
    table.insert(0, "clip", stems)
    table.to_csv(unfinished / "truth_performance.csv", index=False, lineterminator="\n")
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished.replace(folder)


def _refuse(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise ValueError(f"{name}={value} must lie in {low}..{high}")


def _write_music(folder: Path, clips: list[Clip], rng_seed: int, n_bars: int | None) -> pd.DataFrame:
    """Write all MIDI files; return the parameters played, one row per clip."""
    played, scores = folder / "all_2rounds", folder / "score_midi"
    played.mkdir(parents=True)
    scores.mkdir()
    habits: dict[tuple[str, int], dict[str, float]] = {}
    rows = []
    padded = False
    for clip in clips:
        excerpt = EXCERPTS[clip.excerpt]
        score = excerpt.score if n_bars is None else excerpt.score.opening(n_bars)
        if clip.player < 0:
            second = clip.player_id == "Score2"
            tempo, velocity = (SCORE2_TEMPO, SCORE2_VELOCITY) if second else (1.0, DEADPAN_VELOCITY)
            rendition = deadpan(score, tempo, velocity)
            for target in (played, scores):
                write_score(target / f"{clip.stem}.mid", score, tempo, velocity)
        else:
            person = (excerpt.work, clip.player)
            place = _WORKS.index(excerpt.work)
            if person not in habits:
                habits[person] = draw_habits(np.random.default_rng([rng_seed, _HABITS, place, clip.player]))
            rng = np.random.default_rng([rng_seed, _CLIP, clip.excerpt, clip.player])
            held = bool(rng.random() < SHARE_HELD)
            rendition = perform(score, vary(habits[person], rng), rng, held)
            # one file of PercePiano has a name that begins with a space, and so has one of this corpus
            space = "" if padded or excerpt.work != "D935_no.3" else " "
            padded = padded or bool(space)
            write_performance(
                played / f"{space}{clip.stem}.mid",
                rendition,
                D960_TEMPO_US if excerpt.work == "D960" else TEMPO_US,
                np.random.default_rng([rng_seed, _FILE, clip.excerpt, clip.player]),
            )
        rows.append(measure(rendition, score))
    _write_unused_scores(scores)
    return pd.DataFrame(rows)


def _write_unused_scores(folder: Path) -> None:
    """Scores that nobody played: PercePiano has unused variations (segment 0) and one file of the whole work."""
    unused = Excerpt("Beethoven", "WoO80", "var1", "0", ("gavotte",))
    write_score(folder / f"{unused.stem('Score')}.mid", unused.score, 1.0, DEADPAN_VELOCITY)
    whole = Excerpt("Beethoven", "WoO80", None, "0", ("ah_vous_dirai_je", "gavotte", "ode"))
    write_score(folder / "beethoven_woo80_score2.mid", whole.score, 1.0, DEADPAN_VELOCITY)


def _write_truth(
    folder: Path, stems: list[str], heard: np.ndarray, answers: Answers, human: np.ndarray, excerpt: np.ndarray
) -> None:
    true = listeners.truth(heard)
    table = pd.DataFrame(true, index=pd.Index(stems, name="clip"), columns=pd.Index(NAMES, name="dimension"))
    table.round(6).stack().rename("value").to_csv(folder / "truth.csv", lineterminator="\n")
    error, variance = listeners.label_noise(heard, *answers.for_noise())
    rows = []
    for population, chosen in (("all", np.ones_like(human)), ("humans", human)):
        for level, groups in (("global", None), ("within_excerpt", excerpt[chosen])):
            shares = listeners.reliability(true[chosen], error[chosen], variance[chosen], groups)
            rows += [(population, level, name, share) for name, share in zip(NAMES, shares, strict=True)]
    columns = ["population", "level", "dimension", "reliability"]
    pd.DataFrame(rows, columns=columns).round(6).to_csv(
        folder / "truth_reliability.csv", index=False, lineterminator="\n"
    )
