"""Where PercePiano's files lie, whether they are all there, and how to get them from their public repository."""

import errno
import hashlib
import lzma
import os
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from filelock import FileLock

from piano_assets.store.parts import file_sha256

RATINGS_FILE = "labels/total_2rounds.csv"
PERFORMANCES = "virtuoso/data/all_2rounds"
SCORES = "virtuoso/data/score_midi"

COMMIT = "e672299b8661f63802cd5cd73bb3c76218a13029"
URL = f"https://codeload.github.com/JonghoKimSNU/PercePiano/zip/{COMMIT}"
CHECKSUM = "db7f243b93aec2b5f82f29e53697271e9710716810db63afa81e606a5d29f73d"
"""`checksum` of the needed files at `COMMIT`."""

BLOCK = 2**14
"""Bytes written at a time: at most so many are lost when a transfer breaks."""

MAX_BYTES = 2**30
"""Most bytes that a download may have, packed or unpacked (the archive unpacks to 35 MB)."""

_ADVICE = "set PERCEPIANO_DIR to a folder that holds the corpus, or try again later"

# What zipfile raises on a damaged archive, found by mutating archives at random.
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, UnicodeDecodeError)

Progress = Callable[[int, int], None]


class SourceError(RuntimeError):
    """The corpus is not there, not whole, not the right one, or cannot be had; the message says which."""


def locate(corpus_dir: str | None, data_dir: Path) -> Path | None:
    """The folder of the corpus: the one given by the environment (`PERCEPIANO_DIR`), else `data_dir`/percepiano/source.

    None when none is given and none was downloaded.

    Raises:
        SourceError: the given folder is not there; a wrong setting does not fall back to another corpus.
    """
    if corpus_dir:
        folder = Path(corpus_dir).expanduser()
        if not folder.is_dir():
            raise SourceError(f"PERCEPIANO_DIR={corpus_dir!r} is not a folder")
        return folder
    folder = data_dir / "percepiano" / "source"
    return folder if folder.is_dir() else None


def needed_files(folder: Path) -> list[Path]:
    """The files of the corpus that are used: ratings, performances and scores, sorted."""
    ratings = [folder / RATINGS_FILE] if (folder / RATINGS_FILE).is_file() else []
    return sorted(ratings + [p for part in (PERFORMANCES, SCORES) for p in (folder / part).glob("*.mid")])


def verify(folder: Path) -> None:
    """Check that `folder` has the parts that a corpus needs.

    Raises:
        SourceError: lists every part that is missing.
    """
    missing = [] if (folder / RATINGS_FILE).is_file() else [RATINGS_FILE]
    missing += [f"{part}/*.mid" for part in (PERFORMANCES, SCORES) if not any((folder / part).glob("*.mid"))]
    if missing:
        raise SourceError(f"{folder} is no PercePiano corpus: {', '.join(missing)} missing")


def checksum(folder: Path) -> str:
    """SHA-256 over the sorted (relative path, SHA-256) of `needed_files`."""
    lines = sorted((p.relative_to(folder).as_posix(), file_sha256(p)) for p in needed_files(folder))
    return hashlib.sha256("".join(f"{name}\0{sha}\n" for name, sha in lines).encode()).hexdigest()


def download(
    destination: Path,
    url: str = URL,
    expected: str = CHECKSUM,
    progress: Progress | None = None,
    attempts: int = 5,
    timeout_s: float = 30.0,
    backoff_s: float = 1.0,
) -> Path:
    """Fetch the archive, unpack the needed files, and publish them at `destination` in one step.

    A broken transfer goes on where it stopped, in this call or in the next one (`<destination>.zip.part`), when the
    server allows it, and begins anew when not. `destination` comes into being only after its content has passed
    `checksum`. An existing destination with the expected content is left alone.

    Args:
        progress: called with (bytes so far, bytes in all or 0 where the server does not say).
        timeout_s: longest silence of the server.
        backoff_s: pause after the first failure; it doubles after each further one.

    Raises:
        SourceError: the server could not be reached or kept failing, or what came is not the corpus.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(destination.name + ".zip.part")
    with FileLock(destination.with_name(destination.name + ".lock")):
        if destination.exists():
            if checksum(destination) == expected:
                return destination
            raise SourceError(f"{destination} exists with other content than expected: move it away and try again")
        problem = "nothing tried"
        for attempt in range(attempts):
            if attempt:
                time.sleep(backoff_s * 2 ** (attempt - 1))
            stopped = transfer(url, part, timeout_s, progress)
            if stopped is None:
                try:
                    stopped = _publish(part, destination, expected)
                finally:
                    part.unlink()  # used up, or wrong: going on from it cannot help
            if stopped is None:
                return destination
            problem = stopped
    raise SourceError(f"{url}: {problem} ({attempts} attempts); {_ADVICE}")


def transfer(url: str, part: Path, timeout_s: float, progress: Progress | None = None) -> str | None:
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
                raise SourceError(f"{url}: the server answers {answer.status_code} {answer.reason}; {_ADVICE}")
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
                        raise SourceError(f"{url}: more than {MAX_BYTES} bytes came; {_ADVICE}")
                    if progress is not None:
                        progress(have, total)
    except requests.RequestException as error:
        return f"{type(error).__name__}: {error}"
    return f"{have} of {total} bytes came" if total and have != total else None


def _discard(part: Path) -> str:
    part.unlink()
    return "the server does not go on from what was there"


def _publish(archive: Path, destination: Path, expected: str) -> str | None:
    """Unpack beside `destination`, check, rename; in one line what is wrong with a damaged archive.

    Raises:
        SourceError: an archive that is sound, and not the corpus.
    """
    with tempfile.TemporaryDirectory(dir=destination.parent, prefix=f".{destination.name}.") as temporary:
        unpacked = Path(temporary) / "corpus"
        try:
            unpack(archive, unpacked)
        except _DAMAGED as error:
            return f"the archive is damaged: {type(error).__name__} {error}"
        except OSError as error:
            if error.errno not in (None, errno.EINVAL):  # a full disk is not the archive's fault
                raise
            return f"the archive is damaged: {error}"
        verify(unpacked)
        found = checksum(unpacked)
        if found != expected:
            raise SourceError(f"the archive's content has the checksum {found}, not {expected}; {_ADVICE}")
        os.replace(unpacked, destination)
    return None


def unpack(archive: Path, folder: Path) -> None:
    """Unpack the needed files of a repository archive, without its top folder, and nothing else.

    Raises:
        SourceError: a member would land outside `folder`, or the content is larger than `MAX_BYTES`.
        zipfile.BadZipFile and others of `_DAMAGED`: no zip file, or a member that does not unpack.
    """
    with zipfile.ZipFile(archive) as members:
        if sum(m.file_size for m in members.infolist()) > MAX_BYTES:
            raise SourceError(f"the archive unpacks to more than {MAX_BYTES} bytes")
        for member in members.infolist():
            path = PurePosixPath(member.filename)
            if path.is_absolute() or ".." in path.parts or "\\" in member.filename:
                raise SourceError(f"the archive's member {member.filename!r} would leave its folder")
            inside = PurePosixPath(*path.parts[1:])
            wanted = inside.suffix == ".mid" and inside.parent.as_posix() in (PERFORMANCES, SCORES)
            if not (wanted or inside.as_posix() in (RATINGS_FILE, "LICENSE")):
                continue
            if member.flag_bits & 1:
                raise zipfile.BadZipFile(f"member {member.filename!r} is encrypted")
            target = folder / inside
            target.parent.mkdir(parents=True, exist_ok=True)
            with members.open(member) as source, target.open("wb") as sink:
                shutil.copyfileobj(source, sink)
