"""Layers of many members: each is what it would be alone, and chance keeps its promises."""

import pytest
import torch
from torch import nn

from piano_assets.models.layers import LayerNorm, Linear, Noise, masked_mean, scrambled

MEMBERS = 3


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(dropout: list[float], depth: list[float] | None = None, first: int = 0) -> Noise:
    members = torch.arange(first, first + len(dropout))
    return Noise(members, torch.zeros_like(members), dropout, depth or [0.0] * len(dropout))


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


def test_what_befalls_a_member_depends_on_its_own_key_step_and_place():
    x = torch.ones(2, 1001)
    together = noise([0.4, 0.3])
    alone = noise([0.3], first=1)
    first = together.drop(x)
    assert torch.equal(first[1], alone.drop(x[:1])[0])
    second = together.drop(x)
    assert torch.equal(second[1], alone.drop(x[:1])[0])
    together.advance()
    third = together.drop(x)
    assert torch.equal(third, Noise(torch.arange(2), torch.ones(2, dtype=torch.int64), [0.4, 0.3], [0.0] * 2).drop(x))
    agreements = [(a[1] == b[1]).double().mean() for a, b in ((first, second), (first, third), (second, third))]
    # Independent draws agree in .7^2 + .3^2 of the places; standard deviation .016, five of them.
    assert agreements == pytest.approx([0.58] * 3, abs=0.08)


def test_scrambled_is_splitmix64():
    # First outputs of the published generator for the seed 1234567.
    state = 1234567 + torch.arange(1, 4) * -7046029254386353131
    want = [6457827717110365317, 3203168211198807973, 9817491932198370423 - 2**64]
    assert scrambled(state.clone()).tolist() == want


def test_bits_of_neighbouring_steps_and_places_are_unrelated():
    half = noise([0.5])
    draws = []
    for _ in range(4):
        draws += [half.drop(torch.ones(1, 40_000))[0] > 0 for _ in range(3)]
        half.advance()
    r = torch.corrcoef(torch.stack(draws).double()).fill_diagonal_(0)
    # 66 pairs with a standard deviation of .005 each; six of them fail once in 1e7.
    assert r.abs().max() < 0.03


def test_no_rate_draws_nothing():
    x, still = torch.ones(1, 5), noise([0.0])
    assert still.drop(x) is x
    assert still.drop_path(x, 1.0) is x


def test_stochastic_depth_drops_whole_clips_and_keeps_the_mean():
    branch = torch.ones(1, 20_000, 2, 3)
    kept = noise([0.0], [0.2]).drop_path(branch, 0.5)[0]
    assert torch.equal(kept[:, 0, 0, None, None].expand_as(kept), kept), "a clip is dropped whole"
    # Rate .2 x .5; binomial standard deviation .0021, six of them.
    assert (kept[:, 0, 0] == 0).float().mean().item() == pytest.approx(0.1, abs=0.013)
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.9])


def test_the_noise_of_fewer_members_goes_on_where_it_was():
    x, whole, part = torch.ones(3, 50), noise([0.5] * 3), noise([0.5] * 3)
    whole.advance()
    part.advance()
    assert torch.equal(whole.drop(x)[[0, 2]], part.keep([0, 2]).drop(x[:2]))


def test_masked_mean_by_hand():
    x = torch.tensor([[[[1.0], [3.0], [100.0]]]])
    assert masked_mean(x, torch.tensor([[[True, True, False]]])).item() == 2
    assert masked_mean(x, None).item() == pytest.approx(104 / 3)
