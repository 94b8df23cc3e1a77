"""Halving on trained parts: the number that decides, what is written down, and who goes on."""

import numpy as np
import pandas as pd
import pytest

from piano_assets.catalogue.comparison import Comparison
from piano_assets.catalogue.comparisons import Catalogue, built_in
from piano_assets.catalogue.halving import RULE
from piano_assets.defs import current, planner
from piano_assets.defs.halving import going_on, halve, valid_r
from piano_assets.defs.sweeping import sweep_of
from piano_assets.dimensions import NAMES
from piano_assets.store.parts import read_part
from piano_assets_tests.defs.conftest import Graph, copied, tasks

pytestmark = pytest.mark.xdist_group("graph")

FAMILY = next(c for c in built_in().comparisons if c.name == "family")


def test_the_number_is_mean_r_on_inner_validation_clips(graph: Graph):
    """By hand from the stored predictions; test clips are not looked at."""
    task = tasks(graph.store, {"family.ridge": 1})[0]
    part = next(p for p in current.current_parts(graph.store, [task])["predictions"])
    rows = read_part(part).to_pandas()
    rows = rows[(rows["role"] == "valid") & (rows["tuning"] == "tuned")]
    labels = graph.store.read("labels", "clean").set_index(["clip", "dimension"])["value"]
    rows["label"] = labels.reindex(pd.MultiIndex.from_frame(rows[["clip", "dimension"]])).to_numpy()
    by_cell = rows.dropna(subset=["label"]).groupby(["fold", "dimension"])[["value", "label"]]
    r = by_cell.apply(lambda cell: np.corrcoef(cell["value"], cell["label"])[0, 1])
    assert len(r) == 5 * len(NAMES)
    assert valid_r(graph.store, task) == pytest.approx(r.mean(), abs=1e-6)  # predictions are stored as float32


def test_what_is_not_trained_was_not_judged(graph: Graph):
    assert valid_r(graph.store, planner.Task("family.ridge", 0, built_in().full["forest.reference"])) is None


def test_the_worse_arms_are_written_down_and_get_no_further_seeds(graph: Graph, tmp_path, monkeypatch):
    from piano_assets.defs import halving

    store = copied(graph, tmp_path).store()
    r = {"family.ridge": 0.5, "family.kernel_ridge": 0.4, "family.extra_trees": 0.3, "family.gradient_boosting": 0.2}
    monkeypatch.setattr(halving, "valid_r", lambda store, task: r.get(task.config))
    frame = halve(store, built_in(), FAMILY, "full").set_index("arm")
    assert set(frame.index) == {"extra_trees", "gradient_boosting"}, "arms that were not judged go on"
    first = frame.loc["extra_trees"]
    assert (first["config"], first["rung"], first["n_seeds"]) == ("family.extra_trees", 1, 1)
    assert (first["valid_r"], first["kept_valid_r"], first["rule"]) == (0.3, 0.4, RULE)
    again = halve(store, built_in(), FAMILY, "full").set_index("arm")
    assert (again["at"] == frame["at"]).all(), "the same numbers stop the same arms only once"
    owed = planner.owed(store, ["family.ridge", "family.extra_trees", "family.reference"])
    kept = [t.partition for t in going_on(store, owed, built_in())]
    assert [p for p in kept if p.startswith("family.extra")] == ["family.extra_trees|0"]
    assert len(kept) == 5 + 1 + 5


def test_an_arm_that_another_comparison_needs_goes_on(graph: Graph, tmp_path):
    store = copied(graph, tmp_path).store()
    mine = Comparison("mine", "h.", "family.extra_trees", {"same": {}})
    known = Catalogue(built_in().references, (*built_in().comparisons, mine))
    row = ("family", "extra_trees", "family.extra_trees", 1, 1, 0.1, 0.2, RULE, pd.Timestamp.now("UTC"))
    columns = ["comparison", "arm", "config", "rung", "n_seeds", "valid_r", "kept_valid_r", "rule", "at"]
    store.write("halted", pd.DataFrame([row], columns=columns), key="k", name="family")
    owed = planner.owed(store, ["family.extra_trees"])
    assert len(going_on(store, owed, built_in())) == 1
    assert len(going_on(store, owed, known)) == 5, "a reference always goes on"


def test_a_halved_sweep_goes_on_with_the_better_arms(graph: Graph, tmp_path, monkeypatch):
    """Rung by rung as the sweep asks: first one seed of each, then the seeds of those that stay."""
    store = copied(graph, tmp_path).store()
    names = ["family.ridge", "family.kernel_ridge", "ingredient.ridge", "audio_only.rich_kernel_ridge"]
    arms = {n: built_in().full[n] for n in names}
    changes = {n.replace(".", "_"): {"model": t.model, "search": t.search, "inputs": t.inputs} for n, t in arms.items()}
    changes["family_ridge"] = {}
    some = Comparison("some", "h.", "family.ridge", changes)
    known = Catalogue(built_in().references, (*built_in().comparisons, some))
    monkeypatch.setattr(planner, "known", lambda store: known)
    assert [c for c, _ in known.arms(some).values()] == names
    first = sweep_of(store, ["some"], halved=True).tasks()
    # One seed of each stands already, so the second rung is asked for at once.
    r = {t.config: valid_r(store, t) for t in planner.owed(store, names, 1)}
    assert None not in r.values()
    worst = min((c for c in r if c != "family.ridge"), key=lambda c: r[c])
    seeds = {c: sum(t.config == c for t in first) for c in r}
    assert seeds == {c: 1 if c == worst else 5 for c in r}
    assert store.read("halted")["config"].tolist() == [worst]
