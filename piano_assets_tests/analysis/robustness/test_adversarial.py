"""Attacks against captum's, their size, and what they do to predictions."""

import dataclasses

import numpy as np
import pytest
import torch
from captum.robust import FGSM, PGD

from piano_assets.analysis import listening
from piano_assets.analysis.robustness import adversarial
from piano_assets.analysis.robustness.adversarial import (
    METHODS,
    adversarial_predictions,
    condition,
    fgsm,
    inputs_of,
    pgd,
    random_sign,
    squared_error,
    with_inputs,
)
from piano_assets_tests.training.tiny import CLIPS, UNLABELLED

# Captum says that it sets what it needs.
pytestmark = pytest.mark.filterwarnings("ignore:Input Tensor")

SCALE = 1e8
"""Captum takes gradients below 1e-6 for none: the loss that it is given is large."""


def rng(seed: int = 3) -> np.random.Generator:
    return np.random.default_rng(seed)


def scene(of, n: int = 5):
    """A network, some clips, and what captum needs of them."""
    model = of.folds[0]
    rows = model.test[of.data.labelled[model.test]][:n]
    heard = listening.whole(model, of.data, rows)

    def forward(*inputs):
        return listening.predict(model.network, with_inputs(heard, inputs))[0]

    def loss(pred, target):
        return SCALE * (pred - target).square().sum(1)

    return model, heard, forward, loss


@pytest.mark.parametrize("name", ["ast", "hybrid", "notes", "mlp"])
def test_fgsm_is_captum_s(tiny, name):
    model, heard, forward, loss = scene(tiny[name])
    inputs = inputs_of(heard)
    got = fgsm(lambda x: squared_error(model.network, heard, x), inputs, 0.1, (), 0)
    want = FGSM(forward, loss).perturb(inputs, 0.1, heard.target)
    for mine, theirs, x in zip(got, want, inputs, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)
        assert (mine != x).float().mean() > 0.9


@pytest.mark.parametrize("name", ["ast", "mlp"])
def test_pgd_from_the_middle_is_captum_s(tiny, name):
    model, heard, forward, loss = scene(tiny[name])
    inputs = inputs_of(heard)
    middle = tuple(torch.full_like(x, 0.5) for x in inputs)
    got = pgd(lambda x: squared_error(model.network, heard, x), inputs, 0.2, middle, 4)
    want = PGD(forward, loss).perturb(inputs, 0.2, 2.5 * 0.2 / 4, 4, heard.target)
    for mine, theirs in zip(got, want, strict=True):
        # A gradient that is all but 0 may take its sign from rounding.
        assert torch.isclose(mine, theirs, rtol=0, atol=1e-5).float().mean() > 0.999


@pytest.mark.parametrize("method", sorted(METHODS))
def test_what_is_altered_stays_in_the_ball(tiny, method):
    model, heard, _, _ = scene(tiny["hybrid"])
    inputs, epsilon = inputs_of(heard), 0.3
    uniforms = tuple(torch.from_numpy(rng().random(x.shape)).float() for x in inputs)
    for x, moved in zip(
        inputs,
        METHODS[method](lambda x: squared_error(model.network, heard, x), inputs, epsilon, uniforms, 3),
        strict=True,
    ):
        assert (moved - x).abs().max() <= epsilon * (1 + 1e-5)  # differences of float32 numbers near 3
        assert (moved - x).abs().max() >= epsilon * (1 - 1e-5)


def test_on_a_linear_loss_fgsm_gains_epsilon_times_the_gradient_s_sum():
    g = torch.Generator().manual_seed(1)
    weights, inputs = ([torch.randn(n, 4, generator=g, dtype=torch.float64) for n in (6, 2)] for _ in range(2))

    def linear(x):
        return sum((w * part).sum() for w, part in zip(weights, x, strict=True))

    gain = linear(fgsm(linear, tuple(inputs), 0.07, (), 1)) - linear(inputs)
    want = 0.07 * sum(w.abs().sum() for w in weights)
    torch.testing.assert_close(gain, want, rtol=1e-10, atol=0)
    uniforms = tuple(torch.rand(x.shape, generator=g, dtype=torch.float64) for x in inputs)
    # No point of the ball is worse, so descent from anywhere ends there, and chance gains less.
    torch.testing.assert_close(linear(pgd(linear, tuple(inputs), 0.07, uniforms, 8)) - linear(inputs), want)
    assert (linear(random_sign(linear, tuple(inputs), 0.07, uniforms, 1)) - linear(inputs)).abs() < 0.9 * want


def test_on_a_parabola_pgd_finds_the_far_corner():
    """From where the gradient is 0 one step of FGSM gains nothing; a random start does."""

    def bowl(x):
        return x[0].square().sum()

    start = (torch.zeros(3, 3, dtype=torch.float64),)
    uniforms = (torch.rand(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64),)
    assert bowl(fgsm(bowl, start, 0.5, uniforms, 1)) == 0
    torch.testing.assert_close(bowl(pgd(bowl, start, 0.5, uniforms, 10)).item(), 9 * 0.25)


@pytest.mark.parametrize("name", ["ast", "hybrid", "notes", "mlp"])
def test_an_adversary_without_reach_changes_nothing(tiny, name):
    of = tiny[name]
    for method in METHODS:
        found = adversarial_predictions(of, method, 0.0, rng())
        assert list(found) == [0, 1, 2]
        for model in of.folds:
            rows, pred = found[model.fold]
            np.testing.assert_array_equal(rows, model.test)
            np.testing.assert_allclose(pred, model.predict(of.data, rows), rtol=1e-5, atol=1e-6)


def test_adversaries_do_more_harm_than_chance(tiny):
    of = tiny["ast"]
    rows = {0: of.folds[0].test[of.data.labelled[of.folds[0].test]]}
    error = {}
    for method in METHODS:
        ((mine, pred),) = adversarial_predictions(of, method, 0.2, rng(), rows=rows).values()
        error[method] = np.square(pred - of.data.targets[mine]).mean(1)
    clean = np.square(of.folds[0].predict(of.data, rows[0]) - of.data.targets[rows[0]]).mean(1)
    assert (error["fgsm"] > clean).all()
    harm = {method: (e - clean).mean() for method, e in error.items()}
    assert min(harm["fgsm"], harm["pgd"]) > 3 * abs(harm["random_sign"])


def test_a_clip_without_labels_stays_as_it_is(tiny):
    of, row = tiny["ast"], CLIPS.index(UNLABELLED)
    for method in METHODS:
        rows = {1: np.array([row - 1, row])}
        _, pred = adversarial_predictions(of, method, 0.5, rng(), rows=rows)[1]
        clean = of.folds[1].predict(of.data, rows[1])
        np.testing.assert_allclose(pred[1], clean[1], rtol=1e-5, atol=1e-6)
        assert abs(pred[0] - clean[0]).max() > 1e-4


@pytest.mark.parametrize("name", ["hybrid", "mlp"])
def test_clips_are_altered_alike_however_they_are_batched(tiny, monkeypatch, name):
    of = tiny[name]
    rows = {2: of.folds[2].test[:7]}
    together = adversarial_predictions(of, "pgd", 0.1, rng(), rows=rows, steps=2)[2][1]
    monkeypatch.setattr(adversarial, "WINDOWS", 1)
    apart = adversarial_predictions(of, "pgd", 0.1, rng(), rows=rows, steps=2)[2][1]
    # Signs of gradients that are all but 0 depend on rounding; their effect is as small.
    np.testing.assert_allclose(apart, together, atol=1e-4)
    assert not np.allclose(adversarial_predictions(of, "pgd", 0.1, rng(4), rows=rows, steps=1)[2][1], together)


def test_frames_behind_a_clip_s_end_are_out_of_reach(tiny):
    of = tiny["ast"]
    model = of.folds[0]
    clip = int(np.argmax(of.data.sequence.n_frames < 150))
    heard = listening.whole(model, of.data, np.array([clip]))
    assert len(heard.frames) == of.data.sequence.n_frames[clip]
    (moved,) = fgsm(lambda x: squared_error(model.network, heard, x), inputs_of(heard), 0.1, (), 1)
    frames, mask, _ = dataclasses.replace(heard, frames=moved).inputs(1, slice(None))
    assert (frames[~mask] == 0).all()


def test_what_makes_no_attack_is_refused(tiny):
    of = tiny["mlp"]
    with pytest.raises(ValueError, match=r"method='cw' must be one of \('fgsm', 'pgd', 'random_sign'\)"):
        adversarial_predictions(of, "cw", 0.1, rng())
    for epsilon in (-0.1, float("nan")):
        with pytest.raises(ValueError, match=f"epsilon={epsilon} must be >= 0"):
            adversarial_predictions(of, "fgsm", epsilon, rng())
    with pytest.raises(ValueError, match="steps=0 must be >= 1"):
        adversarial_predictions(of, "pgd", 0.1, rng(), steps=0)


def test_conditions_are_named_by_method_and_size():
    from piano_assets.analysis.robustness.curves import parts_of

    assert condition("fgsm", 0.05) == "adversarial.fgsm:0.05"
    assert parts_of(condition("random_sign", 0.1)) == ("adversarial", "random_sign", 0.1)
