"""Directions against the paper's invariance, landscapes against a parabola and against what training noted."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from piano_assets.analysis import listening
from piano_assets.analysis.diagnostics.loss_landscape import CURVE, filter_normalised, loss_landscape
from piano_assets.models import packing
from piano_assets.models.layers import LayerNorm, Linear

FLOAT32 = {"rtol": 2e-5, "atol": 1e-7}  # rows are float32, sums of thousands of numbers in another order


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


def named(network: nn.Module, row: torch.Tensor) -> dict[str, np.ndarray]:
    return packing.arrays(network, row)


def test_each_filter_is_as_long_as_the_weights(tiny):
    network = tiny["hybrid"].folds[0].network
    found = named(network, filter_normalised(network, rng()))
    weights = named(network, packing.rows(network)[0])
    norms = {f"{n}.weight" for n, m in network.named_modules() if isinstance(m, LayerNorm)}
    linear = {f"{n}.weight" for n, m in network.named_modules() if isinstance(m, Linear)}
    for name in linear:  # one filter an output
        np.testing.assert_allclose(*(np.linalg.norm(x[name], axis=0) for x in (found, weights)), rtol=1e-5)
    vectors = {"sequence.stem.band", "head.share"}
    for name in vectors:
        np.testing.assert_allclose(*(np.linalg.norm(x[name], axis=1) for x in (found, weights)), rtol=1e-5)
    still = {n for n in found if n.endswith(".bias") or n in norms or n.endswith(("_mean", "_std"))}
    assert all((found[n] == 0).all() for n in still)
    assert still | linear | vectors == set(found), "every number is accounted for"
    # Independent of the weights but for their lengths: the angle of 16,000 Gaussians is within 6 / sqrt(16,000).
    big = max(linear, key=lambda n: found[n].size)
    cosine = (found[big] * weights[big]).sum() / np.linalg.norm(found[big]) / np.linalg.norm(weights[big])
    assert abs(cosine) < 6 / found[big].size ** 0.5


class Rectified(nn.Module):
    """Two layers around a nonlinearity that is positively homogeneous."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Linear(1, 5, 7), Linear(1, 7, 3)
        for i, layer in enumerate((self.first, self.second)):
            layer.reset(0, torch.Generator().manual_seed(i))
            layer.bias.data = torch.randn(layer.bias.shape, generator=torch.Generator().manual_seed(9 + i))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(F.relu(self.first(x)))


def curve(network: nn.Module, direction: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> list[float]:
    here, found = packing.rows(network), []
    for step in (-1.0, -0.3, 0.0, 0.5, 1.0):
        packing.load_rows(network, here + step * direction)
        found.append((network(x) - y).square().mean().item())
    packing.load_rows(network, here)
    return found


def test_rescaled_layers_have_the_same_landscape():
    network = Rectified()
    x, y = (torch.randn(1, 40, n, generator=torch.Generator().manual_seed(n)) for n in (5, 3))
    want = curve(network, filter_normalised(network, rng()), x, y)
    with torch.no_grad():  # what the network computes stays the same
        network.first.weight *= 8
        network.first.bias *= 8
        network.second.weight /= 8
    np.testing.assert_allclose(curve(network, filter_normalised(network, rng()), x, y), want, rtol=1e-5)
    plain = torch.from_numpy(rng().standard_normal(packing.rows(network).shape[1])).float()
    assert abs(curve(network, plain, x, y)[0] / want[0] - 1) > 0.1, "directions that are not normalised differ"


def test_attention_with_rescaled_queries_and_keys_has_the_same_landscape(tiny):
    """Queries times 4, keys by 4: products of both, and with them the network, stay as they are."""
    of = tiny["ast"]
    model = of.folds[0]
    heard = listening.whole(model, of.data, model.valid)
    copy = listening.stack(model, packing.rows(model.network))
    inner = copy.sequence.blocks[0].attention.qkv.weight.shape[2] // 3
    with torch.no_grad():
        for values in (copy.sequence.blocks[0].attention.qkv.weight, copy.sequence.blocks[0].attention.qkv.bias):
            values[..., :inner] *= 4
            values[..., inner : 2 * inner] /= 4
    curves = []
    for network in (model.network, copy):
        row = packing.rows(network)[0] + torch.tensor([[-0.5], [0.7]]) * filter_normalised(network, rng())
        curves.append(listening.losses(listening.stack(model, row), heard, "mse").tolist())
    np.testing.assert_allclose(*curves, rtol=1e-5)


def test_a_quadratic_loss_is_a_parabola(tiny):
    """The squared error along the head's weights: its second difference is that of the predictions' change."""
    of = tiny["ast"]
    model = of.folds[0]
    heard = listening.whole(model, of.data, model.valid)
    network = model.network
    head_alone = filter_normalised(network, rng()) * torch.cat(
        [torch.full((v[0].numel(),), float(n == "head.weight")) for n, v in network.state_dict().items()]
    )
    steps = torch.linspace(-2, 2, 9)
    stacked = listening.stack(model, packing.rows(network) + steps[:, None] * head_alone)
    with torch.no_grad():
        loss = listening.losses(stacked, heard, "mse").double().numpy()
        pred = listening.predict(stacked, heard).double()
    fitted = np.polynomial.Polynomial.fit(steps, loss, 2)
    np.testing.assert_allclose(fitted(steps.numpy()), loss, rtol=1e-5)
    per_step = (pred[-1] - pred[0]) / 4
    np.testing.assert_allclose(fitted.convert().coef[2], per_step.square().mean(), rtol=1e-4)


def test_the_middle_is_the_loss_that_training_noted(tiny):
    """With all validation clips: `history` holds the loss of the epoch that was kept."""
    of = tiny["hybrid"]
    found = loss_landscape(of, rng(), fold=1, points=3, grid=3, n_train=5, n_valid=1000)
    middle = found[(found["metric"] == "valid_loss") & (found["step"] == 0)].set_index("condition")["value"]
    history = tiny.store.read("history", of.run.name)
    epochs = history[history["fold"] == 1].reset_index(drop=True)
    want = epochs["valid_loss"][epochs["valid_r"].idxmax()]
    np.testing.assert_allclose(middle[[CURVE, "beta=0"]], want, rtol=1e-5)  # float32 sums in another order
    assert abs(middle["beta=1"] / want - 1) > 1e-3


def test_curve_and_plane_share_the_first_direction(tiny):
    found = loss_landscape(tiny["ast"], rng(), points=5, grid=3, span=0.5)
    wide = found.pivot(index=["metric", "step"], columns="condition", values="value")
    assert wide.columns.tolist() == ["beta=-0.5", "beta=0", "beta=0.5", CURVE]
    assert wide.loc["train_loss"].index.tolist() == [-0.5, -0.25, 0, 0.25, 0.5]
    both = wide.dropna()
    assert len(both) == 6
    np.testing.assert_allclose(both["beta=0"], both[CURVE], **FLOAT32)
    again = loss_landscape(tiny["ast"], rng(), points=5, grid=3, span=0.5)
    np.testing.assert_allclose(again["value"], found["value"], rtol=0)


@pytest.mark.parametrize(("wrong", "value"), [("points", 4), ("grid", 1)])
def test_the_network_itself_must_be_among_the_points(tiny, wrong, value):
    with pytest.raises(ValueError, match=f"{wrong}={value} must be odd and at least 3"):
        loss_landscape(tiny["ast"], rng(), **{wrong: value})
