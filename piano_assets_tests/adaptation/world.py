"""A small world for this room: 8 performers who each play 2 clips of 6 clusters.

Works are two: the first half of the performers play the one, the others the other. A label is linear in the features
plus the performer's own offset, which no feature shows.
"""

import numpy as np

from piano_assets.adaptation.fold import Fold, Groups, fold_of
from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.training.data import TrialData

N_PERFORMERS, N_CLUSTERS, N_FEATURES = 8, 6, 5


def world(seed: int = 3, n_repeats: int = 1, offset: float = 0.1) -> tuple[TrialData, Groups]:
    """Two folds of whole performers: of four, one is validated on."""
    rng = np.random.default_rng(seed)
    performer = np.repeat(np.arange(N_PERFORMERS), 2 * N_CLUSTERS)
    cluster = np.tile(np.repeat(np.arange(N_CLUSTERS), 2), N_PERFORMERS)
    n = len(performer)
    features = rng.normal(size=(n, N_FEATURES))
    own = offset * rng.normal(size=(N_PERFORMERS, N_DIMENSIONS))
    targets = 0.5 + 0.05 * features @ rng.normal(size=(N_FEATURES, N_DIMENSIONS)) + own[performer]
    targets += 0.02 * rng.normal(size=targets.shape)
    features[rng.random(features.shape) < 0.03] = np.nan
    roles = {}
    for repeat in range(n_repeats):
        order = rng.permutation(N_PERFORMERS)
        for fold in range(2):
            tested, others = order[fold::2], order[1 - fold :: 2]
            role = np.where(np.isin(performer, tested), "test", "train").astype(object)
            role[performer == others[0]] = "valid"
            roles[repeat, fold] = role
    clips = np.array([f"clip_{i:03d}" for i in range(n)], dtype=object)
    data = TrialData(clips, targets, np.full(targets.shape, 0.05), roles, features)
    return data, Groups(cluster, performer, performer // (N_PERFORMERS // 2))


def one_fold(seed: int = 3, support: int = 10, **more: float) -> Fold:
    data, groups = world(seed, **more)
    return fold_of(data, groups, 0, 0, 0, support)
