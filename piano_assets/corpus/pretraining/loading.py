"""From a folder of MIDI files to the table `pretraining_clips`, with a quarantine for what is no piano performance."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from piano_assets.corpus.loading import content_hash
from piano_assets.corpus.midi import MidiError, read_midi
from piano_assets.corpus.performance import Performance
from piano_assets.corpus.pretraining.folders import Item, find
from piano_assets.corpus.pretraining.overlap import MIN_SHARE, Scores, pitch_sequence
from piano_assets.corpus.pretraining.piano import only_piano
from piano_assets.schemas import TABLES

SOURCE = "pretraining"
"""Part of the table `quarantine`, and its column `source`."""

IDENTICAL = "it is none of the performances that models are evaluated on"
CONTAINS = f"it contains less than {MIN_SHARE:.0%} of every excerpt that models are evaluated on"
SAME_PIECE = "no performance of its piece contains music that models are evaluated on"
DUPLICATE = "no two performances have the same notes"

N_VALID = 20
"""One piece in so many is held out, to see how well the pretraining does."""


@dataclass(frozen=True)
class Loaded:
    """What a folder holds: the tables `pretraining_clips`, and `quarantine` with one row for each file that is none."""

    layout: str
    clips: pd.DataFrame
    quarantine: pd.DataFrame


def load(
    folder: Path,
    scores: Mapping[str, Any],
    evaluation: Mapping[str, Performance],
    progress: Callable[[int, int], None] | None = None,
) -> Loaded:
    """Read every performance below `folder`; decide which are used.

    A file that is damaged, empty, no piano or a duplicate goes to `quarantine`. A piece of which one performance
    contains evaluation music is `excluded` whole.

    Args:
        scores: excerpt -> pitches of its score (`clusters.score_pitches`).
        evaluation: clip -> performance.
        progress: called with (files read, files in all).

    Raises:
        SourceError: no MIDI file in the folder, or a table that lacks a column.
    """
    found = find(folder)
    index = Scores(scores)
    known = {notes_hash(performance): clip for clip, performance in evaluation.items()}
    first: dict[str, str] = {}
    rows: list[dict[str, Any]] = []
    refused = list(found.refused)
    for done, item in enumerate(found.items, start=1):
        try:
            performance = read_midi(folder / item.file, only_piano)
        except MidiError as error:
            refused.append((item.file, error.rule, error.value))
        else:
            notes = notes_hash(performance)
            if notes in first:
                refused.append((item.file, DUPLICATE, first[notes]))
            else:
                first[notes] = item.file
                rows.append(_row(item, performance) | _verdict(performance, known.get(notes), index))
        if progress is not None:
            progress(done, len(found.items))
    clips = _whole_pieces(rows)
    quarantine = [(SOURCE, *row) for row in sorted(refused)]
    return Loaded(
        found.layout, clips, pd.DataFrame(quarantine, columns=list(TABLES["quarantine"].columns), dtype="str")
    )


def used(folder: Path, clips: pd.DataFrame, role: str) -> Iterator[Performance]:
    """The performances of one role, read again, in the order of the table.

    Raises:
        ValueError: a file is not the one that the table was made of.
    """
    chosen = clips[clips["role"] == role]
    for file, expected in zip(chosen["file"], chosen["content_hash"], strict=True):
        performance = read_midi(folder / file)
        found = content_hash(performance)
        if found != expected:
            raise ValueError(f"{folder / file}: content hash is {found}, expected {expected}: the file was changed")
        yield performance


def notes_hash(performance: Performance) -> str:
    """Hash of pitches, velocities and onsets to the millisecond: the same notes, whatever pedals and releases say."""
    p = performance
    values = np.column_stack([np.rint(p.onset_s * 1000), p.pitch, p.velocity]).astype("<i4")
    return hashlib.sha256(values[np.lexsort((values[:, 2], values[:, 1], values[:, 0]))].tobytes()).hexdigest()


def is_valid(piece: str) -> bool:
    """Whether a piece is held out: decided by its name alone, so that it stays so when others come and go."""
    return int.from_bytes(hashlib.sha256(piece.encode()).digest()[:8], "big") % N_VALID == 0


def _row(item: Item, performance: Performance) -> dict[str, Any]:
    return {
        "file": item.file,
        "composer": item.composer,
        "title": item.title,
        "piece": item.piece,
        "content_hash": content_hash(performance),
        "n_notes": performance.n_notes,
        "duration_s": performance.duration_s,
    }


def _verdict(performance: Performance, identical: str | None, index: Scores) -> dict[str, Any]:
    if identical is not None:
        return {"rule": IDENTICAL, "value": identical}
    overlap = index.overlap(pitch_sequence(performance))
    if overlap is None:
        return {"rule": None, "value": None}
    moved = f", {overlap.semitones:+d} semitones" if overlap.semitones else ""
    return {"rule": CONTAINS, "value": f"{overlap.excerpt}: {overlap.share:.0%}{moved}"}


def _whole_pieces(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Give each row its role; a piece of which one performance is excluded is excluded whole."""
    out = {row["piece"]: row["file"] for row in reversed(rows) if row["rule"] is not None}
    for row in rows:
        if row["rule"] is None and row["piece"] in out:
            row |= {"rule": SAME_PIECE, "value": out[row["piece"]]}
        row["role"] = "excluded" if row["rule"] is not None else "valid" if is_valid(row["piece"]) else "train"
    table = TABLES["pretraining_clips"]
    return pd.DataFrame(rows, columns=list(table.columns)).astype(table.empty().dtypes)
