"""Whether a data folder can take what is about to be computed: asked before, since hours of work end with a write."""

import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from piano_assets.store.parts import published

WRITTEN = ("parts", "work", "checkpoints")
"""Folders that a training writes to; each may lie on a disk of its own."""

MARGIN = 2**29
"""Bytes that must stay free: results, report and a new snapshot follow a training."""


class StoreError(OSError):
    """The data folder cannot be written, or has too little room; the message names it, the rule and the values."""


def require_writable(root: Path) -> None:
    """Publish and remove a probe file where a training will write.

    Raises:
        StoreError: naming the folder and what the system says.
    """
    for name in WRITTEN:
        # What a killed process leaves of it has the name of a temporary file, which `piano gc` removes.
        probe = root / name / f".probe.{uuid.uuid4().hex}.tmp"
        try:
            with published(probe) as temporary:
                temporary.write_bytes(b"probe")
            probe.unlink()
        except OSError as error:
            raise StoreError(
                f"{root / name} must be writable before anything is trained: {error.strerror or error}"
            ) from error


def require_room(
    root: Path, needed: int, margin: int = MARGIN, usage: Callable[[Path], Any] = shutil.disk_usage
) -> None:
    """Refuse to start where the disk cannot take `needed` bytes and keep `margin` free.

    Raises:
        StoreError: naming the folder, free and needed bytes, and what to do.
    """
    free = usage(root).free
    if free < needed + margin:
        raise StoreError(
            f"{root} has {free / 1e6:,.0f} MB free and must have {(needed + margin) / 1e6:,.0f} MB "
            f"({needed / 1e6:,.0f} MB for what is trained, {margin / 1e6:,.0f} to spare) before anything is trained: "
            "make room (piano gc shows what nobody reads any more), or let PIANO_DATA name a folder on another disk"
        )
