"""Many writers and readers at once, in short: `benchmarks/contention.py` is the long form, with times."""

from benchmarks import contention
from benchmarks.chaos import read_whole
from piano_assets.store.parts import Store


def test_writers_and_readers_of_one_store_never_see_an_error_or_half_a_part(tmp_path, monkeypatch):
    monkeypatch.setattr(contention, "READY_S", 2.0)
    contention.set_scene(tmp_path / "synthetic", 4)
    found = contention.load(tmp_path / "synthetic", n_writers=4, n_readers=3, seconds=4)
    assert [error for one in found for error in one.errors] == []
    done = {role: sum(d.n for d in found if d.role == role) for role in ("writer", "builder", "reader")}
    assert all(done.values()), done
    assert read_whole(Store(tmp_path / "synthetic"))
