"""Planning: what is owed, what stands, in what batches."""

import pytest

from piano_assets.catalogue.comparisons import built_in, catalogue
from piano_assets.catalogue.derived import Derived
from piano_assets.defs import current, planner
from piano_assets.store.parts import Store
from piano_assets.store.shipping import ship
from piano_assets_tests.defs.conftest import Graph, copied

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
    batches = planner.plan(owed, tabular=3, networks=7)
    assert sorted(t.partition for b in batches for t in b) == sorted(t.partition for t in owed)
    networks = [b[0].trial.optimisation is not None for b in batches]
    assert networks == sorted(networks), "networks come last"
    small = [all(t.trial.budget != "full" for t in b) for b in batches]
    assert all(len(b) <= (7 if n or s else 3) for b, n, s in zip(batches, networks, small, strict=True))
    assert all(len({t.trial.family for t in b}) == 1 for b, several in zip(batches, small, strict=True) if not several)


def test_networks_that_can_train_as_one_program_share_a_batch(graph: Graph):
    """Losses and schedules differ in nothing that a stack cares for; another width, crop or input does."""
    alike = ["loss.huber", "loss.correlation", "schedule.constant", "regularisation.heavy_dropout", "ast.reference"]
    other = [
        "model_size.small",
        "spectrogram.cqt",
        "patch_size.8",
        "ast.reference@reduced",
        "split_strategy_ast.random",
    ]
    batches = planner.plan(planner.owed(graph.store, [*alike, *other], 2))
    assert sorted({t.config for t in b} for b in batches if len(b) > 2) == [set(alike)]
    assert len(batches) == 1 + len(other)
    reduced = planner.plan(planner.owed(graph.store, [f"{c}@reduced" for c in (*alike, *other[:3])], 1))
    assert len(reduced) == 1, "small budgets take less than a run costs"
    sizes = [b[0].trial.model.depth * b[0].trial.model.dim ** 2 for b in batches]
    assert sizes == sorted(sizes), "small networks first"


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
    assert set(with_gpu) - set(without) == {c for c, t in built_in().full.items() if t.optimisation}
    assert not any("@" in config for config in with_gpu)
    assert "family.ridge" in without


def test_a_comparison_is_swept_with_its_reference():
    assert planner.chosen_configs(built_in(), ["feature_set"], cuda=False)[0][0] == "forest.reference"
    chosen, waiting = planner.chosen_configs(built_in(), ["loss"], cuda=False)
    assert chosen == []
    assert {"ast.reference", "loss.huber"} <= set(waiting)
    assert set(planner.chosen_configs(built_in(), ["loss"], cuda=True)[0]) == set(waiting)
    assert planner.chosen_configs(built_in(), ["loss.huber", "loss"], cuda=False)[0] == ["loss.huber"], "named: trained"


def test_a_cpu_sweeps_networks_at_reduced_where_that_is_asked_for():
    chosen, waiting = planner.chosen_configs(built_in(), ["model_size@reduced"], cuda=False)
    assert chosen[0] == "ast.reference@reduced"
    assert waiting == ["model_size.base@reduced"], "the 86M model waits for a GPU, or for its own name"
    assert planner.chosen_configs(built_in(), ["model_size.base@reduced"], cuda=False) == (
        ["model_size.base@reduced"],
        [],
    )
    assert "model_size.base@reduced" in planner.chosen_configs(built_in(), ["model_size@reduced"], cuda=True)[0]
    both = planner.chosen_configs(built_in(), ["family@reduced"], cuda=False)[0]
    assert {"family.ridge", "ast.reference@reduced"} <= set(both), "tabular arms in full beside reduced networks"


def test_a_name_that_is_nothing_is_refused():
    with pytest.raises(ValueError, match=r"'los' is neither a comparison \(.*loss.*\) nor a config"):
        planner.chosen_configs(built_in(), ["los"], cuda=False)


MINE = 'hypothesis = "h."\nreference = "family.ridge"\n[arms.strong]\nmodel.settings.alpha = 9.0\n'


def test_users_comparisons_are_known_to_the_planner(graph: Graph, tmp_path):
    piano = copied(graph, tmp_path)
    store = piano.store()
    folder = planner.user_folder(store)
    folder.mkdir()
    (folder / "mine.toml").write_text(MINE)
    (folder / "broken.toml").write_text(MINE.replace("alpha", "alpa"))
    assert "mine.strong" in planner.configs(store)
    assert [t.partition for t in planner.owed(store, ["mine.strong"], 1)] == ["mine.strong|0"]
    assert planner.tasks_of(["mine.strong|0"], store)[0].trial.model.settings == (("alpha", 9.0),)
    assert planner.chosen_configs(planner.known(store), ["mine"], cuda=False)[0] == ["family.ridge", "mine.strong"]
    (problem,) = planner.problems(store)
    assert (problem.file, problem.line) == ("broken.toml", 4)
    assert "model.settings.alpa=9.0: ridge has no such setting" in problem.message
    (folder / "mine.toml").write_text(MINE.replace("strong", "stronger"))
    assert "mine.stronger" in planner.configs(store), "a changed file is read again"
    assert "mine.strong" not in planner.configs(store)


def test_the_catalogues_tables_hold_users_comparisons(graph: Graph, tmp_path):
    import dagster as dg

    from piano_assets.defs.results import catalogue_tables

    piano = copied(graph, tmp_path)
    planner.user_folder(piano.store()).mkdir()
    (planner.user_folder(piano.store()) / "mine.toml").write_text(MINE)
    assert dg.materialize([catalogue_tables], resources={"piano": piano}).success
    store = piano.store()
    arms = store.read("arms").set_index(["comparison", "arm"])["config"]
    assert arms["mine", "strong"] == "mine.strong"
    assert "mine.strong" in set(store.read("trials")["config"])
    n_params = store.read("trials").set_index("config")["n_params"]
    assert n_params["model_size.base"] == 85274131
    assert n_params.isna()["mine.strong"]


def test_what_is_shipped_need_not_be_trained(graph: Graph, tmp_path, monkeypatch):
    monkeypatch.setattr(planner, "QUICKSTART", ("family.kernel_ridge",))
    parts = current.parts_to_ship(graph.store, ["family"])
    configs = {p.name.split("/")[0] for p in parts}
    assert "family.ridge" in configs
    assert "family.kernel_ridge" not in configs, "the quick start trains its own"
    shipped = Store(tmp_path / "results" / "synthetic")
    ship(parts, shipped)
    store = Store(
        copied(graph, tmp_path / "data", "predictions", "history", "members", "runs").store().root, shipped.root
    )
    owed = planner.owed(store, ["family.ridge", "family.kernel_ridge"], 2)
    assert {t.config for t in planner.missing(store, owed)} == {"family.kernel_ridge"}
    assert len(current.current_parts(store, owed)["predictions"]) == 2
    # Nothing of it was named, and it stays while it fits.
    assert len(current.parts_to_ship(store, ["loss"])) == len(parts)


def test_shipping_nothing_says_so(graph: Graph):
    with pytest.raises(ValueError, match=r"nothing of loss@reduced is finished \(piano sweep loss@reduced\)"):
        current.parts_to_ship(graph.store, ["loss@reduced"])


def test_no_config_lies_among_the_predictions_that_nobody_trains():
    runs = [f"{config}/0.float64-cpu" for config in built_in().trials]
    assert any(run.startswith("procedure.") for run in runs)
    assert [run for run in runs if run.startswith(current.MADE_OF_OTHERS)] == []


@pytest.mark.parametrize(("said", "device"), [("cuda", "cuda"), ("cpu", "cpu")])
def test_a_night_may_be_planned_for_a_gpu_that_is_elsewhere(monkeypatch, said, device):
    monkeypatch.setenv("PIANO_DEVICE", said)
    assert planner.device() == device
    networks = [c for c in planner.swept_configs() if built_in().trials[c].optimisation is not None]
    assert bool(networks) == (device == "cuda")


def test_a_device_that_is_none_is_refused(monkeypatch):
    monkeypatch.setenv("PIANO_DEVICE", "gpu")
    with pytest.raises(ValueError, match="PIANO_DEVICE='gpu' must be cuda or cpu"):
        planner.device()


def test_a_comparison_of_what_is_made_from_trials_asks_for_all_that_these_are_made_of(monkeypatch):
    of = Derived(
        name="mixture",
        hypothesis="h",
        reference="family.ridge",
        arms={"both": "ensemble.both"},
        about={"both": {}},
        configs=("family.ridge", "ast.reference"),
        split="cluster",
        needs_gpu=frozenset({"ast.reference"}),
    )
    monkeypatch.setattr(planner, "DERIVED", {"mixture": of})
    assert planner.chosen_configs(built_in(), ["mixture"], cuda=False) == (["family.ridge"], ["ast.reference"])
    assert planner.chosen_configs(built_in(), ["mixture"], cuda=True) == ([*of.configs], [])
    with pytest.raises(ValueError, match=r"neither a comparison.*mixture.* nor a config"):
        planner.chosen_configs(built_in(), ["mixtures"])
