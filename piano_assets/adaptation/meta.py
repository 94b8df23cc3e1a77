"""Training a network so that a few steps on a performer's clips serve him: MAML, ANIL and what stands in for them.

All start from the joint network and see tasks made of training performers: five clips to adapt by, others to be
predicted. They differ in what moves in a task and in the gradient that the start gets.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from piano_assets.adaptation.conditions import MAIN
from piano_assets.adaptation.episodes import Stack, draw_tasks
from piano_assets.adaptation.fitting import fit_joint
from piano_assets.adaptation.fold import Fold
from piano_assets.adaptation.perceptron import (
    Params,
    Perceptron,
    call,
    copies,
    inner_loop,
    names_below,
    params_of,
    squared_error,
)

WHOLE, HEAD = ("encoder", "head"), ("head",)
STEPS = 5
"""Gradient steps of an adaptation."""


@dataclass(frozen=True, kw_only=True)
class MetaSettings:
    """How a start is learnt: tasks a step, clips a query, rate of the inner steps, of the outer ones, and how many."""

    tasks: int = 4
    n_query: int = 15
    inner_rate: float = 0.03
    inner_steps: int = STEPS
    outer_rate: float = 3e-4
    weight_decay: float = 1.0
    steps: int = 100


MetaGradient = Callable[[Perceptron, Params, Fold, Stack, MetaSettings, torch.Generator | None], list[Tensor]]
"""(network, its parameters, fold, tasks, settings, stream of dropout) -> gradient of each parameter."""


def through_adaptation(
    model: Perceptron,
    params: Params,
    fold: Fold,
    stack: Stack,
    settings: MetaSettings,
    chance: torch.Generator | None = None,
    *,
    parts: tuple[str, ...],
    second_order: bool = True,
) -> list[Tensor]:
    """Gradient of the queries' error after adapting, with respect to the start (Finn et al. 2017, eq. 1).

    With only the head adapting it is ANIL's (Raghu et al. 2020, sec. 4): the encoder still learns, in the outer loop.
    """
    adapted = inner_loop(
        model,
        copies(params, len(stack.support)),
        fold.x[stack.support],
        fold.labels(stack.support, stack.rated),
        rate=settings.inner_rate,
        steps=settings.inner_steps,
        learnt=names_below(model, parts),
        weight=torch.from_numpy(stack.rated).float(),
        second_order=second_order,
        chance=chance,
    )
    pred = call(model, adapted, fold.x[stack.query], chance)
    asked = torch.from_numpy(stack.asked).float()
    loss = squared_error(pred, fold.labels(stack.query, stack.asked), asked).mean()
    return list(torch.autograd.grad(loss, list(params.values())))


def towards_adapted(
    model: Perceptron,
    params: Params,
    fold: Fold,
    stack: Stack,
    settings: MetaSettings,
    chance: torch.Generator | None = None,
) -> list[Tensor]:
    """Reptile's direction (Nichol et al. 2018, eq. 2, batched): the start less the mean of the adapted parameters.

    A task is learnt from all its clips, support and query. Divided by rate and steps, it has a gradient's scale.
    """
    rows = np.concatenate([stack.support, stack.query], axis=1)
    there = np.concatenate([stack.rated, stack.asked], axis=1)
    adapted = inner_loop(
        model,
        copies(params, len(rows)),
        fold.x[rows],
        fold.labels(rows, there),
        rate=settings.inner_rate,
        steps=settings.inner_steps,
        learnt=tuple(params),
        weight=torch.from_numpy(there).float(),
        chance=chance,
    )
    scale = settings.inner_rate * settings.inner_steps
    return [(start - adapted[name].mean(0, keepdim=True)).detach() / scale for name, start in params.items()]


def meta_train(fold: Fold, gradient: MetaGradient, settings: MetaSettings | None = None) -> Perceptron:
    """The joint network, made a better start by AdamW on meta-gradients of tasks of the training performers."""
    settings = settings or MetaSettings()
    model = fit_joint(fold)
    params = params_of(model)
    optimiser = torch.optim.AdamW(
        list(params.values()), lr=settings.outer_rate, weight_decay=settings.weight_decay, foreach=False, fused=True
    )
    groups, rng, chance = fold.groups, fold.rng("tasks"), fold.generator("dropout in tasks")
    for _ in range(settings.steps):
        stack = draw_tasks(
            fold.train,
            groups.performer,
            groups.cluster,
            rng,
            n_tasks=settings.tasks,
            k=MAIN,
            n_query=settings.n_query,
        )
        for p, slope in zip(params.values(), gradient(model, params, fold, stack, settings, chance), strict=True):
            p.grad = slope
        optimiser.step()
    return model


MAML = partial(through_adaptation, parts=WHOLE)
ANIL = partial(through_adaptation, parts=HEAD)
FIRST_ORDER = partial(through_adaptation, parts=WHOLE, second_order=False)

STARTS: dict[str, Callable[[Fold], Perceptron]] = {
    "joint": fit_joint,
    "maml": partial(meta_train, gradient=MAML),
    "anil": partial(meta_train, gradient=ANIL),
    "first_order_maml": partial(meta_train, gradient=FIRST_ORDER),
    "reptile": partial(meta_train, gradient=towards_adapted),
}
"""Networks that are adapted."""
