"""Ratings: known rows by hand, every kind of broken file, conservation under random edits, the real counts."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piano_assets.corpus.ratings import RatingsError, read_ratings
from piano_assets.dimensions import COLUMNS, N_DIMENSIONS, NAMES
from piano_assets.schemas import TABLES
from piano_assets_tests.corpus.files import HEADER, rating, ratings_text

CLIP = "Schubert_D960_mv3_8bars_1_01"


@pytest.fixture
def read(tmp_path):
    def from_content(content: str | bytes):
        path = tmp_path / "ratings.csv"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_ratings(path)

    return from_content


def only(got, *, answer=None):
    TABLES["ratings"].conform(got.ratings)
    TABLES["quarantine"].conform(got.quarantine)
    if answer is None:
        return got.ratings
    return got.ratings[got.ratings["dimension"] == NAMES[answer]]


def test_answers_go_to_the_dimension_of_their_column(read):
    frame = only(read(ratings_text([_counting()])))
    assert list(frame["dimension"]) == list(NAMES)
    np.testing.assert_array_equal(frame["raw"], [i % 10 for i in range(N_DIMENSIONS)])
    legal = frame["raw"].between(1, 7)
    np.testing.assert_array_equal(frame["value"].notna(), legal)
    np.testing.assert_array_equal(frame["value"][legal], frame["raw"][legal])
    assert set(frame["clip"]) == {CLIP}
    assert set(frame["rater"]) == {"204"}
    assert set(frame["rating_id"]) == {17}
    assert set(frame["round"]) == {"D960"}
    assert not frame["duplicate"].any()


def _counting() -> list[str]:
    return rating("204", "17", CLIP + ".wav", [float(i % 10) for i in range(N_DIMENSIONS)])


@given(st.permutations(HEADER))
@settings(max_examples=20, deadline=None)
def test_order_of_the_columns_does_not_matter(tmp_path_factory, header):
    path = tmp_path_factory.getbasetemp() / "reordered.csv"
    row = dict(zip(HEADER, _counting(), strict=True))
    path.write_text(ratings_text([[row[name] for name in header]], header))
    np.testing.assert_array_equal(read_ratings(path).ratings["raw"], [i % 10 for i in range(N_DIMENSIONS)])


def test_blank_is_kept_as_null(read):
    frame = only(read(ratings_text([rating(answers=["", " ", *[3.0] * 17])])))
    assert frame["raw"].isna().tolist() == [True, True] + [False] * 17
    assert frame["value"].isna().tolist() == [True, True] + [False] * 17


def test_newline_in_a_quote_and_a_byte_order_mark_are_fine(read):
    text = ratings_text([rating(message='first line\r\nsecond, 둘째 줄\n"third"'), rating(rating_id="2")])
    for content in (text.encode(), b"\xef\xbb\xbf" + text.encode()):
        assert only(read(content))["row"].unique().tolist() == [0, 1]


def test_repeated_row_is_kept_and_marked(read):
    frame = only(read(ratings_text([rating(), rating(rating_id="2"), rating()])))
    assert frame.groupby("row")["duplicate"].first().tolist() == [False, False, True]


def test_clip_names_are_made_canonical(read):
    rows = [rating(rating_id="1", clip=" Schubert_D960_mv3_8bars_1_1.wav"), rating(rating_id="2")]
    assert only(read(ratings_text(rows)))["clip"].unique().tolist() == [CLIP]


def test_rounds(read):
    rows = [
        rating(rating_id="1"),
        rating(rating_id="2", clip="Schubert_D935_no.3_4bars_1_2.wav"),
        rating(rating_id="3", clip="Beethoven_WoO80_thema_8bars_1_2.wav"),
    ]
    assert only(read(ratings_text(rows)), answer=0)["round"].tolist() == ["D960", "WoO80+D935", "WoO80+D935"]


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        ("10", "whole number from 0 to 9"),
        ("-1", "whole number from 0 to 9"),
        ("3.5", "whole number from 0 to 9"),
        ("1e9", "whole number from 0 to 9"),
        ("inf", "whole number from 0 to 9"),
        ("nan", "whole number from 0 to 9"),
        ("good", "number or blank"),
        ("3,0", "number or blank"),
        ("0x3", "number or blank"),
        ("٣", "number or blank"),
    ],
)
def test_bad_answer_is_set_aside_alone(read, answer, rule):
    got = read(ratings_text([rating(answers=[4.0] * 5 + [answer] + [4.0] * 13), rating(rating_id="2")]))
    assert len(only(got)) == 2 * N_DIMENSIONS - 1
    assert len(only(got, answer=5)) == 1
    [item] = got.quarantine.to_dict("records")
    assert item["source"] == "ratings.csv"
    assert item["item"] == f"row 0, {NAMES[5]}"
    assert rule in item["rule"]
    assert item["value"] == answer


@pytest.mark.parametrize(
    ("row", "rule", "value"),
    [
        (rating(clip="Moonlight.wav"), "a name reads", "Moonlight.wav"),
        (rating(user=" "), "'user'", "''"),
        (rating(rating_id="x7"), "'dataID'", "'x7'"),
        (rating(rating_id="99999999999"), "'dataID'", "'99999999999'"),
        (rating(rating_id="2", user="202"), "one listener's answers", "2"),
        (rating()[:-1], "24 fields", "23"),
        ([*rating(), ""], "24 fields", "25"),
    ],
)
def test_bad_row_is_set_aside_alone(read, row, rule, value):
    got = read(ratings_text([rating(rating_id="2"), row, rating(rating_id="3")]))
    assert only(got)["row"].unique().tolist() == [0, 2]
    [item] = got.quarantine.to_dict("records")
    assert item["item"] == "row 1"
    assert rule in item["rule"]
    assert item["value"] == value


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (b"", "has content"),
        (b"\n\n", "has content"),
        (ratings_text([]), "at least one rating"),
        (ratings_text([rating()[:-1]], HEADER[:-2] + HEADER[-1:]).replace(COLUMNS[7], "Question_x"), COLUMNS[7]),
        (ratings_text([rating()], [COLUMNS[3] if h == COLUMNS[4] else h for h in HEADER]), COLUMNS[3]),
        (ratings_text([rating()], ["who", *HEADER[1:]]), "'user'"),
        (ratings_text([rating(message="좋은")]).encode("euc-kr"), "UTF-8"),
        (ratings_text([rating()]).encode("utf-16"), "UTF-8"),
        (ratings_text([rating(message="a\nb")])[:-4].encode() + b"\n", "well-formed CSV"),
        (ratings_text([rating(message="a" * 200_000)]), "well-formed CSV"),
    ],
)
def test_unreadable_file_is_an_error_with_file_rule_and_value(read, content, rule):
    with pytest.raises(RatingsError) as error:
        read(content)
    assert rule in error.value.rule
    assert "ratings.csv" in str(error.value)
    assert error.value.value in str(error.value)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["1", "2", "3", "x", ""]),
            st.sampled_from([CLIP + ".wav", "Beethoven_WoO80_var1_8bars_3_1.wav", "nothing"]),
            st.lists(st.sampled_from(["", "0.0", "3.0", "7", "8.0", "9.0", "12", "text"]), min_size=19, max_size=19),
        ),
        min_size=1,
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_every_answer_is_a_rating_or_in_quarantine(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "random.csv"
    path.write_text(ratings_text(rating(rating_id=i, clip=c, answers=a) for i, c, a in rows))
    got = read_ratings(path)
    only(got)
    whole_rows = got.quarantine["item"].str.fullmatch(r"row \d+")
    accounted = len(got.ratings) + (~whole_rows).sum() + N_DIMENSIONS * whole_rows.sum()
    assert accounted == N_DIMENSIONS * len(rows)


@given(st.binary(max_size=40), st.integers(0, 2000), st.integers(0, 2000))
@settings(max_examples=150, deadline=None)
def test_any_bytes_are_ratings_or_a_ratings_error(tmp_path_factory, noise, start, stop):
    path = tmp_path_factory.getbasetemp() / "noise.csv"
    content = ratings_text([rating(rating_id=str(i), message="a\nb") for i in range(9)]).encode()
    path.write_bytes(content[:start] + noise + content[min(start, stop) :])
    try:
        got = read_ratings(path)
    except RatingsError:
        return
    only(got)


@pytest.mark.percepiano
def test_real_counts(percepiano_dir):
    path = percepiano_dir / "labels/total_2rounds.csv"
    got = read_ratings(path)
    frame = only(got)
    assert got.quarantine.empty
    rows = frame.groupby("row")
    assert rows.ngroups == 14_934
    assert int(rows["duplicate"].first().sum()) == 2_198
    assert int((rows["raw"].count() == 0).sum()) == 84
    assert int((rows["raw"].max() > 7.1).sum()) == 208
    assert frame["clip"].nunique() == 1_202
    assert frame.groupby("round")["rater"].nunique().to_dict() == {"D960": 54, "WoO80+D935": 11}
    assert frame["rater"].nunique() == 65
    with path.open(encoding="utf-8", newline="") as file:
        want = [[float(row[c]) if row[c] else np.nan for c in COLUMNS] for row in csv.DictReader(file)]
    np.testing.assert_array_equal(frame["raw"].to_numpy().reshape(-1, N_DIMENSIONS), want)
