"""Schedules against torch's own schedulers."""

import pytest
import torch
from torch.optim import lr_scheduler as torchs

from piano_assets.training.schedules import SCHEDULES

TOTAL, WARMUP = 50, 5


def torch_rates(make) -> list[float]:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for _ in range(TOTAL):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


def warm(optimizer):
    return torchs.LinearLR(optimizer, start_factor=1 / WARMUP, end_factor=1.0, total_iters=WARMUP - 1)


PEERS = {
    "constant": lambda o: warm(o),
    "cosine": lambda o: torchs.CosineAnnealingLR(o, TOTAL),
    "warmup_cosine": lambda o: torchs.SequentialLR(
        o, [warm(o), torchs.CosineAnnealingLR(o, TOTAL - WARMUP)], milestones=[WARMUP]
    ),
}


@pytest.mark.filterwarnings("ignore:.*epoch parameter")
@pytest.mark.parametrize("name", SCHEDULES)
def test_agrees_with_torch(name):
    got = [SCHEDULES[name](step, TOTAL, WARMUP) for step in range(TOTAL)]
    # torch multiplies its way forward and gathers rounding.
    assert got == pytest.approx(torch_rates(PEERS[name]), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize(("total", "warmup"), [(1, 0), (1, 1), (7, 0), (40, 39)])
def test_multipliers_stay_in_range(name, total, warmup):
    rates = [SCHEDULES[name](step, total, warmup) for step in range(total)]
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates[0] > 0
