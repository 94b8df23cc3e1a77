import joblib
import numpy as np
import pytest

from piano_assets.models.selection import top_features

INFORMATIVE = [3, 17, 40]


def planted(n: int = 200, d: int = 50, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise features, three of which decide 19 targets."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, d))
    y = np.tanh(x[:, INFORMATIVE]) @ rng.normal(size=(3, 19)) + 0.1 * rng.normal(size=(n, 19))
    return x, y


@pytest.mark.parametrize("seed", range(3))
def test_planted_features_are_found(seed):
    x, y = planted(seed=seed)
    np.testing.assert_array_equal(top_features(x, y, 3, seed), INFORMATIVE)
    ten = top_features(x, y, 10, seed)
    assert set(INFORMATIVE) < set(ten.tolist())
    assert (np.diff(ten) > 0).all()
    assert ten.shape == (10,)


def test_shuffled_targets_point_at_nothing():
    x, y = planted()
    shuffled = np.random.default_rng(0).permutation(y)
    assert set(top_features(x, shuffled, 3, 0).tolist()) != set(INFORMATIVE)


def test_gaps_do_not_hide_a_feature_and_an_empty_one_is_never_chosen():
    x, y = planted()
    x[np.random.default_rng(1).random(x.shape) < 0.05] = np.nan
    x[:, 10] = np.nan
    np.testing.assert_array_equal(top_features(x, y, 3, 0), INFORMATIVE)
    assert 10 not in top_features(x, y, 49, 0)


def test_every_target_counts_alike():
    # One target a thousand times as wide as the others must not decide alone.
    rng = np.random.default_rng(2)
    x = rng.normal(size=(300, 20))
    y = np.stack([1000 * x[:, 1], x[:, 5]], axis=1)
    np.testing.assert_array_equal(top_features(x, y, 2, 0), [1, 5])


def test_scales_of_features_do_not_matter():
    x, y = planted()
    # Powers of two scale floats exactly.
    np.testing.assert_array_equal(top_features(x * 2.0 ** np.arange(-25, 25), y, 20, 0), top_features(x, y, 20, 0))


def test_same_seed_same_choice_whatever_the_threads():
    x, y = planted(60)
    one = top_features(x, y, 25, 7)
    with joblib.parallel_config(backend="threading", n_jobs=3):
        np.testing.assert_array_equal(top_features(x, y, 25, 7), one)
    # Of 47 features that say nothing, another seed keeps others.
    assert not np.array_equal(top_features(x, y, 25, 8), one)


def test_all_features_and_ties():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 2))
    np.testing.assert_array_equal(top_features(x, y, 6, 0), np.arange(6))
    np.testing.assert_array_equal(top_features(np.ones((40, 6)), y, 2, 0), [0, 1])


@pytest.mark.parametrize("k", [0, 51])
def test_an_impossible_number_is_refused(k):
    with pytest.raises(ValueError, match=rf"k={k} must lie in 1\.\.50, the number of features"):
        top_features(*planted(), k, 0)
