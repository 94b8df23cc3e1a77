"""Schedules against torch's own schedulers, step by step."""

import math

import pytest
import torch
from torch.optim import lr_scheduler as torchs

from piano_assets.training import schedules
from piano_assets.training.schedules import SCHEDULES, Progress, beta1

TOTAL, WARMUP, EPOCH = 50, 5, 2
# Rises, plateaus, falls below zero, hardly rises (by less than the threshold), rises again.
VALID_R = [
    -0.2,
    -0.1,
    0.1,
    0.1,
    0.1,
    0.2,
    0.200001,
    0.1,
    0.3,
    *[0.2] * 7,
    0.31,
    0.3,
    0.31,
    0.33,
    0.2,
    0.1,
    0.1,
    0.4,
    0.4,
]


def start(lr: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.AdamW([torch.zeros(1, requires_grad=True)], lr=lr)


def followed(make, total: int) -> tuple[list[float], list[float]]:
    """torch's learning rates and first momenta, step by step."""
    optimizer = start()
    scheduler = make(optimizer)
    rates, momenta = [], []
    for step in range(total):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["betas"][0])
        optimizer.step()
        if step < total - 1:
            scheduler.step()
    return rates, momenta


def warm(optimizer):
    return torchs.LinearLR(optimizer, start_factor=1 / WARMUP, end_factor=1.0, total_iters=WARMUP - 1)


def stepped(optimizer):
    milestones = [math.ceil(TOTAL * share) for share in (0.25, 0.5, 0.75)]
    return torchs.ChainedScheduler([warm(optimizer), torchs.MultiStepLR(optimizer, milestones, gamma=0.1)])


PEERS = {
    "constant": warm,
    "cosine": lambda o: torchs.CosineAnnealingLR(o, TOTAL),
    "warmup_cosine": lambda o: torchs.SequentialLR(
        o, [warm(o), torchs.CosineAnnealingLR(o, TOTAL - WARMUP)], milestones=[WARMUP]
    ),
    "step": stepped,
    # Without a number of cycles, all steps are one.
    "cyclic_cosine": lambda o: torchs.CosineAnnealingWarmRestarts(o, TOTAL),
    "one_cycle": lambda o: torchs.OneCycleLR(o, max_lr=1.0, total_steps=TOTAL),
}


def test_every_schedule_has_a_peer():
    assert {*PEERS, "reduce_on_plateau"} == set(SCHEDULES)


@pytest.mark.filterwarnings("ignore:.*epoch parameter")
@pytest.mark.parametrize("name", PEERS)
def test_agrees_with_torch(name):
    at = [Progress(step, TOTAL, WARMUP) for step in range(TOTAL)]
    rates, momenta = followed(PEERS[name], TOTAL)
    # torch multiplies its way forward and gathers rounding.
    assert [SCHEDULES[name](a) for a in at] == pytest.approx(rates, rel=1e-9, abs=1e-12)
    assert [beta1(name, a) for a in at] == pytest.approx(momenta, rel=1e-9)


@pytest.mark.parametrize("cycle", [1, 7, 10, 50])
def test_cyclic_cosine_restarts_as_torch_does(cycle):
    rates, _ = followed(lambda o: torchs.CosineAnnealingWarmRestarts(o, cycle), TOTAL)
    got = [SCHEDULES["cyclic_cosine"](Progress(step, TOTAL, WARMUP, cycle=cycle)) for step in range(TOTAL)]
    assert got == pytest.approx(rates, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("total", [1, 2, 3, 4, 10, 41])
def test_one_cycle_agrees_with_torch_in_short_runs(total):
    rates, momenta = followed(lambda o: torchs.OneCycleLR(o, max_lr=1.0, total_steps=total), total)
    at = [Progress(step, total, WARMUP) for step in range(total)]
    assert [SCHEDULES["one_cycle"](a) for a in at] == pytest.approx(rates, rel=1e-9)
    assert [beta1("one_cycle", a) for a in at] == pytest.approx(momenta, rel=1e-9)


def test_reduce_on_plateau_agrees_with_torch():
    optimizer = start()
    scheduler = torchs.ReduceLROnPlateau(
        optimizer,
        mode="max",
        factor=schedules.PLATEAU_FACTOR,
        patience=schedules.PLATEAU_PATIENCE,
        threshold=schedules.PLATEAU_THRESHOLD,
    )
    rates, got = [], []
    for epoch, r in enumerate(VALID_R):
        rates.append(optimizer.param_groups[0]["lr"])
        at = Progress(epoch * EPOCH, len(VALID_R) * EPOCH, 0, tuple(VALID_R[:epoch]))
        got.append(SCHEDULES["reduce_on_plateau"](at))
        optimizer.step()
        scheduler.step(r)
    assert got == pytest.approx(rates, rel=1e-9)
    assert len(set(rates)) >= 4, "the curve must reduce several times"


def test_reduce_on_plateau_warms_up():
    rates = [SCHEDULES["reduce_on_plateau"](Progress(step, TOTAL, 4, (0.3, 0.2, 0.1))) for step in range(5)]
    assert rates == pytest.approx([0.125, 0.25, 0.375, 0.5, 0.5])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (1, 1), (2, 0), (3, 1), (7, 0), (40, 39)])
def test_multipliers_stay_in_range(name, total, warmup):
    rates = [SCHEDULES[name](Progress(step, total, warmup)) for step in range(total)]
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates[0] > 0
