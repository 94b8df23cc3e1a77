"""Which performances a folder holds: MAESTRO's layout, ASAP's, or any folder of MIDI files."""

import csv
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from piano_assets.corpus.archive import SourceError

SUFFIXES = (".mid", ".midi")

UNLISTED = "a performance is listed in the folder's table"
ABSENT = "a listed performance is in the folder"
OUTSIDE = "a listed performance lies inside the folder"
REPEATED = "a performance is listed once"


@dataclass(frozen=True)
class Layout:
    """A collection with a table of its performances: the table's name and its columns."""

    table: str
    file: str
    composer: str
    title: str


LAYOUTS: dict[str, Layout] = {
    "maestro": Layout("maestro-v3.0.0.csv", "midi_filename", "canonical_composer", "canonical_title"),
    "asap": Layout("metadata.csv", "midi_performance", "composer", "title"),
}


@dataclass(frozen=True, order=True)
class Item:
    """One file, by its path in the folder, and what it plays where that is known."""

    file: str
    composer: str | None = None
    title: str | None = None

    @property
    def piece(self) -> str:
        """The music that is played; a file of which nothing is known is a piece of its own."""
        return self.file if self.title is None else f"{self.composer}: {self.title}"


@dataclass(frozen=True)
class Found:
    """What a folder holds: its layout, its performances by file name, and (file, rule, value) of what is none."""

    layout: str
    items: list[Item]
    refused: list[tuple[str, str, str]]


def find(folder: Path) -> Found:
    """List the performances below `folder`. Every MIDI file in it is either an item or refused, links not followed.

    Raises:
        SourceError: there is no MIDI file, or the folder's table lacks a column.
    """
    there = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.is_symlink()
    )
    if not there:
        raise SourceError(f"{folder}: no MIDI file ({', '.join(SUFFIXES)}) in this folder")
    for name, layout in LAYOUTS.items():
        if (folder / layout.table).is_file():
            return _listed(folder, name, layout, there)
    return Found("midi", [Item(file) for file in there], [])


def table_rows(folder: Path, layout: Layout) -> list[dict[str, str]]:
    """The rows of a collection's table.

    Raises:
        SourceError: a column is missing, or the table is no UTF-8 text.
    """
    path = folder / layout.table
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            absent = [c for c in (layout.file, layout.composer, layout.title) if c not in (reader.fieldnames or ())]
            if absent:
                raise SourceError(f"{path}: column(s) {', '.join(absent)} missing")
            return [{k: v or "" for k, v in row.items() if k is not None} for row in reader]
    except UnicodeDecodeError as error:
        raise SourceError(f"{path}: must be UTF-8 text: {error}") from error


def _listed(folder: Path, name: str, layout: Layout, there: list[str]) -> Found:
    items: dict[str, Item] = {}
    refused: list[tuple[str, str, str]] = []
    known = set(there)
    for row in table_rows(folder, layout):
        file = row[layout.file]
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts:
            refused.append((file, OUTSIDE, file))
        elif file in items:
            refused.append((file, REPEATED, file))
        elif file not in known:
            refused.append((file, ABSENT, layout.table))
        else:
            items[file] = Item(file, row[layout.composer] or None, row[layout.title] or None)
    refused += [(file, UNLISTED, layout.table) for file in there if file not in items]
    return Found(name, sorted(items.values()), refused)
