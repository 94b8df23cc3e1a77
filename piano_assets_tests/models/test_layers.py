"""Layers of many members: each is what it would be alone, and chance keeps its promises."""

import pytest
import torch
from torch import nn

from piano_assets.models.layers import LayerNorm, Linear, Noise, masked_mean

MEMBERS = 3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(dropout: list[float], depth: list[float] | None = None) -> Noise:
    return Noise([generator(i) for i in range(len(dropout))], dropout, depth or [0.0] * len(dropout))


def linear(**more: bool) -> Linear:
    layer = Linear(MEMBERS, 7, 5, **more)
    for member in range(MEMBERS):
        layer.reset(member, generator(member))
    return layer.double()


def test_linear_is_torchs_for_each_member():
    layer, x = linear(), torch.randn(MEMBERS, 4, 2, 7, dtype=torch.float64, generator=generator())
    got = layer(x)
    for i in range(MEMBERS):
        want = nn.functional.linear(x[i], layer.weight[i].T, layer.bias[i])
        torch.testing.assert_close(got[i], want, rtol=1e-12, atol=1e-12)


def test_weights_are_drawn_as_torch_draws_them_for_one_network():
    layer = linear()
    for i in range(MEMBERS):
        # Xavier's bound is symmetric in fan-in and fan-out, so the transposed shape draws the same numbers.
        want = nn.init.xavier_uniform_(torch.empty(7, 5), generator=generator(i)).double()
        torch.testing.assert_close(layer.weight[i].detach(), want)


@pytest.mark.parametrize("members", [1, MEMBERS])
def test_layer_norm_is_torchs_for_each_member(members):
    layer = LayerNorm(members, 6).double()
    nn.init.normal_(layer.weight, generator=generator(1))
    nn.init.normal_(layer.bias, generator=generator(2))
    x = torch.randn(members, 2, 5, 6, dtype=torch.float64, generator=generator())
    got = layer(x)
    for i in range(members):
        want = nn.functional.layer_norm(x[i], (6,), layer.weight[i], layer.bias[i])
        torch.testing.assert_close(got[i], want, rtol=1e-12, atol=1e-12)


def test_spectral_norm_divides_by_the_largest_singular_value():
    layer = linear(spectral_norm=True)
    with torch.no_grad():
        layer.weight *= torch.tensor([1.0, 20.0, 0.01], dtype=torch.float64)[:, None, None]
    layer.train()
    for _ in range(200):  # power iteration converges with the ratio of the first two singular values
        layer(torch.zeros(MEMBERS, 1, 7, dtype=torch.float64))
    eye = torch.eye(7, dtype=torch.float64).expand(MEMBERS, 7, 7)
    effective = layer.eval()(eye) - layer.bias[:, None]
    torch.testing.assert_close(
        torch.linalg.svdvals(effective)[:, 0], torch.ones(MEMBERS, dtype=torch.float64), rtol=1e-6, atol=0
    )


def test_spectral_norm_is_torchs():
    ours = linear(spectral_norm=True).train()
    theirs = nn.utils.parametrizations.spectral_norm(nn.Linear(7, 5, dtype=torch.float64))
    with torch.no_grad():
        theirs.parametrizations.weight.original.copy_(ours.weight[1].T)
        theirs.bias.copy_(ours.bias[1])
        theirs.parametrizations.weight[0]._u.copy_(ours.right[1])
        theirs.parametrizations.weight[0]._v.copy_(ours.left[1])
    x = torch.randn(MEMBERS, 4, 7, dtype=torch.float64, generator=generator())
    got, want = ours(x)[1], theirs(x[1])
    # Torch updates u before v, we v before u, of the same converged pair: the estimates agree to second order.
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


def test_spectral_norm_rests_while_a_network_is_judged():
    layer = linear(spectral_norm=True).eval()
    before = layer.right.clone()
    layer(torch.ones(MEMBERS, 1, 7, dtype=torch.float64))
    assert torch.equal(layer.right, before)


def test_dropout_keeps_the_mean_and_each_members_rate():
    x = torch.ones(3, 200_000)
    dropped = noise([0.4, 0.0, 0.1]).drop(x)
    # Binomial: the share dropped has a standard deviation of at most .0011; six of them fail once in 5e8.
    assert (dropped == 0).float().mean(1).tolist() == pytest.approx([0.4, 0.0, 0.1], abs=0.0066)
    assert dropped[0].unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert torch.equal(dropped[1], x[1])


def test_dropout_of_a_member_depends_on_its_generator_alone():
    x = torch.ones(2, 1000)
    together = noise([0.4, 0.3]).drop(x)
    alone = Noise([generator(1)], [0.3], [0.0]).drop(x[:1])
    assert torch.equal(together[1], alone[0])
    assert not torch.equal(together[0], together[1])


def test_no_rate_draws_nothing():
    x, still = torch.ones(1, 5), noise([0.0])
    before = still.generators[0].get_state()
    assert still.drop(x) is x
    assert still.drop_path(x, 1.0) is x
    assert torch.equal(still.generators[0].get_state(), before)


def test_stochastic_depth_drops_whole_clips_and_keeps_the_mean():
    branch = torch.ones(1, 20_000, 2, 3)
    kept = noise([0.0], [0.2]).drop_path(branch, 0.5)[0]
    assert torch.equal(kept[:, 0, 0, None, None].expand_as(kept), kept), "a clip is dropped whole"
    # Rate .2 x .5; binomial standard deviation .0021, six of them.
    assert (kept[:, 0, 0] == 0).float().mean().item() == pytest.approx(0.1, abs=0.013)
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.9])


def test_the_noise_of_fewer_members_goes_on_where_it_was():
    x, whole, part = torch.ones(3, 50), noise([0.5] * 3), noise([0.5] * 3)
    whole.drop(x)
    part.drop(x)
    assert torch.equal(whole.drop(x)[[0, 2]], part.keep([0, 2]).drop(x[:2]))


def test_masked_mean_by_hand():
    x = torch.tensor([[[[1.0], [3.0], [100.0]]]])
    assert masked_mean(x, torch.tensor([[[True, True, False]]])).item() == 2
    assert masked_mean(x, None).item() == pytest.approx(104 / 3)
