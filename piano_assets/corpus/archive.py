"""Get an archive from a public address: go on where a transfer broke, unpack, check, publish in one step."""

import errno
import lzma
import os
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from filelock import FileLock

BLOCK = 2**14
"""Bytes written at a time: at most so many are lost when a transfer breaks."""

MAX_BYTES = 2**30
"""Most bytes that a download may have, packed or unpacked."""

# What zipfile raises on a damaged archive, found by mutating archives at random.
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, UnicodeDecodeError)

Progress = Callable[[int, int], None]


class SourceError(RuntimeError):
    """The music is not there, not whole, not the right one, or cannot be had; the message says which."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A zip file at a public address, and what is made of it.

    Attributes:
        wanted: whether a member is needed, by its path below the archive's top folder.
        check: raises `SourceError` where an archive (first path), sound and unpacked to a folder (second path), is not
            what was expected.
        intact: whether a folder that is there already has the content that is expected.
        advice: what to do where it cannot be had.
    """

    url: str
    wanted: Callable[[PurePosixPath], bool]
    check: Callable[[Path, Path], None]
    intact: Callable[[Path], bool]
    advice: str


def download(
    archive: Archive,
    destination: Path,
    progress: Progress | None = None,
    attempts: int = 5,
    timeout_s: float = 30.0,
    backoff_s: float = 1.0,
) -> Path:
    """Fetch an archive, unpack what is wanted of it, and publish that at `destination` in one step.

    A broken transfer goes on where it stopped, in this call or in the next one (`<destination>.zip.part`), when the
    server allows it, and begins anew when not. `destination` comes into being only after its content has passed
    `archive.check`. An existing destination with the expected content is left alone.

    Args:
        progress: called with (bytes so far, bytes in all or 0 where the server does not say).
        timeout_s: longest silence of the server.
        backoff_s: pause after the first failure; it doubles after each further one.

    Raises:
        SourceError: the server could not be reached or kept failing, or what came is not what was expected.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(destination.name + ".zip.part")
    with FileLock(destination.with_name(destination.name + ".lock")):
        if destination.exists():
            if archive.intact(destination):
                return destination
            raise SourceError(f"{destination} exists with other content than expected: move it away and try again")
        problem = "nothing tried"
        for attempt in range(attempts):
            if attempt:
                time.sleep(backoff_s * 2 ** (attempt - 1))
            stopped = transfer(archive.url, part, timeout_s, progress, archive.advice)
            if stopped is None:
                try:
                    stopped = _publish(archive, part, destination)
                finally:
                    part.unlink()  # used up, or wrong: going on from it cannot help
            if stopped is None:
                return destination
            problem = stopped
    raise SourceError(f"{archive.url}: {problem} ({attempts} attempts); {archive.advice}")


def transfer(
    url: str, part: Path, timeout_s: float, progress: Progress | None = None, advice: str = "try again later"
) -> str | None:
    """Add what is missing to `part`; None when the server says that it is whole, else what stopped it, in one line.

    Raises:
        SourceError: the server refuses the request, or sends more than `MAX_BYTES`; asking again cannot help.
    """
    import requests

    have = part.stat().st_size if part.exists() else 0
    try:
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        with requests.get(url, headers=headers, stream=True, timeout=timeout_s) as answer:
            if answer.status_code == 416:  # nothing follows what we have: it is whole, or not what the server has now
                return None if zipfile.is_zipfile(part) else _discard(part)
            if 400 <= answer.status_code < 500 and answer.status_code not in (408, 425, 429):
                raise SourceError(f"{url}: the server answers {answer.status_code} {answer.reason}; {advice}")
            answer.raise_for_status()
            if answer.status_code != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
                have = 0  # the server cannot go on in the middle: begin anew
            length = answer.headers.get("Content-Length", "")
            total = have + int(length) if length.isdigit() else 0
            with part.open("ab" if have else "wb") as file:
                for block in answer.iter_content(BLOCK):
                    have += file.write(block)
                    if have > MAX_BYTES:
                        part.unlink()
                        raise SourceError(f"{url}: more than {MAX_BYTES} bytes came; {advice}")
                    if progress is not None:
                        progress(have, total)
    except requests.RequestException as error:
        return f"{type(error).__name__}: {error}"
    return f"{have} of {total} bytes came" if total and have != total else None


def _discard(part: Path) -> str:
    part.unlink()
    return "the server does not go on from what was there"


def _publish(archive: Archive, file: Path, destination: Path) -> str | None:
    """Unpack beside `destination`, check, rename; in one line what is wrong with a damaged archive.

    Raises:
        SourceError: an archive that is sound, and not the expected one.
    """
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as temporary:
        unpacked = Path(temporary) / "unpacked"
        try:
            unpack(file, unpacked, archive.wanted)
        except _DAMAGED as error:
            return f"the archive is damaged: {type(error).__name__} {error}"
        except OSError as error:
            if error.errno not in (None, errno.EINVAL):  # a full disk is not the archive's fault
                raise
            return f"the archive is damaged: {error}"
        archive.check(file, unpacked)
        os.replace(unpacked, destination)
    return None


def unpack(file: Path, folder: Path, wanted: Callable[[PurePosixPath], bool]) -> None:
    """Unpack the wanted files of an archive, without its top folder, and nothing else.

    Raises:
        SourceError: a member would land outside `folder`, or the content is larger than `MAX_BYTES`.
        zipfile.BadZipFile and others of `_DAMAGED`: no zip file, or a member that does not unpack.
    """
    with zipfile.ZipFile(file) as members:
        if sum(m.file_size for m in members.infolist()) > MAX_BYTES:
            raise SourceError(f"the archive unpacks to more than {MAX_BYTES} bytes")
        for member in members.infolist():
            path = PurePosixPath(member.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
                raise SourceError(f"the archive's member {member.filename!r} would leave its folder")
            inside = PurePosixPath(*path.parts[1:])
            if member.is_dir() or not wanted(inside):
                continue
            if member.flag_bits & 1:
                raise zipfile.BadZipFile(f"member {member.filename!r} is encrypted")
            target = folder / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            with members.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
