"""A bucket between machines: finished runs by part key, each in a manifest that names its files by their content.

A store stays on local files: its readers map arrays, hold locks and open a database there, and a planner asks for
thousands of footers. What took hours to train is what machines need of each other, so that alone is exchanged. An
object is named by its SHA-256 and never changes; a manifest is put when all its objects are there. So a listing of
manifests says what stands, versions of the code share a bucket, and machines that give at once do no harm.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import fsspec

from piano_assets.store.checkpoints import checkpoint_folder, replaced
from piano_assets.store.parts import Part, Store, file_sha256, published


class BucketError(ValueError):
    """An object that is not what its name says; the message gives both values."""


class Bucket:
    """The finished runs of one corpus below a URL that fsspec knows, as `s3://bucket/prefix`.

    Args:
        tables: those that a run has; the last of them vouches for the others.

    Raises:
        ValueError: a protocol that fsspec does not know.
        ImportError: its file system is not installed (of S3: extra `s3`).
    """

    def __init__(self, url: str, corpus: str, tables: Sequence[str]) -> None:
        self.files, path = fsspec.url_to_fs(url)
        self.root = f"{path.rstrip('/')}/{corpus}"
        self.tables = tuple(tables)

    def runs(self) -> set[tuple[str, str]]:
        """(name, part key) of every run, from one listing."""
        self.files.invalidate_cache()
        folder = f"{self.root}/runs/"
        paths = (path.rpartition(folder)[2].removesuffix(".json") for path in self.files.find(folder))
        return {(name, key) for name, _, key in (path.rpartition("/") for path in paths)}

    def put(self, store: Store, run: Part) -> None:
        """Give a finished run of this store: its tables, and its checkpoints if they are kept.

        Raises:
            FileNotFoundError: a table of the run is missing; nothing is given then.
        """
        tables = {table: store.part(table, run.name, key=run.key) for table in self.tables}
        if absent := [table for table, part in tables.items() if part is None]:
            raise FileNotFoundError(f"{', '.join(absent)}/{run.name} with key {run.key}: missing in {store.root}")
        folder = checkpoint_folder(store.root, run.name)
        manifest = {
            "tables": {table: self._give(part.path) for table, part in tables.items() if part is not None},
            "checkpoints": {
                path.relative_to(folder).as_posix(): self._give(path) for path in sorted(folder.glob("*/*"))
            },
        }
        self._write(self._manifest(run.name, run.key), json.dumps(manifest, indent=1).encode())

    def get(self, store: Store, name: str, key: str) -> None:
        """Take a run into this store: checkpoints first, and the table that vouches last.

        Raises:
            FileNotFoundError: the bucket does not have it.
            BucketError: an object is damaged, or a table has another key; nothing vouches for the run then.
        """
        manifest = json.loads(self.files.cat_file(self._manifest(name, key)))
        if checkpoints := manifest["checkpoints"]:
            with replaced(checkpoint_folder(store.root, name)) as folder:
                self._take_all(checkpoints, folder)
        for table in self.tables:
            with published(store.path(table, name)) as temporary:
                self._take(manifest["tables"][table], temporary)
            found = store.part(table, name)
            if found is None or found.key != key:
                raise BucketError(f"{self.root}: {table}/{name} has key {found and found.key}, expected {key}")

    def _take_all(self, files: Mapping[str, str], folder: Path) -> None:
        for relative, sha256 in files.items():
            path = folder / relative
            if not path.resolve().is_relative_to(folder.resolve()):
                raise BucketError(f"{self.root}: {relative!r} leads out of the folder of checkpoints")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._take(sha256, path)

    def _take(self, sha256: str, path: Path) -> None:
        self.files.get_file(self._object(sha256), str(path))
        if (found := file_sha256(path)) != sha256:
            raise BucketError(f"{self._object(sha256)}: sha256 is {found}: the object was changed or cut")

    def _give(self, path: Path) -> str:
        content = path.read_bytes()
        sha256 = hashlib.sha256(content).hexdigest()
        self._write(self._object(sha256), content)
        return sha256

    def _write(self, path: str, content: bytes) -> None:
        self.files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self.files.pipe_file(path, content)

    def _object(self, sha256: str) -> str:
        return f"{self.root}/objects/{sha256}"

    def _manifest(self, name: str, key: str) -> str:
        return f"{self.root}/runs/{name}/{key}.json"
