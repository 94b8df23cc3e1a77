import numpy as np
import pandas as pd
import pytest

from piano_assets.corpus.clusters import score_clusters
from piano_assets.corpus.leaks import leak_violations, leaks, notes_hashes, validation_violations
from piano_assets.corpus.splits import make_split
from piano_assets_tests.corpus.small_corpus import clips_and_notes, labels_of, ratings_of


@pytest.fixture(scope="module")
def corpus():
    clips, notes = clips_and_notes()
    ratings = ratings_of(clips)
    return clips, ratings, labels_of(ratings, "published"), notes


def move(rows: pd.DataFrame, clip: str, role: str) -> pd.DataFrame:
    """Give a clip another role in the fold (repeat 0) in which it is tested."""
    chosen = rows[(rows["clip"] == clip) & (rows["role"] == "test") & (rows["repeat"] == 0)].index
    assert len(chosen) == 1
    return rows.assign(role=rows["role"].where(~rows.index.isin(chosen), role))


@pytest.mark.parametrize("role", ["train", "valid"])
def test_a_planted_cluster_mate_is_caught(corpus, role):
    """The long excerpt goes to training while the short ones that it holds are tested."""
    clips, _, _, notes = corpus
    rows = make_split("cluster", *corpus)
    for clip in clips.loc[clips["excerpt"] == "D960_mv2_16bars_01", "clip"]:
        rows = move(rows, clip, role)
    told = leak_violations(leaks(rows, clips, notes_hashes(notes)))
    assert len(told) == 1
    assert "'cluster', repeat 0" in told[0]
    assert "(cluster)" in told[0]


def test_a_planted_performer_is_caught(corpus):
    clips, _, _, notes = corpus
    rows = move(make_split("performer", *corpus), "Beethoven_WoO80_var1_8bars_7_1", "train")
    told = leak_violations(leaks(rows, clips, notes_hashes(notes)))
    assert len(told) == 1
    assert "(performer)" in told[0]


def test_planted_identical_notes_are_caught(corpus):
    clips, _, _, notes = corpus
    rows = make_split("cluster", *corpus)
    tested_in = rows[rows["role"] == "test"].set_index(["clip", "repeat"])["fold"].unstack()
    a, b = "Beethoven_WoO80_var1_8bars_1_1", "Beethoven_WoO80_var2_8bars_1_2"
    apart = int((tested_in.loc[a] != tested_in.loc[b]).sum())
    copied = pd.concat([notes[notes["clip"] != b], notes[notes["clip"] == a].assign(clip=b)])
    told = leak_violations(leaks(rows, clips, notes_hashes(copied)))
    assert apart > 0
    assert len(told) == 2 * apart  # once with either of them tested
    assert all("(identical_notes)" in sentence for sentence in told)


def test_a_planted_leak_into_validation_is_caught(corpus):
    clips, _, _, _ = corpus
    rows = make_split("nested", *corpus)
    inner = rows[(rows["inner_fold"] == 2) & (rows["role"] == "valid")].index[0]
    told = validation_violations(rows.assign(role=rows["role"].where(rows.index != inner, "train")), clips)
    assert len(told) == 1
    assert "inner fold 2" in told[0]


def test_shares_by_brute_force(corpus):
    clips, _, _, notes = corpus
    rows = make_split("random", *corpus)
    table, hashes = clips.set_index("clip"), notes_hashes(notes)
    found = leaks(rows, clips, hashes).set_index(["repeat", "fold", "kind"])["share"]
    fold = rows[(rows["repeat"] == 3) & (rows["fold"] == 1)].set_index("clip")["role"]
    tested, learnt = fold[fold == "test"].index, fold[fold.isin(["train", "valid"])].index
    for kind in ("cluster", "excerpt", "performer"):
        of = table[kind]
        want = np.mean([any(of[a] == of[b] for b in learnt) for a in tested])
        assert found[3, 1, kind] == pytest.approx(want)


def test_unknown_clips_are_refused(corpus):
    clips, _, _, notes = corpus
    rows = make_split("holdout", *corpus)
    with pytest.raises(ValueError, match="Beethoven_WoO80_var1_8bars_1_1"):
        leaks(rows, clips.iloc[1:], notes_hashes(notes))


def test_hashes_see_pitch_velocity_and_onset_not_release():
    notes = pd.DataFrame({"onset_s": [0.0, 0.5], "offset_s": [0.4, 1.0], "pitch": [60, 64], "velocity": [50, 60]})
    variants = {
        "same": notes.iloc[::-1],
        "release": notes.assign(offset_s=[0.4, 2.0]),
        "pitch": notes.assign(pitch=[60, 65]),
        "velocity": notes.assign(velocity=[50, 61]),
        "onset": notes.assign(onset_s=[0.0, 0.502]),
        "shorter": notes.iloc[:1],
    }
    found = notes_hashes(pd.concat([n.assign(clip=c) for c, n in ({"base": notes} | variants).items()]))
    assert [c for c in variants if found[c] == found["base"]] == ["same", "release"]
    assert len(set(found.values())) == 5


@pytest.mark.percepiano
def test_leaks_of_the_literature(loaded_percepiano):
    """An excerpt split leaves 69 % of the test clips a cluster mate in training (71 % by the authors' own folds)."""
    clips, notes = loaded_percepiano.clips, loaded_percepiano.notes
    clips = clips.assign(cluster=clips["excerpt"].map(score_clusters(clips, notes)))
    rows = make_split("excerpt", clips, pd.DataFrame(), pd.DataFrame(), notes)
    hashes = notes_hashes(notes)
    assert (pd.Series(hashes).value_counts() > 1).sum() == 32
    share = leaks(rows, clips, hashes).groupby("kind")["share"].mean()
    assert share["cluster"] == pytest.approx(0.70, abs=0.04)
    assert share["excerpt"] == 0
    assert share["identical_notes"] > 0
