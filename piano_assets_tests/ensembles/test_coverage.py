"""Intervals: what they promise on exchangeable clips, and what nested folds say of them."""

import numpy as np
import pandas as pd
import pytest

from piano_assets.dimensions import NAMES
from piano_assets.ensembles.coverage import half_widths, nested_coverage, shares
from piano_assets_tests.ensembles.by_hand import LABELS, A, B


def test_intervals_hold_what_they_promise_on_exchangeable_clips():
    rng = np.random.default_rng(1)
    hits = []
    for _ in range(200):
        noise = rng.normal(size=(60, 19))
        hits.append(np.abs(noise[-1]) <= half_widths(noise[:-1]))
    # With 59 residuals the promise is kept exactly (54 of 60); 3,800 draws have a standard deviation of .005.
    assert np.mean(hits) == pytest.approx(0.9, abs=0.02)


def test_the_width_is_the_corrected_quantile():
    residual = np.tile(np.arange(1.0, 20.0)[:, None] * np.where(np.arange(19) % 2, 1, -1), (1, 1))
    assert half_widths(residual).tolist() == [18.0] * 19  # ceil(.9 * 20) = 18th of 19
    assert half_widths(residual, 0.99).tolist() == [19.0] * 19


def test_widths_come_from_inner_predictions_alone():
    """By hand: one candidate has all the weight, its inner residuals set the width, its outer ones are judged."""
    found = nested_coverage("x", "best_inner_r", {"a": A, "b": B}, LABELS)
    truth = LABELS.set_index(["clip", "dimension"])["value"]
    for (repeat, fold), rows in found.groupby(["repeat", "fold"]):
        r = {}
        for name, table in (("a", A), ("b", B)):
            mine = table[(table["repeat"] == repeat) & (table["fold"] == fold)]
            inner = mine[mine["inner_fold"].notna() & (mine["role"] == "valid")]
            inner = inner.pivot(index="clip", columns="dimension", values="value")[list(NAMES)]
            labels = np.array([[truth[clip, d] for d in NAMES] for clip in inner.index])
            r[name] = np.mean([np.corrcoef(inner[d], labels[:, k])[0, 1] for k, d in enumerate(NAMES)])
            outer = mine[mine["role"] == "test"].set_index(["clip", "dimension"])["value"]
            r[name, "width"], r[name, "outer"] = half_widths(inner.to_numpy() - labels), outer
        best = "a" if r["a"] >= r["b"] else "b"
        width = dict(zip(NAMES, r[best, "width"], strict=True))
        for row in rows.itertuples():
            error = abs(r[best, "outer"][row.clip, row.dimension] - truth[row.clip, row.dimension])
            assert row.half_width == pytest.approx(width[row.dimension])
            assert row.held == (error <= row.half_width)
    assert len(found) == len(found.drop_duplicates(["repeat", "clip", "dimension"]))


def test_shares_are_means():
    rows = pd.DataFrame({"dimension": np.repeat(NAMES, 2), "held": [True, False] * 18 + [True, True]})
    found = shares(rows)
    assert (found["mean"], found[NAMES[0]], found[NAMES[-1]]) == (pytest.approx(20 / 38), 0.5, 1.0)
