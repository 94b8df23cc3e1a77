"""Rules that adapt by a few clips: formulas against scikit-learn and by hand, limits, and what is moved."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from piano_assets.adaptation.few_shot import RULES, chosen_strength, few_shot, ridge_update, shift, unadapted
from piano_assets.adaptation.fitting import fit_joint
from piano_assets.adaptation.perceptron import copies, inner_loop, names_below, params_of
from piano_assets_tests.adaptation.world import one_fold


@pytest.fixture(scope="module")
def fold():
    return one_fold()


@pytest.fixture(scope="module")
def model(fold):
    return fit_joint(fold)


@pytest.mark.parametrize("k", [1, 3, 40])
def test_the_head_update_is_scikit_learns_ridge_of_the_residuals(k):
    rng = np.random.default_rng(k)
    x, residual = rng.normal(size=(2, k, 7)), rng.normal(size=(2, k, 3))
    found = ridge_update(torch.from_numpy(x), torch.from_numpy(residual), 2.5).numpy()
    for i in range(2):
        want = Ridge(alpha=2.5, fit_intercept=False).fit(x[i], residual[i]).coef_.T
        np.testing.assert_allclose(found[i], want, rtol=1e-8, atol=1e-10)


def test_rows_of_zeros_do_not_move_the_head():
    rng = np.random.default_rng(0)
    x, residual = torch.from_numpy(rng.normal(size=(1, 4, 5))), torch.from_numpy(rng.normal(size=(1, 4, 2)))
    padded = [torch.cat([of, torch.zeros(1, 3, of.shape[2])], 1) for of in (x, residual)]
    torch.testing.assert_close(ridge_update(*padded, 0.7), ridge_update(x, residual, 0.7))


def test_an_offset_is_the_sum_of_residuals_over_their_number_plus_the_strength(fold, model):
    stack, targets = fold.to_answer(5)
    found = shift(model, fold, stack, targets, 3.0)
    with torch.no_grad():
        for i in range(len(stack.support)):
            residual = targets[i] - model(fold.x[stack.support[i]][None])[0]
            want = model(fold.x[stack.query[i]][None])[0] + residual.sum(0) / (5 + 3.0)
            torch.testing.assert_close(found[i], want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("rule", "weakest"), [("shift", 1e9), ("head_ridge", 1e9), ("head_steps", 0.0), ("all_steps", 0.0)]
)
def test_the_weakest_strength_is_no_adaptation(fold, model, rule, weakest):
    stack, targets = fold.to_answer(2)
    found = RULES[rule](model, fold, stack, targets, weakest)
    with torch.no_grad():
        want = model(fold.x[stack.query].flatten(0, 1)[None])[0].view_as(found)
    torch.testing.assert_close(found, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", list(RULES))
def test_an_episode_learns_from_its_own_support_alone(fold, model, rule):
    stack, targets = fold.to_answer(5)
    before = RULES[rule](model, fold, stack, targets, 0.1)
    changed = targets.clone()
    changed[0] += 1
    after = RULES[rule](model, fold, stack, changed, 0.1)
    assert not torch.allclose(before[0], after[0])
    torch.testing.assert_close(before[1:], after[1:])


def test_steps_on_the_head_leave_the_encoder(fold, model):
    stack, targets = fold.to_answer(5)
    start = copies(params_of(model), len(stack.support))
    learnt = names_below(model, ["head"])
    assert learnt == ("head.weight", "head.bias")
    moved = inner_loop(model, start, fold.x[stack.support], targets, rate=0.1, steps=2, learnt=learnt)
    assert all(moved[n] is start[n] for n in start if n.startswith("encoder."))
    assert all(not torch.equal(moved[n], start[n]) for n in learnt)
    assert len(set(moved["head.weight"].flatten(1).sum(1).tolist())) == len(stack.support), "each on its own"


def test_inner_steps_are_gradient_descent(fold, model):
    """Against torch's own optimiser on one episode."""
    import copy

    stack, targets = fold.to_answer(5)
    moved = inner_loop(
        model,
        copies(params_of(model), len(stack.support)),
        fold.x[stack.support],
        targets,
        rate=0.05,
        steps=3,
        learnt=tuple(params_of(model)),
    )
    alone = copy.deepcopy(model)
    optimiser = torch.optim.SGD(alone.parameters(), lr=0.05)
    for _ in range(3):
        optimiser.zero_grad()
        torch.nn.functional.mse_loss(alone(fold.x[stack.support[0]][None])[0], targets[0]).backward()
        optimiser.step()
    for name, value in alone.named_parameters():
        torch.testing.assert_close(moved[name][:1], value, rtol=1e-4, atol=1e-6)


def test_the_strength_is_the_best_of_the_grid_on_validation_clips(fold, model):
    stack, targets = fold.to_choose(5, 10)
    asked = torch.from_numpy(stack.asked)
    grid = (0.3, 3.0, 300.0)
    errors = [
        float((RULES["shift"](model, fold, stack, targets, s) - fold.y[stack.query])[asked].square().mean())
        for s in grid
    ]
    assert chosen_strength(model, fold, RULES["shift"], grid, 5) == grid[int(np.argmin(errors))]


@pytest.mark.parametrize("rule", list(RULES))
def test_offsets_that_no_feature_shows_are_learnt_from_rated_clips(rule):
    """Performers differ by twice what features explain: five clips must take most of it."""
    from piano_assets_tests.adaptation.world import world

    data, _ = world(offset=0.2)
    fold = one_fold(offset=0.2)
    want = (data.targets[fold.test] - fold.mean) / fold.std
    strengths = (0.003, 0.03, 0.3, 3.0)

    def error(found):
        return float(np.square(found["clean"] - want).mean())

    before, after = error(unadapted(fold)), error(few_shot(fold, rule=rule, strengths=strengths))
    assert after < 0.6 * before
