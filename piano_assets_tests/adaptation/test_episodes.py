"""Episodes: what is shared, what is not, and what chance decides."""

import numpy as np
import pytest

from piano_assets.adaptation.episodes import by_performer, draw_tasks, in_rounds, rotations, stacked

RNG = np.random.default_rng


def repertoire(sizes: list[int]) -> np.ndarray:
    """Cluster of each clip of a performer whose clusters have these sizes."""
    return np.repeat(np.arange(len(sizes)), sizes)


@pytest.mark.parametrize("sizes", [[1] * 13, [1] * 17, [12, 9, 8, 7, 6, 5, 4, 3, 3, 2, 1, 1, 1, 1, 1, 5], [2, 2]])
def test_every_clip_is_asked_once_by_supports_of_other_clusters(sizes):
    cluster = repertoire(sizes)
    for seed in range(5):
        episodes = rotations(np.arange(len(cluster)), cluster, RNG(seed), most=10)
        assert sorted(np.concatenate([e.query for e in episodes])) == list(range(len(cluster)))
        for e in episodes:
            assert not set(cluster[e.support]) & set(cluster[e.query])
            assert len(set(e.support)) == len(e.support)


@pytest.mark.parametrize("sizes", [[1] * 13, [1] * 17, [12, 9, 8, 7, 6, 5, 4, 3, 3, 2, 1, 1, 1, 1, 1, 5]])
def test_the_smallest_repertoires_of_the_corpus_leave_supports_of_ten(sizes):
    cluster = repertoire(sizes)
    for seed in range(20):
        assert all(len(e.support) == 10 for e in rotations(np.arange(len(cluster)), cluster, RNG(seed), most=10))


def test_a_performer_of_one_cluster_has_no_support():
    (episode,) = rotations(np.arange(4), np.zeros(4, int), RNG(0), most=10)
    assert len(episode.support) == 0
    assert sorted(episode.query) == [0, 1, 2, 3]


def test_a_support_hears_every_cluster_before_the_second_clip_of_one():
    cluster = repertoire([5, 1, 3])
    for seed in range(20):
        order = cluster[in_rounds(np.arange(9), cluster, RNG(seed))]
        assert set(order[:3]) == {0, 1, 2}
        assert set(order[3:5]) == {0, 2}


def test_a_larger_support_holds_the_smaller_one():
    cluster = repertoire([2] * 8)
    episodes = rotations(np.arange(16), cluster, RNG(1), most=10)
    few, many = stacked(episodes, 2), stacked(episodes, 10)
    np.testing.assert_array_equal(few.support, many.support[:, :2])
    np.testing.assert_array_equal(few.query, many.query)


def test_places_without_a_clip_are_masked():
    cluster = repertoire([1, 1, 1])
    stack = stacked(rotations(np.arange(3), cluster, RNG(0), most=10), 5)
    assert stack.rated.sum(1).tolist() == [2, 2, 2]
    assert stack.asked.sum() == 3


def test_the_same_stream_makes_the_same_episodes_and_another_makes_others():
    performer, cluster = np.repeat([0, 1], 12), np.tile(np.arange(12), 2)

    def made(seed):
        return [(*e.support, *e.query) for e in by_performer(np.arange(24), performer, cluster, RNG(seed), 10)]

    assert made(4) == made(4)
    assert made(4) != made(5)


def test_the_order_of_rows_decides_nothing():
    cluster = repertoire([2] * 6)
    rows = np.arange(12)
    one, other = (rotations(of, cluster, RNG(2), 10) for of in (rows, rows[::-1]))
    assert all((a.support == b.support).all() and (a.query == b.query).all() for a, b in zip(one, other, strict=True))


def test_a_task_is_of_one_performer_and_asks_about_other_clusters():
    performer, cluster = np.repeat(np.arange(4), 12), np.tile(np.repeat(np.arange(6), 2), 4)
    for seed in range(10):
        stack = draw_tasks(np.arange(48), performer, cluster, RNG(seed), n_tasks=3, k=4, n_query=3)
        assert stack.rated.all()
        assert stack.asked.all()
        whose = np.concatenate([performer[stack.support], performer[stack.query]], 1)
        assert (whose == whose[:, :1]).all()
        assert len(set(whose[:, 0])) == 3
        for support, query in zip(cluster[stack.support], cluster[stack.query], strict=True):
            assert len(set(support)) == 4
            assert not set(support) & set(query)


def test_performers_of_one_cluster_make_no_tasks():
    performer, cluster = np.repeat([0, 1], 4), np.array([0, 0, 0, 0, 0, 0, 1, 1])
    stack = draw_tasks(np.arange(8), performer, cluster, RNG(0), n_tasks=5, k=5, n_query=9)
    assert (performer[stack.support[stack.rated]] == 1).all()
    with pytest.raises(ValueError, match="two clusters"):
        draw_tasks(np.arange(4), performer, cluster, RNG(0), n_tasks=5, k=5, n_query=9)
