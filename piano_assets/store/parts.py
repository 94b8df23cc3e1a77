"""Parts: one Parquet file per (table, name), written to a temporary name and renamed, carrying its part key.

Parts are the truth. A part whose key fits what is asked for is reused; one whose key differs is stale and will be
replaced. Everything that reads or writes paths of the data folder lives in this room.
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from piano_assets.schemas import TABLES

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+=-]*(/[A-Za-z0-9_][A-Za-z0-9_.@+=-]*)*")
LONGEST = 200
"""Characters of a file's or folder's name: file systems take 255, and temporary names are longer."""
_RECORD = b"piano"


def digest(*values: Any) -> str:
    """Hash JSON-able values to 16 hexadecimal digits; equal values hash equal on every machine."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def file_sha256(path: Path) -> str:
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def checked_name(name: str) -> str:
    """The name of a part or of a folder of checkpoints, unless it could lead elsewhere or is too long for a file.

    Raises:
        ValueError: naming the rule and the name.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"part name {name!r} must match {_NAME.pattern}")
    if max(map(len, name.split("/"))) > LONGEST:
        raise ValueError(f"part name {name[:40]!r}... ({len(name)} characters) must have at most {LONGEST} a folder")
    return name


def contained(base: Path, path: Path) -> Path:
    """`path`, a file or folder that a name leads to below `base`, if its folder really lies there.

    The data folder and the folders with fixed names in it may be links, as their owner likes. Below them names of
    configs lead, and a link on their way would lead a write or a removal to where nobody looks.

    Raises:
        ValueError: a link leads out of `base`.
    """
    folder = path.parent.resolve()
    if not folder.is_relative_to(base.resolve()):
        raise ValueError(f"{path}: a link leads to {folder}, out of {base}: nothing is written or removed there")
    return path


@dataclass(frozen=True)
class Part:
    """One published part: where it lies, its key, the hash of its content, and its record."""

    table: str
    name: str
    path: Path
    key: str
    content_hash: str
    n_rows: int
    columns: tuple[str, ...]
    record: dict[str, Any]


@dataclass(frozen=True)
class Store:
    """The data folder of one corpus.

    Args:
        root: the corpus folder, `data/<corpus>`.
        shipped: a read-only folder of parts in the same layout, consulted where the key fits.
    """

    root: Path
    shipped: Path | None = None

    @property
    def corpus(self) -> str:
        return self.root.name

    def path(self, table: str, name: str) -> Path:
        """The file of a part. Names cannot leave the folder.

        Raises:
            ValueError: an unknown table or a name with characters that a part name may not have.
        """
        if table not in TABLES:
            raise ValueError(f"unknown table {table!r}; known: {', '.join(TABLES)}")
        return self.root / "parts" / table / f"{checked_name(name)}.parquet"

    def write(self, table: str, frame: pd.DataFrame, *, key: str, name: str = "all", **record: Any) -> Part:
        """Validate `frame` against its table and publish it atomically under `key`.

        Raises:
            schemas.TableError: the frame breaks the table's declaration; nothing is published.
            ValueError: a name that is none, or that a link leads out of the table's folder.
        """
        path = contained(self.root / "parts" / table, self.path(table, name))
        conformed = TABLES[table].conform(frame)
        content = _content_hash(conformed)
        meta = json.dumps({"key": key, "content_hash": content, "record": record}, allow_nan=False)
        conformed = conformed.replace_schema_metadata({_RECORD: meta.encode()})
        with published(path) as temporary:
            pq.write_table(conformed, temporary, compression="zstd")
        return Part(table, name, path, key, content, conformed.num_rows, _declared(table), record)

    def part(self, table: str, name: str = "all", *, key: str | None = None) -> Part | None:
        """Find a part, reading its footer only; None when there is none (or none with this key).

        A part with other columns than its table now declares fits no key: it must be made again.
        """
        for base in (self.root, self.shipped):
            if base is None:
                continue
            path = base / self.path(table, name).relative_to(self.root)
            found = read_footer(table, name, path)
            if found is not None and (key is None or (found.key == key and found.columns == _declared(table))):
                return found
        return None

    def exists(self, table: str, name: str) -> bool:
        """Whether there is a part, of whatever key; its file is not opened."""
        path = self.path(table, name).relative_to(self.root)
        return any(base is not None and (base / path).is_file() for base in (self.root, self.shipped))

    def require(self, table: str, name: str = "all") -> Part:
        """Find a part, or say which one is missing and how to make it."""
        found = self.part(table, name)
        if found is None:
            raise FileNotFoundError(
                f"part {table}/{name} is missing in {self.root}: materialize the asset {table!r} first (make run)"
            )
        return found

    def parts(self, table: str) -> Iterator[Part]:
        """All parts of a table in the data folder, by name."""
        folder = self.root / "parts" / table
        for path in sorted(folder.rglob("*.parquet")):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if _NAME.fullmatch(name):
                found = read_footer(table, name, path)
                if found is not None:
                    yield found

    def read(self, table: str, name: str | None = None, columns: list[str] | None = None) -> pd.DataFrame:
        """Read one part, or (name None) all parts of a table, one below the other; empty when there are none."""
        parts = list(self.parts(table)) if name is None else [self.require(table, name)]
        if not parts:
            return TABLES[table].empty()
        return pa.concat_tables([read_part(p, columns) for p in parts]).to_pandas()

    def ensure(
        self, table: str, name: str, key: str, make: Callable[[], pd.DataFrame], **record: Any
    ) -> tuple[Part, bool]:
        """Reuse the part if its key fits, else make and publish it. Returns (part, whether it was made)."""
        found = self.part(table, name, key=key)
        if found is not None:
            return found, False
        return self.write(table, make(), key=key, name=name, **record), True


def read_part(part: Part, columns: list[str] | None = None, dictionaries: list[str] | None = None) -> pa.Table:
    """The rows of a part. dictionaries: columns of text that are read as categories.

    The file is opened once: one that is replaced meanwhile is read to its end, as it was. (`pyarrow.parquet.read_table`
    opens it for the footer and again for the rows, and may find the footer of one file and the rows of another.)
    """
    with pq.ParquetFile(part.path, read_dictionary=dictionaries) as file:
        found = file.read(columns).replace_schema_metadata(None)
    return found if columns is None else found.select(columns)


def read_footer(table: str, name: str, path: Path) -> Part | None:
    """What the file at `path` says of itself as a part; None where there is none."""
    try:
        state = path.stat()
        return _footer(table, name, path, state.st_ino, state.st_size, state.st_mtime_ns)
    except FileNotFoundError:
        return None


@lru_cache(maxsize=1 << 16)
def _footer(table: str, name: str, path: Path, *_state: int) -> Part:
    """Read a footer once while the file is the same: parts are replaced, never written in place, and plans of thousands
    of partitions ask for those of the same corpus again and again."""
    found = pq.read_metadata(path)
    meta = json.loads(found.metadata[_RECORD])
    columns = tuple(found.schema.names)
    return Part(table, name, path, meta["key"], meta["content_hash"], found.num_rows, columns, meta["record"])


def _declared(table: str) -> tuple[str, ...]:
    return tuple(TABLES[table].columns)


def _content_hash(table: pa.Table) -> str:
    """Hash of the values, independent of compression, chunking and file format."""
    sink = hashlib.sha256()
    with pa.ipc.new_stream(pa.PythonFile(_Hasher(sink), mode="w"), table.schema) as stream:
        stream.write_table(table.combine_chunks(), max_chunksize=1 << 20)
    return sink.hexdigest()[:16]


class _Hasher:
    """A write-only file that keeps nothing but the hash of what is written."""

    closed = False

    def __init__(self, sink: "hashlib._Hash") -> None:
        self.sink = sink

    def write(self, data: bytes) -> int:
        self.sink.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""


class published:
    """Context manager: a temporary path beside `path`, renamed onto it on success and removed on failure."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.temporary = path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}.tmp")

    def __enter__(self) -> Path:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self.temporary

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        try:
            with naming(self.path):
                if error is not None:
                    raise error
                put_in_place(self.temporary, self.path)
        finally:
            self.temporary.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say which file an error of the system is about, such as a full disk, where the error does not say so itself."""
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, f"{os.strerror(error.errno)}; it is not written", str(path)) from error


def put_in_place(temporary: Path, path: Path) -> None:
    """Give a written file its name, once its bytes are on the disk."""
    with temporary.open("rb") as f:
        os.fsync(f.fileno())
    os.replace(temporary, path)


def write_file(path: Path, content: bytes) -> Path:
    """Publish a file atomically."""
    with published(path) as temporary:
        temporary.write_bytes(content)
    return path
