"""Scores on clips of whom was held back, against scipy by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import pearsonr

from piano_assets.analysis.panel import units
from piano_assets.analysis.robustness.cross import ALL, cross_rows
from piano_assets_tests.analysis import world


@pytest.fixture(scope="module")
def corpus():
    """Clips of two composers, a subject on its own split, and the same trial trained without each composer."""
    rng = np.random.default_rng(3)
    clips = world.clips()
    clips = clips.assign(composer=np.where(clips["cluster"].isin(["c0", "c1", "c2"]), "Beethoven", "Schubert"))
    labels, value = world.labels(clips, rng)
    own = world.splits(clips, n_repeats=1)
    fold = (clips["composer"] == "Schubert").to_numpy().astype(int)
    frames = [own[["clip"]].drop_duplicates().assign(fold=k, role=np.where(fold == k, "test", "train")) for k in (0, 1)]
    held = pd.concat(frames).assign(
        split="composer", repeat=0, inner_fold=pd.array([pd.NA], "Int32")[0], split_hash="y"
    )
    sides = [value + spread * rng.normal(size=value.shape) for spread in (0.05, 0.2)]
    predictions = [
        world.predict("m|0", split, clips, pred, repeats=(0,)) for split, pred in zip((own, held), sides, strict=True)
    ]
    return clips, labels, value, pd.concat([own, held]), predictions, sides


@pytest.mark.parametrize("probe", ["cross_composer", "cross_performer"])
def test_scores_are_those_of_the_clips_that_were_held_back(corpus, probe):
    clips, labels, value, splits, (own, held), sides = corpus
    known = units(clips, labels)
    rows = cross_rows(probe, own, held, splits, clips, known, "clean")
    rows = rows[(rows["dimension"] == "mean") & (rows["metric"] == "pearson_mean")].set_index("condition")["value"]
    groups = {ALL: np.ones(len(clips), bool)}
    if probe == "cross_composer":
        groups |= {c: (clips["composer"] == c).to_numpy() for c in ("Beethoven", "Schubert")}
    assert set(rows.index) == {*groups, "clean", *(f"{g}, heard" for g in groups if g != ALL)}
    for group, mine in groups.items():
        for pred, condition in zip(sides, ("clean" if group == ALL else f"{group}, heard", group), strict=True):
            want = np.mean([pearsonr(pred[mine, d], value[mine, d])[0] for d in range(19)])
            # Labels of published clips do not enter; predictions went through a long table of float64.
            assert rows[condition] == pytest.approx(want, rel=1e-10)


def test_incomplete_predictions_are_refused(corpus):
    clips, labels, _, splits, (own, held), _ = corpus
    with pytest.raises(ValueError, match=r"split 'composer': one complete repeat is wanted"):
        cross_rows("cross_composer", own, held[held["clip"] != "c0e0p0"], splits, clips, units(clips, labels), "clean")
