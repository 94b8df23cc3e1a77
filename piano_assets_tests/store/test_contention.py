"""Many writers and readers at once, in short: `benchmarks/contention.py` is the long form, with times."""

from benchmarks.contention import prepare, read_everything, together
from piano_assets.store.parts import Store


def test_writers_and_readers_of_one_store_never_see_an_error_or_half_a_part(tmp_path):
    store = Store(tmp_path / "synthetic")
    prepare(store)
    found = together(store.root, 4, writers=4, builders=2, readers=3, shares=[])
    everybody = [*found["writers"], *found["readers"]]
    assert [error for one in everybody for error in one["errors"]] == []
    assert all(one["done"] for one in everybody)
    assert sum(writer["snapshots"] for writer in found["writers"]) >= 1
    assert read_everything(store)["snapshots"] >= 2
