"""Curves of adapted subjects: what is planted in predictions comes out, and formulas by hand."""

import numpy as np
import pandas as pd
import pytest

from piano_assets.adaptation.conditions import GROUPS, of_stage, of_support
from piano_assets.analysis.adaptation import backward_transfer, curve_table, forgetting
from piano_assets.dimensions import NAMES
from piano_assets.metrics.regression import METRICS, pearson
from piano_assets.schemas import TABLES
from piano_assets_tests.analysis.world import clips, labels, predict, splits

SCORES = np.array([[0.8, 0.1, 0.0], [0.6, 0.7, 0.1], [0.5, 0.75, 0.9], [0.55, 0.6, 0.8]])


def test_forgetting_by_hand():
    """Of three groups over four stages; the scores before a group's own stage do not count."""
    np.testing.assert_allclose(forgetting(SCORES), [0.8 - 0.55, 0.75 - 0.6, 0.9 - 0.8])
    early = np.array([[0.2, 0.99], [0.3, 0.5], [0.4, 0.4]])
    np.testing.assert_allclose(forgetting(early), [0.3 - 0.4, 0.5 - 0.4])


def test_backward_transfer_by_hand():
    assert backward_transfer(SCORES[:3]) == pytest.approx(((0.5 - 0.8) + (0.75 - 0.7)) / 2)


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    of = clips()
    long, value = labels(of, rng)
    noise = rng.normal(size=(8, *value.shape))
    folds = pd.concat([splits(of, name=name) for name in ("performer", "cluster")])
    return of, long, value, noise, folds


def noisy(world, level, draw=0):
    return world[2] + level * 0.1 * world[3][draw]


def support_rows(world, levels):
    of, _, _, _, folds = world
    split = folds[folds["split"] == "performer"]
    frames = [predict("adaptation.unadapted", split, of, noisy(world, 2.0))]
    for k, level in levels.items():
        rows = predict("adaptation.shift", split, of, noisy(world, level), tuning="tuned")
        frames.append(rows.assign(condition=of_support(k)))
    return pd.concat(frames, ignore_index=True)


def chosen(table, **where):
    for column, value in where.items():
        table = table[table[column] == value]
    return table


def test_scores_over_rated_clips_are_those_of_the_predictions(world):
    of, long, value, _, folds = world
    levels = {1: 1.8, 2: 1.5, 5: 1.0, 10: 0.5}
    table = curve_table(support_rows(world, levels), long, of, folds)
    TABLES["adaptation_curves"].conform(table)
    for k, level in levels.items():
        row = chosen(table, subject="adaptation.shift", step=k, population="all", level="global").set_index("metric")
        want = pearson(noisy(world, level), value).mean()
        before = pearson(noisy(world, 2.0), value).mean()
        assert row.at["pearson_mean", "value"] == pytest.approx(want, rel=1e-9)
        assert row.at["pearson_mean_change", "value"] == pytest.approx(want - before, rel=1e-6)
        assert row.at["r2_pooled", "value"] == pytest.approx(METRICS["r2"](noisy(world, level), value).mean(), rel=1e-9)
        assert row.at["pearson_mean_change", "ci_low"] < want - before < row.at["pearson_mean_change", "ci_high"]
    assert set(chosen(table, subject="adaptation.unadapted")["step"]) == {0}
    assert set(table["population"]) == {"all", "humans"}


def test_a_change_is_paired(world):
    """Predictions that add the same little to all: the change's interval is far narrower than the score's."""
    of, long, _, _, folds = world
    rows = support_rows(world, {1: 1.95, 2: 1.95, 5: 1.95, 10: 1.95})
    row = chosen(
        curve_table(rows, long, of, folds), subject="adaptation.shift", step=5, population="all", level="global"
    )
    row = row.set_index("metric")
    width = (row["ci_high"] - row["ci_low"]).to_dict()
    assert width["pearson_mean_change"] < 0.2 * width["pearson_mean"]


def sequence_rows(world, subject, level_of):
    """level_of: (stage, group's number) -> noise of its dimensions."""
    of, _, _, _, folds = world
    split = folds[folds["split"] == "cluster"]
    frames = []
    for stage in range(1, 5):
        pred, there = noisy(world, 0.0).copy(), []
        for g, columns in enumerate(list(GROUPS.values())[:stage], start=1):
            pred[:, columns] = noisy(world, level_of(stage, g))[:, columns]
            there += [NAMES[c] for c in columns]
        rows = predict(subject, split, of, pred).assign(condition=of_stage(stage))
        frames.append(rows[rows["dimension"].isin(there)])
    return pd.concat(frames, ignore_index=True)


def test_planted_forgetting_is_found_and_what_stays_loses_nothing(world):
    of, long, value, _, folds = world
    plain = sequence_rows(world, "adaptation.sequential", lambda stage, g: 0.5 + 0.5 * (stage - g))
    kept = sequence_rows(world, "adaptation.frozen", lambda stage, g: 0.5)
    table = curve_table(pd.concat([plain, kept]), long, of, folds)
    TABLES["adaptation_curves"].conform(table)
    columns = list(next(iter(GROUPS.values())))

    def r(level):
        return pearson(noisy(world, level)[:, columns], value[:, columns]).mean()

    touch = chosen(table, subject="adaptation.sequential", group="touch")
    for stage, level in ((1, 0.5), (2, 1.0), (3, 1.5), (4, 2.0)):
        row = chosen(touch, step=stage, metric="pearson_mean")
        assert row["value"].item() == pytest.approx(r(level), rel=1e-9)
        assert row["ci_low"].item() < r(level) < row["ci_high"].item()
    lost = r(0.5) - r(2.0)
    assert chosen(touch, metric="forgetting")["value"].item() == pytest.approx(lost, rel=1e-9)
    transfer = chosen(touch, metric="backward_transfer")
    assert transfer["value"].item() == pytest.approx(-lost, rel=1e-9)
    assert transfer["ci_high"].item() < 0
    whole = chosen(table, subject="adaptation.sequential", metric="backward_transfer").set_index("group")["value"]
    assert list(whole.index) == ["touch", "sound", "shaping", "all"], "the last group cannot be forgotten"
    assert whole["all"] == pytest.approx(whole.drop("all").mean())
    kept_all = chosen(table, subject="adaptation.frozen", group="all").set_index("metric")["value"]
    assert kept_all["forgetting"] == pytest.approx(0, abs=1e-12)
    assert kept_all["backward_transfer"] == pytest.approx(0, abs=1e-12)


def test_what_is_learnt_at_once_has_scores_and_no_forgetting(world):
    of, long, _, _, folds = world
    rows = predict("adaptation.together", folds[folds["split"] == "cluster"], of, noisy(world, 0.5))
    table = curve_table(rows, long, of, folds)
    assert set(table["metric"]) == {"pearson_mean"}
    assert set(table["step"]) == {4}
    assert list(table["group"]) == list(GROUPS)


def test_other_subjects_are_not_looked_at(world):
    of, long, _, _, folds = world
    rows = predict("lookup.excerpt_mean", folds[folds["split"] == "cluster"], of, noisy(world, 0.5))
    assert curve_table(rows, long, of, folds).empty
