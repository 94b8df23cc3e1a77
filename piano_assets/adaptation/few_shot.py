"""Rules that adapt a network to a performer by a few rated clips of his, each with one strength that is chosen.

A rule sees a network, supports with their labels and queries, and predicts the queries. Its strength is the one of its
grid with the smallest error on episodes of the validation performers, for each size of the support on its own.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from piano_assets.adaptation.conditions import CLEAN, SHOTS, of_support
from piano_assets.adaptation.episodes import Stack
from piano_assets.adaptation.fitting import fit_joint, predict
from piano_assets.adaptation.fold import Fold
from piano_assets.adaptation.meta import HEAD, STARTS, STEPS, WHOLE
from piano_assets.adaptation.perceptron import Perceptron, call, copies, inner_loop, names_below, params_of

Rule = Callable[[Perceptron, Fold, Stack, Tensor, float], Tensor]
"""(network, fold, episodes, their supports' labels, strength) -> predictions of the queries (episodes, queries, 19)."""


def few_shot(fold: Fold, *, rule: str, strengths: Sequence[float], start: str = "joint") -> dict[str, np.ndarray]:
    """Condition -> predictions of the test clips (n_test, 19), in the fold's standard units.

    Args:
        rule: of `RULES`. strengths: to choose among. start: the network that is adapted, of `meta.STARTS`.
    """
    model = STARTS[start](fold)
    return {of_support(k): _answered(model, fold, RULES[rule], strengths, k) for k in SHOTS}


def unadapted(fold: Fold) -> dict[str, np.ndarray]:
    """The reference: the joint network as it is."""
    return {CLEAN: predict(fit_joint(fold), fold, fold.test)}


def _answered(model: Perceptron, fold: Fold, rule: Rule, strengths: Sequence[float], k: int) -> np.ndarray:
    stack, targets = fold.to_answer(k)
    strength = chosen_strength(model, fold, rule, strengths, k)
    pred = rule(model, fold, stack, targets, strength).detach().double().numpy()
    found = np.full((len(fold.x), pred.shape[-1]), np.nan)
    found[stack.query[stack.asked]] = pred[stack.asked]
    return found[fold.test]


def chosen_strength(model: Perceptron, fold: Fold, rule: Rule, strengths: Sequence[float], k: int) -> float:
    """The strength with the smallest squared error over all validation clips, each predicted from k others."""
    stack, targets = fold.to_choose(k, max(SHOTS))
    wanted, asked = fold.y[stack.query], torch.from_numpy(stack.asked)

    def error(strength: float) -> float:
        pred = rule(model, fold, stack, targets, strength)
        found = float((pred - wanted)[asked].square().mean())
        return found if np.isfinite(found) else np.inf

    return min(strengths, key=error)


def ridge_update(embedding: Tensor, residual: Tensor, penalty: float) -> Tensor:
    """What ridge regression adds to a head to take up residuals: (m, k, d), (m, k, n_out) -> (m, d, n_out).

    The penalty is on the distance from the head, so that no clip leaves it as it is and a large penalty nearly so. It
    equals ridge regression of the residuals without an intercept (Hoerl & Kennard 1970), solved among the k clips.
    Rows of zeros change nothing.
    """
    k = embedding.shape[1]
    gram = embedding @ embedding.transpose(1, 2) + penalty * torch.eye(k, dtype=embedding.dtype)
    return embedding.transpose(1, 2) @ torch.linalg.solve(gram, residual)


@torch.no_grad()
def head_ridge(model: Perceptron, fold: Fold, stack: Stack, targets: Tensor, strength: float) -> Tensor:
    """Ridge regression of a performer's residuals on the frozen encoder's embeddings.

    The penalty is `strength` times the mean squared length of the training clips' embeddings, an intercept among them.
    """
    length = _embedded(model, fold.x[fold.train][None]).square().sum(-1).mean()
    return _ridge(model, fold, stack, targets, float(strength * length), _embedded)


@torch.no_grad()
def shift(model: Perceptron, fold: Fold, stack: Stack, targets: Tensor, strength: float) -> Tensor:
    """One offset a dimension: the sum of a performer's residuals over their number plus `strength`."""
    return _ridge(model, fold, stack, targets, strength, lambda _, x: torch.ones(*x.shape[:-1], 1))


def _ridge(
    model: Perceptron,
    fold: Fold,
    stack: Stack,
    targets: Tensor,
    penalty: float,
    embed: Callable[[Perceptron, Tensor], Tensor],
) -> Tensor:
    support, query = fold.x[stack.support], fold.x[stack.query]
    rated = torch.from_numpy(stack.rated)[..., None]
    residual = (targets - _predicted(model, support)) * rated
    update = ridge_update(embed(model, support) * rated, residual, penalty)
    return _predicted(model, query) + embed(model, query) @ update


def _embedded(model: Perceptron, x: Tensor) -> Tensor:
    """Embeddings with a column of ones: (m, b, f) -> (m, b, d + 1)."""
    found = model.encoder(x.flatten(0, 1)[None])[0].unflatten(0, x.shape[:2])
    return torch.cat([found, torch.ones(*x.shape[:2], 1)], -1)


def _predicted(model: Perceptron, x: Tensor) -> Tensor:
    """One network on the clips of many episodes: (m, b, f) -> (m, b, 19)."""
    return model(x.flatten(0, 1)[None])[0].unflatten(0, x.shape[:2])


def steps(*parts: str) -> Rule:
    """Gradient steps on the parts named (`encoder`, `head`); the strength is their rate."""

    def rule(model: Perceptron, fold: Fold, stack: Stack, targets: Tensor, strength: float) -> Tensor:
        params = inner_loop(
            model,
            copies(params_of(model), len(stack.support)),
            fold.x[stack.support],
            targets,
            rate=strength,
            steps=STEPS,
            learnt=names_below(model, parts),
            weight=torch.from_numpy(stack.rated).float(),
        )
        with torch.no_grad():
            return call(model, params, fold.x[stack.query])

    return rule


RULES: dict[str, Rule] = {
    "shift": shift,
    "head_ridge": head_ridge,
    "head_steps": steps(*HEAD),
    "all_steps": steps(*WHOLE),
}
