"""What a method may know of one fold: features of all clips, labels of those it learns from, episodes to answer.

Labels of test clips are not in `y`. Those of a support lie in its episode alone, where no other episode sees them; so
no method can use the label of a clip that it predicts.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from piano_assets.adaptation.episodes import Episode, Stack, by_performer, stacked
from piano_assets.models.network import CLIP
from piano_assets.training.data import TrialData
from piano_assets.training.members import random_seed


@dataclass(frozen=True, eq=False)
class Groups:
    """Codes of every clip's cluster, performer and work, (n_clips,) each, in the order of `TrialData.clips`."""

    cluster: np.ndarray
    performer: np.ndarray
    work: np.ndarray


@dataclass(frozen=True, eq=False)
class Asked:
    """An episode with its support's labels, (n_support, 19), standardised like the fold's."""

    episode: Episode
    targets: np.ndarray


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold of one repeat.

    x: (n_clips, f) float32, standardised by the training clips, an undefined feature at their mean;
    y: (n_clips, 19) float32, likewise, NaN for every clip that is neither trained on nor validated on;
    train, valid: rows with labels; test: rows to predict; mean, std: (19,) of the training labels.
    """

    x: Tensor
    y: Tensor
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    groups: Groups
    seed: int
    fold: int
    asked: tuple[Asked, ...] = ()

    def rng(self, purpose: str) -> np.random.Generator:
        """A stream for each purpose; all methods draw the same."""
        return np.random.default_rng(random_seed(self.seed, self.fold, f"adaptation.{purpose}"))

    def generator(self, purpose: str) -> torch.Generator:
        return torch.Generator().manual_seed(random_seed(self.seed, self.fold, f"adaptation.{purpose}"))

    def labels(self, rows: np.ndarray, there: np.ndarray) -> Tensor:
        """Labels of learnt clips, (..., 19), 0 where no clip is: what is masked must not be NaN, even times zero."""
        return torch.where(torch.from_numpy(there)[..., None], self.y[rows], 0.0)

    def to_answer(self, k: int) -> tuple[Stack, Tensor]:
        """(the test episodes, their supports' labels (n_episodes, k, 19), 0 where there is no clip)."""
        stack = stacked([a.episode for a in self.asked], k)
        targets = torch.zeros(*stack.support.shape, self.y.shape[1])
        for i, a in enumerate(self.asked):
            targets[i, : len(a.targets[:k])] = torch.from_numpy(a.targets[:k]).float()
        return stack, targets

    def to_choose(self, k: int, most: int) -> tuple[Stack, Tensor]:
        """(episodes of the validation performers, made like those of the test, their supports' labels)."""
        groups, rng = self.groups, self.rng("validation episodes")
        stack = stacked(by_performer(self.valid, groups.performer, groups.cluster, rng, most), k)
        return stack, self.labels(stack.support, stack.rated)


def fold_of(data: TrialData, groups: Groups, repeat: int, fold: int, seed: int, most: int = 0) -> Fold:
    """One fold of a trial's data, labels of its test clips hidden.

    Args:
        most: largest support of an episode; 0 makes no episodes.
    Raises:
        ValueError: the data have no features, or the fold no clip to learn from.
    """
    train, valid = (data.rows(repeat, fold, role) for role in ("train", "valid"))
    test = data.rows(repeat, fold, "test", labelled=False)
    if data.features is None or not len(train):
        raise ValueError(f"repeat {repeat}, fold {fold}: features and training clips are needed ({len(train)} clips)")
    learnt = np.concatenate([train, valid])
    mean, std = data.targets[train].mean(0), data.targets[train].std(0)
    scaled = (data.targets - mean) / np.where(std > 0, std, 1.0)
    y = np.full(scaled.shape, np.nan)
    y[learnt] = scaled[learnt]
    found = Fold(
        x=standardised(data.features, train),
        y=torch.from_numpy(y).float(),
        train=train,
        valid=valid,
        test=test,
        mean=mean,
        std=std,
        groups=groups,
        seed=seed,
        fold=fold,
    )
    if not most:
        return found
    rated = data.labelled
    rng = found.rng("test episodes")
    asked = []
    for episode in by_performer(test, groups.performer, groups.cluster, rng, len(test)):
        support = episode.support[rated[episode.support]][:most]
        asked.append(Asked(Episode(support, episode.query), scaled[support]))
    return replace(found, asked=tuple(asked))


def standardised(features: np.ndarray, by: np.ndarray) -> Tensor:
    """Features (n_clips, f) less the mean of the rows `by`, over their spread, cut at +-5; NaN becomes the mean."""
    chosen = features[by]
    there = ~np.isnan(chosen)
    n = np.maximum(there.sum(0), 1)
    mean = np.where(there, chosen, 0).sum(0) / n
    std = np.sqrt(np.where(there, (chosen - mean) ** 2, 0).sum(0) / n)
    x = (features - mean) / np.where(std > 1e-9 * np.maximum(abs(mean), 1), std, 1.0)
    return torch.from_numpy(np.nan_to_num(np.clip(x, -CLIP, CLIP))).float()
