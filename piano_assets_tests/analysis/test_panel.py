"""Predictions against splits: what is complete, and what is refused."""

import numpy as np
import pandas as pd
import pytest

from piano_assets.analysis.panel import PredictionError, blocks, completeness, units
from piano_assets.dimensions import NAMES
from piano_assets_tests.analysis import world

CLIPS = world.clips()
LABELS, VALUE = world.labels(CLIPS, np.random.default_rng(0))
SPLITS = world.splits(CLIPS)
KNOWN = units(CLIPS, LABELS)
PREDICTIONS = world.predict("m|0", SPLITS, CLIPS, VALUE, repeats=(0,))


def test_values_land_where_they_belong():
    shuffled = PREDICTIONS.sample(frac=1, random_state=1)
    (block,), listed = blocks(shuffled, SPLITS, KNOWN)
    np.testing.assert_array_equal(block.pred, VALUE[block.clip])
    tested = SPLITS[(SPLITS["repeat"] == 0) & (SPLITS["role"] == "test")].set_index("clip")["fold"]
    assert dict(zip(KNOWN.clip[block.clip], block.fold, strict=True)) == tested.to_dict()
    assert listed.iloc[0].to_dict() == {
        "subject": "m|0",
        "split": "cluster",
        "tuning": "fixed",
        "repeat": 0,
        "expected": 112,
        "found": 112,
        "complete": True,
    }


def test_validation_and_perturbed_predictions_are_not_looked_at():
    other = [PREDICTIONS.assign(role="valid"), PREDICTIONS.assign(condition="noise"), PREDICTIONS.assign(inner_fold=1)]
    (block,), _ = blocks(pd.concat([PREDICTIONS, *other]), SPLITS, KNOWN)
    np.testing.assert_array_equal(block.pred, VALUE[block.clip])


def test_an_incomplete_subject_is_listed_and_not_returned():
    some = PREDICTIONS[~((PREDICTIONS["clip"] == "c0e0p0") & (PREDICTIONS["dimension"] == NAMES[3]))]
    found, listed = blocks(some, SPLITS, KNOWN)
    assert found == []
    assert listed[["expected", "found", "complete"]].values.tolist() == [[112, 111, False]]
    assert not completeness(some[some["fold"] != 2], SPLITS, KNOWN)["complete"].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda p: pd.concat([p, p[p["clip"] == "c0e0p0"]]),
            "'m|0', split 'cluster'.*19 values predicted twice.*c0e0p0",
        ),
        (lambda p: p.assign(value=p["value"].mask(p["clip"] == "c0e0p0")), "'m|0', split 'cluster'.*19 .*not finite"),
        (lambda p: p.assign(fold=(p["fold"] + 1) % 4), "'m|0', split 'cluster'.*2128 test predictions.*does not test"),
        (lambda p: p.assign(clip=p["clip"].replace("c0e0p0", "nobody")), "19 test predictions.*first 'nobody'"),
        (lambda p: p.assign(split="unheard_of"), "'unheard_of'.*no such repeat"),
    ],
)
def test_refusals(change, message):
    with pytest.raises(PredictionError, match=message):
        blocks(change(PREDICTIONS), SPLITS, KNOWN)


def test_labels_of_unknown_clips_are_refused():
    with pytest.raises(ValueError, match="unknown clips, first 'nobody'"):
        units(CLIPS, LABELS.assign(clip=LABELS["clip"].replace("c0e0p0", "nobody")))
