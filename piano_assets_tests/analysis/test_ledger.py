"""The ledger: what a look shows, that it stays, and that it is entered once."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import r2_score

from piano_assets.analysis.ledger import METRICS, TABLE, enter, entered, look
from piano_assets.analysis.scores import score_table
from piano_assets.dimensions import NAMES
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Store
from piano_assets_tests.analysis import world

AT = datetime(2026, 3, 1, 12, 30, 5, 17, tzinfo=UTC)
CLIPS = world.clips()
LABELS, VALUE = world.labels(CLIPS, np.random.default_rng(0))
SPLIT = world.splits(CLIPS, name="nested")
PRED = VALUE + np.random.default_rng(1).normal(0, 0.1, VALUE.shape)
PREDICTIONS = world.predict("procedure.best", SPLIT, CLIPS, PRED, tuning="tuned")


def looked(predictions=PREDICTIONS, **changes) -> pd.DataFrame:
    told = {"rule": "clean", "part_key": "k1", "reason": "first look", "at": AT, "git_commit": "abc"} | changes
    return look(predictions, SPLIT, CLIPS, LABELS, **told)


def test_values_are_sklearns_and_numpys():
    rows = looked().set_index("metric")["value"]
    # The same predictions in both repeats: pooled over folds, each repeat scores alike.
    assert rows["r2_pooled"] == pytest.approx(r2_score(VALUE, PRED), rel=1e-10)
    r = [np.corrcoef(PRED[:, d], VALUE[:, d])[0, 1] for d in range(len(NAMES))]
    assert rows["pearson_mean"] == pytest.approx(np.mean(r), rel=1e-10)


def test_intervals_are_those_of_the_table_scores():
    subject = world.subjects("procedure.best")  # neither a trial nor a lookup: scored over its repeats
    weights = pd.DataFrame([{"ensemble": "procedure.best", "split": "nested", "member": "a"}])
    scores = score_table(
        PREDICTIONS, LABELS, CLIPS, SPLIT, subject, world.trials(a=world.TABULAR), ensemble_weights=weights
    )
    where = (scores["population"] == "all") & (scores["level"] == "global") & (scores["dimension"] == "mean")
    want = scores[where].set_index("metric").loc[list(METRICS), ["value", "ci_low", "ci_high"]]
    got = looked().set_index("metric")[["value", "ci_low", "ci_high"]]
    pd.testing.assert_frame_equal(got, want, rtol=1e-10)
    assert (got["ci_low"] < got["value"]).all()


def test_a_look_says_what_was_looked_at_when_and_why():
    rows = looked()
    assert TABLES[TABLE].violations(rows) == []
    assert list(rows["metric"]) == list(METRICS)
    told = rows[["at", "procedure", "split", "part_key", "git_commit", "reason"]].drop_duplicates()
    assert told.to_numpy().tolist() == [[AT, "procedure.best", "nested", "k1", "abc", "first look"]]


def test_the_label_rule_decides_which_clips_are_scored():
    """Published labels lack the first clip."""
    got = looked(rule="published").set_index("metric")["value"]
    assert got["r2_pooled"] == pytest.approx(r2_score(VALUE[1:], PRED[1:]), rel=1e-10)


def test_lines_are_added_and_never_replaced(tmp_path):
    store = Store(tmp_path)
    first, made = enter(store, looked())
    assert made
    content = first.path.read_bytes()
    others = [
        looked(part_key="k2", at=AT + timedelta(microseconds=1)),
        looked(reason="another question", at=AT + timedelta(microseconds=2)),
        looked(part_key="k3", at=AT + timedelta(microseconds=3)),
        looked(PREDICTIONS.assign(subject="procedure.other")),
    ]
    for rows in others:
        assert enter(store, rows)[1]
    assert first.path.read_bytes() == content
    everything = store.read(TABLE)
    assert len(everything) == 5 * len(METRICS)
    assert TABLES[TABLE].violations(everything) == []
    assert {p.key for p in store.parts(TABLE)} >= {first.key}
    back = pd.concat([looked(), *others]).sort_values(["part_key", "procedure", "reason", "metric"])
    got = everything.sort_values(["part_key", "procedure", "reason", "metric"])
    assert got["value"].tolist() == back["value"].tolist()
    assert got["reason"].tolist() == back["reason"].tolist()


def test_the_same_predictions_and_reason_are_one_look(tmp_path):
    store = Store(tmp_path)
    assert entered(store, "procedure.best", "k1", "first look") is None
    first, _ = enter(store, looked())
    again, made = enter(store, looked(at=AT + timedelta(days=3), git_commit="def"))
    assert not made
    assert again == first == entered(store, "procedure.best", "k1", "first look")
    assert len(store.read(TABLE)) == len(METRICS)
    assert store.read(TABLE)["at"].unique().tolist() == [pd.Timestamp(AT)]


@pytest.mark.parametrize(
    ("predictions", "changes", "message"),
    [
        (PREDICTIONS, {"reason": "  "}, "reason='  ' must say why"),
        (PREDICTIONS, {"at": AT.replace(tzinfo=None)}, "must have a time zone"),
        (pd.concat([PREDICTIONS, PREDICTIONS.assign(tuning="fixed")]), {}, r"one tuning \(are \{'tuning'"),
        (
            pd.concat([PREDICTIONS, PREDICTIONS.assign(subject="b")]),
            {},
            r"\(are \{'subject': \['b', 'procedure.best'\]",
        ),
        (
            PREDICTIONS[PREDICTIONS["clip"] != "c0e0p0"],
            {},
            "procedure.best: incomplete .*'found': 111, 'expected': 112",
        ),
    ],
)
def test_what_is_no_look_is_refused(predictions, changes, message):
    with pytest.raises(ValueError, match=message):
        looked(predictions, **changes)
