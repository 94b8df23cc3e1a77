"""MAESTRO v3.0.0 (Hawthorne et al. 2019): 1,276 performances at the International Piano-e-Competition, as MIDI.

The MIDI-only archive, 56 MB, under CC BY-NC-SA 4.0; address and checksum as its page gives them
(https://magenta.tensorflow.org/datasets/maestro).
"""

import os
from pathlib import Path, PurePosixPath

from piano_assets.corpus import archive
from piano_assets.corpus.archive import Progress, SourceError
from piano_assets.corpus.pretraining.folders import LAYOUTS, table_rows
from piano_assets.store.parts import file_sha256

NAME = "maestro-v3.0.0"
URL = f"https://storage.googleapis.com/magentadata/datasets/maestro/v3.0.0/{NAME}-midi.zip"
SHA256 = "70470ee253295c8d2c71e6d9d4a815189e35c89624b76d22fce5a019d5dde12c"
"""Of the archive."""

VARIABLE = "PIANO_PRETRAINING_DIR"
_ADVICE = f"set {VARIABLE} to a folder of piano MIDI (MAESTRO's or ASAP's layout, or any), or try again later"


def obtain(data_dir: Path, progress: Progress | None = None) -> Path:
    """The folder of the pretraining music: `PIANO_PRETRAINING_DIR`, else MAESTRO, downloaded below `data_dir`.

    Raises:
        SourceError: the given folder is not there (nothing falls back), or MAESTRO cannot be had.
    """
    given = os.environ.get(VARIABLE)
    if given:
        folder = Path(given).expanduser()
        if not folder.is_dir():
            raise SourceError(f"{VARIABLE}={given!r} is not a folder")
        return folder
    return download(data_dir / "pretraining" / NAME, progress=progress)


def download(
    destination: Path,
    url: str = URL,
    expected: str = SHA256,
    progress: Progress | None = None,
    attempts: int = 5,
    timeout_s: float = 30.0,
    backoff_s: float = 1.0,
) -> Path:
    """Fetch the archive and publish its table and performances at `destination`, as `archive.download` does.

    Raises:
        SourceError: the server could not be reached or kept failing, or what came is not MAESTRO v3.0.0.
    """

    def check(file: Path, unpacked: Path) -> None:
        found = file_sha256(file)
        if found != expected:
            raise SourceError(f"the archive has the SHA-256 {found}, not {expected}; {_ADVICE}")
        absent = missing(unpacked)
        if absent:
            raise SourceError(f"the archive lacks {len(absent)} of its performances, first {absent[0]!r}; {_ADVICE}")

    what = archive.Archive(
        url=url, wanted=_wanted, check=check, intact=lambda folder: not missing(folder), advice=_ADVICE
    )
    return archive.download(what, destination, progress, attempts, timeout_s, backoff_s)


def missing(folder: Path) -> list[str]:
    """What a folder lacks to be MAESTRO: its table, else the files that the table names."""
    layout = LAYOUTS["maestro"]
    if not (folder / layout.table).is_file():
        return [layout.table]
    return [row[layout.file] for row in table_rows(folder, layout) if not (folder / row[layout.file]).is_file()]


def _wanted(inside: PurePosixPath) -> bool:
    return inside.suffix == ".midi" or inside.name in (f"{NAME}.csv", "LICENSE", "README")
