"""Assets of adaptation on the shared small run: made once, read by the results, stale when what they read changes."""

import dagster as dg
import pytest

from piano_assets.adaptation import fitting
from piano_assets.adaptation.methods import METHODS
from piano_assets.defs.adaptation import method_key
from piano_assets.defs.quickstart import materializer
from piano_assets.schemas import TABLES
from piano_assets_tests.defs.conftest import Graph, copied

pytestmark = pytest.mark.xdist_group("graph")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    settings = fitting.Settings
    monkeypatch.setattr(fitting, "Settings", lambda **more: settings(**({"epochs": 2} | more)))


def test_a_method_is_made_once_and_its_curves_follow(graph: Graph, tmp_path):
    piano = copied(graph, tmp_path)
    store, instance = piano.store(), dg.DagsterInstance.ephemeral()
    materialize = materializer(instance, piano)
    for name in ("unadapted", "shift"):
        materialize(["adaptation"], name)
    part = store.part("predictions", "adaptation/shift", key=method_key(store, "shift"))
    assert part is not None
    before = part.path.stat().st_mtime_ns
    materialize(["adaptation"], "shift")
    assert part.path.stat().st_mtime_ns == before
    rows = store.read("predictions", "adaptation/shift")
    assert set(rows["clip"]) == set(store.read("clips", "all")["clip"])

    materialize(["subjects", "scores", "comparisons", "arms", "trials", "published", "tests", "adaptation_curves"])
    kinds = store.read("subjects", "all").set_index("subject")["kind"]
    assert kinds["adaptation.shift"] == "adaptation"
    tests = store.read("tests", "all")
    ours = tests[(tests["comparison"] == "adaptation") & tests["is_primary"]]
    assert list(ours["arm"]) == ["shift"]
    curves = store.read("adaptation_curves", "all")
    TABLES["adaptation_curves"].conform(curves)
    scores = store.read("scores", "all")
    main = {"population": "all", "level": "global", "metric": "r2_pooled"}
    for column, value in main.items():
        scores, curves = scores[scores[column] == value], curves[curves[column] == value]
    scored = scores[(scores["subject"] == "adaptation.shift") & (scores["dimension"] == "mean")]["value"].item()
    drawn = curves[(curves["subject"] == "adaptation.shift") & (curves["step"] == 5)]["value"].item()
    assert scored == pytest.approx(drawn)


def test_a_key_follows_the_method_and_what_it_reads(graph: Graph, tmp_path):
    store = copied(graph, tmp_path).store()
    keys = {name: method_key(store, name) for name in METHODS}
    assert len(set(keys.values())) == len(METHODS)
    labels = store.read("labels", "clean")
    store.write("labels", labels.assign(value=labels["value"] * 0.99), key="other", name="clean")
    assert all(method_key(store, name) != keys[name] for name in METHODS)
