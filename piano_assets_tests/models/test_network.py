"""Networks of every kind: members apart, moments kept, parameters counted, rows and checkpoints restored."""

import numpy as np
import pytest
import torch
from torch import nn

from piano_assets.catalogue.trial import Encoder
from piano_assets.models import packing
from piano_assets.models.fusion import FUSIONS
from piano_assets.models.layers import Linear
from piano_assets.models.network import KINDS, Network, Shape, initialise, n_params

SMALL = {"depth": 1, "dim": 12, "heads": 2, "head_dim": 5, "patch_size": 4}
FRAMES, EVENTS, BOTH = Shape(width=10, crop=12), Shape(width=6, crop=9, events=True), Shape(10, 12, 7)
KINDS_OF_NETWORK = [
    *((Encoder(**SMALL, attention=kind), FRAMES) for kind in KINDS),
    (Encoder(**SMALL), EVENTS),
    (Encoder(**SMALL), Shape(n_features=7)),
    *((Encoder(**SMALL, fusion=fusion), BOTH) for fusion in FUSIONS),
    (Encoder(**SMALL, spectral_norm=True), FRAMES),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network_of(encoder: Encoder, shape: Shape, seeds: list[int]) -> Network:
    network = Network(encoder, shape, len(seeds))
    initialise(network, [generator(s) for s in seeds])
    for module in network.modules():
        if isinstance(module, Linear) and module.zero:
            for i, seed in enumerate(seeds):
                nn.init.normal_(module.weight.data[i], generator=generator(100 + seed))
    return network.double().eval()


def inputs_of(shape: Shape, members: int) -> tuple[torch.Tensor | None, None, torch.Tensor | None]:
    draw = generator(5)
    frames = torch.randn(1, 3, shape.crop, shape.width, generator=draw, dtype=torch.float64) if shape.width else None
    features = torch.randn(1, 3, shape.n_features, generator=draw, dtype=torch.float64) if shape.n_features else None
    return tuple(x if x is None else x.expand(members, *x.shape[1:]) for x in (frames, None, features))


@pytest.mark.parametrize(("encoder", "shape"), KINDS_OF_NETWORK)
def test_members_do_not_know_of_each_other(encoder, shape):
    together = network_of(encoder, shape, [0, 1, 2])
    got = together(*inputs_of(shape, 3))
    for i in range(3):
        alone = network_of(encoder, shape, [i])
        torch.testing.assert_close(got[i], alone(*inputs_of(shape, 1))[0], rtol=1e-9, atol=1e-10)
    got[1].sum().backward()
    for name, p in together.named_parameters():
        assert p.grad is None or (p.grad[[0, 2]] == 0).all(), name


@pytest.mark.parametrize(("encoder", "shape"), KINDS_OF_NETWORK)
def test_every_parameter_is_used(encoder, shape):
    network = network_of(encoder, shape, [0])
    network(*inputs_of(shape, 1)).square().sum().backward()
    idle = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not idle


@pytest.mark.parametrize(("encoder", "shape"), KINDS_OF_NETWORK)
def test_rows_and_arrays_restore_a_member(encoder, shape):
    source, target = network_of(encoder, shape, [0, 1]), network_of(encoder, shape, [7])
    before = source(*inputs_of(shape, 2))[1]
    named = packing.arrays(source, packing.rows(source)[1])
    assert {n: v.shape for n, v in named.items()} == {n: tuple(v.shape[1:]) for n, v in source.state_dict().items()}
    packing.load_rows(target, packing.row_of(target, named)[None])
    # Rows are float32; the networks here are float64.
    torch.testing.assert_close(target(*inputs_of(shape, 1))[0], before, rtol=1e-4, atol=1e-5)


def test_a_checkpoint_that_does_not_fit_names_the_array():
    network = network_of(*KINDS_OF_NETWORK[0], [0])
    named = packing.arrays(network, packing.rows(network)[0])
    with pytest.raises(ValueError, match=r"array 'head.bias' must have the shape \(19,\), has None"):
        packing.row_of(network, {n: v for n, v in named.items() if n != "head.bias"})
    with pytest.raises(ValueError, match=r"'head.bias' must have the shape \(19,\), has \(3,\)"):
        packing.row_of(network, named | {"head.bias": np.zeros(3)})


def test_packed_parameters_are_views_of_one_buffer():
    network = network_of(*KINDS_OF_NETWORK[0], [0, 1])
    before = network(*inputs_of(FRAMES, 2))
    flat = packing.pack(network)
    assert flat.shape == (2, sum(p[0].numel() for p in network.parameters()))
    torch.testing.assert_close(network(*inputs_of(FRAMES, 2)), before)
    flat.zero_()
    assert all((p == 0).all() for p in network.parameters())


def test_first_prediction_is_the_training_mean():
    network = Network(Encoder(**SMALL), FRAMES)
    initialise(network, [generator()])
    network.target_mean[0] = torch.rand(19, generator=generator())
    out = network(torch.randn(1, 3, 12, 10, generator=generator()))
    torch.testing.assert_close(out, network.target_mean[:, None].expand_as(out))


def test_undefined_and_absurd_features_are_tamed():
    network = Network(Encoder(**SMALL), Shape(n_features=3))
    network.feature_mean[0] = torch.tensor([1.0, 2.0, 3.0])
    network.feature_std[0] = 2.0
    got = network.standardise_features(torch.tensor([[[float("nan"), 1e9, 5.0]]]))
    assert got.tolist() == [[[0, 5, 1]]]


def test_parameter_count_by_hand():
    # embed 256*256+256, bands 8*256, a block: two norms 1024, qkv 256*768+768, out 256*256+256, mlp 2*256*512+768,
    # last norm 512, head 256*19+19.
    block = 1024 + 256 * 768 + 768 + 256 * 256 + 256 + 2 * 256 * 512 + 512 + 256
    want = 256 * 256 + 256 + 8 * 256 + 3 * block + 512 + 256 * 19 + 19
    assert n_params(Encoder(), Shape(width=128, crop=500)) == want
    # 320 does not divide by 6 heads; the inner width is heads x head_dim all the same.
    wide = Encoder(depth=4, dim=320, heads=6, mlp_ratio=3.0)
    assert n_params(wide, Shape(width=128, crop=500)) > 4 * 4 * 320 * 384
