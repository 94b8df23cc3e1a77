"""The folder of a corpus' own files: given, downloaded, or generated. Nothing falls back silently."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from piano_assets.corpus.source import download, locate, verify


def obtain(corpus: str, root: Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """Make sure that the files of `corpus` are there, and return their folder, in PercePiano's layout.

    `percepiano`: `PERCEPIANO_DIR`, else `<root>/source`, else downloaded to it and verified by checksum.
    `synthetic`: generated at `<root>/source`.

    Args:
        root: data folder of the corpus, `data/<corpus>`.

    Raises:
        SourceError: the corpus cannot be had; the message says why and what to do.
    """
    if corpus == "synthetic":
        return _generated(root / "source")
    folder = locate(os.environ.get("PERCEPIANO_DIR"), root.parent)
    if folder is None:
        folder = download(root / "source", progress=progress)
    verify(folder)
    return folder


def _generated(folder: Path) -> Path:
    """The synthetic corpus with its defaults, made beside and renamed, so that it is whole or absent."""
    from piano_assets.corpus.synthetic import write_synthetic

    if not folder.is_dir():
        beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
        shutil.rmtree(beside, ignore_errors=True)
        beside.parent.mkdir(parents=True, exist_ok=True)
        write_synthetic(beside)
        os.replace(beside, folder)
    return folder
