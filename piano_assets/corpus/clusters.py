"""Clusters: excerpts that share music, and so may not stand on both sides of a split.

Two excerpts share music when their score pitch sequences contain each other. A 16-bar excerpt contains the 8-bar ones
it is made of, and movements repeat passages; clusters are the connected components of that relation.
"""

from collections.abc import Iterable, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import combinations
from pathlib import Path

import pandas as pd

from piano_assets.corpus.midi import read_midi

MIN_BLOCK = 4
"""Notes that a matching passage must have to count."""

MIN_SHARE = 0.75
"""Share of the shorter excerpt that the matching passages must cover."""


class ScoreMissing(ValueError):
    """An excerpt of which neither a deadpan rendition nor a score is known."""


def score_clusters(
    clips: pd.DataFrame, notes: pd.DataFrame, scores: Mapping[str, Sequence[int]] | None = None
) -> dict[str, str]:
    """Name the cluster of every excerpt: its alphabetically first member.

    The score of an excerpt is the pitch sequence of its deadpan rendition (`Score` before `Score2`), notes
    in order of onset, then pitch. Excerpts are compared within a work only.

    Args:
        clips: table `clips`; the columns clip, work, excerpt, player and deadpan are read.
        notes: table `notes`.
        scores: pitch sequences of excerpts of which no deadpan rendition is among the clips (`read_scores`).

    Raises:
        ScoreMissing: neither a deadpan rendition nor a score of an excerpt is there.
    """
    sequences = score_pitches(clips, notes, scores)
    excerpts = clips.drop_duplicates("excerpt").sort_values("excerpt")
    pairs = [
        (a, b)
        for _, group in excerpts.groupby("work", sort=True)
        for a, b in combinations(group["excerpt"], 2)
        if shared_music(sequences[a], sequences[b]) >= MIN_SHARE
    ]
    return components(list(excerpts["excerpt"]), pairs)


def score_pitches(
    clips: pd.DataFrame, notes: pd.DataFrame, scores: Mapping[str, Sequence[int]] | None = None
) -> dict[str, tuple[int, ...]]:
    """The pitch sequence of every excerpt's score: excerpt -> pitches. Arguments as in `score_clusters`.

    Raises:
        ScoreMissing: neither a deadpan rendition nor a score of an excerpt is there.
    """
    sequences = _deadpan_pitches(clips, notes)
    for excerpt in sorted(set(clips["excerpt"]) - set(sequences)):
        if excerpt not in (scores or {}):
            raise ScoreMissing(f"excerpt {excerpt!r}: no deadpan rendition among the clips, and no score was given")
        sequences[excerpt] = tuple(int(p) for p in (scores or {})[excerpt])
    return sequences


def shared_music(a: Sequence[int], b: Sequence[int], min_block: int = MIN_BLOCK) -> float:
    """Share of the shorter pitch sequence that lies in matching blocks of at least `min_block` notes, 0..1.

    Matching blocks are those of Ratcliff and Obershelp as `difflib` finds them: longest first, in the same order in
    both.
    """
    blocks = SequenceMatcher(None, a, b, autojunk=False).get_matching_blocks()
    return sum(block.size for block in blocks if block.size >= min_block) / min(len(a), len(b))


def components(items: Iterable[str], pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Connected components of an undirected graph, each named by its alphabetically first item: item -> name."""
    name = {item: item for item in items}

    def root(item: str) -> str:
        while name[item] != item:
            item = name[item]
        return item

    for a, b in pairs:
        first, second = sorted((root(a), root(b)))
        name[second] = first
    return {item: root(item) for item in name}


def effective_number(sizes: Iterable[float]) -> float:
    """How many equally large groups would be as concentrated as these: 1 / sum of squared shares (Kish)."""
    counts = pd.Series(list(sizes), dtype=float)
    return float(counts.sum() ** 2 / (counts**2).sum())


def read_scores(folder: Path, clips: pd.DataFrame) -> dict[str, tuple[int, ...]]:
    """Read the score (`virtuoso/data/score_midi`) of every excerpt without a deadpan rendition among the clips.

    A score's file name is that of a performance with the player `Score` (or `Score2`). Excerpts whose file is not there
    are left out; `score_clusters` then says which.

    Raises:
        MidiError: a score file without notes.
    """
    known = set(clips.loc[clips["deadpan"], "excerpt"])
    found = {}
    for row in clips[~clips["excerpt"].isin(known)].drop_duplicates("excerpt").itertuples():
        music, _, segment = str(row.clip).rsplit("_", 2)
        for player in ("Score", "Score2"):
            path = folder / f"{music}_{player}_{segment}.mid"
            if row.excerpt not in found and path.is_file():
                found[str(row.excerpt)] = tuple(read_midi(path).pitch.tolist())
    return found


def _deadpan_pitches(clips: pd.DataFrame, notes: pd.DataFrame) -> dict[str, tuple[int, ...]]:
    chosen = clips[clips["deadpan"]].sort_values(["player", "clip"]).drop_duplicates("excerpt")
    excerpt = dict(zip(chosen["clip"], chosen["excerpt"], strict=True))
    played = notes[notes["clip"].isin(excerpt)].sort_values(["clip", "onset_s", "pitch"], kind="stable")
    return {excerpt[clip]: tuple(group.tolist()) for clip, group in played.groupby("clip")["pitch"]}
