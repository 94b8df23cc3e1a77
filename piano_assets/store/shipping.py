"""Shipped parts: the results of long sweeps, kept with the code so that nobody has to wait for them again.

A store reads them where their key fits, so that leaderboard, tests and reports can be rebuilt anywhere. They are a
compact copy: predictions keep half precision's eleven bits, a thousandth of the spread of what listeners say.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from piano_assets.store.parts import Part, Store, read_part

LARGEST_MB = 24.0


class TooLarge(ValueError):
    """More than a repository should carry."""


def ship(parts: Iterable[Part], to: Store, largest_mb: float = LARGEST_MB) -> float:
    """Replace the shipped parts by copies of these, all or nothing; returns their size in MB.

    Args:
        parts: of `predictions`, `history`, `members` and `runs`; those that are shipped already may be among them.
        to: the store of shipped parts; its folder is replaced.

    Raises:
        TooLarge: the copies take more than `largest_mb`; what was shipped stays as it is.
    """
    new = Store(to.root.with_name(f".{to.root.name}.unfinished"))
    shutil.rmtree(new.root, ignore_errors=True)
    for part in parts:
        frame = read_part(part).to_pandas()
        for column in ("value", "std"):
            if column in frame:
                frame[column] = frame[column].to_numpy().astype(np.float16).astype(np.float32)
        new.write(part.table, frame, key=part.key, name=part.name, **part.record)
    size = megabytes(new.root)
    if size > largest_mb:
        shutil.rmtree(new.root)
        raise TooLarge(f"{to.root}: the parts take {size:.1f} MB, and at most {largest_mb:g} MB are shipped")
    shutil.rmtree(to.root, ignore_errors=True)
    new.root.replace(to.root)
    return size


def megabytes(folder: Path) -> float:
    """What the files below a folder take."""
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 2**20
