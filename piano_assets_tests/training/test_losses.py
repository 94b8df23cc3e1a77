"""One contract for every loss, and numbers by hand."""

import pytest
import torch

from piano_assets.training.losses import HUBER_DELTA, LOSSES


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return tuple(torch.rand(12, 19, generator=generator, dtype=torch.float64) for _ in range(2))


@pytest.mark.parametrize("name", LOSSES)
def test_finite_on_constant_predictions(name):
    pred = torch.full((12, 19), 0.5, dtype=torch.float64, requires_grad=True)
    loss = LOSSES[name](pred, batch()[1])
    loss.backward()
    assert loss.ndim == 0
    assert loss.isfinite()
    assert pred.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_lowest_where_predictions_are_the_targets(name):
    noise, target = batch()
    at_target = LOSSES[name](target, target)
    for size in (0.01, 0.1, -0.5):
        assert LOSSES[name](target + size * noise, target) > at_target


def test_mse_is_the_mean_of_squares():
    pred, target = batch()
    want = ((pred.numpy() - target.numpy()) ** 2).mean()
    assert LOSSES["mse"](pred, target).item() == pytest.approx(want, rel=1e-12)


def test_huber_by_hand():
    zero = torch.zeros(1, 1, dtype=torch.float64)
    # Quadratic inside: e^2 / 2; linear outside: delta (|e| - delta / 2).
    assert LOSSES["huber"](zero + 0.05, zero).item() == pytest.approx(0.00125)
    assert LOSSES["huber"](zero - 0.4, zero).item() == pytest.approx(HUBER_DELTA * 0.35)
