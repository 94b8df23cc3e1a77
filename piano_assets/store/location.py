"""Where the data of a corpus lie: `PIANO_DATA` (default `data`) and `PIANO_CORPUS` (default `percepiano`)."""

import os
from pathlib import Path

from piano_assets.store.parts import Store

CORPORA = ("percepiano", "synthetic")
SHIPPED = Path(__file__).parents[2] / "results"


def open_store(root: str | None = None, corpus: str | None = None) -> Store:
    """The store that the environment names; arguments override it.

    Raises:
        ValueError: an unknown corpus.
    """
    corpus = corpus or os.environ.get("PIANO_CORPUS", "percepiano")
    if corpus not in CORPORA:
        raise ValueError(f"PIANO_CORPUS={corpus!r} must be one of {CORPORA}")
    folder = Path(root or os.environ.get("PIANO_DATA", "data")) / corpus
    shipped = SHIPPED / corpus
    return Store(folder, shipped if shipped.is_dir() else None)
