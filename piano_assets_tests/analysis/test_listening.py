"""What is heard as tensors is what training and prediction hear."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from piano_assets.analysis import listening
from piano_assets.models import packing
from piano_assets.training.batches import Clips
from piano_assets.training.losses import LOSSES

FLOAT32 = {"rtol": 1e-5, "atol": 1e-6}  # sums of up to thousands of float32 numbers in another order


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(4)


@pytest.mark.parametrize("name", ["ast", "hybrid", "notes", "mlp"])
def test_predictions_are_those_of_the_fold(tiny, name):
    of = tiny[name]
    for model in of.folds[:2]:
        rows = model.test[::-1]
        heard = listening.whole(model, of.data, rows)
        (pred,) = listening.predict(model.network, heard).detach().numpy()
        np.testing.assert_allclose(pred, model.predict(of.data, rows), **FLOAT32)
        np.testing.assert_array_equal(heard.target, of.data.targets[rows].astype(np.float32))


def test_members_of_a_stack_are_what_they_are_alone(tiny):
    of = tiny["hybrid"]
    first, second = of.folds[:2]
    heard = listening.whole(first, of.data, first.valid)
    both = torch.cat([packing.rows(f.network) for f in (first, second)])
    together = listening.predict(listening.stack(first, both), heard)
    for i, model in enumerate((first, second)):
        torch.testing.assert_close(together[i : i + 1], listening.predict(model.network, heard), **FLOAT32)


def test_a_crop_is_a_stretch_of_its_clip(tiny, rng):
    of = tiny["ast"]
    model = of.folds[0]
    rows = np.repeat(model.train, 40)  # a clip may come more than once
    heard = listening.crops(model, of.data, rows, rng)
    frames, mask, _ = heard.inputs(1, slice(None))
    clips = Clips.of(of.data.sequence, "cpu")
    raw, real = clips.cut(torch.from_numpy(rows), heard.first, frames.shape[2])
    torch.testing.assert_close(frames, model.network.standardise_frames(raw[None], real[None]), rtol=0, atol=0)
    assert torch.equal(mask[0], real)
    longer = np.maximum(of.data.sequence.n_frames[rows] - frames.shape[2], 0)
    assert (heard.first.numpy() <= longer).all()
    # Uniform on 0..longer: the mean of at least 400 such places is within 5 standard errors with p > 1 - 1e-6.
    share = heard.first.numpy()[longer > 20] / longer[longer > 20]
    assert len(share) >= 400
    assert abs(share.mean() - 0.5) < 5 * np.sqrt(1 / 11 / len(share))


def test_crops_bring_labels_as_they_are_learnt(tiny, rng):
    """Against what `Material` gives the training loop."""
    from piano_assets.training.material import Material
    from piano_assets.training.members import Track, groups_of

    of = tiny["smoothed"]
    model = of.folds[1]
    group = next(g for g in groups_of(of.trial, of.config, 0, of.repeat, of.data) if g.fold == model.fold)
    want = Material(of.data, of.trial, "cpu").labels([Track.begin(group, group.own)])[0]
    heard = listening.crops(model, of.data, model.train, rng)
    torch.testing.assert_close(heard.target, want[model.train])
    assert not torch.allclose(heard.target, torch.from_numpy(of.data.targets[model.train]).float(), atol=1e-3)


@pytest.mark.parametrize("loss", ["mse", "ranking", "rater_weighted"])
def test_losses_are_those_of_the_predictions(tiny, loss):
    of = tiny["ast"]
    model = of.folds[0]
    heard = listening.whole(model, of.data, model.valid)
    pred = torch.from_numpy(model.predict(of.data, model.valid)).float()
    want = LOSSES[loss](pred, heard.target, heard.error)
    torch.testing.assert_close(listening.losses(model.network, heard, loss)[0], want, **FLOAT32)


def test_only_networks_listen(tiny):
    model = tiny["ast"].folds[0]
    without = replace(tiny["ast"], folds=(replace(model, network=None),))
    with pytest.raises(ValueError, match=r"ast must have a network \(fold 0 has none\)"):
        listening.network_of(without, 0)
    with pytest.raises(ValueError, match=r"fold=7 must be one of \[0, 1, 2\]"):
        listening.network_of(tiny["ast"], 7)
