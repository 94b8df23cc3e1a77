"""Meta-gradients: the closed form of a linear model, finite differences, and limits."""

from functools import partial

import numpy as np
import pytest
import torch

from piano_assets.adaptation.episodes import draw_tasks
from piano_assets.adaptation.fitting import fit_joint
from piano_assets.adaptation.meta import (
    ANIL,
    FIRST_ORDER,
    MAML,
    STARTS,
    MetaSettings,
    meta_train,
    through_adaptation,
    towards_adapted,
)
from piano_assets.adaptation.perceptron import call, copies, inner_loop, params_of, squared_error
from piano_assets.models.layers import Linear
from piano_assets_tests.adaptation.world import one_fold

RATE = 0.2


class Line(torch.nn.Module):
    """x W, without a bias."""

    def __init__(self, weight):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.from_numpy(weight)[None])

    def forward(self, x, chance=None):
        return x @ self.weight


def linear_task(seed):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s) for s in ((3, 2), (5, 3), (5, 2), (7, 3), (7, 2))]


def meta_gradient_of_a_line(second_order, seed=0):
    w, xs, ys, xq, yq = linear_task(seed)
    model = Line(w)
    params = params_of(model)
    tensors = [torch.from_numpy(a)[None] for a in (xs, ys, xq, yq)]
    adapted = inner_loop(
        model, params, tensors[0], tensors[1], rate=RATE, steps=1, learnt=["weight"], second_order=second_order
    )
    loss = squared_error(call(model, adapted, tensors[2]), tensors[3]).sum()
    return torch.autograd.grad(loss, params["weight"])[0][0].numpy()


def test_the_meta_gradient_of_a_linear_model_has_its_closed_form():
    """w' = w - a (2/kd) X'(Xw - y); the gradient is (I - a (2/kd) X'X) (2/qd) Xq'(Xq w' - yq)."""
    w, xs, ys, xq, yq = linear_task(0)
    inner = RATE * 2 / ys.size
    adapted = w - inner * xs.T @ (xs @ w - ys)
    outer = 2 / yq.size * xq.T @ (xq @ adapted - yq)
    want = (np.eye(3) - inner * xs.T @ xs) @ outer
    np.testing.assert_allclose(meta_gradient_of_a_line(second_order=True), want, rtol=1e-10)
    np.testing.assert_allclose(meta_gradient_of_a_line(second_order=False), outer, rtol=1e-10)


@pytest.fixture
def setting():
    """A fold in float64, its network, and tasks."""
    fold = one_fold(support=0)
    object.__setattr__(fold, "x", fold.x.double())
    object.__setattr__(fold, "y", fold.y.double())
    model = fit_joint(one_fold(support=0)).double()
    groups = fold.groups
    stack = draw_tasks(fold.train, groups.performer, groups.cluster, fold.rng("t"), n_tasks=3, k=3, n_query=6)
    return fold, model, stack


def _error_after(parts, model, params, fold, stack, settings):
    from piano_assets.adaptation.perceptron import names_below

    adapted = inner_loop(
        model,
        copies(params, len(stack.support)),
        fold.x[stack.support],
        fold.y[stack.support],
        rate=settings.inner_rate,
        steps=settings.inner_steps,
        learnt=names_below(model, parts),
    )
    return squared_error(call(model, adapted, fold.x[stack.query]), fold.y[stack.query]).mean()


@pytest.mark.parametrize("parts", [("encoder", "head"), ("head",)])
def test_second_order_gradients_agree_with_finite_differences(setting, parts):
    fold, model, stack = setting
    settings = MetaSettings(inner_rate=0.1, inner_steps=3)
    params = params_of(model)
    names = list(params)
    slopes = dict(zip(names, through_adaptation(model, params, fold, stack, settings, parts=parts), strict=True))
    rng = np.random.default_rng(0)
    for name in names:
        at = tuple(rng.integers(n) for n in params[name].shape)
        ends = []
        for step in (1e-5, -1e-5):
            moved = {n: p.detach().clone().requires_grad_() for n, p in params.items()}
            with torch.no_grad():
                moved[name][at] += step
            ends.append(float(_error_after(parts, model, moved, fold, stack, settings).detach()))
        assert float(slopes[name][at]) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-4, abs=1e-8)


def test_the_first_order_gradient_differs_and_without_inner_steps_all_are_the_joint_gradient(setting):
    fold, model, stack = setting
    params = params_of(model)

    def flat(gradient, **more):
        slopes = gradient(model, params, fold, stack, MetaSettings(inner_rate=0.1, **more))
        return torch.cat([s.flatten() for s in slopes])

    assert not torch.allclose(flat(MAML), flat(FIRST_ORDER), rtol=1e-3)
    joint = squared_error(call(model, copies(params, 3), fold.x[stack.query]), fold.y[stack.query]).mean()
    want = torch.cat([g.flatten() for g in torch.autograd.grad(joint, list(params.values()))])
    for gradient in (MAML, ANIL, FIRST_ORDER):
        torch.testing.assert_close(flat(gradient, inner_steps=0), want)


def test_reptile_with_one_step_is_the_mean_gradient_of_the_tasks(setting):
    fold, model, stack = setting
    params = params_of(model)
    found = towards_adapted(model, params, fold, stack, MetaSettings(inner_rate=0.1, inner_steps=1))
    rows = np.concatenate([stack.support, stack.query], axis=1)
    joint = squared_error(call(model, copies(params, 3), fold.x[rows]), fold.y[rows]).mean()
    for slope, want in zip(found, torch.autograd.grad(joint, list(params.values())), strict=True):
        torch.testing.assert_close(slope, want)


def test_places_without_a_clip_do_not_matter(setting):
    """A task of two clips of support and three of query, alone and padded beside a larger one."""
    fold, model, stack = setting
    params = params_of(model)
    settings = MetaSettings(inner_rate=0.1)
    from piano_assets.adaptation.episodes import Episode, stacked

    short = Episode(stack.support[0][:2], stack.query[0][:3])
    long = Episode(stack.support[1], stack.query[1])
    for gradient in (MAML, towards_adapted):
        both = gradient(model, params, fold, stacked([short, long], 3), settings)
        alone = [gradient(model, params, fold, stacked([e], len(e.support)), settings) for e in (short, long)]
        for slope, a, b in zip(both, *alone, strict=True):
            torch.testing.assert_close(slope, (a + b) / 2)


def test_meta_training_lowers_the_error_after_adaptation():
    fold = one_fold(offset=0.2)
    settings = MetaSettings(steps=40, inner_rate=0.05, outer_rate=3e-3)
    groups = fold.groups
    stack = draw_tasks(fold.train, groups.performer, groups.cluster, fold.rng("held"), n_tasks=9, k=5, n_query=9)

    def error(model):
        loss = _error_after(("encoder", "head"), model, params_of(model), fold, stack, settings)
        return float(loss.detach())

    assert error(meta_train(fold, MAML, settings)) < 0.9 * error(fit_joint(fold))


def test_every_start_is_a_network_of_the_joint_ones_shape():
    fold = one_fold()
    joint = params_of(STARTS["joint"](fold))
    quick = partial(meta_train, settings=MetaSettings(steps=2))
    for name, start in STARTS.items():
        made = start(fold) if name == "joint" else quick(fold, start.keywords["gradient"])
        found = params_of(made)
        assert {n: p.shape for n, p in found.items()} == {n: p.shape for n, p in joint.items()}
        assert name == "joint" or any(not torch.equal(found[n], joint[n]) for n in joint)


def test_a_linear_layer_of_one_member_serves_many_adapted_ones():
    layer = Linear(1, 4, 2)
    weights = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(1))
    found = torch.func.functional_call(layer, {"weight": weights, "bias": torch.zeros(3, 2)}, (x,))
    torch.testing.assert_close(found, torch.stack([a @ w for a, w in zip(x, weights, strict=True)]))
