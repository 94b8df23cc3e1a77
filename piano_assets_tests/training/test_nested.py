"""Inner folds: fitted like outer ones, on nothing that the outer fold tests, and chosen by."""

import dataclasses
import shutil

import numpy as np
import pandas as pd
import pytest

from piano_assets.analysis.panel import blocks, units
from piano_assets.catalogue.trial import BUDGETS, vary
from piano_assets.corpus.leaks import leaks
from piano_assets.corpus.split_strategies import N_INNER_FOLDS
from piano_assets.corpus.splits import SPLITS, make_split
from piano_assets.dimensions import NAMES
from piano_assets.ensembles.combine import mean_of_members
from piano_assets.metrics.regression import pearson
from piano_assets.models.tabular import build
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Store, digest, read_part
from piano_assets.training import data as training_data
from piano_assets.training.data import (
    code_version,
    data_version,
    device_class,
    has_inner_folds,
    load,
    part_key,
    precision_of,
)
from piano_assets.training.fitted import fitted
from piano_assets.training.nested import fit_nested, folds_of, inner_level, unit_of
from piano_assets.training.run import run_batch, run_trial
from piano_assets.versions import CODE_VERSION
from piano_assets_tests.training.tiny import CLIPS, MLP, RIDGE, SEARCHED, UNLABELLED, build_store

pytestmark = [pytest.mark.filterwarnings("ignore:n_quantiles"), pytest.mark.xdist_group("nested")]

ALPHAS, OWN = (25.0, 60.0), 10.0
"""Close enough for folds to differ in the best; the trial's own value is not among them."""
SEARCH = (("model.settings.alpha", ALPHAS),)
NESTED = {
    "searched": dataclasses.replace(SEARCHED, split="nested", search=SEARCH),
    "ridge": vary(RIDGE, {"split": "nested"}),
}
NETWORK = vary(MLP, {"split": "nested"})


def with_clusters(root) -> Store:
    """The tiny corpus in 14 clusters of unequal size, with the splits `cluster` and `nested` as they are made."""
    store = build_store(root)
    sizes = [9, 8, 7, 6, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1]
    clips = (
        store.read("clips", "all").sort_values("clip").assign(cluster=np.repeat([f"k{i}" for i in range(14)], sizes))
    )
    clips = clips.assign(excerpt=clips["cluster"])
    store.write("clips", clips, key="k")
    nothing = pd.DataFrame()
    for name in ("cluster", "nested"):
        rows = make_split(name, clips, nothing, nothing, nothing)
        store.write("splits", rows, key="k", name=name)
        store.write("leaks", leaks(rows, clips, pd.Series(CLIPS, CLIPS)), key="k", name=name)
    return store


@pytest.fixture(scope="module")
def untouched(tmp_path_factory) -> Store:
    return with_clusters(tmp_path_factory.mktemp("untouched") / "tiny")


@pytest.fixture
def store(untouched, tmp_path) -> Store:
    return Store(shutil.copytree(untouched.root, tmp_path / "tiny"))


@pytest.fixture(scope="module")
def finished(untouched, tmp_path_factory):
    store = Store(shutil.copytree(untouched.root, tmp_path_factory.mktemp("finished") / "tiny"))
    items = [("searched", NESTED["searched"], 0), ("ridge", NESTED["ridge"], 1), ("mlp", NETWORK, 0)]
    items += [("mlp.cluster", MLP, 0)]
    return store, {r.config: store.read("predictions", r.part_name) for r in run_batch(items, store)}


def wide(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.pivot(index="clip", columns="dimension", values="value")[list(NAMES)]


def test_numbers_of_inner_folds_are_theirs_alone():
    pairs = [(fold, inner) for fold in range(60) for inner in range(N_INNER_FOLDS)]
    numbers = [unit_of(*pair) for pair in pairs]
    assert [folds_of(n) for n in numbers] == pairs
    assert len(set(numbers) | set(range(60))) == len(pairs) + 60


def test_the_inner_level_is_the_splits_own_and_stops_by_whole_clusters(store):
    data = load(NETWORK, store)
    inner = inner_level(NETWORK, data, store)
    rows = store.read("splits", "nested")
    cluster = store.read("clips", "all").set_index("clip")["cluster"].reindex(data.clips).to_numpy()
    assert len(inner.roles) == 5 * 5 * N_INNER_FOLDS
    for (repeat, unit), role in inner.roles.items():
        fold, k = folds_of(unit)
        here = rows[(rows["repeat"] == repeat) & (rows["fold"] == fold)]
        mine = here[here["inner_fold"] == k].set_index("clip")["role"].reindex(data.clips).to_numpy()
        outer = here[here["inner_fold"].isna()].set_index("clip")["role"].reindex(data.clips).to_numpy()
        np.testing.assert_array_equal(role == "test", mine == "valid")
        np.testing.assert_array_equal(np.isin(role, ("train", "valid")), mine == "train")
        np.testing.assert_array_equal(role == "unused", outer == "test")
        parts = [set(cluster[role == r]) for r in ("train", "valid", "test", "unused")]
        assert sum(map(len, parts)) == len(set.union(*parts)), "no cluster plays two roles"
        assert all(parts)
    assert inner_level(MLP, load(MLP, store), store) is None


def test_the_point_is_chosen_by_the_mean_over_inner_folds_and_fitted_on_all_learning_clips(finished):
    """Against scikit-learn's pipelines fitted by hand on the rows of the split."""
    store, found = finished
    data, rows = load(SEARCHED, store), store.read("splits", "nested")
    rows = rows[rows["repeat"] == 0]
    at = pd.Index(data.clips)
    chosen = set()
    for fold in range(5):
        here = rows[rows["fold"] == fold]

        def clips(role: str, k: int | None, here: pd.DataFrame = here) -> np.ndarray:
            level = here["inner_fold"].isna() if k is None else here["inner_fold"] == k
            return np.sort(at.get_indexer(here[level & (here["role"] == role)]["clip"]))

        def predicted(alpha: float, learn: np.ndarray, test: np.ndarray) -> np.ndarray:
            learn = learn[data.labelled[learn]]
            return (
                build("ridge", {"alpha": alpha}, 0)
                .fit(data.features[learn], data.targets[learn])
                .predict(data.features[test])
            )

        inner = {
            alpha: [predicted(alpha, clips("train", k), clips("valid", k)) for k in range(N_INNER_FOLDS)]
            for alpha in (*ALPHAS, OWN)
        }
        r = {}
        for alpha in ALPHAS:
            each = []
            for k, pred in enumerate(inner[alpha]):
                valid = clips("valid", k)
                kept = data.labelled[valid]
                each.append(np.nan_to_num(pearson(pred[kept], data.targets[valid][kept])).mean())
            r[alpha] = np.mean(each)
        best = max(r, key=r.get)
        chosen.add(best)
        learn, test = np.sort(np.r_[clips("train", None), clips("valid", None)]), clips("test", None)
        mine = found["searched"][found["searched"]["fold"] == fold]
        for tuning, alpha in (("fixed", OWN), ("tuned", best)):
            of = mine[mine["tuning"] == tuning]
            got = wide(of[of["inner_fold"].isna()]).reindex(data.clips[test]).to_numpy()
            # Rows of the normal equations are summed in another order; values are stored as float32.
            np.testing.assert_allclose(got, predicted(alpha, learn, test), rtol=2e-6)
            for k in range(N_INNER_FOLDS):
                rows_k = of[of["inner_fold"] == k]
                assert set(rows_k["role"]) == {"valid"}
                got = wide(rows_k).reindex(data.clips[clips("valid", k)]).to_numpy()
                np.testing.assert_allclose(got, inner[alpha][k], rtol=2e-6)
    assert len(chosen) > 1, "the choice differs between folds, so that the test can tell it from a constant"


@pytest.mark.parametrize("config", ["searched", "ridge", "mlp"])
def test_every_learning_clip_is_predicted_once_inside_its_outer_fold(finished, config):
    store, found = finished
    repeat = 1 if config == "ridge" else 0
    rows = store.read("splits", "nested")
    rows = rows[rows["repeat"] == repeat]
    want = rows[rows["inner_fold"].notna() & (rows["role"] == "valid")]
    mine = found[config]
    assert set(mine["repeat"]) == {repeat}
    for _, one in mine.groupby("tuning"):
        inner = one[one["inner_fold"].notna()]
        assert len(inner) == len(want) * 19
        assert set(inner["role"]) == {"valid"}
        key = ["fold", "inner_fold", "clip"]
        assert set(map(tuple, inner[key].to_numpy())) == set(map(tuple, want[key].to_numpy()))
        tested = one[(one["role"] == "test") & one["inner_fold"].isna()]
        assert len(tested) == 60 * 19
    assert set(mine["tuning"]) == ({"fixed", "tuned"} if config == "searched" else {"fixed"})
    # Outer validation clips decide nothing for a tabular model; a network is stopped by them.
    outer_valid = mine[(mine["role"] == "valid") & mine["inner_fold"].isna()]
    assert bool(len(outer_valid)) == (config == "mlp")


def test_outer_folds_of_a_network_are_those_of_the_split_cluster(finished):
    _, found = finished
    columns = ["fold", "clip", "dimension", "role", "tuning", "value"]
    outer, same = found["mlp"][found["mlp"]["inner_fold"].isna()], found["mlp.cluster"]
    pd.testing.assert_frame_equal(outer[columns].reset_index(drop=True), same[columns], check_exact=True)


def test_members_and_curves_say_which_inner_fold_they_are_of(finished):
    store, _ = finished
    members = store.read("members", "searched/0.float64-cpu")
    points = {"fixed", *(f"model.settings.alpha={a}" for a in ALPHAS)}
    inner = members[members["inner_fold"].notna()]
    assert inner.groupby(["fold", "inner_fold"])["search_point"].apply(set).tolist() == [points] * 20
    assert inner["reason"].str.match(r"inner r -?0\.\d{4}$").all()
    outer = members[members["inner_fold"].isna()]
    assert outer.groupby("fold")["search_point"].apply(set).tolist() == [{"fixed", "tuned"}] * 5
    (history,) = [store.read("history", "mlp/0.float32-cpu")]
    curves = history.groupby(["fold", "inner_fold"], dropna=False).size()
    assert len(curves) == 5 * (1 + N_INNER_FOLDS)
    assert set(curves) == {BUDGETS["smoke"].epochs}
    assert set(history["fold"]) == set(range(5))


@pytest.mark.parametrize(("config", "trial"), [("searched", NESTED["searched"]), ("mlp", NETWORK)])
def test_only_outer_folds_keep_their_models(finished, config, trial):
    store, found = finished
    (folder,) = (store.root / "checkpoints" / config).iterdir()
    assert sorted(f.name for f in folder.iterdir()) == [f"fold{k}" for k in range(5)]
    model = fitted(store, config, trial)
    mine = found[config]
    mine = mine[(mine["role"] == "test") & (mine["tuning"] == model.tuning)]
    want = wide(mine).reindex(model.data.clips).to_numpy()
    # Predicted in another batch of windows: float32.
    np.testing.assert_allclose(model.out_of_fold(), want, rtol=1e-5)


class Killed(BaseException):
    """Stands for the signal that ends a run."""


@pytest.mark.parametrize(
    ("config", "trial", "n_units", "after"), [("searched", NESTED["searched"], 5, 2), ("mlp", NETWORK, 25, 7)]
)
def test_killed_and_resumed_is_uninterrupted(finished, store, config, trial, n_units, after):
    there, _ = finished

    def kill(partition, n_done, n_folds):
        assert (partition, n_folds) == (f"{config}|0", n_units)
        if n_done == after:
            raise Killed

    with pytest.raises(Killed):
        run_trial(trial, config, 0, store, on_fold=kill)
    assert list(store.parts("predictions")) == []
    steps = []
    result = run_trial(trial, config, 0, store, on_fold=lambda *told: steps.append(told[1]))
    assert steps[0] > after
    assert steps[-1] == n_units
    for table in ("predictions", "members", "history"):
        got, want = (read_part(s.part(table, result.part_name)).to_pandas() for s in (store, there))
        pd.testing.assert_frame_equal(got, want, check_exact=True)
    assert not any((store.root / "work").iterdir())


def test_nothing_of_outer_test_clips_reaches_inner_folds_or_the_choice(store):
    trial = NESTED["searched"]
    data = load(trial, store)
    test = data.rows(0, 2, "test", labelled=False)
    rng = np.random.default_rng(0)
    features, targets = data.features.copy(), data.targets.copy()
    features[test], targets[test] = rng.normal(size=features[test].shape), rng.random(targets[test].shape)
    other = dataclasses.replace(data, features=features, targets=targets)
    want, got = (fit_nested(trial, d, inner_level(trial, d, store), 0, 2, 0, 1) for d in (data, other))
    assert got.search_point == want.search_point
    assert got.members == want.members
    for role, same in (("valid", True), ("test", False)):
        a, b = (r.predictions.loc[r.predictions["role"] == role, "value"].to_numpy() for r in (got, want))
        assert len(a) > 0
        assert (a == b).all() == same


def test_an_inner_fold_that_learns_from_outer_test_clips_is_refused(store):
    rows = store.read("splits", "nested")
    rows.loc[(rows["inner_fold"] == 1) & (rows["role"] == "unused"), "role"] = "train"
    store.write("splits", rows, key="k", name="nested")
    with pytest.raises(ValueError, match=r"repeat 0, fold 0: inner fold 1 uses \d+ clips that the outer fold tests"):
        run_trial(NESTED["ridge"], "ridge", 0, store)
    store.write("splits", rows[rows["inner_fold"].isna()], key="k", name="nested")
    with pytest.raises(ValueError, match="'nested' must have inner folds"):
        run_trial(NESTED["ridge"], "ridge", 0, store)


def test_part_keys_change_with_inner_folds_and_nowhere_else(store, monkeypatch):
    """The key of every other split is the hash of the same six values as ever: shipped results stay current."""

    def six(trial, seed, precision, device):
        versions = data_version(trial, store), code_version(trial)
        return trial.key, seed, *versions, precision_of(trial, precision), device_class(trial, device)

    monkeypatch.setattr(training_data, "_version", lambda part: "v")
    monkeypatch.setattr(Store, "require", lambda *_: None)
    keys = {}
    for split in SPLITS:
        for trial in (vary(SEARCHED, {"split": split}), vary(MLP, {"split": split})):
            keys[split, trial.family] = part_key(trial, 3, store, "bfloat16", "cuda:0")
            plain = digest(*six(trial, 3, "bfloat16", "cuda:0"))
            assert (keys[split, trial.family] == plain) == (split != "nested"), split
            assert has_inner_folds(trial) == (split == "nested")
    monkeypatch.setitem(CODE_VERSION, "inner_folds", CODE_VERSION["inner_folds"] + 1)
    for (split, _), key in keys.items():
        trial = vary(SEARCHED if _ == "ridge" else MLP, {"split": split})
        assert (part_key(trial, 3, store, "bfloat16", "cuda:0") == key) == (split != "nested")


def test_readers_of_predictions_ignore_inner_folds(finished):
    store, found = finished
    clips, labels, splits = store.read("clips", "all"), store.read("labels"), store.read("splits", "nested")
    known = units(clips, labels)
    everything = found["searched"]
    outer = everything[everything["inner_fold"].isna()]
    assert len(outer) < len(everything)
    (got, listed), (want, listed_outer) = (blocks(rows, splits, known) for rows in (everything, outer))
    pd.testing.assert_frame_equal(listed, listed_outer)
    assert len(got) == len(want) == 2
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a.pred, b.pred)
    both = [
        mean_of_members("e", {"a": rows, "b": rows.assign(value=1 - rows["value"])})[0] for rows in (everything, outer)
    ]
    pd.testing.assert_frame_equal(*both)


def test_tables_keep_their_declarations(finished):
    _, found = finished
    for rows in found.values():
        assert TABLES["predictions"].violations(rows) == []


def test_unlabelled_clips_are_predicted_in_inner_folds_and_learnt_from_nowhere(finished):
    _, found = finished
    mine = found["searched"]
    assert (mine["clip"] == UNLABELLED).sum() == 2 * 19 * (
        1 + 4
    )  # tested once, learnt around in four folds; two tunings
