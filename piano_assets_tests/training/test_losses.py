"""One contract for every loss, and each formula against a library, a number by hand or a limit."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from piano_assets.training import losses
from piano_assets.training.losses import FOCAL_BETA, HUBER_DELTA, LABEL_SPREAD, LOSSES, SCALE_FREE, calibration

each = pytest.mark.parametrize("name", LOSSES)


def batch(*lead: int, n: int = 12) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Predictions, labels of spread 0.1, and errors."""
    generator = torch.Generator().manual_seed(1)
    pred, target = 0.6 + 0.1 * torch.randn(2, *lead, n, 19, generator=generator, dtype=torch.float64)
    error = 0.02 + 0.1 * torch.rand(*lead, n, 19, generator=generator, dtype=torch.float64)
    return pred, target, error


@each
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [1, 12])
def test_finite_on_constant_predictions(name, n, dtype):
    _, target, error = (x.to(dtype) for x in batch(n=n))
    pred = torch.full_like(target, 0.6).requires_grad_()
    loss = LOSSES[name](pred, target, error)
    loss.backward()
    assert loss.ndim == 0
    assert loss.isfinite()
    assert pred.grad.isfinite().all()
    if n > 1:
        # It also shows a way out: a small step against the gradient lowers the loss.
        step = 1e-4 * pred.grad / pred.grad.abs().max()
        assert LOSSES[name](pred - step, target, error) < loss


@each
def test_finite_on_constant_labels(name):
    pred, target, error = batch()
    pred.requires_grad_()
    loss = LOSSES[name](pred, torch.full_like(target, 0.6), error)
    loss.backward()
    assert loss.isfinite()
    assert pred.grad.isfinite().all()


@pytest.mark.parametrize("name", sorted(set(LOSSES) - {"ranking", "combined"}))
def test_lowest_where_predictions_are_the_targets(name):
    noise, target, error = batch()
    noise = noise - 0.6
    at_target = LOSSES[name](target, target, error)
    for size in (0.1, 1.0, -0.5):
        assert LOSSES[name](target + size * noise, target, error) > at_target


@each
def test_every_member_is_judged_alone(name):
    pred, target, error = batch(2, 3)
    want = [[LOSSES[name](*(x[i, j] for x in (pred, target, error))) for j in range(3)] for i in range(2)]
    np.testing.assert_allclose(LOSSES[name](pred, target, error), want, rtol=1e-12)


@each
def test_scale_free_says_which_losses_ignore_a_shift(name):
    pred, target, error = batch()
    unmoved = LOSSES[name](pred + 0.2, target, error).item() == pytest.approx(LOSSES[name](pred, target, error).item())
    assert unmoved == (name in SCALE_FREE)


@each
def test_gradient(name):
    pred, target, error = batch(n=5)
    assert torch.autograd.gradcheck(lambda p: LOSSES[name](p, target, error), pred.requires_grad_())


def test_mse_agrees_with_torch():
    pred, target, error = batch()
    torch.testing.assert_close(LOSSES["mse"](pred, target, error), F.mse_loss(pred, target))


def test_huber_by_hand():
    zero = torch.zeros(1, 1, dtype=torch.float64)
    # Quadratic inside: e^2 / 2; linear outside: delta (|e| - delta / 2).
    assert LOSSES["huber"](zero + 0.05, zero, zero + 1).item() == pytest.approx(0.00125)
    assert LOSSES["huber"](zero - 0.4, zero, zero + 1).item() == pytest.approx(HUBER_DELTA * 0.35)


def test_focal_mse_by_hand_and_in_its_limits():
    pred, target, error = batch()
    zero = torch.zeros(1, 1, dtype=torch.float64)
    # 2 sigmoid(x) - 1 = tanh(x / 2).
    assert LOSSES["focal_mse"](zero - 0.1, zero, error).item() == pytest.approx(0.01 * np.tanh(0.1 * FOCAL_BETA / 2))
    mse = LOSSES["mse"](pred, target, error)
    torch.testing.assert_close(losses.focal_mse(pred, target, error, gamma=0.0), mse)
    torch.testing.assert_close(losses.focal_mse(pred, target, error, beta=1e9), mse)


def test_correlation_agrees_with_scipy():
    pred, target, error = batch()
    want = 1 - np.mean([stats.pearsonr(p, t).statistic for p, t in zip(pred.T.numpy(), target.T.numpy(), strict=True)])
    assert LOSSES["correlation"](pred, target, error).item() == pytest.approx(want, rel=1e-10)


def test_correlation_ignores_positive_scale_and_turns_with_the_sign():
    pred, target, error = batch()
    loss = LOSSES["correlation"](pred, target, error)
    torch.testing.assert_close(LOSSES["correlation"](7 * pred - 3, target, error), loss)
    torch.testing.assert_close(LOSSES["correlation"](-pred, target, error), 2 - loss)


def test_concordance_by_hand():
    pred, target = (torch.tensor(x, dtype=torch.float64)[:, None] for x in ([1.0, 2, 3, 4], [1.0, 2, 3, 6]))
    # Moments 1/n: covariance 2, variances 1.25 and 3.5, means 2.5 and 3.
    assert LOSSES["concordance"](pred, target, pred).item() == pytest.approx(1 - 2 * 2 / (1.25 + 3.5 + 0.25), rel=1e-12)


def test_concordance_is_correlation_where_moments_agree():
    pred, target, error = batch()
    pred = (pred - pred.mean(0)) / pred.std(0) * target.std(0) + target.mean(0)
    torch.testing.assert_close(*(LOSSES[name](pred, target, error) for name in ("concordance", "correlation")))


def test_ranking_is_the_cross_entropy_of_every_pair():
    pred, target, error = batch(n=6)
    target = (10 * target).round() / 10
    terms = []
    for d in range(19):
        for i in range(6):
            for j in range(i):
                if target[i, d] != target[j, d]:
                    logit = (pred[i, d] - pred[j, d]) / LABEL_SPREAD
                    terms.append(F.binary_cross_entropy_with_logits(logit, (target[i, d] > target[j, d]).double()))
    assert 0 < len(terms) < 19 * 15, "the labels must hold pairs and ties"
    torch.testing.assert_close(LOSSES["ranking"](pred, target, error), torch.stack(terms).mean())


def test_ranking_without_pairs_is_zero():
    pred, target, error = batch()
    pred.requires_grad_()
    loss = LOSSES["ranking"](pred, torch.full_like(target, 0.5), error)
    loss.backward()
    assert loss == 0
    assert (pred.grad == 0).all()


def test_combined_parts_are_of_one_size_where_the_mean_is_predicted():
    _, target, error = batch(n=500)
    pred = target.mean(0).expand_as(target)
    parts = [weight * LOSSES[name](pred, target, error).item() for name, weight in losses.COMBINED.items()]
    # Labels of spread 0.1: variance over 0.01, 1 - r with r = 0, and the logistic loss of even odds. A variance of
    # 9,500 normal numbers strays by 1.5 %.
    assert parts == pytest.approx([1, 1, np.log(2)], rel=0.06)
    assert LOSSES["combined"](pred, target, error).item() == pytest.approx(sum(parts))


def test_rater_weighted_by_hand_and_with_equal_errors():
    pred, target, error = batch()
    want = np.average((pred - target).numpy() ** 2, weights=1 / error.numpy())
    assert LOSSES["rater_weighted"](pred, target, error).item() == pytest.approx(want, rel=1e-12)
    equal = torch.full_like(error, 0.07)
    torch.testing.assert_close(LOSSES["rater_weighted"](pred, target, equal), LOSSES["mse"](pred, target, error))


def test_calibration_agrees_with_polyfit():
    pred, target, _ = batch(n=40)
    pred = pred + 3 * target
    slope, intercept = calibration(pred, target)
    want = np.array([np.polyfit(p, t, 1) for p, t in zip(pred.T.numpy(), target.T.numpy(), strict=True)])
    np.testing.assert_allclose(torch.stack([slope, intercept], 1), want, rtol=1e-9)
    stacked = calibration(torch.stack([pred, target]), torch.stack([target, pred]))
    torch.testing.assert_close(stacked[0][0], slope)


def test_calibration_never_turns_an_order_round():
    _, target, _ = batch(n=40)
    slope, intercept = calibration(-target, target)
    assert (slope == 0).all()
    torch.testing.assert_close(intercept, target.mean(0))
    # The best line among those that do not fall: no rising slope does better.
    best = (target - intercept).square().mean()
    assert all((target - s * -target - (target + s * target).mean(0)).square().mean() > best for s in (0.01, 0.5))


def test_calibration_of_constant_predictions_is_the_mean():
    _, target, _ = batch(n=40)
    noise = torch.randn(40, 19, generator=torch.Generator().manual_seed(2))
    for pred in (torch.full((40, 19), 0.6), 0.6 + 1e-7 * noise):
        slope, intercept = calibration(pred, target.float())
        assert (slope == 0).all()
        torch.testing.assert_close(intercept, target.mean(0).float())
