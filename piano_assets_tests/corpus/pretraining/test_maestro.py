"""MAESTRO: the folder that is given wins, the download goes on where it broke, and only the expected archive stands."""

import csv
import hashlib
import io
import zipfile

import pytest

from piano_assets.corpus.archive import BLOCK, SourceError
from piano_assets.corpus.pretraining.maestro import SHA256, URL, VARIABLE, download, missing, obtain
from piano_assets_tests.corpus.server import CUT, Server, fails, sends, stalls

TOP = "maestro-v3.0.0"
FILES = {f"{year}/MIDI-{year}_{i}.midi": b"MThd" + bytes([i]) * 20_000 for year in (2004, 2018) for i in range(3)}


def archive(files=FILES, listed=tuple(FILES), **extra: bytes) -> bytes:
    rows = io.StringIO()
    csv.writer(rows).writerows(
        [
            ("canonical_composer", "canonical_title", "split", "year", "midi_filename", "audio_filename", "duration"),
            *(("Composer", "Title", "train", f[:4], f, f.replace(".midi", ".wav"), "1.0") for f in listed),
        ]
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        z.writestr(f"{TOP}/", b"")
        z.writestr(f"{TOP}/maestro-v3.0.0.csv", rows.getvalue())
        for name, content in (files | {"LICENSE": b"CC BY-NC-SA 4.0", "maestro-v3.0.0.json": b"{}"} | extra).items():
            z.writestr(f"{TOP}/{name}", content)
    return buffer.getvalue()


ARCHIVE = archive()
EXPECTED = hashlib.sha256(ARCHIVE).hexdigest()


@pytest.fixture
def fetch(tmp_path):
    servers = []

    def run(*script, **options):
        server = Server(*script)
        servers.append(server)
        settings = {"expected": EXPECTED, "timeout_s": 0.3, "backoff_s": 0.01, "attempts": 3} | options
        return server, lambda: download(tmp_path / "pretraining" / TOP, server.url, **settings)

    yield run
    for server in servers:
        server.shutdown()
        server.server_close()


def files_of(folder):
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.parametrize("fault", [sends(ARCHIVE, upto=CUT), stalls(ARCHIVE)], ids=["cut", "stalled"])
def test_a_broken_transfer_goes_on_where_it_stopped(fetch, fault):
    server, run = fetch(fault, sends(ARCHIVE))
    folder = run()
    assert server.asked == [None, f"bytes={CUT // BLOCK * BLOCK}-"]
    assert files_of(folder) == {*FILES, "maestro-v3.0.0.csv", "LICENSE"}
    assert missing(folder) == []
    assert run() == folder
    assert len(server.asked) == 2


def test_the_next_call_goes_on_where_the_last_one_gave_up(fetch):
    _, run = fetch(sends(ARCHIVE, upto=CUT), attempts=1)
    with pytest.raises(SourceError, match=r"IncompleteRead|bytes came"):
        run()
    server, run = fetch(sends(ARCHIVE), attempts=1)
    assert missing(run()) == []
    assert server.asked == [f"bytes={CUT // BLOCK * BLOCK}-"]


def _hostile(name):
    buffer = io.BytesIO(ARCHIVE)
    with zipfile.ZipFile(buffer, "a") as z:
        z.writestr(name, b"MThd")
    return buffer.getvalue()


OTHERS = {
    "forged": (archive(FILES | {"2004/MIDI-2004_0.midi": b"MThd forged"}), "SHA-256"),
    "leaves by ..": (_hostile(f"{TOP}/../../evil.midi"), "would leave its folder"),
    "leaves by /": (_hostile("/evil.midi"), "would leave its folder"),
    "leaves by a backslash": (_hostile(f"{TOP}/2004\\..\\evil.midi"), "would leave its folder"),
    "a page": (b"<html>log in</html>" * 99, "damaged"),
    "cut": (ARCHIVE[:-200], "damaged"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_any_other_archive_is_refused_and_nothing_stands(fetch, tmp_path, what):
    content, message = OTHERS[what]
    _, run = fetch(sends(content))
    with pytest.raises(SourceError, match=message):
        run()
    assert not list(tmp_path.rglob("*.midi"))
    assert [p.name for p in (tmp_path / "pretraining").iterdir()] == [f"{TOP}.lock"]


def test_an_archive_that_lacks_a_performance_of_its_table_is_refused(fetch):
    short = archive(dict(list(FILES.items())[1:]))
    _, run = fetch(sends(short), expected=hashlib.sha256(short).hexdigest())
    with pytest.raises(SourceError, match=r"lacks 1 of its performances, first '2004/MIDI-2004_0\.midi'"):
        run()


def test_a_damaged_folder_is_not_taken_for_a_whole_one(fetch):
    _, run = fetch(sends(ARCHIVE))
    folder = run()
    (folder / "2018/MIDI-2018_1.midi").unlink()
    with pytest.raises(SourceError, match="move it away"):
        run()


def test_an_unreachable_server_names_the_way_out(fetch):
    server, run = fetch(fails(500))
    with pytest.raises(SourceError, match=VARIABLE):
        run()
    assert len(server.asked) == 3


def test_the_folder_that_is_given_wins_and_a_wrong_one_falls_back_to_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert obtain(tmp_path / "data") == tmp_path
    monkeypatch.setenv(VARIABLE, str(tmp_path / "nowhere"))
    with pytest.raises(SourceError, match="nowhere"):
        obtain(tmp_path / "data")
    assert not (tmp_path / "data").exists()


def test_address_and_checksum_are_those_of_the_public_archive():
    assert URL == "https://storage.googleapis.com/magentadata/datasets/maestro/v3.0.0/maestro-v3.0.0-midi.zip"
    assert SHA256 == "70470ee253295c8d2c71e6d9d4a815189e35c89624b76d22fce5a019d5dde12c"
