"""The transformer against torch's own, and what padding may not do."""

import pytest
import torch
from torch import nn

from piano_assets.catalogue.trial import Encoder
from piano_assets.models.transformer import (
    ATTENTION,
    Block,
    SpectrogramTransformer,
    dropout,
    initialise,
    masked_mean,
    n_params,
    time_positions,
)

SMALL = Encoder(depth=2, dim=24, heads=3, head_dim=8, patch_size=4, dropout=0.3)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def model_of(encoder: Encoder = SMALL, n_mels: int = 10) -> SpectrogramTransformer:
    model = SpectrogramTransformer(encoder, n_mels).double()
    initialise(model, generator())
    nn.init.normal_(model.head.weight, generator=generator(1))  # else the head's zeros hide everything before it
    return model


def frames_of(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(2), dtype=torch.float64)


def test_blocks_agree_with_torch():
    peer_layer = nn.TransformerEncoderLayer(24, 3, 48, 0.0, "gelu", batch_first=True, norm_first=True)
    peer = nn.TransformerEncoder(peer_layer, 2, enable_nested_tensor=False).double().eval()
    blocks = [Block(SMALL).double() for _ in range(2)]
    for layer, block in zip(peer.layers, blocks, strict=True):
        for p in layer.parameters():
            nn.init.normal_(p, std=0.3, generator=generator(3))
        pairs = {
            "self_attn.in_proj_": "attention.qkv.",
            "self_attn.out_proj.": "attention.out.",
            "linear1.": "expand.",
            "linear2.": "contract.",
            "norm1.": "norm_attention.",
            "norm2.": "norm_mlp.",
        }
        theirs = layer.state_dict()
        block.load_state_dict({f"{us}{w}": theirs[f"{it}{w}"] for it, us in pairs.items() for w in ("weight", "bias")})
    x = frames_of(2, 7, 24)
    mask = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])
    want, got = peer(x, src_key_padding_mask=~mask), x
    for block in blocks:
        got = block(got, mask, None)
    torch.testing.assert_close(got[mask], want[mask], rtol=1e-6, atol=1e-9)


def test_padding_changes_nothing():
    model, x = model_of(), frames_of(2, 13, 10)
    alone = model(x)
    padded = torch.cat([x, torch.full((2, 9, 10), 1e6, dtype=torch.float64)], 1)
    mask = torch.arange(22).expand(2, 22) < 13
    torch.testing.assert_close(model(padded, mask), alone, rtol=1e-10, atol=1e-12)


def test_no_gradient_reaches_padding():
    model = model_of()
    x = frames_of(1, 22, 10).requires_grad_()
    model(x, torch.arange(22)[None] < 13).sum().backward()
    assert (x.grad[0, 13:] == 0).all()
    assert (x.grad[0, :13].abs().sum(1) > 0).all()


@pytest.mark.parametrize("n_frames", [1, 3, 4, 5, 17])
@pytest.mark.parametrize("attention", ATTENTION)
def test_any_number_of_frames(n_frames, attention):
    encoder = Encoder(depth=1, dim=24, heads=3, head_dim=5, patch_size=4, attention=attention)
    out = model_of(encoder)(frames_of(3, n_frames, 10))
    assert out.shape == (3, 19)
    assert out.isfinite().all()


def test_time_and_frequency_are_told_apart():
    model, x = model_of(), frames_of(1, 16, 8 + 2)
    swapped = torch.cat([x[:, 8:], x[:, :8]], 1)
    assert (model(x) - model(swapped)).abs().max() > 1e-3
    with torch.no_grad():
        model.band.zero_()
    x8 = x.clone()
    x8[..., 8:] = 0  # the last patch holds 2 real bands: keep it out of the comparison
    moved = torch.cat([x8[..., 4:8], x8[..., :4], x8[..., 8:]], 2)
    torch.testing.assert_close(model(x8), model(moved))  # without band positions frequencies are a set


def test_time_positions_of_a_longer_clip_begin_alike():
    like = torch.zeros(1, dtype=torch.float64)
    torch.testing.assert_close(time_positions(50, 24, like)[:20], time_positions(20, 24, like))
    first = time_positions(2, 4, like)
    torch.testing.assert_close(first[0], torch.tensor([0.0, 1.0, 0.0, 1.0], dtype=torch.float64))
    # sin(1), cos(1), sin(1/100), cos(1/100)
    want = torch.tensor([0.841471, 0.540302, 0.0099998, 0.99995], dtype=torch.float64)
    torch.testing.assert_close(first[1], want, rtol=0, atol=1e-6)


def test_first_prediction_is_the_training_mean():
    model = SpectrogramTransformer(SMALL, 10)
    initialise(model, generator())
    targets = torch.rand(30, 19, generator=generator())
    model.standardise(torch.zeros(10), torch.ones(10), targets)
    torch.testing.assert_close(model(frames_of(2, 8, 10).float()), targets.mean(0).expand(2, 19))


def test_dropout_keeps_the_mean_and_obeys_its_generator():
    x = torch.ones(200_000)
    dropped = dropout(x, 0.4, generator())
    # Binomial: the share dropped has a standard deviation of .0011; six of them fail once in 5e8.
    assert abs((dropped == 0).float().mean() - 0.4) < 0.0066
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert torch.equal(dropped, dropout(x, 0.4, generator()))
    assert not torch.equal(dropped, dropout(x, 0.4, generator(1)))
    assert dropout(x, 0.4, None) is x


def test_masked_mean_by_hand():
    x = torch.tensor([[[1.0], [3.0], [100.0]]])
    assert masked_mean(x, torch.tensor([[True, True, False]])).item() == 2


def test_same_generator_same_weights():
    one, two = (SpectrogramTransformer(SMALL, 10) for _ in range(2))
    initialise(one, generator())
    initialise(two, generator())
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_parameter_count_by_hand():
    # embed 256*256+256, bands 8*256, a block: two norms 1024, qkv 256*768+768, out 256*256+256, mlp 2*256*512+768,
    # last norm 512, head 256*19+19.
    block = 1024 + 256 * 768 + 768 + 256 * 256 + 256 + 2 * 256 * 512 + 512 + 256
    assert n_params(Encoder(), 128) == 256 * 256 + 256 + 8 * 256 + 3 * block + 512 + 256 * 19 + 19
    # 320 does not divide by 6 heads; the inner width is heads x head_dim all the same.
    assert n_params(Encoder(depth=4, dim=320, heads=6, mlp_ratio=3.0), 128) > 4 * 4 * 320 * 384
