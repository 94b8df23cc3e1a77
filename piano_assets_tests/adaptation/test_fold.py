"""What a fold tells its methods, and what it keeps from them."""

import dataclasses

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler

from piano_assets.adaptation.fold import fold_of, standardised
from piano_assets_tests.adaptation.world import one_fold, world


def test_features_are_standardised_by_the_training_clips_as_scikit_learn_does():
    data, groups = world()
    fold = fold_of(data, groups, 0, 0, 0)
    want = np.nan_to_num(StandardScaler().fit(data.features[fold.train]).transform(data.features).clip(-5, 5))
    np.testing.assert_allclose(fold.x.numpy(), want, rtol=1e-5, atol=1e-6)


def test_a_feature_without_spread_or_without_a_value_says_nothing_absurd():
    x = standardised(np.array([[1.0, np.nan], [1.0, np.nan], [9.0, 2.0]]), np.array([0, 1]))
    assert torch.isfinite(x).all()
    assert x.abs().max() <= 5


def test_labels_of_test_clips_are_in_episodes_alone():
    fold = one_fold()
    assert torch.isnan(fold.y[fold.test]).all()
    assert torch.isfinite(fold.y[np.concatenate([fold.train, fold.valid])]).all()
    assert all(a.targets.shape == (len(a.episode.support), 19) for a in fold.asked)
    asked = np.concatenate([a.episode.query for a in fold.asked])
    assert sorted(asked) == sorted(fold.test)


def test_a_support_is_the_labels_of_its_own_clips():
    data, groups = world()
    fold = fold_of(data, groups, 0, 1, 0, 10)
    for a in fold.asked:
        want = (data.targets[a.episode.support] - fold.mean) / fold.std
        np.testing.assert_allclose(a.targets, want)


def test_unlabelled_clips_support_nobody_and_are_predicted():
    data, groups = world()
    fold = fold_of(data, groups, 0, 0, 0, 10)
    lost = fold.asked[0].episode.support[0]
    targets = data.targets.copy()
    targets[lost] = np.nan
    again = fold_of(dataclasses.replace(data, targets=targets), groups, 0, 0, 0, 10)
    assert lost in np.concatenate([a.episode.query for a in again.asked])
    assert all(lost not in a.episode.support for a in again.asked)
    assert all(np.isfinite(a.targets).all() for a in again.asked)


def test_validation_episodes_are_made_like_those_of_the_test():
    fold = one_fold()
    stack, targets = fold.to_choose(5, 10)
    assert sorted(stack.query[stack.asked]) == sorted(fold.valid)
    assert not torch.isnan(targets).any()
    rated = torch.from_numpy(stack.rated)
    torch.testing.assert_close(targets[rated], fold.y[stack.support][rated])


def test_a_fold_without_training_clips_is_refused():
    data, groups = world()
    data.roles[0, 0][:] = "test"
    with pytest.raises(ValueError, match="repeat 0, fold 0"):
        fold_of(data, groups, 0, 0, 0)
