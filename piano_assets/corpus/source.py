"""Where PercePiano's files lie, whether they are all there, and how to get them from their public repository."""

import hashlib
from pathlib import Path, PurePosixPath

from piano_assets.corpus import archive
from piano_assets.corpus.archive import Progress, SourceError
from piano_assets.store.parts import file_sha256

RATINGS_FILE = "labels/total_2rounds.csv"
PERFORMANCES = "virtuoso/data/all_2rounds"
SCORES = "virtuoso/data/score_midi"

COMMIT = "e672299b8661f63802cd5cd73bb3c76218a13029"
URL = f"https://codeload.github.com/JonghoKimSNU/PercePiano/zip/{COMMIT}"
CHECKSUM = "db7f243b93aec2b5f82f29e53697271e9710716810db63afa81e606a5d29f73d"
"""`checksum` of the needed files at `COMMIT`."""

_ADVICE = "set PERCEPIANO_DIR to a folder that holds the corpus, or try again later"


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
    """Fetch the archive and publish the needed files at `destination`, as `archive.download` does.

    Raises:
        SourceError: the server could not be reached or kept failing, or what came is not the corpus.
    """

    def check(_: Path, unpacked: Path) -> None:
        verify(unpacked)
        found = checksum(unpacked)
        if found != expected:
            raise SourceError(f"the archive's content has the checksum {found}, not {expected}; {_ADVICE}")

    what = archive.Archive(
        url=url, wanted=wanted, check=check, intact=lambda folder: checksum(folder) == expected, advice=_ADVICE
    )
    return archive.download(what, destination, progress, attempts, timeout_s, backoff_s)


def wanted(inside: PurePosixPath) -> bool:
    """Whether a member of the archive is needed, by its path below the top folder."""
    midi = inside.suffix == ".mid" and inside.parent.as_posix() in (PERFORMANCES, SCORES)
    return midi or inside.as_posix() in (RATINGS_FILE, "LICENSE")
