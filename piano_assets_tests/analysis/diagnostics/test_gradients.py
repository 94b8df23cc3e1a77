"""Gradients against autograd by hand, the noise scale against known covariances, Fieller's interval by brute force."""

import numpy as np
import pytest
import torch
from scipy import stats

from piano_assets.analysis import listening
from piano_assets.analysis.diagnostics.gradients import (
    NETWORK,
    batch_gradients,
    fieller,
    gradients,
    layers_of,
    member_gradients,
    noise_scale,
    two_batch_estimates,
)
from piano_assets.models import packing
from piano_assets.training.losses import LOSSES


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


def by_hand(model, frames, mask, features, target, error) -> torch.Tensor:
    """Gradient of one batch's loss by `backward` on the network itself."""
    network = model.network
    network.zero_grad()
    inputs = (None if x is None else x[None] for x in (frames, mask, features))
    LOSSES[model.trial.optimisation.loss](network(*inputs)[0], target, error).backward()
    return torch.cat([p.grad.flatten() for p in network.parameters()])


@pytest.mark.parametrize("name", ["ast", "hybrid"])
def test_a_member_has_the_gradient_of_its_own_batch(tiny, name):
    of = tiny[name]
    model = of.folds[0]
    heard = listening.crops(model, of.data, rng().choice(model.train, 12), rng())
    network = listening.stack(model, packing.rows(model.network).expand(3, -1))
    found = member_gradients(network, model, heard)
    frames, mask, features = heard.inputs(1, slice(None))
    for i in range(3):
        own = slice(4 * i, 4 * i + 4)
        inputs = (None if x is None else x[0, own] for x in (frames, mask, features))
        want = by_hand(model, *inputs, heard.target[own], heard.error[own])
        torch.testing.assert_close(found[i], want, rtol=1e-4, atol=1e-6)  # float32 sums in another order


def test_layers_take_every_parameter_once_in_order(tiny):
    network = tiny["hybrid"].folds[0].network
    found = layers_of(network)
    assert torch.cat(list(found.values())).sort().values.tolist() == list(range(packing.pack(network).shape[1]))
    names = list(found)
    assert names[:2] == ["sequence.stem.band", "sequence.stem.embed"]
    assert "sequence.blocks.0.attention.qkv" in names
    assert {"head.share", "head.sequence", "head.features"} <= set(names[-4:])
    shapes = dict(network.named_parameters())
    qkv = [shapes[f"sequence.blocks.0.attention.qkv.{x}"].numel() for x in ("weight", "bias")]
    assert len(found["sequence.blocks.0.attention.qkv"]) == sum(qkv)


def test_rows_are_norms_of_the_mean_gradient_and_of_the_weights(tiny):
    of = tiny["ast"]
    model = of.folds[2]
    found = gradients(of, rng(), fold=2, draws=5).set_index(["condition", "metric"])
    mean = batch_gradients(model, of.data, rng(), 5, 16).mean(0)
    start = 0
    parts: dict[str, list] = {}
    for name, value in model.network.named_parameters():
        n = value.numel()
        layer = name if name.endswith("band") else name.rpartition(".")[0]
        parts.setdefault(layer, []).append((mean[start : start + n], value.detach().flatten()))
        start += n
    parts[NETWORK] = [pair for of_layer in parts.values() for pair in of_layer]
    for step, (layer, pairs) in enumerate(parts.items()):
        norm, weight = (torch.cat(x).norm().item() for x in zip(*pairs, strict=True))
        mine = found.loc[layer]
        np.testing.assert_allclose(mine.loc["gradient_norm", "value"], norm, rtol=1e-5)
        np.testing.assert_allclose(mine.loc["weight_norm", "value"], weight, rtol=1e-5)
        np.testing.assert_allclose(mine.loc["relative_gradient", "value"], norm / weight, rtol=1e-5)
        assert np.isnan(mine["step"]).all() if layer == NETWORK else (mine["step"] == step).all()
    assert set(found.index.get_level_values(0)) == set(parts)


def test_estimates_are_sample_variance_and_products_of_different_draws():
    """The two-batch formulas rearranged: tr(Sigma) from the draws' sample variance, |G|^2 from all pairs."""
    g = rng().normal(size=(6, 4)) + 1
    trace, square = two_batch_estimates(g @ g.T, batch_size=10)
    np.testing.assert_allclose(trace, 10 * g.var(0, ddof=1).sum(), rtol=1e-12)
    pairs = [g[i] @ g[j] for i in range(6) for j in range(6) if i != j]
    np.testing.assert_allclose(square, np.mean(pairs), rtol=1e-12)


def test_estimates_are_unbiased():
    """Gradients of known mean and covariance; false alarms: 4 means beyond 5 standard errors, p < 3e-6 in all."""
    r, repeats, draws, size = rng(), 4000, 6, 3
    mean, root = np.array([0.3, -0.2, 0.1, 0.0]), r.normal(size=(4, 4))
    g = mean + r.normal(size=(repeats, draws, size, 4)).mean(2) @ root  # covariance root' root of one clip
    found = np.array([two_batch_estimates(x @ x.T, size) for x in g])
    off = found.mean(0) - [np.trace(root.T @ root), mean @ mean]
    assert (abs(off) < 5 * found.std(0, ddof=1) / np.sqrt(repeats)).all()
    biased = (g.mean(1) ** 2).sum(1)  # what the estimate corrects
    assert biased.mean() - mean @ mean > 5 * biased.std() / np.sqrt(repeats)


def test_the_noise_of_a_network_is_that_of_all_its_clips(tiny):
    """Clips without a crop to choose: the exact mean and covariance of one clip's gradient by going through them all.

    False alarms: two means of 60 repeats beyond 6 standard errors, p < 3e-7 by Student's t.
    """
    of = tiny["mlp"]
    model = of.folds[0]
    heard = listening.crops(model, of.data, model.train, rng())
    _, _, features = heard.inputs(1, slice(None))
    each = torch.stack(
        [
            by_hand(model, None, None, features[0, i : i + 1], heard.target[i : i + 1], heard.error[i : i + 1])
            for i in range(len(model.train))
        ]
    ).double()
    want = [each.var(0, correction=0).sum().item(), each.mean(0).square().sum().item()]
    r, found = rng(11), []
    for _ in range(60):
        g = batch_gradients(model, of.data, r, 6, 4).double()
        found.append(two_batch_estimates((g @ g.T).numpy(), 4))
    off = np.mean(found, 0) - want
    assert (abs(off) < 6 * np.std(found, 0, ddof=1) / np.sqrt(60)).all()
    assert (np.std(found, 0, ddof=1) / np.sqrt(60) < 0.2 * np.array(want)).all(), "the comparison is a sharp one"


def test_fieller_is_the_set_of_ratios_that_a_t_test_does_not_refuse():
    covariance, t = np.array([[0.04, 0.005], [0.005, 0.02]]), 2.1
    ratio = np.linspace(0, 400, 4_000_001)

    def kept(estimate):
        a, b = estimate
        z = (a - ratio * b) ** 2 <= t**2 * (
            covariance[0, 0] - 2 * ratio * covariance[0, 1] + ratio**2 * covariance[1, 1]
        )
        return ratio[z]

    for estimate in ([2.0, 1.0], [0.3, 1.0]):
        found = kept(estimate)
        np.testing.assert_allclose(fieller(np.array(estimate), covariance, t), (found[0], found[-1]), atol=2e-4)
    open_end = kept([2.0, 0.25])
    low, high = fieller(np.array([2.0, 0.25]), covariance, t)
    np.testing.assert_allclose(low, open_end[0], atol=2e-4)
    assert high == np.inf
    assert open_end[-1] == ratio[-1]
    assert fieller(np.array([0.1, 0.1]), covariance, t) == (0.0, np.inf), "nothing is known of either"


def test_without_covariance_between_them_fieller_is_the_project_s_other_interval():
    from piano_assets.statistics.ratio import ratio_interval

    covariance = np.diag([0.04, 0.01])
    ends = [(np.array(x - 2 * s), np.array(x + 2 * s)) for x, s in ((2.0, 0.2), (1.0, 0.1))]
    want = ratio_interval(np.array(2.0), ends[0], np.array(1.0), ends[1])
    np.testing.assert_allclose(fieller(np.array([2.0, 1.0]), covariance, 2.0), want, rtol=1e-12)


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """400 experiments: a true coverage of 95 % comes out below 90 % with p < 1e-4 (binomial)."""
    r, held, n = rng(), 0, 400
    mean, deviation = np.full(50, 0.05), np.linspace(0.1, 1, 50)
    truth = (deviation**2).sum() / (mean @ mean)
    for _ in range(n):
        g = mean + deviation / np.sqrt(32) * r.normal(size=(32, 50))
        noise = noise_scale(g @ g.T, 32)
        # Where the gradient cannot be told from noise nothing is claimed.
        held += np.isnan(noise.scale) or noise.ci_low <= truth <= noise.ci_high
    assert stats.binom.cdf(0.9 * n, n, 0.95) < 1e-4
    assert held >= 0.9 * n


def test_a_gradient_that_is_all_noise_has_no_scale():
    g = np.array([[1.0, 0], [-1, 0], [0, 1], [0, -1]])  # products of different draws add up to less than 0
    noise = noise_scale(g @ g.T, 1)
    assert noise.square < 0
    assert np.isnan([noise.scale, noise.ci_low, noise.ci_high]).all()


def test_too_few_draws_are_refused(tiny):
    with pytest.raises(ValueError, match="draws=2 must be at least 3"):
        gradients(tiny["mlp"], rng(), draws=2)
