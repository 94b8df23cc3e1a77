"""From a folder of performances to the tables `clips`, `notes` and `controls`, with a quarantine for the rest."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.corpus.midi import MidiError, read_midi
from piano_assets.corpus.names import ClipName, ClipNameError, parse_name
from piano_assets.corpus.performance import Performance
from piano_assets.corpus.source import PERFORMANCES
from piano_assets.schemas import TABLES

CLIP_COLUMNS: tuple[str, ...] = tuple(c for c in TABLES["clips"].columns if c != "cluster")
"""Columns of `Loaded.clips`; the cluster needs all scores together and is added later."""


@dataclass(frozen=True)
class Loaded:
    """What a folder of performances holds.

    `clips` has the columns `CLIP_COLUMNS`; the others are the tables of the same name. One row of `quarantine` stands
    for one file that is not among `clips`.
    """

    clips: pd.DataFrame
    notes: pd.DataFrame
    controls: pd.DataFrame
    quarantine: pd.DataFrame


def load_performances(folder: Path, progress: Callable[[int, int], None] | None = None) -> Loaded:
    """Read every performance below `folder`, which has PercePiano's layout.

    Each file of `virtuoso/data/all_2rounds` becomes a clip or a row of `quarantine` (a wrong name, no usable MIDI, a
    second file of the same clip). Files with identical notes under different names are real and stay. The order is
    that of the file names, so equal folders give equal tables.

    Raises:
        FileNotFoundError: there is no such folder, or nothing in it.
        OSError: a file cannot be read from the disk.
    """
    files = sorted(p for p in (folder / PERFORMANCES).iterdir() if p.is_file())
    if not files:
        raise FileNotFoundError(f"{folder / PERFORMANCES}: no performance (*.mid) in this folder")
    kept: dict[str, tuple[ClipName, Performance]] = {}
    refused: list[tuple[str, str, str, str]] = []
    origin: dict[str, str] = {}
    for done, path in enumerate(files, start=1):
        try:
            name = parse_name(path.name)
            performance = read_midi(path)
        except (ClipNameError, MidiError) as error:
            refused.append((PERFORMANCES, path.name, error.rule, error.value))
        else:
            if name.clip in kept:
                rule = f"one file per clip; {origin[name.clip]!r} is the first"
                refused.append((PERFORMANCES, path.name, rule, name.clip))
            else:
                kept[name.clip] = (name, performance)
                origin[name.clip] = path.name
        if progress is not None:
            progress(done, len(files))
    quarantine = pd.DataFrame(refused, columns=list(TABLES["quarantine"].columns), dtype="str")
    return Loaded(_clips(kept), _notes(kept), _controls(kept), quarantine)


def content_hash(performance: Performance) -> str:
    """SHA-256 of notes and pedal movements, times in microseconds.

    Files hash equal when their music is equal, wherever in the file it begins.
    """
    p = performance
    sha = hashlib.sha256()
    for times in (p.onset_s, p.offset_s, p.control_time_s):
        sha.update(np.round(times * 1e6).astype("<i8").tobytes())
    for values in (p.pitch, p.velocity, p.controller, p.control_value):
        sha.update(values.astype("<i2").tobytes())
    return sha.hexdigest()


def _clips(kept: dict[str, tuple[ClipName, Performance]]) -> pd.DataFrame:
    rows = [
        {
            "clip": clip,
            "composer": name.composer,
            "work": name.work,
            "movement": name.movement,
            "bars": name.bars,
            "segment": name.segment,
            "excerpt": name.excerpt,
            "player": name.player,
            "performer": name.performer,
            "deadpan": name.deadpan,
            "duration_s": performance.duration_s,
            "n_notes": performance.n_notes,
            "content_hash": content_hash(performance),
        }
        for clip, (name, performance) in kept.items()
    ]
    typed = TABLES["clips"].empty().drop(columns="cluster").dtypes
    return pd.DataFrame(rows, columns=list(CLIP_COLUMNS)).astype(typed)


def _notes(kept: dict[str, tuple[ClipName, Performance]]) -> pd.DataFrame:
    played = {clip: performance for clip, (_, performance) in kept.items()}
    columns = {
        "onset_s": [p.onset_s for p in played.values()],
        "offset_s": [p.offset_s for p in played.values()],
        "pitch": [p.pitch for p in played.values()],
        "velocity": [p.velocity for p in played.values()],
    }
    return _stacked("notes", played, columns)


def _controls(kept: dict[str, tuple[ClipName, Performance]]) -> pd.DataFrame:
    played = {clip: performance for clip, (_, performance) in kept.items()}
    columns = {
        "time_s": [p.control_time_s for p in played.values()],
        "controller": [p.controller for p in played.values()],
        "value": [p.control_value for p in played.values()],
    }
    return _stacked("controls", played, columns)


def _stacked(table: str, played: dict[str, Performance], columns: dict[str, list[np.ndarray]]) -> pd.DataFrame:
    empty = TABLES[table].empty()
    if not played:
        return empty
    lengths = [len(values) for values in next(iter(columns.values()))]
    frame = pd.DataFrame({name: np.concatenate(values) for name, values in columns.items()})
    frame.insert(0, "clip", np.repeat(np.array(list(played), dtype=object), lengths))
    return frame.astype(empty.dtypes)
