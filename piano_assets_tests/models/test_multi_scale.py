"""The cross-attention against torch's own, what passes between the branches, and what padding may not do."""

import pytest
import torch
from torch import nn

from piano_assets.catalogue.trial import Encoder
from piano_assets.models.layers import Noise
from piano_assets.models.multi_scale import CrossAttention, MultiScale
from piano_assets.models.network import Network, Shape, initialise, n_params

SMALL = Encoder(depth=2, dim=24, heads=3, head_dim=8, patch_size=4, dropout=0.3, attention="multi_scale")
FORMULA = {"rtol": 1e-10, "atol": 1e-12}  # the same sums in float64


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def model_of(encoder: Encoder = SMALL, members: int = 1, n_bands: int = 10) -> MultiScale:
    model = MultiScale(members, encoder, n_bands, 40).double()
    initialise(model, [generator(10 + i) for i in range(members)])
    return model


def test_cross_attention_agrees_with_torch():
    cross = CrossAttention(1, SMALL).double()
    peer = nn.MultiheadAttention(24, 3, batch_first=True).double()
    for i, p in enumerate(peer.parameters()):
        nn.init.normal_(p, std=0.3, generator=generator(i))
    query, key_value = peer.in_proj_weight.split([24, 48])
    query_bias, key_value_bias = peer.in_proj_bias.split([24, 48])
    weights = {
        "norm.weight": 1 + 0.3 * draw(24),
        "norm.bias": draw(24, seed=1),
        "query.weight": query.T,
        "query.bias": query_bias,
        "key_value.weight": key_value.T,
        "key_value.bias": key_value_bias,
        "out.weight": peer.out_proj.weight.T,
        "out.bias": peer.out_proj.bias,
    }
    cross.load_state_dict({name: x[None] for name, x in weights.items()})
    summary, patches = draw(1, 2, 1, 24, seed=2), draw(1, 2, 6, 24, seed=3)
    mask = torch.tensor([[True] * 7, [True] * 3 + [False] * 4])
    x = nn.functional.layer_norm(
        torch.cat([summary, patches], 2)[0], (24,), weights["norm.weight"], weights["norm.bias"]
    )
    want, _ = peer(x[:, :1], x, x, key_padding_mask=~mask)
    torch.testing.assert_close(cross(summary, patches, mask[None])[0], want, **FORMULA)


def test_branches_see_the_same_frames_at_two_scales():
    seen = {}
    model = model_of()
    for i, stem in enumerate(model.stems):
        stem.register_forward_hook(lambda module, args, out, i=i: seen.update({i: out}))
    mask = torch.arange(19) < torch.tensor([19, 9])[:, None]
    model(draw(1, 2, 19, 10), mask[None], None)
    # 19 frames by 10 bands: 5 x 3 patches of 4, 3 x 2 of 8; 9 frames fill 3 and 2 rows of them.
    assert [seen[i][0].shape[2] for i in (0, 1)] == [15, 6]
    assert [seen[i][1].sum(2).tolist() for i in (0, 1)] == [[[15, 9]], [[6, 4]]]


def test_each_summary_learns_from_the_other_branch_by_cross_attention_alone():
    model, frames = model_of(), draw(1, 2, 19, 10)
    embeds = [stem.embed.weight for stem in model.stems]

    def reached() -> list[list[bool]]:
        """Of each branch's summary: which branch's patches reach it."""
        out = []
        for half in (slice(0, 24), slice(24, 48)):
            model.join.weight.data.zero_()
            model.join.weight.data[:, half] = torch.eye(24, dtype=torch.float64)
            # Fixed factors: the sum alone of a normalised vector has no gradient.
            grads = torch.autograd.grad((model(frames, None, None) * draw(24)).sum(), embeds)
            out.append([bool((g != 0).any()) for g in grads])
        return out

    assert reached() == [[True, True], [True, True]]
    for block in model.blocks:
        for p in block.crossings[0].out.parameters():
            p.data.zero_()
    assert reached() == [[True, False], [True, True]]
    for p in model.blocks[0].crossings[1].out.parameters():
        p.data.zero_()
    # After the last block the large branch's summary still asks the small one's patches.
    assert reached() == [[True, False], [True, True]]
    for p in model.blocks[1].crossings[1].out.parameters():
        p.data.zero_()
    assert reached() == [[True, False], [False, True]]


@pytest.mark.parametrize("n", [1, 7, 13])
def test_padding_changes_nothing(n):
    model, frames = model_of(), draw(1, 2, n, 10)
    mask = (torch.arange(30) < n).expand(1, 2, 30)
    padded = torch.cat([frames, torch.zeros(1, 2, 30 - n, 10)], 2)
    torch.testing.assert_close(model(padded, mask, None), model(frames, None, None), **FORMULA)


def test_members_share_nothing():
    both, frames = model_of(members=2), draw(2, 3, 13, 10).requires_grad_()
    mask = (torch.arange(13) < torch.tensor([13, 8, 1])[:, None]).expand(2, 3, 13)
    out = both(frames, mask, None)
    (grad,) = torch.autograd.grad(out[0].square().sum(), frames)
    assert (grad[1] == 0).all()
    for member in range(2):
        alone = MultiScale(1, SMALL, 10, 40).double()
        initialise(alone, [generator(10 + member)])
        got = alone(frames[member : member + 1], mask[:1], None)
        torch.testing.assert_close(got[0], out[member], **FORMULA)


def noise_of(keys: list[int], dropout: float, depth: float) -> Noise:
    key = torch.tensor(keys)
    return Noise(key, torch.zeros_like(key), [dropout] * len(keys), [depth] * len(keys))


def test_noise_is_drawn_from_each_member_alone():
    model, frames = model_of(members=2), draw(1, 3, 13, 10).expand(2, -1, -1, -1)

    def noisy(first: int, second: int) -> torch.Tensor:
        return model(frames, None, noise_of([first, second], 0.3, 0.2))

    assert torch.equal(noisy(1, 2), noisy(1, 2))
    assert torch.equal(noisy(1, 2)[0], noisy(1, 3)[0])
    assert not torch.equal(noisy(1, 2)[1], noisy(1, 3)[1])
    silent = model(frames, None, noise_of([1, 2], 0.0, 0.0))
    torch.testing.assert_close(silent, model(frames, None, None), **FORMULA)


def test_dropout_falls_on_tokens_and_on_what_crosses():
    model = model_of(Encoder(depth=1, dim=24, heads=3, head_dim=8, patch_size=4))
    for p in model.blocks.parameters():  # blocks and crossings that add nothing
        p.data.zero_()

    def spread() -> float:
        return (
            model(torch.zeros(1, 64, 8, 10, dtype=torch.float64), None, noise_of([0], 0.5, 0.0))[0].std(0).max().item()
        )

    assert spread() > 0.1  # summaries are constants, so clips differ by what falls on them alone
    model.summaries.data.zero_()
    assert spread() == 0
    for cross in model.blocks[0].crossings:
        cross.out.bias.data.fill_(1.0)
    assert spread() > 0.1  # ones cross; undropped they would be a constant vector, which the norm makes zero


def test_stochastic_depth_drops_crossings_too():
    model, frames = model_of(Encoder(depth=1, dim=24, heads=3, head_dim=8, patch_size=4)), draw(1, 64, 13, 10)
    for block in model.blocks[0].blocks:  # blocks that add nothing leave the crossings alone to be seen
        for p in (*block.attention.out.parameters(), *block.contract.parameters()):
            p.data.zero_()
    quiet = model(frames, None, None)[0]
    noisy = model(frames, None, noise_of([0], 0.0, 0.5))[0]
    # Both summaries are learned constants: without either crossing, which befalls a quarter, all clips are alike.
    alike = (noisy[:, None] - noisy).abs().amax(-1) < 1e-12
    assert alike.sum(1).max() > 4
    assert (quiet[:, None] - quiet).abs().amax(-1).fill_diagonal_(1).min() > 1e-6


@pytest.mark.parametrize("n_frames", [1, 4, 5, 17])
@pytest.mark.parametrize("n_bands", [1, 5, 16])
def test_any_number_of_frames_and_bands(n_frames, n_bands):
    out = model_of(n_bands=n_bands)(draw(1, 3, n_frames, n_bands), None, None)
    assert out.shape == (1, 3, 24)
    assert out.isfinite().all()
    assert (out[0, 0] != out[0, 1]).any()


def test_bfloat16_autocast_stays_near():
    model, frames = model_of().float(), draw(1, 3, 19, 10).float()
    want = model(frames, None, None)
    with torch.autocast("cpu", torch.bfloat16):
        got = model(frames, None, None)
    # Unit-sized values through some twenty products, each rounded to 8 bits.
    torch.testing.assert_close(got.float(), want, rtol=0, atol=0.1)
    got.float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_it_is_the_sequence_branch_of_a_network():
    network = Network(SMALL, Shape(width=10, crop=40), members=2).double()
    initialise(network, [generator(0), generator(1)])
    assert isinstance(network.sequence, MultiScale)
    assert network(draw(2, 3, 40, 10)).shape == (2, 3, 19)


def test_parameter_count_by_hand():
    # A branch: embedding p*p*24+24, bands 3*24 or 2*24, summary 24, last norm 48; a block in it: two norms 96,
    # qkv 24*72+72, out 24*24+24, mlp 24*48+48+48*24+24; a crossing: norm 48, query and out 600, key and value 24*48+48.
    block = 96 + 24 * 72 + 72 + 600 + 24 * 48 + 48 + 48 * 24 + 24
    crossing = 48 + 600 + 24 * 48 + 48 + 600
    stems = (16 * 24 + 24 + 3 * 24) + (64 * 24 + 24 + 2 * 24)
    branches = stems + 2 * (24 + 48) + 2 * 2 * (block + crossing)
    assert n_params(SMALL, Shape(width=10, crop=40)) == branches + 48 * 24 + 24 + 24 * 19 + 19
