"""Labels: hand numbers, both rules recomputed by brute force from the file, and planted mistakes in the join."""

import csv
import math
import statistics
from collections import defaultdict

import numpy as np
import pandas as pd
import pytest

from piano_assets.corpus.labels import (
    LABEL_RULES,
    SIGN_FACTS,
    label_join_violations,
    labels,
    playing_facts,
    published_clip,
    unmatched,
)
from piano_assets.corpus.ratings import read_ratings
from piano_assets.dimensions import COLUMNS, NAMES
from piano_assets.schemas import TABLES
from piano_assets_tests.corpus.files import rating, ratings_text

CLIP = "Schubert_D960_mv3_8bars_1_01"
FIRST = NAMES[0]


@pytest.fixture
def table(tmp_path):
    """Labels of one rule from rows of a ratings file, by (clip, dimension)."""

    def from_rows(rows, rule):
        path = tmp_path / "ratings.csv"
        path.write_text(ratings_text(rows))
        frame = labels(read_ratings(path).ratings, rule)
        TABLES["labels"].conform(frame)
        assert set(frame["rule"]) <= {rule}
        return frame.set_index(["clip", "dimension"])

    return from_rows


def answers(first, others=4.0):
    return [first, *[others] * 18]


def test_clean_by_hand(table):
    """Rater a: 2 and 4 -> 3; rater b: 7, its repetition ignored; c's 8, d's 0, e's 9 and f's blank are missing."""
    rows = [
        rating("a", "1", answers=answers(2.0)),
        rating("a", "2", answers=answers(4.0)),
        rating("b", "3", answers=answers(7.0)),
        rating("b", "3", answers=answers(7.0)),
        rating("c", "4", answers=answers(8.0)),
        rating("d", "5", answers=answers(0.0)),
        rating("e", "6", answers=answers(9.0)),
        rating("f", "7", answers=answers("")),
    ]
    got = table(rows, "clean").loc[(CLIP, FIRST)]
    assert got["value"] == pytest.approx((3 + 7) / 2 / 7, rel=1e-15)
    assert got["standard_error"] == pytest.approx(math.sqrt(8) / math.sqrt(2) / 7, rel=1e-12)
    assert got["n_raters"] == 2
    other = table(rows, "clean").loc[(CLIP, NAMES[1])]
    assert (other["value"], other["standard_error"], other["n_raters"]) == (4 / 7, 0.0, 6)


def test_published_by_hand(table):
    """The repetition counts, the rows with an 8 or a 9 go whole, 0 and blank are missing one by one."""
    rows = [
        rating("a", "1", answers=answers(2.0)),
        rating("b", "3", answers=answers(7.0)),
        rating("b", "3", answers=answers(7.0)),
        rating("c", "4", answers=answers(8.0, others=1.0)),
        rating("e", "6", answers=answers(9.0, others=1.0)),
        rating("d", "5", answers=answers(0.0)),
        rating("f", "7", answers=answers("")),
    ]
    got = table(rows, "published")
    assert got.loc[(CLIP, FIRST), "value"] == pytest.approx((2 + 7 + 7) / 3 / 7, rel=1e-15)
    assert got.loc[(CLIP, FIRST), "n_raters"] == 3
    assert got.loc[(CLIP, NAMES[1]), "value"] == pytest.approx(4 / 7, rel=1e-15)
    assert got.loc[(CLIP, NAMES[1]), "n_raters"] == 5


def test_one_rater_has_no_standard_error(table):
    assert table([rating()], "clean")["standard_error"].isna().all()


def test_unknown_rule_is_refused_with_the_known_ones():
    with pytest.raises(KeyError, match=r"'median'.*clean, published"):
        labels(TABLES["ratings"].empty(), "median")


def test_no_usable_answer_gives_no_label_but_a_reason(table, tmp_path):
    assert table([rating(answers=[0.0] * 19)], "clean").empty
    ratings = read_ratings(tmp_path / "ratings.csv").ratings
    for rule in LABEL_RULES:
        reason = unmatched(ratings, pd.DataFrame({"clip": [CLIP]}), rule)
        assert reason["item"].tolist() == [CLIP]
        assert reason["value"].tolist() == ["1 ratings, none usable"]


@pytest.mark.parametrize(
    ("clip", "want"),
    [
        ("Beethoven_WoO80_var10_8bars_Score_8", "Beethoven_WoO80_var10_8bars_Score2_8"),
        ("Beethoven_WoO80_var10_8bars_Score2_8", "Beethoven_WoO80_var10_8bars_Score2_8"),
        ("Beethoven_WoO80_var3_8bars_Score_4", "Beethoven_WoO80_var3_8bars_Score_4"),
        ("Beethoven_WoO80_var3_8bars_Score_17", "Beethoven_WoO80_var3_8bars_Score_17"),
        ("Beethoven_WoO80_var10_8bars_7_8", "Beethoven_WoO80_var10_8bars_7_8"),
        ("Schubert_D935_no.3_4bars_Score_1", "Schubert_D935_no.3_4bars_Score2_1"),
        ("Schubert_D935_no.3_4bars_Score_2", "Schubert_D935_no.3_4bars_Score_2"),
        ("Schubert_D960_mv3_8bars_Score_06", "Schubert_D960_mv3_8bars_Score_06"),
    ],
)
def test_which_renditions_are_taken_for_one(clip, want):
    assert published_clip(clip) == want


def test_unmatched_accounts_for_both_sides(table, tmp_path):
    score, score2 = "Beethoven_WoO80_var10_8bars_Score_8", "Beethoven_WoO80_var10_8bars_Score2_8"
    rows = [rating(rating_id=str(i), clip=c + ".wav") for i, c in enumerate([score, score2, CLIP])]
    assert set(table(rows, "published").reset_index()["clip"]) == {score2, CLIP}
    ratings = read_ratings(tmp_path / "ratings.csv").ratings
    never = "Schubert_D960_mv3_8bars_9_01"
    clips = pd.DataFrame({"clip": [score, score2, never]})
    clean, published = (unmatched(ratings, clips, rule) for rule in ("clean", "published"))
    TABLES["quarantine"].conform(published)
    assert clean[["source", "item"]].to_numpy().tolist() == [["ratings", CLIP], ["clips", never]]
    assert published["item"].tolist() == [CLIP, score, never]
    assert published["value"].tolist() == ["1 ratings", f"its ratings are merged into {score2}", "no ratings"]


# --- the real file, recomputed with nothing but the csv module ---


@pytest.fixture(scope="module")
def real(percepiano_dir):
    with (percepiano_dir / "labels/total_2rounds.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return rows, read_ratings(percepiano_dir / "labels/total_2rounds.csv").ratings


def wide(frame):
    return frame.pivot(index="clip", columns="dimension", values="value")


@pytest.mark.percepiano
def test_published_labels_are_the_authors_means(real):
    rows, ratings = real
    votes = defaultdict(list)
    dropped = 0
    for row in rows:
        key = row["filename"].strip().removesuffix(".wav")
        segment = int(key.rsplit("_", 1)[1])
        if "_Score_" in key and (("WoO80" in key and 5 <= segment <= 16) or ("D935_no.3" in key and segment == 1)):
            key = key.replace("_Score_", "_Score2_")
        given = [float(row[c] or 0) for c in COLUMNS]
        if max(given) > 7.1:
            dropped += 1
        else:
            votes[key].append(given)
    assert dropped == 208
    frame = labels(ratings, "published")
    TABLES["labels"].conform(frame)
    got = wide(frame)
    assert len(got) == len(votes) == 1189
    n = frame.pivot(index="clip", columns="dimension", values="n_raters")
    for clip, given in votes.items():
        for dimension, column in zip(NAMES, zip(*given, strict=True), strict=True):
            kept = [v for v in column if v != 0]
            assert got.at[clip, dimension] == pytest.approx(sum(kept) / len(kept) / 7, abs=1e-12)
            assert n.at[clip, dimension] == len(kept)


@pytest.mark.percepiano
def test_clean_labels_by_brute_force(real):
    rows, ratings = real
    votes = defaultdict(lambda: defaultdict(list))
    seen = set()
    for row in rows:
        if row["dataID"] not in seen:
            seen.add(row["dataID"])
            for dimension, column in zip(NAMES, COLUMNS, strict=True):
                if row[column] not in ("", "0.0", "8.0", "9.0"):
                    key = row["filename"].strip().removesuffix(".wav"), dimension
                    votes[key][row["user"]].append(float(row[column]))
    frame = labels(ratings, "clean").set_index(["clip", "dimension"])
    assert frame.index.get_level_values("clip").nunique() == 1202
    assert len(frame) == len(votes)
    for key, by_rater in list(votes.items())[::7]:
        means = [statistics.fmean(v) for v in by_rater.values()]
        got = frame.loc[key]
        assert got["n_raters"] == len(means)
        assert got["value"] == pytest.approx(statistics.fmean(means) / 7, abs=1e-12)
        assert got["standard_error"] == pytest.approx(statistics.stdev(means) / math.sqrt(len(means)) / 7, abs=1e-12)


@pytest.mark.percepiano
def test_thirteen_real_clips_have_no_published_label(real, percepiano_dir):
    _, ratings = real
    clips = pd.DataFrame({"clip": [f.stem.strip() for f in (percepiano_dir / "virtuoso/data/all_2rounds").iterdir()]})
    assert unmatched(ratings, clips, "clean").empty
    missing = unmatched(ratings, clips, "published")
    assert len(missing) == 13
    assert missing["value"].str.startswith("its ratings are merged into").all()


# --- the join ---


def small_corpus(rng):
    """12 excerpts x 10 performers whose labels follow the sign facts, with noise of the same size as the habits."""
    clips, notes, controls, found = [], [], [], []
    for segment in range(12):
        for player in range(10):
            clip = f"Schubert_D960_mv3_8bars_{player}_{segment:02d}"
            span, down, loud, spread = (
                rng.uniform(5, 15),
                rng.uniform(0.1, 0.9),
                rng.uniform(40, 90),
                rng.uniform(3, 20),
            )
            onset = np.linspace(0, span, 40)
            notes.append(
                pd.DataFrame({"clip": clip, "onset_s": onset, "velocity": np.tile([loud - spread, loud + spread], 20)})
            )
            moves = {"clip": clip, "time_s": [0.0, down * span], "controller": 64, "value": [127, 0]}
            controls.append(pd.DataFrame(moves))
            clips.append({"clip": clip, "excerpt": f"e{segment}", "deadpan": False, "duration_s": span})
            habit = {
                "duration_s": span / 10 - 1,
                "pedal_down_share": 2 * (down - 0.5),
                "mean_velocity": (loud - 65) / 25,
                "velocity_spread": (spread - 11) / 8,
            }
            cause = {dimension: habit[quantity] for quantity, dimension in SIGN_FACTS}
            for dimension in NAMES:
                heard = 0.5 + 0.1 * cause.get(dimension, 0.0) + rng.normal(0, 0.06)
                found.append({"clip": clip, "dimension": dimension, "rule": "clean", "value": heard})
    return pd.DataFrame(found), pd.DataFrame(clips), pd.concat(notes), pd.concat(controls)


def test_right_join_passes_and_planted_mistakes_are_caught():
    found, *tables = small_corpus(np.random.default_rng(0))
    assert label_join_violations(found, *tables) == []
    clips = found["clip"].unique()
    shuffled = dict(zip(clips, np.random.default_rng(1).permutation(clips), strict=True))
    assert label_join_violations(found.assign(clip=found["clip"].map(shuffled)), *tables)
    shifted = dict(zip(NAMES, np.roll(NAMES, 1), strict=True))
    assert label_join_violations(found.assign(dimension=found["dimension"].map(shifted)), *tables)
    stranger = found.assign(clip=found["clip"].replace(clips[0], "Schubert_D960_mv3_8bars_9_99"))
    [sentence] = label_join_violations(stranger, *tables)
    assert "Schubert_D960_mv3_8bars_9_99" in sentence


def test_playing_facts_by_hand():
    clips = pd.DataFrame({"clip": ["a", "b"], "duration_s": [10.0, 4.0]})
    notes = pd.DataFrame({"clip": ["a", "a", "b"], "velocity": [40, 60, 70]})
    controls = pd.DataFrame(
        {
            "clip": ["a"] * 4,
            "time_s": [0.0, 2.0, 5.0, 6.0],
            "controller": [64, 64, 67, 64],
            "value": [0, 100, 127, 63],
        }
    )
    got = playing_facts(clips, notes, controls)
    assert got.loc["a"].tolist() == [10.0, 50.0, 10.0, pytest.approx(0.4)]
    assert got.loc["b"].tolist() == [4.0, 70.0, 0.0, 0.0]


@pytest.mark.percepiano
def test_real_join_holds_and_each_shift_of_the_columns_is_caught(real, loaded_percepiano):
    """The last case is the mistake of a published follow-up: nine names moved by one position (columns 9 to 17)."""
    _, ratings = real
    both = pd.concat([labels(ratings, rule) for rule in LABEL_RULES])
    tables = loaded_percepiano.clips, loaded_percepiano.notes, loaded_percepiano.controls
    assert label_join_violations(both, *tables) == []
    clean = both[both["rule"] == "clean"]
    moved = [dict(zip(NAMES, np.roll(NAMES, k), strict=True)) for k in (1, -1, 5)]
    moved.append(dict(zip(NAMES[9:18], np.roll(NAMES[9:18], 1), strict=True)))
    for names in moved:
        assert label_join_violations(clean.assign(dimension=clean["dimension"].replace(names)), *tables)
    clips = clean["clip"].unique()
    shuffled = dict(zip(clips, np.random.default_rng(0).permutation(clips), strict=True))
    # Each of nine correlations would have to exceed .1, three standard deviations of a shuffled one: p < 1e-3 ** 4.
    assert len(label_join_violations(clean.assign(clip=clean["clip"].map(shuffled)), *tables)) >= 8
