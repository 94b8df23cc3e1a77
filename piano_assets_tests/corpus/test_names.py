"""Names: known names by hand, round trips, and the real corpus's counts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piano_assets.corpus.names import COMPOSERS, ClipName, ClipNameError, parse_name


@pytest.mark.parametrize(
    ("name", "want", "clip", "excerpt", "performer"),
    [
        (
            "Beethoven_WoO80_var27_8bars_1_15.wav",
            ClipName("Beethoven", "WoO80", "var27", 8, 15, "1"),
            "Beethoven_WoO80_var27_8bars_1_15",
            "WoO80_var27_8bars_15",
            "WoO80_1",
        ),
        (
            " Schubert_D935_no.3_4bars_2_1.mid",
            ClipName("Schubert", "D935_no.3", None, 4, 1, "2"),
            "Schubert_D935_no.3_4bars_2_1",
            "D935_no.3_4bars_1",
            "D935_no.3_2",
        ),
        (
            "Schubert_D960_mv3_16bars_Score_04",
            ClipName("Schubert", "D960", "mv3", 16, 4, "Score"),
            "Schubert_D960_mv3_16bars_Score_04",
            "D960_mv3_16bars_04",
            "D960_Score",
        ),
    ],
)
def test_known_names(name, want, clip, excerpt, performer):
    got = parse_name(name)
    assert got == want
    assert (got.clip, got.excerpt, got.performer) == (clip, excerpt, performer)
    assert got.deadpan == ("Score" in name)


def test_zero_padding_does_not_split_a_clip_from_its_ratings():
    padded, bare = parse_name("Schubert_D960_mv2_8bars_7_04.mid"), parse_name("Schubert_D960_mv2_8bars_07_4.wav")
    assert padded == bare
    assert padded.clip == "Schubert_D960_mv2_8bars_7_04"
    assert parse_name("Beethoven_WoO80_var03_8bars_2_01").clip == "Beethoven_WoO80_var3_8bars_2_1"


@pytest.mark.parametrize(
    "name",
    [
        "",
        "beethoven_woo80_score2.mid",
        "Schubert_D960_mv3_8bars_9",
        "Schubert_D960_mv3_5bars_9_22",
        "Schubert_D960_mv3_8bars_9_22.mp3",
        "Schubert_D960_mv3_8bars_9_222",
        "Schubert_D960_mv3_8bars_9_٢٢",
        "Beethoven_D960_mv3_8bars_9_22",
        "Schubert_D960_mv3_8bars_9_22.mid.mid",
    ],
)
def test_wrong_names_are_refused_with_the_name(name):
    with pytest.raises(ClipNameError) as error:
        parse_name(name)
    assert error.value.value == name
    assert repr(name) in str(error.value)


@given(
    st.sampled_from(sorted(COMPOSERS)),
    st.sampled_from([None, "thema", "var1", "var32", "mv2", "mv3"]),
    st.sampled_from([4, 8, 16]),
    st.integers(0, 99),
    st.one_of(st.sampled_from(["Score", "Score2"]), st.integers(0, 99).map(str)),
)
def test_canonical_name_reads_back(work, movement, bars, segment, player):
    name = ClipName(COMPOSERS[work], work, movement, bars, segment, player)
    assert parse_name(name.clip) == name
    assert parse_name(f" {name.clip}.wav") == name


@pytest.mark.percepiano
def test_real_names(percepiano_dir):
    stems = [f.stem for f in (percepiano_dir / "virtuoso/data/all_2rounds").iterdir()]
    names = [parse_name(s) for s in stems]
    assert [n.clip for n in names] == [s.strip() for s in stems]
    assert len(set(names)) == 1202
    assert sum(n.deadpan for n in names) == 129
    assert len({n.excerpt for n in names}) == 99
