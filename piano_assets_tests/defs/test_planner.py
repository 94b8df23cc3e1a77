"""Planning: what is owed, what stands, in what batches."""

import pytest

from piano_assets.catalogue.comparisons import catalogue
from piano_assets.defs import planner
from piano_assets.store.parts import Store
from piano_assets_tests.defs.conftest import Graph

pytestmark = pytest.mark.xdist_group("graph")


def test_a_partition_key_is_read_back():
    assert planner.parse_partition("ast.reference@smoke|3") == ("ast.reference@smoke", 3)


@pytest.mark.parametrize("key", ["family.ridge", "family.ridge|x", "family.ridge|-1", "|"])
def test_a_wrong_partition_key_is_refused(key):
    with pytest.raises(ValueError, match=r"must read '<config>\|<seed>'"):
        planner.parse_partition(key)


def test_an_unknown_config_names_those_that_are_known():
    with pytest.raises(ValueError, match=r"'family.rigde' is not in the catalogue; known: .*family\.ridge"):
        planner.tasks_of(["family.rigde|0"])


def test_quickstart_names_configs_of_the_catalogue():
    assert set(planner.QUICKSTART) <= set(catalogue())


def test_nothing_is_owed_before_there_are_splits(tmp_path):
    assert planner.owed(Store(tmp_path / "synthetic")) == []


def test_seeds_follow_the_repeats_of_the_split(graph: Graph):
    owed = planner.owed(graph.store)
    seeds = {config: [t.seed for t in owed if t.config == config] for config in {t.config for t in owed}}
    assert seeds["family.ridge"] == [0, 1, 2, 3, 4]
    assert seeds["literature.founding"] == [0], "a split with one repeat has one seed"
    assert [t.seed for t in planner.owed(graph.store, ["family.ridge"], 2)] == [0, 1]


def test_missing_is_what_was_not_trained(graph: Graph):
    owed = planner.owed(graph.store, ["family.ridge", "family.kernel_ridge"])
    assert [t.partition for t in planner.missing(graph.store, owed)] == [f"family.kernel_ridge|{s}" for s in (2, 3, 4)]


def test_batches_are_alike_and_lose_nothing(graph: Graph):
    owed = planner.owed(graph.store)
    batches = planner.plan(owed, size=3)
    assert sorted(t.partition for b in batches for t in b) == sorted(t.partition for t in owed)
    assert all(len(b) <= 3 and len({t.trial.family for t in b}) == 1 for b in batches)
    networks = [b[0].trial.optimisation is not None for b in batches]
    assert networks == sorted(networks), "networks come last"


def test_a_changed_input_makes_exactly_its_readers_stale(graph: Graph, tmp_path):
    import shutil

    store = Store(tmp_path / "synthetic")
    shutil.copytree(graph.store.root / "parts", store.root / "parts")
    tasks = [t for t in planner.owed(store) if planner.standing(store, t)]
    labels = store.read("labels", "published")
    store.write("labels", labels.assign(value=labels["value"] * 0.99), key="changed", name="published")
    stale = {t.config for t in planner.missing(store, tasks)}
    assert stale == {t.config for t in tasks if t.trial.label_rule == "published"} != set()


def test_networks_at_full_are_swept_unasked_only_with_a_gpu():
    with_gpu, without = planner.swept_configs(cuda=True), planner.swept_configs(cuda=False)
    assert set(with_gpu) - set(without) == {"ast.reference"}
    assert not any("@smoke" in config for config in with_gpu)
    assert "family.ridge" in without
