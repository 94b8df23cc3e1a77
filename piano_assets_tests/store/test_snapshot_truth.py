"""A snapshot holds what its name says, whoever publishes beside it."""

import duckdb
import pandas as pd
import pytest

from piano_assets.store import warehouse
from piano_assets.store.parts import Store
from piano_assets.store.warehouse import all_parts, build_snapshot, query

LABELS = {"dimension": "timbre_soft_loud", "rule": "clean", "standard_error": None, "n_raters": 3}


def put(store: Store, value: float, name: str = "clean") -> None:
    store.write("labels", pd.DataFrame({"clip": [name], "value": [value], **LABELS}), key=str(value), name=name)


def values(store: Store) -> list[float]:
    return query(store, "SELECT value FROM labels ORDER BY value")["value"].tolist()


@pytest.fixture
def store(tmp_path) -> Store:
    store = Store(tmp_path / "synthetic")
    put(store, 0.25)
    return store


def test_a_part_published_after_it_was_listed_does_not_pass_for_the_old_one(store):
    listed = all_parts(store)
    put(store, 0.5)
    build_snapshot(store, listed)
    assert values(store) == [0.5]
    put(store, 0.25)  # what was listed has come back: nothing of 0.5 may be taken for it
    build_snapshot(store, all_parts(store))
    assert values(store) == [0.25]


def test_a_part_published_while_the_snapshot_is_filled_waits_for_the_next(store, monkeypatch):
    fill = warehouse._fill

    def fill_late(*arguments) -> None:
        put(store, 0.5)
        fill(*arguments)

    monkeypatch.setattr(warehouse, "_fill", fill_late)
    build_snapshot(store, all_parts(store))
    assert values(store) == [0.25]
    monkeypatch.undo()
    assert build_snapshot(store, all_parts(store)).rebuilt
    assert values(store) == [0.5]


def test_a_part_that_is_gone_since_it_was_listed_is_not_in_it(store):
    put(store, 0.5, name="published")
    listed = all_parts(store)
    store.path("labels", "published").unlink()
    built = build_snapshot(store, listed)
    assert values(store) == [0.25]
    assert built.rows["labels"] == 1


def test_nothing_is_left_behind_by_a_build_that_fails_or_succeeds(store, monkeypatch):
    build_snapshot(store, all_parts(store))
    assert [p.name for p in store.root.rglob(".*")] == [".snapshot.lock"]
    put(store, 0.5)
    monkeypatch.setitem(warehouse.VIEWS, "leaderboard", "SELECT nothing FROM nowhere")
    with pytest.raises(duckdb.Error, match="nowhere"):
        build_snapshot(store, all_parts(store))
    assert [p.name for p in store.root.rglob(".*")] == [".snapshot.lock"]
    assert values(store) == [0.25]
