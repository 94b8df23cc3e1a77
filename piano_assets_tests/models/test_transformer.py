"""The transformer against torch's own, and what padding may not do."""

import pytest
import torch
from torch import nn

from piano_assets.catalogue.trial import Encoder
from piano_assets.models.attention import Grid
from piano_assets.models.layers import Linear
from piano_assets.models.network import Network, Shape, initialise
from piano_assets.models.transformer import Block, Patches, time_positions

SMALL = Encoder(depth=2, dim=24, heads=3, head_dim=8, patch_size=4, dropout=0.3)
SHAPE = Shape(width=10, crop=24)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network_of(encoder: Encoder = SMALL, shape: Shape = SHAPE, members: int = 1) -> Network:
    network = Network(encoder, shape, members)
    initialise(network, [generator(i) for i in range(members)])
    for module in network.modules():
        if isinstance(module, Linear) and module.zero:
            nn.init.normal_(module.weight, generator=generator(1))  # zeros would hide everything before them
    return network.double().eval()


def frames_of(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(2), dtype=torch.float64)


def test_blocks_agree_with_torch():
    peer_layer = nn.TransformerEncoderLayer(24, 3, 48, 0.0, "gelu", batch_first=True, norm_first=True)
    peers = [nn.TransformerEncoder(peer_layer, 2, enable_nested_tensor=False).double().eval() for _ in range(2)]
    blocks = [Block(2, SMALL, Grid(7, 1)).double() for _ in range(2)]
    pairs = {
        "self_attn.in_proj_": "attention.qkv.",
        "self_attn.out_proj.": "attention.out.",
        "linear1.": "expand.",
        "linear2.": "contract.",
        "norm1.": "norm_attention.",
        "norm2.": "norm_mlp.",
    }
    draw = generator(3)
    for member, peer in enumerate(peers):
        for layer, block in zip(peer.layers, blocks, strict=True):
            for p in layer.parameters():
                nn.init.normal_(p, std=0.3, generator=draw)
            theirs, ours = layer.state_dict(), block.state_dict()
            for it, us in pairs.items():
                for which in ("weight", "bias"):
                    value = theirs[f"{it}{which}"]
                    ours[f"{us}{which}"][member] = value.T if value.dim() == 2 else value
    x = frames_of(2, 2, 7, 24)
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3]).expand(2, 2, 7)
    got = x
    for block in blocks:
        got = block(got, mask, None)
    for member, peer in enumerate(peers):
        want = peer(x[member], src_key_padding_mask=~mask[member])
        torch.testing.assert_close(got[member][mask[member]], want[mask[member]], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("kind", ["vanilla", "local", "performer", "linformer", "sparse", "multi_scale"])
def test_padding_changes_nothing(kind):
    encoder = Encoder(depth=2, dim=24, heads=3, head_dim=8, patch_size=4, attention=kind)
    network, x = network_of(encoder), frames_of(1, 2, 13, 10)
    alone = network(x)
    padded = torch.cat([x, torch.zeros(1, 2, 9, 10, dtype=torch.float64)], 2)
    mask = torch.arange(22).expand(1, 2, 22) < 13
    torch.testing.assert_close(network(padded, mask), alone, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", ["vanilla", "local", "performer", "linformer", "sparse", "multi_scale"])
def test_any_number_of_frames(kind):
    encoder = Encoder(depth=1, dim=24, heads=3, head_dim=5, patch_size=4, attention=kind)
    network = network_of(encoder)
    for n_frames in (1, 3, 4, 5, 17):
        out = network(frames_of(1, 3, n_frames, 10))
        assert out.shape == (1, 3, 19)
        assert out.isfinite().all()


def test_no_gradient_reaches_padding():
    network = network_of()
    x = frames_of(1, 1, 22, 10).requires_grad_()
    mask = torch.arange(22)[None, None] < 13
    network(network.standardise_frames(x, mask), mask).sum().backward()
    assert (x.grad[0, 0, 13:] == 0).all()
    assert (x.grad[0, 0, :13].abs().sum(1) > 0).all()


def test_time_and_frequency_are_told_apart():
    network, x = network_of(), frames_of(1, 1, 16, 10)
    swapped = torch.cat([x[:, :, 8:], x[:, :, :8]], 2)
    assert (network(x) - network(swapped)).abs().max() > 1e-3
    with torch.no_grad():
        network.sequence.stem.band.zero_()
    x8 = x.clone()
    x8[..., 8:] = 0  # the last patch holds 2 real bands: keep it out of the comparison
    moved = torch.cat([x8[..., 4:8], x8[..., :4], x8[..., 8:]], 3)
    torch.testing.assert_close(network(x8), network(moved))  # without band positions frequencies are a set


def test_time_positions_of_a_longer_clip_begin_alike():
    like = torch.zeros(1, dtype=torch.float64)
    torch.testing.assert_close(time_positions(50, 24, like)[:20], time_positions(20, 24, like))
    first = time_positions(2, 4, like)
    torch.testing.assert_close(first[0], torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64))
    # sin(1), cos(1), sin(1/100), cos(1/100)
    want = torch.tensor([0.841471, 0.540302, 0.0099998, 0.99995], dtype=torch.float64)
    torch.testing.assert_close(first[1], want, rtol=0, atol=1e-6)


def test_patches_are_cut_as_by_hand():
    stem = Patches(1, Encoder(dim=4, patch_size=2), 3).double()
    with torch.no_grad():
        stem.embed.weight[0] = torch.eye(4)
    x = torch.arange(12.0, dtype=torch.float64).view(1, 1, 4, 3)
    tokens, _ = stem(x, None)
    tokens = (tokens - time_positions(2, 4, x)[:, None].expand(2, 2, 4).flatten(0, 1))[0, 0]
    # rows of frames: [0 1 2], [3 4 5], ...; the third band stands alone beside a padded one
    assert tokens.round().tolist() == [[0, 1, 3, 4], [2, 0, 5, 0], [6, 7, 9, 10], [8, 0, 11, 0]]
