"""In which line of a TOML text a key stands: the standard library's parser keeps no lines."""

import re
from collections.abc import Iterator

_HEADER = re.compile(r"^\s*\[+\s*(?P<key>[^\]]+?)\s*\]+")
_ASSIGNMENT = re.compile(r"^\s*(?P<key>(?:\"[^\"]*\"|'[^']*'|[\w-]+)(?:\s*\.\s*(?:\"[^\"]*\"|'[^']*'|[\w-]+))*)\s*=")
_PART = re.compile(r"\"([^\"]*)\"|'([^']*)'|([\w-]+)")


def line_of(text: str, path: tuple[str, ...]) -> int:
    """The line, from 1, of the key that `path` leads to, or of the nearest key above it; 1 where there is none.

    A quoted key with dots, `"model.dropout"`, counts as the path that it spells.
    """
    path = tuple(part for key in path for part in key.split("."))
    best, found = 0, 1
    for number, keys in _keys(text):
        shared = next(
            (i for i, (a, b) in enumerate(zip(keys, path, strict=False)) if a != b), min(len(keys), len(path))
        )
        if shared == len(keys) > best:
            best, found = shared, number
    return found


def _keys(text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _split(header["key"])
            yield number, table
        elif assignment := _ASSIGNMENT.match(line):
            yield number, table + _split(assignment["key"])


def _split(key: str) -> tuple[str, ...]:
    return tuple(part for found in _PART.findall(key) for part in "".join(found).split("."))
