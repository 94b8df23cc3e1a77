"""A folder that cannot take what is coming is refused before, with folder, rule and values."""

import os
import subprocess
from collections import namedtuple

import pytest

from piano_assets.store.capacity import MARGIN, WRITTEN, StoreError, require_room, require_writable

Usage = namedtuple("Usage", "total used free")


def test_a_writable_folder_is_left_as_it_was(tmp_path):
    require_writable(tmp_path / "synthetic")
    assert sorted(p.relative_to(tmp_path / "synthetic").as_posix() for p in (tmp_path / "synthetic").rglob("*")) == [
        *sorted(WRITTEN)
    ]


def test_a_folder_that_is_a_file_is_named(tmp_path):
    """Permissions do not bind root; what is no folder binds everybody."""
    (tmp_path / "data").write_text("")
    with pytest.raises(StoreError, match=r"data/synthetic/parts must be writable before .*: Not a directory"):
        require_writable(tmp_path / "data" / "synthetic")


def test_a_file_system_that_is_read_only_is_named(tmp_path):
    for name in WRITTEN:
        (tmp_path / name).mkdir()
    mounts = [["mount", "--bind", tmp_path / "work", tmp_path / "work"]]
    mounts += [["mount", "-o", "remount,ro,bind", tmp_path / "work"]]
    if os.geteuid() != 0 or any(subprocess.run(m, check=False, capture_output=True).returncode for m in mounts):
        pytest.skip("needs the right to mount")
    try:
        with pytest.raises(StoreError, match=r"work must be writable before .*: Read-only file system"):
            require_writable(tmp_path)
    finally:
        subprocess.run(["umount", tmp_path / "work"], check=True)


@pytest.mark.parametrize("spare", [0, -1])
def test_room_is_what_is_needed_and_a_margin(tmp_path, spare):
    def usage(path):
        assert path == tmp_path
        return Usage(0, 0, 3_000_000 + MARGIN + spare)

    if spare == 0:
        require_room(tmp_path, 3_000_000, usage=usage)
    else:
        with pytest.raises(StoreError, match=r"540 MB free and must have 540 MB \(3 MB for .*537 to spare.*piano gc"):
            require_room(tmp_path, 3_000_000, usage=usage)
