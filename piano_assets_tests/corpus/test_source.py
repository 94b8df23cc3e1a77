"""The source: where it is looked for, and a download from a server that truncates, stalls, lies and recovers."""

import hashlib
import io
import zipfile

import pytest

from piano_assets.corpus.archive import BLOCK, unpack
from piano_assets.corpus.source import (
    CHECKSUM,
    PERFORMANCES,
    RATINGS_FILE,
    SCORES,
    SourceError,
    checksum,
    download,
    locate,
    verify,
    wanted,
)
from piano_assets_tests.corpus.server import CUT, Server, fails, sends, stalls

FILES = {
    RATINGS_FILE: b"user,dataID\n" * 2000,
    f"{PERFORMANCES}/ Schubert_D935_no.3_4bars_2_1.mid": b"MThd" + bytes(range(256)) * 200,
    f"{PERFORMANCES}/Schubert_D960_mv3_8bars_1_01.mid": b"MThd second",
    f"{SCORES}/Schubert_D960_mv3_8bars_Score_01.mid": b"MThd score",
    "LICENSE": b"MIT",
}
EXPECTED = hashlib.sha256(
    "".join(
        f"{name}\0{hashlib.sha256(content).hexdigest()}\n" for name, content in sorted(FILES.items()) if "/" in name
    ).encode()
).hexdigest()


def archive(files=FILES, **extra: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:  # stored, so that a cut archive is a large part of a whole one
        z.writestr("PercePiano-abc/", b"")
        for name, content in ({**files, "virtuoso/code.py": b"not needed"} | extra).items():
            z.writestr(f"PercePiano-abc/{name}", content)
    return buffer.getvalue()


ARCHIVE = archive()
RESUMED = f"bytes={CUT // BLOCK * BLOCK}-"

ESCAPING = io.BytesIO()
with zipfile.ZipFile(ESCAPING, "w") as z:
    z.writestr(f"PercePiano-abc/{PERFORMANCES}/../../../../../evil.mid", b"MThd")

good = sends(ARCHIVE)
truncated = sends(ARCHIVE, upto=CUT)
truncated_unannounced = sends(ARCHIVE, upto=CUT, length=False)
without_length = sends(ARCHIVE, length=False)
stalled = stalls(ARCHIVE)
ignores_range = sends(ARCHIVE, honour=False)
broken, absent = fails(500), fails(404)
html = sends(b"<html>please log in</html>" * 100)
other_content = sends(archive(FILES | {RATINGS_FILE: b"forged"}))
incomplete = sends(archive({RATINGS_FILE: b"alone"}))
escaping = sends(ESCAPING.getvalue())


@pytest.fixture
def fetch(tmp_path):
    servers = []

    def run(*script, **options):
        server = Server(*script)
        servers.append(server)
        settings = {"expected": EXPECTED, "timeout_s": 0.3, "backoff_s": 0.01, "attempts": 4} | options
        return server, lambda: download(tmp_path / "percepiano" / "source", server.url, **settings)

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


def assert_published(folder):
    assert {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()} == FILES
    assert checksum(folder) == EXPECTED
    assert sorted(p.name for p in folder.parent.iterdir() if not p.name.endswith(".lock")) == ["source"]


def assert_nothing_published(tmp_path, *left):
    names = (p.name for p in (tmp_path / "percepiano").iterdir() if not p.name.endswith(".lock"))
    assert sorted(names) == sorted(left)


def test_plain_download_reports_progress_and_is_done_once(fetch):
    steps = []
    server, run = fetch(good, progress=lambda done, total: steps.append((done, total)))
    folder = run()
    assert_published(folder)
    assert steps[-1] == (len(ARCHIVE), len(ARCHIVE))
    assert [s for s, _ in steps] == sorted(s for s, _ in steps)
    assert run() == folder
    assert len(server.asked) == 1


@pytest.mark.parametrize("fault", [truncated, stalled])
def test_broken_transfer_goes_on_where_it_stopped(fetch, fault):
    server, run = fetch(fault, good)
    assert_published(run())
    assert server.asked == [None, RESUMED]


def test_next_call_goes_on_where_the_last_one_gave_up(fetch, tmp_path):
    _, run = fetch(truncated, attempts=1)
    with pytest.raises(SourceError, match=r"IncompleteRead|bytes came"):
        run()
    assert_nothing_published(tmp_path, "source.zip.part")
    server, run = fetch(good, attempts=1)
    assert_published(run())
    assert server.asked == [RESUMED]


def test_whole_archive_of_an_earlier_call_is_used(fetch, tmp_path):
    (tmp_path / "percepiano").mkdir()
    (tmp_path / "percepiano" / "source.zip.part").write_bytes(ARCHIVE)
    server, run = fetch(good, attempts=1)
    assert_published(run())
    assert server.asked == [f"bytes={len(ARCHIVE)}-"]


def test_leftover_longer_than_the_archive_is_thrown_away(fetch, tmp_path):
    (tmp_path / "percepiano").mkdir()
    (tmp_path / "percepiano" / "source.zip.part").write_bytes(b"x" * (len(ARCHIVE) + 1))
    server, run = fetch(good)
    assert_published(run())
    assert server.asked[-1] is None


def test_server_that_cannot_go_on_in_the_middle_begins_anew(fetch):
    server, run = fetch(truncated, ignores_range)
    assert_published(run())
    assert server.asked == [None, RESUMED]


def test_leftover_of_another_archive_is_found_out(fetch, tmp_path):
    (tmp_path / "percepiano").mkdir()
    (tmp_path / "percepiano" / "source.zip.part").write_bytes(b"x" * 40_000)
    server, run = fetch(good)
    assert_published(run())
    assert server.asked == ["bytes=40000-", None]


def test_server_that_recovers(fetch):
    server, run = fetch(broken, broken, good)
    assert_published(run())
    assert len(server.asked) == 3


def test_length_need_not_be_said(fetch):
    steps = []
    _, run = fetch(without_length, progress=lambda done, total: steps.append(total))
    assert_published(run())
    assert set(steps) == {0}


def test_truncation_that_nobody_announced_is_found_in_the_archive(fetch):
    server, run = fetch(truncated_unannounced, good)
    assert_published(run())
    assert server.asked == [None, None]


@pytest.mark.parametrize(
    ("fault", "message", "requests"),
    [
        (broken, "500", 4),
        (stalled, "timed out|bytes came", 4),
        (html, "damaged", 4),
        (absent, "404", 1),
        (other_content, "checksum", 1),
        (incomplete, "all_2rounds.*missing", 1),
        (escaping, "would leave its folder", 1),
    ],
)
def test_lasting_fault_is_an_error_and_leaves_nothing_published(fetch, tmp_path, fault, message, requests):
    server, run = fetch(fault)
    with pytest.raises(SourceError, match=message):
        run()
    left = ["source.zip.part"] if fault is stalled else []
    assert_nothing_published(tmp_path, *left)
    assert not list(tmp_path.rglob("evil*"))
    assert len(server.asked) == requests


@pytest.mark.parametrize(("limit", "message"), [(CUT, "bytes came"), (len(ARCHIVE), None)])
def test_size_is_limited(fetch, tmp_path, monkeypatch, limit, message):
    monkeypatch.setattr("piano_assets.corpus.archive.MAX_BYTES", limit)
    _, run = fetch(good)
    if message is None:
        assert_published(run())
    else:
        with pytest.raises(SourceError, match=message):
            run()
        assert_nothing_published(tmp_path)


def test_nobody_listens(tmp_path):
    with pytest.raises(SourceError, match="PERCEPIANO_DIR"):
        download(tmp_path / "source", "http://127.0.0.1:9/x.zip", attempts=2, timeout_s=0.2, backoff_s=0.01)


def test_other_files_at_the_destination_are_not_touched(fetch, tmp_path):
    mine = tmp_path / "percepiano" / "source" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep")
    server, run = fetch(good)
    with pytest.raises(SourceError, match="move it away"):
        run()
    assert mine.read_text() == "keep"
    assert server.asked == []


def test_unpack_takes_only_what_is_needed(tmp_path):
    (tmp_path / "a.zip").write_bytes(archive(**{"other/total_2rounds.csv": b"", f"{SCORES}/deep/x.mid": b""}))
    unpack(tmp_path / "a.zip", tmp_path / "out", wanted)
    assert {p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*") if p.is_file()} == set(
        FILES
    )


@pytest.mark.parametrize(
    "name",
    [
        "../evil.mid",
        "/evil.mid",
        "a/../../evil.mid",
        "a\\..\\..\\evil.mid",
        f"a/{PERFORMANCES}/../../../../../evil.mid",
    ],
)
def test_no_member_leaves_the_folder(tmp_path, name):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        z.writestr(name, b"MThd")
    with pytest.raises(SourceError, match="would leave its folder"):
        unpack(tmp_path / "a.zip", tmp_path / "deep" / "er" / "out", wanted)
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["a.zip"]


def test_a_member_that_is_a_link_is_written_as_a_file(tmp_path):
    link = zipfile.ZipInfo(f"top/{RATINGS_FILE}")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as z:
        z.writestr(link, "/etc/passwd")
    unpack(tmp_path / "a.zip", tmp_path / "out", wanted)
    assert not (tmp_path / "out" / RATINGS_FILE).is_symlink()
    assert (tmp_path / "out" / RATINGS_FILE).read_text() == "/etc/passwd"


def test_a_small_archive_of_large_files_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("piano_assets.corpus.archive.MAX_BYTES", 1_000_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr(f"top/{RATINGS_FILE}", bytes(1_000_001))
    assert (tmp_path / "a.zip").stat().st_size < 2000
    with pytest.raises(SourceError, match="unpacks to more than 1000000 bytes"):
        unpack(tmp_path / "a.zip", tmp_path / "out", wanted)
    assert not (tmp_path / "out").exists()


def test_a_member_that_is_larger_than_it_says_is_no_way_around(tmp_path):
    """The central directory lies about the size: what is unpacked is at most what it says, and refused."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr(f"top/{RATINGS_FILE}", bytes(1_000_000))
    content = (tmp_path / "a.zip").read_bytes()
    assert content.count((1_000_000).to_bytes(4, "little")) == 2
    (tmp_path / "a.zip").write_bytes(content.replace((1_000_000).to_bytes(4, "little"), (10).to_bytes(4, "little")))
    with pytest.raises(zipfile.BadZipFile):
        unpack(tmp_path / "a.zip", tmp_path / "out", wanted)
    assert (tmp_path / "out" / RATINGS_FILE).stat().st_size <= 10


def test_locate(tmp_path):
    assert locate(None, tmp_path) is None
    assert locate("", tmp_path) is None
    with pytest.raises(SourceError, match="nowhere"):
        locate(str(tmp_path / "nowhere"), tmp_path)
    (tmp_path / "percepiano" / "source").mkdir(parents=True)
    assert locate(None, tmp_path) == tmp_path / "percepiano" / "source"
    assert locate(str(tmp_path), tmp_path) == tmp_path


def test_verify_lists_all_that_is_missing(tmp_path):
    with pytest.raises(SourceError) as error:
        verify(tmp_path)
    assert all(part in str(error.value) for part in (RATINGS_FILE, PERFORMANCES, SCORES, str(tmp_path)))


@pytest.mark.percepiano
def test_real_corpus_is_the_pinned_one(percepiano_dir):
    verify(percepiano_dir)
    assert checksum(percepiano_dir) == CHECKSUM
