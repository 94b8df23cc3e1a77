import numpy as np
import pandas as pd
import pytest

from piano_assets.corpus.clusters import score_clusters
from piano_assets.corpus.difficulty import difficulty, note_quantities
from piano_assets.corpus.labels import labels
from piano_assets.corpus.leaks import leak_violations, leaks, notes_hashes, validation_violations
from piano_assets.corpus.loading import load_performances
from piano_assets.corpus.names import parse_name
from piano_assets.corpus.ratings import read_ratings
from piano_assets.corpus.split_protocols import percepiano_index
from piano_assets.corpus.split_strategies import balanced_folds
from piano_assets.corpus.splits import SPLITS, SplitImpossible, make_split
from piano_assets.schemas import TABLES
from piano_assets_tests.corpus.small_corpus import clips_and_notes, labels_of, ratings_of

FOLD = ["repeat", "fold", "inner_fold"]


@pytest.fixture(scope="module")
def corpus():
    clips, notes = clips_and_notes()
    ratings = ratings_of(clips)
    both = pd.concat([labels_of(ratings), labels_of(ratings, "published").iloc[19:]])
    return clips, ratings, both, notes


@pytest.fixture(scope="module")
def made(corpus):
    return {name: make_split(name, *corpus) for name in SPLITS}


@pytest.mark.parametrize("name", SPLITS)
def test_every_clip_has_one_role_in_every_fold(made, corpus, name):
    rows = made[name]
    TABLES["splits"].conform(rows)
    for _, group in rows.groupby(FOLD, dropna=False):
        assert sorted(group["clip"]) == sorted(corpus[0]["clip"])
    outer = rows[rows["inner_fold"].isna()]
    counts = outer.groupby(["repeat", "fold"])["role"].value_counts().unstack(fill_value=0)
    assert (counts[["train", "valid", "test"]] > 0).all(axis=None)
    assert sorted(outer["repeat"].unique()) == list(range(SPLITS[name].n_repeats))
    # A sixth, as nearly as whole groups allow: the largest cluster alone is a quarter of the clips.
    share = counts["valid"] / (counts["valid"] + counts["train"])
    assert share.between(0.08, 0.34).all()


@pytest.mark.parametrize("name", SPLITS)
def test_promises_are_kept(made, corpus, name):
    clips, _, _, notes = corpus
    found = leaks(made[name], clips, notes_hashes(notes))
    TABLES["leaks"].conform(found)
    assert leak_violations(found) == []
    assert validation_violations(made[name], clips) == []
    assert set(found.loc[found["promised_zero"], "kind"]) == set(SPLITS[name].promises)


@pytest.mark.parametrize("name", SPLITS)
def test_the_order_of_rows_decides_nothing(made, corpus, name):
    shuffled = make_split(name, *(frame.sample(frac=1, random_state=3) for frame in corpus))
    pd.testing.assert_frame_equal(shuffled, made[name])


@pytest.mark.parametrize("name", ["cluster", "excerpt", "performer", "random", "stratified_difficulty", "nested"])
def test_every_clip_is_tested_once_a_repeat(made, name):
    outer = made[name][made[name]["inner_fold"].isna()]
    tested = outer[outer["role"] == "test"].groupby(["repeat", "clip"]).size()
    assert len(tested) == 5 * outer["clip"].nunique()
    assert (tested == 1).all()
    folds = [frozenset(g["clip"]) for _, g in outer[outer["role"] == "test"].groupby(["repeat", "fold"])]
    assert len(set(folds)) > 10  # the repeats differ


def test_the_hash_sees_one_changed_role(made, corpus):
    clips, ratings, both, notes = corpus
    assert made["cluster"]["split_hash"].nunique() == 1
    assert len({rows["split_hash"].iloc[0] for rows in made.values()}) == len(SPLITS)
    renamed = clips.assign(cluster=clips["cluster"].where(clips.index > 0, "another"))
    assert make_split("cluster", renamed, ratings, both, notes)["split_hash"].iloc[0] != made["cluster"].split_hash[0]


def test_nested_deals_the_outer_learning_clips_only(made):
    rows = made["nested"]
    outer = rows[rows["inner_fold"].isna()].set_index(["repeat", "fold", "clip"])["role"]
    pd.testing.assert_series_equal(
        outer.sort_index(), made["cluster"].set_index(["repeat", "fold", "clip"])["role"].sort_index()
    )
    inner = rows[rows["inner_fold"].notna()].set_index(["repeat", "fold", "clip"])
    where = outer.reindex(inner.index)
    assert ((where == "test") == (inner["role"] == "unused")).all()
    valid = inner[inner["role"] == "valid"].groupby(level=[0, 1, 2]).size()
    assert (valid == 1).all()
    assert len(valid) == (outer != "test").sum()


def test_founding_is_train_test_split(made, corpus):
    from sklearn.model_selection import train_test_split

    rows = made["founding"].set_index("clip")["role"]
    labelled = sorted(corpus[2].loc[corpus[2]["rule"] == "published", "clip"].unique())
    assert (rows == "unused").sum() == 1
    train, rest = train_test_split(labelled, test_size=0.30, random_state=42)
    valid, test = train_test_split(rest, test_size=0.50, random_state=42)
    assert [set(rows[rows == r].index) for r in ("train", "valid", "test")] == [set(train), set(valid), set(test)]


def test_percepiano_indices():
    assert [percepiano_index("Beethoven", p) for p in ("1", "7", "26", "Score", "Score2")] == [1, 5, 12, 0, -1]
    assert percepiano_index("Schubert", "09") == 9
    with pytest.raises(SplitImpossible, match="'5'"):
        percepiano_index("Beethoven", "5")


def test_percepiano_folds(made, corpus):
    rows = made["percepiano_performer"].merge(corpus[0][["clip", "composer", "player"]], on="clip")
    rows["index"] = [percepiano_index(c, p) for c, p in zip(rows["composer"], rows["player"], strict=True)]
    found = rows.groupby(["fold", "role"])["index"].unique().map(sorted)
    for fold in range(4):
        assert found[fold, "test"] == [1, 2]
        assert found[fold, "valid"] == [2 * fold + 3, 2 * fold + 4]


def test_temporal_tests_what_was_rated_last(made, corpus):
    clips, ratings, _, _ = corpus
    first = clips["clip"].map(ratings.groupby("clip")["rating_id"].min())
    time = first.groupby(clips["cluster"]).median()
    role = (
        made["temporal"]
        .merge(clips[["clip", "cluster"]], on="clip")
        .groupby("cluster")["role"]
        .agg(["first", "nunique"])
    )
    assert (role["nunique"] == 1).all()
    late = {r: time[role["first"] == r] for r in ("train", "valid", "test")}
    assert late["train"].max() < late["valid"].min()
    assert late["valid"].max() < late["test"].min()


def test_unrated_clusters_are_unused_in_temporal(corpus):
    clips, ratings, both, notes = corpus
    rated = ratings[~ratings["clip"].str.contains("var3")]
    role = make_split("temporal", clips, rated, both, notes).set_index("clip")["role"]
    assert set(role[role.index.str.contains("var3")]) == {"unused"}


def test_impossible_splits_say_why(corpus):
    clips, ratings, both, notes = corpus
    one = clips[clips["composer"] == "Schubert"]
    with pytest.raises(SplitImpossible, match=r"composer.*two composers"):
        make_split("composer", one, ratings, both, notes)
    with pytest.raises(SplitImpossible, match=r"cluster.*5 folds"):
        make_split("cluster", one, ratings, both, notes)
    with pytest.raises(SplitImpossible, match="published label"):
        make_split("founding", clips, ratings, both[both["rule"] == "clean"], notes)
    with pytest.raises(SplitImpossible, match="'5' of composer 'Beethoven'"):
        make_split("percepiano_performer", clips.replace({"player": {"7": "5"}}), ratings, both, notes)
    with pytest.raises(KeyError, match="unknown split 'lucky'"):
        make_split("lucky", *corpus)


def test_balanced_folds_are_balanced_and_whole():
    rng = np.random.default_rng(0)
    units = np.repeat([f"u{i}" for i in range(46)], rng.integers(9, 60, 46))
    fold = balanced_folds(units, 5, np.random.default_rng(1))
    assert (pd.Series(fold).groupby(units).nunique() == 1).all()
    sizes = np.bincount(fold)
    assert sizes.max() - sizes.min() <= 0.05 * len(units)
    even = balanced_folds(np.arange(100).astype(str), 5, np.random.default_rng(1))
    assert np.bincount(even).tolist() == [20] * 5


def test_difficulty_quantities_by_hand():
    # Two chords: C-E-G-c'-g' (widest gap 7 between c' and g', hand of 12), then C alone; the first keys are held on.
    notes = pd.DataFrame(
        {
            "clip": "a",
            "onset_s": [0.0, 0.01, 0.0, 0.02, 0.0, 1.0],
            "offset_s": [2.0, 2.0, 2.0, 2.0, 2.0, 2.0],
            "pitch": [48, 52, 55, 60, 67, 48],
            "velocity": 64,
        }
    )
    got = note_quantities(notes).loc["a"]
    assert got["n_notes"] == 6
    assert got["leaps"] == pytest.approx((19 + 0) / 2)
    assert got["hand_span"] == pytest.approx((12 + 0) / 2)
    assert got["polyphony"] == pytest.approx(np.mean([3, 3, 3, 4, 5, 6]))


def test_a_faster_and_thicker_excerpt_is_harder():
    clips, notes = clips_and_notes()
    hard = notes["clip"].str.contains("var1_")
    thick = notes[hard].assign(pitch=notes["pitch"] - 20)
    index = difficulty(clips, pd.concat([notes, thick]).assign())
    before = difficulty(clips, notes)
    assert index["WoO80_var1_8bars_1"] > before["WoO80_var1_8bars_1"]
    assert index.idxmax() == "WoO80_var1_8bars_1"


def test_all_splits_can_be_made_of_the_synthetic_corpus(synthetic_dir):
    loaded = load_performances(synthetic_dir)
    clips = loaded.clips.assign(cluster=loaded.clips["excerpt"].map(score_clusters(loaded.clips, loaded.notes)))
    ratings = read_ratings(synthetic_dir / "labels" / "total_2rounds.csv").ratings
    hashes, published = notes_hashes(loaded.notes), labels(ratings, "published")
    for name in SPLITS:
        rows = make_split(name, clips, ratings, published, loaded.notes)
        assert leak_violations(leaks(rows, clips, hashes)) == []


@pytest.mark.percepiano
def test_real_protocol_sizes(percepiano_dir):
    stems = sorted((percepiano_dir / "virtuoso" / "data" / "all_2rounds").iterdir())
    parsed = [parse_name(p.name) for p in stems]
    clips = pd.DataFrame(
        [{k: getattr(n, k) for k in ("clip", "composer", "player", "excerpt", "performer")} for n in parsed]
    )
    merged = clips["player"].eq("Score") & clips["excerpt"].str.fullmatch(r"WoO80_.*_([5-9]|1[0-6])|D935.*_1")
    published = pd.DataFrame({"clip": clips.loc[~merged, "clip"], "rule": "published"})
    rows = make_split("founding", clips, pd.DataFrame(), published, pd.DataFrame())
    assert rows["role"].value_counts().to_dict() == {"train": 832, "test": 179, "valid": 178, "unused": 13}
    excerpt = rows["clip"].map(clips.set_index("clip")["excerpt"])
    assert excerpt[rows["role"] == "test"].isin(excerpt[rows["role"] == "train"]).all()

    rows = make_split("percepiano_performer", clips, pd.DataFrame(), published, pd.DataFrame())
    assert set(rows[rows["role"] == "test"].groupby("fold").size()) == {193}
