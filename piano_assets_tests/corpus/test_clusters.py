from itertools import product

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from piano_assets.corpus.clusters import (
    ScoreMissing,
    components,
    effective_number,
    read_scores,
    score_clusters,
    shared_music,
)
from piano_assets_tests.corpus.small_corpus import SHARED, clips_and_notes


def test_shared_music_counts_long_blocks_only():
    theme = [60, 62, 64, 65, 67, 69, 71, 72]
    assert shared_music(theme, [1, *theme, 2]) == 1.0
    assert shared_music(theme, [*theme[:4], 1, 2, *theme[4:]]) == 1.0  # 4 + 4 notes of 8
    assert shared_music(theme, [*theme[:4], 1, 2, *theme[5:]]) == 0.5  # the second block has 3 notes: too short
    assert shared_music(theme, [*theme[:4], 1, 2, *theme[5:]], min_block=3) == 7 / 8
    assert shared_music(theme, [1, 2, 3]) == 0.0


def test_components_are_those_of_scipy():
    rng = np.random.default_rng(0)
    items = [f"e{i:02d}" for i in range(40)]
    edges = rng.integers(0, 40, (25, 2))
    got = components(items, [(items[a], items[b]) for a, b in edges])
    graph = coo_array((np.ones(25), edges.T), shape=(40, 40))
    _, want = connected_components(graph, directed=False)
    for i, j in product(range(40), repeat=2):
        assert (got[items[i]] == got[items[j]]) == (want[i] == want[j])
    assert all(name == min(i for i in items if got[i] == name) for name in got.values())


def test_effective_number():
    assert effective_number([5, 5, 5, 5]) == pytest.approx(4)
    assert effective_number([2, 1, 1]) == pytest.approx(16 / 6)


def test_the_long_excerpt_joins_the_two_it_is_made_of():
    clips, notes = clips_and_notes()
    found = score_clusters(clips, notes)
    assert {e for e, name in found.items() if name == "D960_mv2_16bars_01"} == set(SHARED)
    assert len(set(found.values())) == 10
    shuffled = score_clusters(clips.sample(frac=1, random_state=1), notes.sample(frac=1, random_state=1))
    assert shuffled == found


def test_works_are_not_compared_with_each_other():
    clips, notes = clips_and_notes()
    notes["pitch"] = np.tile(notes["pitch"].iloc[:40], len(notes) // 40 + 1)[: len(notes)]
    found = score_clusters(clips, notes)
    assert {name.split("_")[0] for name in found.values()} == {"WoO80", "D960"}


def test_without_deadpan_the_score_is_asked_for():
    clips, notes = clips_and_notes()
    without = clips[~(clips["deadpan"] & (clips["excerpt"] == "D960_mv2_8bars_01"))]
    with pytest.raises(ScoreMissing, match="D960_mv2_8bars_01"):
        score_clusters(without, notes)
    melody = notes.loc[notes["clip"] == "Schubert_D960_mv2_8bars_Score_01", "pitch"].tolist()
    assert score_clusters(without, notes, {"D960_mv2_8bars_01": melody}) == score_clusters(clips, notes)


@pytest.mark.percepiano
def test_the_real_corpus_has_46_clusters(percepiano_dir, loaded_percepiano):
    clips, notes = loaded_percepiano.clips, loaded_percepiano.notes
    found = score_clusters(clips, notes)
    sizes = clips["excerpt"].map(found).value_counts()
    assert len(found) == 99
    assert len(sizes) == 46
    assert effective_number(sizes) == pytest.approx(21.3, abs=0.05)

    without = clips[~(clips["deadpan"] & (clips["work"] == "D935_no.3"))]
    scores = read_scores(percepiano_dir / "virtuoso" / "data" / "score_midi", without)
    assert len(scores) == 13
    assert set(score_clusters(without, notes, scores).values()) == set(found.values())
