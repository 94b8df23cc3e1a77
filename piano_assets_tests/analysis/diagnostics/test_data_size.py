"""Learning curves over data: what is thinned, what is trained, and the law that is fitted to the scores."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from piano_assets.analysis.diagnostics import data_size as module
from piano_assets.analysis.diagnostics.data_size import data_size, epochs, first_clusters, thinned
from piano_assets.catalogue.trial import vary
from piano_assets.dimensions import NAMES
from piano_assets.metrics.regression import pearson, r2
from piano_assets.schemas import TABLES
from piano_assets.statistics.power_law import power_law
from piano_assets.training import stacks
from piano_assets.training.data import load
from piano_assets.training.folds import FoldResult, fit_tabular
from piano_assets.training.members import random_seed
from piano_assets.training.run import run_trial
from piano_assets_tests.training.tiny import AST, CLIPS, RIDGE, SEARCHED, build_store

pytestmark = pytest.mark.filterwarnings("ignore:n_quantiles")  # a share of a tiny corpus is fewer clips than quantiles


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The tiny corpus with 15 clusters and 6 performers."""
    store = build_store(tmp_path_factory.mktemp("tiny"))
    clips = store.read("clips", "all").assign(
        cluster=lambda c: [f"c{int(name[5:]) // 4}" for name in c["clip"]],
        performer=lambda c: [f"p{int(name[5:]) % 6}" for name in c["clip"]],
    )
    store.write("clips", clips, key="with clusters")
    return store


@pytest.fixture(scope="module")
def cluster() -> np.ndarray:
    return np.array([f"c{i // 4}" for i in range(len(CLIPS))])


def scores(rows: pd.DataFrame, metric: str = "pearson_mean") -> pd.DataFrame:
    chosen = (rows["condition"] == "size") & (rows["metric"] == metric) & (rows["population"] == "all")
    return rows[chosen].pivot(index="step", columns="dimension", values="value")


def stored(store, trial, config: str) -> tuple[np.ndarray, np.ndarray]:
    """Pooled test predictions and labels of the trained partition."""
    run_trial(trial, config, 0, store)
    (name,) = [p.name for p in store.parts("predictions") if p.name.startswith(config + "/")]
    rows = store.read("predictions", name)
    rows = rows[(rows["role"] == "test") & (rows["tuning"] == rows["tuning"].max())]
    wide = rows.pivot(index="clip", columns="dimension", values="value")[list(NAMES)]
    labels = store.read("labels", "clean").pivot(index="clip", columns="dimension", values="value")[list(NAMES)]
    both = wide.index.intersection(labels.index)
    return wide.loc[both].to_numpy(float), labels.loc[both].to_numpy(float)


@pytest.mark.parametrize(("trial", "config"), [(RIDGE, "ridge"), (SEARCHED, "searched"), (AST, "ast")])
def test_on_all_clips_it_is_the_trial_itself(store, trial, config):
    told: list[tuple[int, int]] = []
    rows = data_size(trial, config, store, shares=(1.0,), progress=lambda *x: told.append(x))
    pred, target = stored(store, trial, config)
    np.testing.assert_allclose(scores(rows)[list(NAMES)].iloc[0], pearson(pred, target), rtol=1e-10)
    np.testing.assert_allclose(scores(rows, "r2_pooled")["mean"], r2(pred, target).mean(), rtol=1e-10)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_share_is_the_trial_on_those_clips(store, cluster):
    rows = data_size(RIDGE, "ridge", store, shares=(0.4, 1.0))
    data = load(RIDGE, store)
    fewer = thinned(data, cluster, 0, 0.4, 0)
    found = pd.concat([fit_tabular(RIDGE, fewer, 0, fold, 0, 1).predictions for fold in range(3)])
    wide = found[found["role"] == "test"].pivot(index="clip", columns="dimension", values="value")[list(NAMES)]
    known = data.labelled
    want = pearson(wide.to_numpy(float)[known], data.targets[known])
    got = scores(rows)
    np.testing.assert_allclose(got[list(NAMES)].iloc[0], want, rtol=1e-10)
    sizes = [[len(d.rows(0, fold, "train", "valid")) for fold in range(3)] for d in (fewer, data)]
    np.testing.assert_allclose(got.index, np.mean(sizes, axis=1))


def test_seeds_are_averaged_over_their_repeats(store):
    both, *each = (data_size(RIDGE, "ridge", store, shares=(0.5,), seeds=s) for s in ((0, 1), (0,), (1,)))
    np.testing.assert_allclose(scores(both)["mean"].iloc[0], np.mean([scores(e)["mean"].iloc[0] for e in each]))


def test_thinning_takes_whole_clusters_and_leaves_test_clips(store, cluster):
    data = load(RIDGE, store)
    kept = {}
    for share in (0.2, 0.5, 1.0):
        fewer = thinned(data, cluster, 1, share, 3)
        for fold in range(3):
            before, after = data.roles[1, fold], fewer.roles[1, fold]
            assert ((after == before) | (after == "unused")).all()
            np.testing.assert_array_equal(after == "test", before == "test")
            for role in ("train", "valid"):
                labelled = data.rows(1, fold, role)
                here = after[labelled] == role
                for c in np.unique(cluster[labelled]):
                    assert len(np.unique(here[cluster[labelled] == c])) == 1, "a cluster was cut"
                kept[share, fold, role] = set(labelled[here])
        np.testing.assert_array_equal(fewer.roles[0, 0], data.roles[0, 0], "the other repeat stays")
    for fold in range(3):
        for role in ("train", "valid"):
            assert kept[0.2, fold, role] < kept[0.5, fold, role] < kept[1.0, fold, role]
            assert kept[1.0, fold, role] == set(data.rows(1, fold, role))
    other = thinned(data, cluster, 1, 0.5, 4)
    assert any((other.roles[1, f] != thinned(data, cluster, 1, 0.5, 3).roles[1, f]).any() for f in range(3))


@pytest.mark.parametrize("share", [0.01, 0.1, 0.3, 0.6, 0.9, 1.0])
def test_first_clusters_are_the_prefix_nearest_to_the_share(share):
    rng = np.random.default_rng(4)
    cluster = rng.choice([3, 5, 5, 5, 8, 9, 9, 11], size=90)
    for seed in range(20):
        kept = first_clusters(cluster, share, np.random.default_rng(seed))
        names, sizes = np.unique(cluster, return_counts=True)
        reached = np.cumsum(sizes[np.random.default_rng(seed).permutation(len(names))])
        assert abs(kept.sum() - share * 90) == min(abs(n - share * 90) for n in reached if n >= 2)


def test_two_clips_are_always_kept():
    for seed in range(10):
        assert first_clusters(np.arange(30), 0.01, np.random.default_rng(seed)).sum() == 2


def test_networks_take_as_many_steps_as_on_all_clips(store, monkeypatch):
    trial = dataclasses.replace(vary(AST, {"optimisation.batch_size": 4}), budget="reduced")
    seen: dict[int, list] = {}

    def fit_groups(groups, data, *, on_group, **_):
        seen[sum(len(g.train) for g in groups)] = groups
        for group in groups:
            rng = np.random.default_rng(group.fold)
            value = rng.uniform(size=(len(group.test), 19)).ravel()
            told = {"fold": group.fold, "role": "test", "tuning": "fixed", "value": value}
            clips = {"clip": np.repeat(data.clips[group.test], 19), "dimension": np.tile(NAMES, len(group.test))}
            on_group(group, FoldResult(pd.DataFrame(told | clips), [], [], None, "fixed"))

    monkeypatch.setattr(stacks, "fit_groups", fit_groups)
    data_size(trial, "ast", store, shares=(0.25, 1.0))
    (few, less), (many, all_) = sorted(seen.items())
    assert few < many / 2
    assert {g.steps for g in less} == {g.steps for g in all_}
    assert all_[0].steps == -(-max(len(g.train) for g in all_) // 4)


def test_rows_fit_the_table_and_carry_the_law(store):
    shares = (0.125, 0.25, 0.5, 1.0)
    rows = data_size(RIDGE, "ridge", store, shares=shares)
    whose = {"subject": "ridge|0", "split": "cluster", "rule": "clean", "tuning": "fixed", "probe": "learning_curves"}
    TABLES["diagnostics"].conform(rows.assign(**whose))
    assert list(scores(rows).index) == sorted(scores(rows).index)
    assert len(scores(rows)) == 4
    sized = rows[rows["condition"] == "size"]
    assert (sized["ci_low"] < sized["value"]).all()
    ahead = rows[rows["condition"].str.startswith("size doubled") & (rows["population"] == "all")]
    assert (ahead["step"] == 2 * scores(rows).index.max()).all()
    assert set(ahead["metric"]) == {"pearson_mean", "r2_pooled"}
    row = ahead[ahead["metric"] == "pearson_mean"].iloc[0]
    law = power_law(scores(rows).index.to_numpy(), scores(rows)["mean"].to_numpy())
    assert row["value"] == pytest.approx(law(row["step"]))
    found = rows[rows["condition"].eq("power law") & rows["population"].eq("all")].set_index("metric")["value"]
    np.testing.assert_allclose([found[f"pearson_mean_{name}"] for name in "abc"], [law.a, law.b, law.c])


def test_without_a_law_the_row_says_why(store):
    rows = data_size(RIDGE, "ridge", store, shares=(0.5, 1.0))
    ahead = rows[rows["condition"].str.startswith("size doubled")]
    assert set(ahead["condition"]) == {"size doubled: 2 sizes, at least 4 are needed"}
    assert ahead[["value", "ci_low", "ci_high"]].isna().all().all()


def test_interval_of_the_doubled_score_is_that_of_the_weighted_contributions(store, monkeypatch):
    """Scores that follow a law exactly and move together: the prediction is as uncertain as each of them."""
    captured = {}
    real = module._extrapolated

    def lawful(points, known):
        n = np.array([size for size, _ in points])
        wanted = 0.8 - 2 * n**-0.7
        last = points[-1][1]["all"]
        changed = [
            (size, {"all": dataclasses.replace(last, value={m: np.full(20, r) for m in last.value})})
            for size, r in zip(n, wanted, strict=True)
        ]
        captured["points"], captured["rows"] = changed, list(real(changed, known))
        captured["single"] = list(module._scores(changed[-1:], known))
        return iter([])

    monkeypatch.setattr(module, "_extrapolated", lawful)
    data_size(RIDGE, "ridge", store, shares=(0.125, 0.25, 0.5, 1.0))
    ahead = next(r for r in captured["rows"] if r["condition"] == "size doubled" and r["metric"] == "pearson_mean")
    n = captured["points"][-1][0]
    assert ahead["value"] == pytest.approx(0.8 - 2 * (2 * n) ** -0.7, rel=1e-6)
    one = next(r for r in captured["single"] if r["dimension"] == "mean" and r["metric"] == "pearson_mean")
    assert ahead["ci_high"] - ahead["value"] == pytest.approx(one["ci_high"] - one["value"], rel=1e-6)


def test_refuses_shares_that_are_none(store):
    with pytest.raises(ValueError, match=r"shares=\(0.5, 1.5\) must lie in \(0, 1\]"):
        data_size(RIDGE, "ridge", store, shares=(0.5, 1.5))


def test_streams_of_roles_and_folds_differ():
    assert len({random_seed(0, fold, f"{role} clusters") for fold in range(3) for role in ("train", "valid")}) == 6


def history(points: dict[tuple[int, str], list[float]]) -> pd.DataFrame:
    rows = [
        {"trial": "t", "seed": 0, "fold": fold, "inner_fold": None, "search_point": point, "epoch": e,
         "train_loss": 1 - r, "valid_loss": 2 - r, "valid_r": r}
        for (fold, point), curve in points.items()
        for e, r in enumerate(curve)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_epochs_are_means_over_folds_that_keep_their_last_value():
    rows = epochs(history({(0, "fixed"): [0.1, 0.3, 0.4], (1, "fixed"): [0.2, 0.1]}))
    r = rows[rows["metric"] == "valid_r"].set_index("step")["value"]
    np.testing.assert_allclose(r[[0.0, 1.0, 2.0]], [0.15, 0.2, 0.25])
    loss = rows[rows["metric"] == "train_loss"].set_index("step")["value"]
    np.testing.assert_allclose(loss[[0.0, 1.0, 2.0]], [0.85, 0.8, 0.75])
    assert set(rows["condition"]) == {"epoch"}


def test_epochs_are_those_of_the_point_that_each_fold_kept():
    rows = epochs(history({(0, "a"): [0.1, 0.5], (0, "b"): [0.3, 0.4], (0, "fixed"): [0.9, 0.9], (1, "b"): [0.2, 0.3]}))
    r = rows[rows["metric"] == "valid_r"].set_index("step")["value"]
    np.testing.assert_allclose(r[[0.0, 1.0]], [0.15, 0.4])
    with pytest.raises(ValueError, match="history of one trial is wanted, got 2"):
        epochs(pd.concat([history({(0, "a"): [0.1]}), history({(0, "a"): [0.1]}).assign(trial="u")]))
