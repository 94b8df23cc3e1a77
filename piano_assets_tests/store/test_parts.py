"""Parts: validated, atomic, found by key."""

import errno
import os
import subprocess
import sys
import textwrap

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from piano_assets.schemas import TABLES, Table, TableError
from piano_assets.store.checkpoints import checkpoint_folder
from piano_assets.store.links import link
from piano_assets.store.parts import LONGEST, Store, digest, published, read_part, write_file


def labels(**changes) -> pd.DataFrame:
    row = {"clip": "a", "dimension": "timbre_soft_loud", "rule": "clean", "value": 0.5, "standard_error": 0.1}
    return pd.DataFrame([row | {"n_raters": 3} | changes])


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "synthetic")


def test_what_is_written_is_read(store):
    store.write("labels", labels(), key="k", name="clean")
    pd.testing.assert_frame_equal(store.read("labels", "clean"), labels(), check_dtype=False)


def test_a_part_is_found_by_its_key_only(store):
    made = store.write("labels", labels(), key="k", name="clean")
    assert store.part("labels", "clean", key="k") == made
    assert store.part("labels", "clean", key="other") is None
    assert store.part("labels", "published") is None


def test_ensure_makes_once(store):
    calls = []

    def make() -> pd.DataFrame:
        calls.append(1)
        return labels()

    assert store.ensure("labels", "clean", "k", make)[1]
    assert not store.ensure("labels", "clean", "k", make)[1]
    assert store.ensure("labels", "clean", "k2", make)[1]
    assert len(calls) == 2


def test_content_hash_is_of_the_values(store):
    one = store.write("labels", labels(), key="1", name="one")
    two = store.write("labels", labels(), key="2", name="two")
    three = store.write("labels", labels(value=0.51), key="2", name="three")
    assert one.content_hash == two.content_hash != three.content_hash


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (labels(value=1.5), r"'value'.*must be <= 1.*1\.5"),
        (labels(dimension="warmth"), "'dimension'.*must be one of.*warmth"),
        (labels(clip=None), "clip"),
        (labels().drop(columns="n_raters"), "missing column 'n_raters'"),
        (labels().assign(mood=1), "unknown column 'mood'"),
        (labels(n_raters="three"), "three"),
        (pd.concat([labels(), labels()]), "must be unique"),
    ],
)
def test_a_frame_that_breaks_its_table_is_refused_and_nothing_is_published(store, frame, message):
    with pytest.raises(TableError, match=message):
        store.write("labels", frame, key="k", name="clean")
    assert store.part("labels", "clean") is None


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/x", "a/../../b", "", "a b", "a//b", ".hidden", "a/.b", "..", "a\x00", "a\n", "é", "．．/x", "a\\b"],
)
def test_names_cannot_leave_the_folder(store, name):
    for lead in (lambda: store.path("labels", name), lambda: checkpoint_folder(store.root, name)):
        with pytest.raises(ValueError, match="must match"):
            lead()


def test_names_are_no_longer_than_a_file_system_takes(store):
    store.write("labels", labels(), key="k", name="a/" + "b" * LONGEST)
    with pytest.raises(ValueError, match="at most 200 a folder"):
        store.path("labels", "a/" + "b" * (LONGEST + 1))


def test_a_link_never_leads_a_write_outside(store, tmp_path):
    """A folder of a name is a link: refused. A file of a name is a link: the link is replaced, not what it leads to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    store.write("labels", labels(), key="k", name="clean")
    (store.root / "parts" / "labels" / "mine.arm").symlink_to(outside)
    with pytest.raises(ValueError, match=r"mine.arm/0.parquet: a link leads to .*outside, out of .*labels"):
        store.write("labels", labels(), key="k", name="mine.arm/0")
    (outside / "precious").write_text("mine")
    (store.root / "parts" / "labels" / "published.parquet").symlink_to(outside / "precious")
    store.write("labels", labels(), key="k", name="published")
    assert [p.name for p in outside.iterdir()] == ["precious"]
    assert (outside / "precious").read_text() == "mine"
    assert store.read("labels", "published").equals(store.read("labels", "clean"))


@pytest.mark.parametrize("linked", ["data", "data/synthetic", "data/synthetic/parts", "data/synthetic/parts/labels"])
def test_what_its_owner_linked_is_read_and_written(tmp_path, linked):
    """The data folder, or a folder with a fixed name in it, may lie on another disk."""
    Store(tmp_path / "data" / "synthetic").write("labels", labels(), key="k", name="clean")
    (tmp_path / linked).rename(tmp_path / "disk")
    (tmp_path / linked).symlink_to(tmp_path / "disk")
    store = Store(tmp_path / "data" / "synthetic")
    assert store.part("labels", "clean", key="k") is not None
    store.write("labels", labels(), key="k", name="of/config")
    assert len(list(store.parts("labels"))) == 2


def test_a_part_that_is_a_link_is_read(store, tmp_path):
    """As where a tool keeps large files elsewhere; its key is in its footer, and nothing is written to it."""
    made = store.write("labels", labels(), key="k", name="clean")
    made.path.rename(tmp_path / "elsewhere.parquet")
    made.path.symlink_to(tmp_path / "elsewhere.parquet")
    assert store.part("labels", "clean", key="k") == made
    assert len(store.read("labels")) == 1


def test_a_writer_killed_in_the_middle_publishes_nothing(store, tmp_path):
    target = tmp_path / "file"
    code = f"""
        import os, pathlib
        from piano_assets.store.parts import published
        with published(pathlib.Path({str(target)!r})) as temporary:
            temporary.write_text("half")
            os.kill(os.getpid(), 9)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=False, timeout=60)
    assert done.returncode == -9
    assert not target.exists()
    with published(target) as temporary:
        temporary.write_text("whole")
    assert target.read_text() == "whole"


def test_a_failed_writer_leaves_no_temporary_file(tmp_path):
    with pytest.raises(RuntimeError), published(tmp_path / "file") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []


def test_every_table_can_be_empty_and_every_key_is_a_column():
    for table in TABLES.values():
        assert table.violations(table.empty()) == []
        assert set(table.key) <= set(table.columns)
        assert isinstance(table.arrow_schema, pa.Schema)


def test_digest_does_not_depend_on_order_of_fields():
    assert digest({"a": 1, "b": (1.5, None)}) == digest({"b": [1.5, None], "a": 1})
    assert digest(1) != digest("1")


def test_shipped_parts_serve_where_the_key_fits(tmp_path, store):
    shipped = Store(tmp_path / "results")
    made = shipped.write("labels", labels(), key="k", name="clean")
    both = Store(store.root, shipped.root)
    assert both.part("labels", "clean", key="k") == made
    assert both.part("labels", "clean", key="j") is None


def test_a_part_with_other_columns_than_declared_is_made_again(store, monkeypatch):
    store.write("labels", labels(), key="k", name="clean")
    columns = dict(TABLES["labels"].columns)
    columns["more"] = columns["standard_error"]
    monkeypatch.setitem(TABLES, "labels", Table("labels", "with a column more", columns))
    assert store.part("labels", "clean") is not None
    assert store.part("labels", "clean", key="k") is None


def test_a_part_that_is_replaced_while_it_is_read_is_read_as_it_was(store, monkeypatch):
    """Another process publishes between the footer and the rows: these are of one file all the same."""
    old = store.write("labels", labels(), key="k", name="clean")
    other = pd.concat([labels(clip=f"clip{i}", value=0.9) for i in range(50)])
    replaced = []

    def read(self, *arguments, **more):
        replaced.append(store.write("labels", other, key="k2", name="clean"))
        return whole(self, *arguments, **more)

    whole = pq.ParquetFile.read
    monkeypatch.setattr(pq.ParquetFile, "read", read)
    assert read_part(old, ["value", "clip"]).to_pydict() == {"value": [0.5], "clip": ["a"]}
    assert len(replaced) == 1, "the scene is set only if the part was replaced in between"
    monkeypatch.undo()
    assert len(store.read("labels", "clean")) == 50


LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
"""
"""A file cannot grow beyond 4 kB, as on a full disk: the system refuses to write, in the middle."""


def limited(code: str, folder) -> str:
    """What a process says that runs `code` where files cannot grow."""
    command = [sys.executable, "-c", LIMITED + textwrap.dedent(code), str(folder)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def test_a_full_disk_is_an_error_that_names_the_part_and_nothing_is_left(store, tmp_path):
    """The part that stood before stands; neither half a part nor a temporary file is left."""
    before = store.write("labels", labels(), key="k", name="clean")
    said = limited(
        """
        import pandas as pd
        from piano_assets.store.parts import Store
        store = Store(Path(sys.argv[1]))
        frame = store.read("labels", "clean")
        frame = frame.loc[frame.index.repeat(5000)].assign(clip=[f"clip{i}" for i in range(5000)])
        try:
            store.write("labels", frame, key="k2", name="clean")
        except OSError as error:
            print(error)
        """,
        store.root,
    )
    assert said == f"[Errno {errno.EFBIG}] File too large; it is not written: '{before.path}'\n"
    assert store.part("labels", "clean") == before
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["clean.parquet"]


def test_a_full_disk_under_a_checkpoint_names_it_and_keeps_the_one_before(tmp_path):
    said = limited(
        """
        from piano_assets.store.checkpoints import load_checkpoint, save_checkpoint
        folder = Path(sys.argv[1]) / "fold0"
        save_checkpoint(folder, {"n": 1}, {"w": np.ones(8)})
        try:
            save_checkpoint(folder, {"n": 2}, {"w": np.ones(8000)})
        except OSError as error:
            print(error)
        print(load_checkpoint(folder)[0]["n"], *sorted(p.name for p in Path(sys.argv[1]).iterdir()))
        """,
        tmp_path,
    )
    assert said == f"[Errno {errno.EFBIG}] File too large; it is not written: '{tmp_path / 'fold0'}'\n1 fold0\n"


def test_a_file_that_cannot_get_its_name_leaves_no_temporary_file(tmp_path):
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "file", b"content")
    assert os.listdir(tmp_path) == ["file"]


def test_a_link_keeps_what_was_there_and_copies_where_there_are_no_links(tmp_path, monkeypatch):
    source = write_file(tmp_path / "source", b"old")
    link(source, tmp_path / "linked")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(PermissionError))
    link(source, tmp_path / "copied")
    write_file(source, b"new")
    assert [(tmp_path / name).read_bytes() for name in ("linked", "copied")] == [b"old", b"old"]


def test_a_source_that_is_replaced_while_it_is_linked_is_linked_as_it_then_is(tmp_path, monkeypatch):
    """The system finds no file for a moment, although there is one all the time."""
    source, linked = write_file(tmp_path / "source", b"content"), os.link

    def at_second_try(*paths) -> None:
        monkeypatch.setattr(os, "link", linked)
        raise FileNotFoundError

    monkeypatch.setattr(os, "link", at_second_try)
    link(source, tmp_path / "other")
    assert (tmp_path / "other").read_bytes() == b"content"
    with pytest.raises(FileNotFoundError, match="absent"):
        link(tmp_path / "absent", tmp_path / "more")
