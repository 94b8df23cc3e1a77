"""The benchmark of the evaluation: its peers are peers, and its figures follow from what was timed."""

import itertools
import json

import numpy as np
import pandas as pd
import pytest

from benchmarks import statistics as benchmark
from piano_assets.statistics.clustered import effective_groups

SMALL = {"n_clips": 150, "n_excerpts": 18, "n_clusters": 9, "n_performers": 6}


@pytest.fixture(scope="module")
def scene() -> benchmark.Scene:
    return benchmark.drawn(**SMALL)


def test_the_drawn_corpus_is_as_large_and_as_unequal_as_percepiano():
    clips = benchmark.drawn()["clips"]
    counts = clips[["clip", "excerpt", "cluster", "performer"]].nunique().to_dict()
    assert counts == {"clip": 1202, "excerpt": 99, "cluster": 46, "performer": 36}
    # PercePiano's 46 clusters are worth 21 of equal size, its 36 performers 24.
    assert 12 < effective_groups(clips["cluster"].to_numpy()) < 25
    assert 15 < effective_groups(clips["performer"].to_numpy()) < 30


def test_ours_and_both_ways_of_scipy_give_one_interval(scene):
    side = benchmark.Side(scene, "humans", 11)
    arms, reference = side.pairs
    assert (arms.tolist(), reference.tolist()) == ([*range(1, 10)], [0] * 9)  # the eleventh begins another comparison
    ours = benchmark.intervals_ours(side, 300)
    for peer in (benchmark.bootstrap_vectorised, benchmark.bootstrap_plain):
        np.testing.assert_allclose(peer(side, 3, 0, 300), ours[:, 2, -1], rtol=1e-9)


def test_a_dimensions_interval_is_that_of_one_dimension(scene):
    side = benchmark.Side(scene, "all", 3)
    ours = benchmark.intervals_ours(side, 200)
    side.pred, side.target = side.pred[:, :, 4:5], side.target[:, 4:5]
    np.testing.assert_allclose(benchmark.intervals_ours(side, 200)[:, :, 0], ours[:, :, 4], rtol=1e-9)


def test_peers_are_scaled_to_all_arms_populations_and_resamples(scene, monkeypatch):
    seconds = itertools.cycle([1.0, 1.0, 0.5])  # plain, vectorised, ours, in turn

    def told(function):
        wall = next(seconds)
        return (wall, 2 * wall), function()

    monkeypatch.setattr(benchmark, "timed", told)
    found = benchmark.bootstrap_figures(scene, n_configs=6, n_resamples=100, plain_resamples=50)
    assert (found["arms"], found["populations"], found["resamples"]) == (5, 2, 100)
    # One arm in one population on half the resamples; four arms in one population.
    assert found["scipy_plain"]["wall_s"]["median"] == 1 * 5 * 2 * 2
    assert found["scipy_vectorised"]["processor_s"]["median"] == 2 * 5 * 2 / 4
    assert found["scipy_plain"]["wall_ratio_to_ours"] == 40
    assert found["scipy_vectorised"]["wall_ratio_to_ours"] == 5


def test_a_peer_with_other_draws_is_refused(scene, monkeypatch):
    drawn = benchmark.draw_counts
    monkeypatch.setattr(benchmark, "draw_counts", lambda n, b, _: drawn(n, b, np.random.default_rng(9)))
    with pytest.raises(RuntimeError, match="they are not peers"):
        benchmark.bootstrap_figures(scene, n_configs=3, n_resamples=100, plain_resamples=20)


def test_scores_and_tests_are_timed_in_a_process_of_their_own(scene, tmp_path, monkeypatch):
    peer = benchmark.EVALUATIONS["peer"]
    monkeypatch.setattr(benchmark, "EVALUATIONS", {"ours": benchmark.evaluate_ours})
    found = benchmark.evaluation_figures(scene, tmp_path, n_configs=4, n_seeds=2, repeats=1)
    ours = found["ours"]
    assert (found["subjects"], found["rows"]) == (8, 8 * 150 * 19)
    assert ours["rows"]["predictions"] == found["rows"]
    # Three arms of a comparison; a row for each of 19 dimensions, and more.
    assert ours["rows"]["tests"] > 3 * 20
    for stage in ("read", "scores", "tests"):
        assert ours[stage]["wall_s"]["median"] > 0
    both = ours["scores"]["wall_s"]["median"] + ours["tests"]["wall_s"]["median"]
    assert ours["scores_and_tests_wall_s"]["median"] == pytest.approx(both, abs=0.002)
    assert 100 < ours["peak_memory_mb"]["median"] < 2000
    predictions = benchmark.read_frame(tmp_path / "predictions.parquet")
    assert isinstance(predictions["subject"].dtype, pd.CategoricalDtype)
    assert peer(tmp_path, 4, 2)["rows"] == {"predictions": found["rows"], "values": 8 * 19}


def test_results_are_written_with_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark, "drawn", lambda: {})
    monkeypatch.setattr(benchmark, "bootstrap_figures", lambda *_: {"arms": 1})
    monkeypatch.setattr(benchmark, "evaluation_figures", lambda *_: {"subjects": 1})
    benchmark.main(["--results", str(tmp_path / "r" / "statistics.json")])
    kept = json.loads((tmp_path / "r" / "statistics.json").read_text())
    assert set(kept) == {"environment", "corpus", "bootstrap", "evaluation"}
    assert kept["corpus"] == "drawn"
    assert kept["environment"]["packages"]["scipy"]
