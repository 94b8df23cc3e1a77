"""Checkpoints: a folder with one model and the record that says what it is. No pickle.

Networks are safetensors. Tabular models are skops, which holds scikit-learn's and LightGBM's own state and builds
only the types listed here. A folder is written beside and renamed, so it is whole or absent.
"""

import json
import os
import shutil
import uuid
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from piano_assets.store.parts import checked_name, contained, file_sha256, naming

RECORD = "record.json"
FORMATS = (".safetensors", ".skops")

TRUSTED: tuple[str, ...] = (
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMRegressor",
    "numpy.dtype",
    "piano_assets.models.relevance.RelevanceKernelRidge",
    "piano_assets.models.tabular.RelativeKernelRidge",
    "piano_assets.models.tabular.TopFeatures",
    "sklearn.tree._tree.Tree",
)
"""Types that a tabular checkpoint may build beyond those that skops itself trusts."""


class CheckpointError(ValueError):
    """A checkpoint that is damaged, or is not the one that was asked for; the message gives both values."""


def save_checkpoint(folder: Path, record: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Write `model` with `record` to `folder`, replacing what is there. Returns the record as written.

    Args:
        record: JSON-able; `file`, `sha256` and `n_bytes` are added.
        model: name -> array for a network, or a fitted scikit-learn estimator.
    """
    with replaced(folder) as temporary:
        return write_model(temporary, record, model)


def write_model(folder: Path, record: Mapping[str, Any], model: Any) -> dict[str, Any]:
    """Write model and record into an existing folder (one that the caller publishes)."""
    if isinstance(model, Mapping):
        from safetensors.numpy import save

        path = folder / "model.safetensors"
        # Not `save_file`: what a full disk makes it raise is no error of the system.
        path.write_bytes(save({name: np.ascontiguousarray(value) for name, value in model.items()}))
    else:
        import skops.io

        path = folder / "model.skops"
        skops.io.dump(model, path, compression=zipfile.ZIP_DEFLATED, compresslevel=1)
    written = {**record, "file": path.name, "sha256": file_sha256(path), "n_bytes": path.stat().st_size}
    (folder / RECORD).write_text(json.dumps(written, indent=1, allow_nan=False))
    return written


def read_record(folder: Path) -> dict[str, Any]:
    """The record of a checkpoint.

    Raises:
        FileNotFoundError: there is none.
    """
    path = folder / RECORD
    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint in {folder}: {RECORD} is missing")
    return json.loads(path.read_text())


def load_checkpoint(folder: Path, **expected: Any) -> tuple[dict[str, Any], Any]:
    """Read a checkpoint: (record, name -> array or fitted estimator).

    Args:
        expected: fields of the record with the values they must have, such as `part_key` and `fold`.
    Raises:
        FileNotFoundError: there is none.
        CheckpointError: a field differs, the file was changed or cut short, or it holds a type that is not trusted.
    """
    record = read_record(folder)
    for name, value in expected.items():
        if record.get(name) != value:
            raise CheckpointError(f"{folder}: {name} is {record.get(name)!r}, expected {value!r}")
    path = folder / Path(record["file"]).name
    if path.suffix not in FORMATS:
        raise CheckpointError(f"{path}: must be one of {FORMATS}; nothing else is loaded")
    if not path.is_file():
        raise CheckpointError(f"{folder}: {path.name} is missing, expected sha256 {record['sha256']}")
    found = file_sha256(path)
    if found != record["sha256"]:
        raise CheckpointError(f"{path}: sha256 is {found}, expected {record['sha256']}: the file was changed or cut")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            return record, load_file(path)
        except SafetensorError as error:
            raise CheckpointError(f"{path}: must be safetensors: {error}") from error
    import skops.io

    if not zipfile.is_zipfile(path) or "schema.json" not in zipfile.ZipFile(path).namelist():
        raise CheckpointError(f"{path}: must be an archive that skops wrote, and is none")
    untrusted = sorted(set(skops.io.get_untrusted_types(file=path)) - set(TRUSTED))
    if untrusted:
        raise CheckpointError(f"{path}: type {untrusted[0]!r} is not trusted; trusted: {TRUSTED}")
    return record, skops.io.load(path, trusted=list(TRUSTED))


def checkpoint_folder(root: Path, name: str) -> Path:
    """Where the checkpoints of a partition lie: one folder per fold below it. `name` as its parts have it.

    Raises:
        ValueError: a name with characters that a part name may not have.
    """
    return root / "checkpoints" / checked_name(name)


def work_folder(root: Path, part_key: str) -> Path:
    """Where the finished folds of an unfinished run wait; removed once the run is published."""
    return root / "work" / checked_name(part_key)


def refuse_links(root: Path, name: str, part_key: str) -> None:
    """Refuse to train a partition whose checkpoints or work folder would be written through a link.

    Raises:
        ValueError: a link leads out of the folder of all checkpoints, or of all work.
    """
    contained(root / "checkpoints", checkpoint_folder(root, name))
    contained(root / "work", work_folder(root, part_key) / "fold")


@contextmanager
def replaced(folder: Path) -> Iterator[Path]:
    """A new temporary folder beside `folder`, put in its place on success and removed on failure."""
    stem = f".{folder.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}"
    temporary, old = folder.with_name(f"{stem}.tmp"), folder.with_name(f"{stem}.old")
    temporary.mkdir(parents=True)
    try:
        with naming(folder):
            yield temporary
        # A full folder cannot be renamed onto another, so the old one steps aside first.
        if folder.exists():
            folder.rename(old)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if old.is_symlink():  # what it leads to is another's
            old.unlink()
        shutil.rmtree(old, ignore_errors=True)


def networks(root: Path) -> Iterator[Path]:
    """The checkpoint folders of all kept networks of a corpus."""
    yield from sorted(path.parent for path in (root / "checkpoints").rglob("model.safetensors"))
