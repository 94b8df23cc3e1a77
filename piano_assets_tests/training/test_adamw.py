"""Every member of a stack against a torch.optim.AdamW of its own."""

import pytest
import torch

from piano_assets.training import adamw
from piano_assets.training.adamw import AdamW

M, N, STEPS = 3, 200, 50


def streams(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    """Start, gradients over four decades, rates that fall at each member's own pace, decays, momenta that vary."""
    g = torch.Generator().manual_seed(1)
    start = torch.randn(M, N, generator=g, dtype=dtype)
    gradient = torch.randn(STEPS, M, N, generator=g, dtype=dtype) * 10 ** torch.linspace(-3, 1, N, dtype=dtype)
    rate = torch.tensor([1e-3, 1e-2, 3e-4]) * torch.linspace(1, 0.1, STEPS)[:, None]
    beta1 = 0.85 + 0.1 * torch.rand(STEPS, M, generator=g)
    return start, gradient, rate, torch.tensor([0.0, 1e-4, 0.3]), beta1


def alone(member: int, steps: int = STEPS, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    start, gradient, rate, decay, beta1 = streams(dtype)
    x = torch.nn.Parameter(start[member].clone())
    optimizer = torch.optim.AdamW([x], weight_decay=decay[member].item(), foreach=False)
    for step in range(steps):
        optimizer.param_groups[0].update(lr=rate[step, member].item(), betas=(beta1[step, member].item(), 0.999))
        x.grad = gradient[step, member].clone()
        optimizer.step()
    return x.detach()


def stacked(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    start, gradient, rate, decay, beta1 = streams(dtype)
    optimizer = AdamW(start)
    for step in range(STEPS):
        optimizer.step(gradient[step], rate[step], decay, beta1[step])
    return start


@pytest.mark.parametrize("block", [adamw._BLOCK, 100])
def test_agrees_with_torch(block, monkeypatch):
    monkeypatch.setattr(adamw, "_BLOCK", block)
    torch.testing.assert_close(stacked(), torch.stack([alone(i) for i in range(M)]), rtol=1e-10, atol=0)


def test_agrees_with_torch_in_float32():
    # A parameter near 1 gathers one rounding of 6e-8 a step.
    want = torch.stack([alone(i, dtype=torch.float32) for i in range(M)])
    torch.testing.assert_close(stacked(torch.float32), want, rtol=1e-6, atol=3e-6)


def test_a_rate_of_zero_moves_nothing():
    start, gradient, rate, decay, beta1 = streams(torch.float32)
    before = start.clone()
    gradient[0, :, :5] = 0
    AdamW(start).step(gradient[0], 0 * rate[0], decay, beta1[0])
    assert torch.equal(start, before)


def test_the_rest_goes_on_where_a_member_leaves():
    start, gradient, rate, decay, beta1 = streams()
    optimizer, rows = AdamW(start), torch.tensor([0, 2])
    for step in range(STEPS):
        if step == 20:
            optimizer.keep(optimizer.flat[rows], rows)
        now = rows if step >= 20 else torch.arange(M)
        optimizer.step(gradient[step, now], rate[step, now], decay[now], beta1[step, now])
    torch.testing.assert_close(optimizer.flat, torch.stack([alone(0), alone(2)]), rtol=1e-10, atol=0)
    torch.testing.assert_close(start[1], alone(1, steps=20), rtol=1e-10, atol=0)


def test_goes_on_from_a_state():
    start, gradient, rate, decay, beta1 = streams()
    optimizer = AdamW(start)
    for step in range(STEPS):
        if step == 20:
            # Members of one stack may have taken different numbers of steps: the count is each one's own.
            state = optimizer.state()
            optimizer.step(gradient[step] + 1, rate[step], decay, beta1[step])
            assert not torch.equal(optimizer.mean, state["mean"]), "a state is a copy"
            start = alone_all(20)
            optimizer = AdamW(start)
            optimizer.load(state)
        optimizer.step(gradient[step], rate[step], decay, beta1[step])
    torch.testing.assert_close(start, alone_all(STEPS), rtol=1e-10, atol=0)


def test_members_of_different_age_keep_their_own_count():
    start, gradient, rate, decay, beta1 = streams()
    young, old = AdamW(start[:1].clone()), AdamW(start[1:].clone())
    for step in range(10):
        old.step(gradient[step, 1:], rate[step, 1:], decay[1:], beta1[step, 1:])
    both = AdamW(torch.cat([young.flat, old.flat]))
    both.load({k: torch.cat([young.state()[k], old.state()[k]]) for k in both.state()})
    now = torch.tensor([0, 10, 10])
    members = torch.arange(M)
    both.step(gradient[now, members], rate[now, members], decay, beta1[now, members])
    torch.testing.assert_close(both.flat, torch.stack([alone(0, 1), alone(1, 11), alone(2, 11)]), rtol=1e-10, atol=0)


def alone_all(steps: int) -> torch.Tensor:
    return torch.stack([alone(i, steps) for i in range(M)])
