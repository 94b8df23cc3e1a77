"""Shipped parts: small, near, and found where nothing was trained."""

import numpy as np
import pandas as pd
import pytest

from piano_assets.store.parts import Store
from piano_assets.store.shipping import TooLarge, ship

N = 5000


def predictions(seed: int) -> pd.DataFrame:
    value = np.random.default_rng(seed).normal(0.5, 0.1, N).astype(np.float32)
    row = {"subject": "loss.huber|0", "split": "cluster", "repeat": 0, "fold": 1, "inner_fold": None}
    row |= {"dimension": "timbre_soft_loud", "role": "test", "tuning": "fixed", "condition": "clean"}
    clips = [f"clip{i}" for i in range(N)]
    return pd.DataFrame([row] * N).assign(clip=clips, value=value, std=np.float32("nan"))


@pytest.fixture
def store(tmp_path) -> Store:
    return Store(tmp_path / "data" / "percepiano", shipped=tmp_path / "results" / "percepiano")


def test_shipped_predictions_stand_for_the_trained_ones(store):
    made = store.write("predictions", predictions(0), key="k", name="loss.huber/0", seconds=3)
    assert store.shipped is not None
    size = ship([made], Store(store.shipped))

    elsewhere = Store(store.root.with_name("empty"), store.shipped)
    found = elsewhere.part("predictions", "loss.huber/0", key="k")
    assert found is not None
    assert (found.record, found.n_rows) == ({"seconds": 3}, N)
    assert elsewhere.part("predictions", "loss.huber/0", key="another code version") is None
    got, want = elsewhere.read("predictions", "loss.huber/0"), store.read("predictions", "loss.huber/0")
    pd.testing.assert_frame_equal(got.drop(columns="value"), want.drop(columns="value"))
    # Half precision rounds to eleven bits, that is by at most 2**-11 of the value.
    np.testing.assert_allclose(got["value"], want["value"], rtol=2**-11, atol=0)
    assert (got["value"] != want["value"]).any()
    assert size < 0.8 * made.path.stat().st_size / 2**20


def test_shipping_replaces_what_was_shipped(store):
    first, second = (
        store.write("predictions", predictions(seed), key="k", name=f"loss.huber/{seed}") for seed in (0, 1)
    )
    shipped = Store(store.shipped)
    ship([first], shipped)
    ship([second, *shipped.parts("predictions")], shipped)
    assert [p.name for p in shipped.parts("predictions")] == ["loss.huber/0", "loss.huber/1"]
    ship([second], shipped)
    assert [p.name for p in shipped.parts("predictions")] == ["loss.huber/1"]


def test_too_much_is_refused_and_what_was_shipped_stays(store):
    made = store.write("predictions", predictions(0), key="k", name="loss.huber/0")
    shipped = Store(store.shipped)
    ship([made], shipped)
    before = {p: p.read_bytes() for p in shipped.root.rglob("*.parquet")}
    with pytest.raises(TooLarge, match=r"percepiano: the parts take 0\.0 MB, and at most 0\.001 MB are shipped"):
        ship([made], shipped, largest_mb=0.001)
    assert {p: p.read_bytes() for p in shipped.root.parent.rglob("*.parquet")} == before
