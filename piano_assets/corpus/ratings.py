"""Read every single answer of every listener from PercePiano's ratings file."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.corpus.names import ClipName, ClipNameError, parse_name
from piano_assets.dimensions import COLUMNS, N_DIMENSIONS, NAMES
from piano_assets.schemas import TABLES

RATER, RATING_ID, FILENAME = "user", "dataID", "filename"
MAX_ID = 2**31 - 1

_WHOLE = re.compile(r"\d+(?:\.0*)?", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:inf|nan)", re.ASCII | re.IGNORECASE)
_BAD = -1.0  # marks an answer that goes to quarantine; no legal answer is negative


class RatingsError(ValueError):
    """A ratings file that cannot be read at all; the message names file, rule and value."""

    def __init__(self, path: Path, rule: str, value: object) -> None:
        super().__init__(f"{path}: {rule} (found {value})")
        self.rule, self.value = rule, str(value)


@dataclass(frozen=True)
class Ratings:
    """The tables `ratings` (every usable answer, blanks and duplicates included) and `quarantine` (the rest)."""

    ratings: pd.DataFrame
    quarantine: pd.DataFrame


def round_of(work: str) -> str:
    """The round of the rating campaign in which a work was rated; the two rounds share no rater."""
    return "D960" if work == "D960" else "WoO80+D935"


def read_ratings(csv_path: Path) -> Ratings:
    """Read the ratings file by the names of its columns, in whatever order they come; others are ignored.

    Per row of the file, each of the 19 answers is a row of `ratings` or of `quarantine`, or the whole row is one row
    of `quarantine`: wrong number of fields, no listener, no dataID, a name that is none, or a dataID that an earlier
    row used for other answers. 0 and 8 ("don't know"), 9 and blanks are kept as `raw`, with a NULL `value`.

    Raises:
        RatingsError: the file is empty or has a header only, lacks a column or has it twice, is not UTF-8, or its
            quotes do not close.
        OSError: the file cannot be read from the disk.
    """
    records = _records(csv_path)
    header = [name.strip() for name in next(records, (0, []))[1]]
    if not header:
        raise RatingsError(csv_path, "a ratings file has content", "an empty file")
    needed = (RATER, RATING_ID, FILENAME, *COLUMNS)
    for name in needed:
        if header.count(name) != 1:
            raise RatingsError(csv_path, f"a ratings file has the column {name!r} once", f"{header.count(name)} of it")
    at = [header.index(name) for name in needed]
    rows, refused = [], []
    for row, fields in records:
        if len(fields) == len(header):
            rows.append((row, *(fields[i] for i in at)))
        else:
            refused.append((row, f"a row has {len(header)} fields", str(len(fields))))
    if not rows and not refused:
        raise RatingsError(csv_path, "a ratings file has at least one rating", "a header only")
    return _tables(csv_path.name, rows, refused)


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(number from 0 without the header, fields) of every record that is not an empty line; the header is -1."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from enumerate((r for r in csv.reader(file, strict=True) if r), start=-1)
    except UnicodeDecodeError as error:
        raise RatingsError(path, "a ratings file is UTF-8", f"byte {error.object[error.start]:#04x}") from error
    except csv.Error as error:
        raise RatingsError(path, "a ratings file is well-formed CSV", error) from error


def _tables(source: str, rows: list[tuple], refused: list[tuple[int, str, str]]) -> Ratings:
    """Answers in long form; `rows` hold (row, rater, dataID, file name, 19 answers) as text."""
    texts = np.array([fields[4:] for fields in rows], dtype=object).reshape(-1, N_DIMENSIONS)
    answers = _parse_answers(texts)
    names: dict[str, ClipName | ClipNameError] = {}
    first: dict[int, tuple[str, str, bytes]] = {}
    kept: list[tuple[int, int, int, str, str, str, bool]] = []
    for i, (row, rater, rating_id, filename, *_) in enumerate(rows):
        if filename not in names:
            names[filename] = _parse_name(filename)
        name, rater = names[filename], rater.strip()
        if isinstance(name, ClipNameError):
            refused.append((row, name.rule, name.value))
        elif not rater:
            refused.append((row, f"{RATER!r} names a listener", repr(rater)))
        elif not _WHOLE.fullmatch(rating_id.strip()) or float(rating_id) > MAX_ID:
            refused.append((row, f"{RATING_ID!r} is a whole number of at most {MAX_ID}", repr(rating_id)))
        else:
            number, content = int(float(rating_id)), (rater, name.clip, answers[i].tobytes())
            duplicate = number in first
            if first.setdefault(number, content) == content:
                kept.append((i, row, number, name.clip, rater, round_of(name.work), duplicate))
            else:
                refused.append((row, f"a {RATING_ID!r} stands for one listener's answers to one clip", str(number)))
    long, odd = _long(kept, answers, texts)
    items = [(f"row {row}", rule, value) for row, rule, value in refused] + odd
    quarantine = pd.DataFrame([(source, *item) for item in items], columns=list(TABLES["quarantine"].columns))
    return Ratings(long, quarantine.astype("str"))


def _parse_name(filename: str) -> ClipName | ClipNameError:
    try:
        return parse_name(filename)
    except ClipNameError as error:
        return error


def _parse_answers(texts: np.ndarray) -> np.ndarray:
    """(n, 19) answers 0..9 from text; NaN where blank, `_BAD` where it is none."""
    codes, uniques = pd.factorize(texts.ravel())
    values = [float("nan") if not t else float(t) if _WHOLE.fullmatch(t) else _BAD for t in map(str.strip, uniques)]
    parsed = np.array([v if not v > 9 else _BAD for v in values] or [_BAD])
    return parsed[codes].reshape(texts.shape)


def _long(kept: list[tuple], answers: np.ndarray, texts: np.ndarray) -> tuple[pd.DataFrame, list[tuple[str, str, str]]]:
    """One row per usable answer of the kept rows, and (item, rule, value) of each that is not usable."""
    empty = TABLES["ratings"].empty()
    if not kept:
        return empty, []
    index, rows, ids, clips, raters, rounds, duplicates = (np.array(c) for c in zip(*kept, strict=True))
    raw = answers[index]
    odd = [
        (f"row {rows[i]}, {NAMES[d]}", _rule(texts[index[i], d]), str(texts[index[i], d]))
        for i, d in np.argwhere(raw == _BAD)
    ]
    per_row = {"row": rows, "rating_id": ids, "clip": clips, "rater": raters, "round": rounds, "duplicate": duplicates}
    frame = pd.DataFrame(per_row).loc[np.repeat(np.arange(len(rows)), N_DIMENSIONS)]
    frame["dimension"] = np.tile(np.array(NAMES), len(rows))
    frame["raw"] = raw.ravel()
    frame["value"] = frame["raw"].where(frame["raw"].between(1, 7))
    usable = frame[frame["raw"] != _BAD].reset_index(drop=True)
    return usable[list(empty.columns)].astype(empty.dtypes), odd


def _rule(text: str) -> str:
    if _NUMBER.fullmatch(text.strip()):
        return "an answer is a whole number from 0 to 9"
    return "an answer is a number or blank"
