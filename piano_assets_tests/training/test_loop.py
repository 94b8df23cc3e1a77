"""The loop: it learns, stops, keeps the best state, repeats itself and survives a diverging member."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from piano_assets.catalogue.trial import BUDGETS, Trial, vary
from piano_assets.models import packing
from piano_assets.training import loop
from piano_assets.training.batches import first_frames, window_starts
from piano_assets.training.data import load
from piano_assets.training.losses import LOSSES
from piano_assets.training.material import CROP, Material
from piano_assets.training.members import Track, generator, groups_of, halve
from piano_assets_tests.training.tiny import AST, HYBRID, MLP, NOTES, build_store

EPOCHS = 6


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_store(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """`full` lasts six epochs of one-second crops and searches nothing."""
    monkeypatch.setitem(BUDGETS, "full", dataclasses.replace(BUDGETS["full"], **SHORT))


SHORT = {"crop_s": 1.0, "crop_notes": 20, "epochs": EPOCHS, "patience": EPOCHS, "searches": False, "rungs": ()}
LONG = vary(AST, {"budget": "full", "optimisation.learning_rate": 3e-3})


def tracks_of(store, *trials: Trial, seed: int = 0, folds: tuple[int, ...] = (0,)) -> tuple[list[Track], Material]:
    data = load(trials[0], store)
    groups = [g for t in trials for g in groups_of(t, "c", seed, 0, data) if g.fold in folds]
    tracks = [Track.begin(g, label) for g in groups for label in g.points]
    return tracks, Material(data, groups[0].trial, "cpu")


def trained(store, *trials: Trial, precision: str = "float32", **more) -> list[Track]:
    tracks, material = tracks_of(store, *trials, **more)
    loop.fit(tracks, material, precision=precision)
    return tracks


@pytest.mark.parametrize("trial", [AST, HYBRID, NOTES, MLP], ids=lambda t: t.family)
def test_every_kind_of_network_learns(store, trial):
    track, material = tracks_of(store, vary(trial, {"budget": "full", "optimisation.learning_rate": 3e-3}))
    loop.fit(track, material)
    (track,) = track
    assert track.status == "finished"
    assert [row["epoch"] for row in track.history] == list(range(EPOCHS))
    assert track.history[-1]["train_loss"] < 0.95 * track.history[0]["train_loss"]
    # One of three hidden numbers is heard by sequence networks, all by features; 15 clips judge it.
    assert track.best_r > 0.25


def test_the_best_state_is_kept_and_is_the_best(store):
    tracks, material = tracks_of(store, LONG)
    loop.fit(tracks, material)
    (track,) = tracks
    best = max(track.history, key=lambda row: row["valid_r"])
    assert track.best_epoch == best["epoch"]
    network = loop.begin(tracks, material)
    packing.load_rows(network, track.best[None])
    (pred,) = loop.predict(network.eval(), material, None, [track.group.valid])
    r = loop.mean_r(pred.numpy(), material.targets[torch.from_numpy(track.group.valid)].numpy())
    assert r == pytest.approx(best["valid_r"], abs=1e-6)


def test_same_seed_same_result_whatever_the_global_state(store):
    (one,) = trained(store, LONG)
    before = torch.manual_seed(99).get_state()
    (again,) = trained(store, LONG)
    assert again.history == one.history
    assert torch.equal(torch.get_rng_state(), before), "nothing is drawn from the global generator"
    (other,) = trained(store, LONG, seed=1)
    assert other.history != one.history


def test_first_step_is_torchs_adamw(store, monkeypatch):
    monkeypatch.setitem(BUDGETS, "full", dataclasses.replace(BUDGETS["full"], epochs=1))
    trial = vary(
        LONG,
        {
            "model.dropout": 0.0,
            "optimisation.schedule": "constant",
            "optimisation.warmup": 0.0,
            "optimisation.weight_decay": 0.1,
            "optimisation.batch_size": 1000,
        },
    )
    tracks, material = tracks_of(store, trial)
    group = dataclasses.replace(tracks[0].group, steps=1, batch_size=len(tracks[0].group.train))
    tracks = [Track.begin(group, "fixed")]
    peer = loop.begin(tracks, material)
    optimizer = torch.optim.AdamW(peer.parameters(), lr=3e-3, weight_decay=0.1)
    epoch = material.epoch([Track.begin(group, "fixed")])
    clip, u = epoch.clip[:, 0], epoch.uniforms[:, 0]
    assert sorted(clip[0].tolist()) == sorted(group.train.tolist()), "one batch passes over every training clip"
    frames, mask = material.clips.cut(clip, first_frames(material.clips.n_frames[clip], group.crop, u[..., CROP]), 50)
    loss = nn.functional.mse_loss(peer(peer.standardise_frames(frames, mask), mask)[0], material.targets[clip[0]])
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in peer.parameters() if p.grad is not None]).norm()
    optimizer.step()
    loop.fit(tracks, material)
    (row,) = tracks[0].history
    assert row["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert row["gradient_norm"] == pytest.approx(norm.item(), rel=1e-4)
    # AdamW's first step is about lr x sign(gradient): rounding may turn a gradient that is nearly zero.
    close = (packing.rows(peer)[0] - tracks[0].best).abs() < 1e-5
    assert close.float().mean() > 0.99


def test_patience_stops(store, monkeypatch):
    monkeypatch.setitem(BUDGETS, "full", dataclasses.replace(BUDGETS["full"], epochs=20, patience=3))
    (track,) = trained(store, vary(LONG, {"optimisation.learning_rate": 1e-12}))
    assert track.status == "stopped_early"
    assert track.reason == "no better validation r in 3 epochs"
    assert len(track.history) == track.best_epoch + 4


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_member_whose_loss_is_not_finite_leaves_and_the_others_go_on(store, monkeypatch, bad):
    arms = [LONG, vary(LONG, {"optimisation.loss": "huber"})]
    want = trained(store, *arms)
    calls = []

    def breaks(pred, target, error):
        calls.append(1)
        n_steps = 4  # and one validation an epoch: the 13th call lies in the third epoch
        return real(pred, target, error) * (bad if len(calls) == 2 * (n_steps + 1) + 3 else 1)

    real = LOSSES["huber"]
    monkeypatch.setitem(LOSSES, "huber", breaks)
    fine, broken = trained(store, *arms)
    assert (fine.status, len(fine.history)) == ("finished", EPOCHS)
    assert broken.status == "diverged"
    assert "train_loss is" in broken.reason
    assert [r["train_loss"] for r in broken.history] == [r["train_loss"] for r in want[1].history[:2]]
    assert broken.best.isfinite().all()
    for got, expected in zip(fine.history, want[0].history, strict=True):
        assert got["valid_loss"] == pytest.approx(expected["valid_loss"], rel=1e-4)


def test_divergence_before_the_first_epoch_ends_leaves_no_state(store, monkeypatch):
    monkeypatch.setitem(LOSSES, "mse", lambda pred, target, error: pred.sum((-2, -1)) * float("nan"))
    (track,) = trained(store, LONG)
    assert (track.status, track.best, track.best_epoch, track.history) == ("diverged", None, None, [])


def test_prediction_is_the_mean_over_windows(store):
    tracks, material = tracks_of(store, LONG)
    network = loop.begin(tracks, material)
    nn.init.normal_(network.head.weight, generator=generator(0, 0, "head"))
    clip = int(material.clips.n_frames.argmax())
    n = int(material.clips.n_frames[clip])
    starts = window_starts(n, 50)
    assert len(starts) > 2
    frames, _ = material.clips.cut(torch.full((1, len(starts)), clip), torch.tensor([starts]), 50)
    with torch.no_grad():
        want = network.eval()(network.standardise_frames(frames, None))[0].mean(0)
    (got,) = loop.predict(network, material, None, [np.array([3, clip])])
    torch.testing.assert_close(got[1], want)


def test_bfloat16_learns_the_same_thing(store):
    (low,), (high,) = (trained(store, LONG, precision=p) for p in ("bfloat16", "float32"))
    # 8 bits of mantissa: curves agree to a few per cent, which tells a working autocast from a broken one.
    assert low.best_r == pytest.approx(high.best_r, abs=0.1)
    assert low.history != high.history


def test_constant_predictions_count_as_no_correlation():
    assert loop.mean_r(np.full((5, 19), 0.5), np.random.default_rng(0).random((5, 19))) == 0


def test_halving_stops_the_worse_half_of_a_search_but_never_the_own_values(store, monkeypatch):
    budget = dataclasses.replace(BUDGETS["full"], searches=True, rungs=(2, 4))
    monkeypatch.setitem(BUDGETS, "full", budget)
    rates = (1e-9, 1e-8, 1e-3, 3e-3)
    trial = dataclasses.replace(LONG, search=(("optimisation.learning_rate", rates),))
    trial = vary(trial, {"optimisation.learning_rate": 1e-9})
    tracks = trained(store, trial)
    by_rate = dict(zip(rates, tracks, strict=True))
    assert {r: len(t.history) for r, t in by_rate.items() if t.status != "halved"}[1e-9] == EPOCHS
    lasted = [len(t.history) for t in tracks if t.status == "halved"]
    assert 1 <= lasted.count(2) <= 2
    assert set(lasted) <= {2, 4}
    assert by_rate[1e-8].status == "halved"
    assert "of 4 go on" in by_rate[1e-8].reason


def test_halving_by_hand():
    class Member:
        def __init__(self, label, r, status=None, epoch=2):
            self.label, self.best_r, self.status, self.epoch = label, r, status, epoch
            self.group = type("G", (), {"own": "a", "budget": dataclasses.replace(BUDGETS["full"], rungs=(2,))})

        def end(self, status, reason):
            self.status = status

    members = [Member("a", 0.1), Member("b", 0.3), Member("c", 0.4, "stopped_early"), Member("d", 0.2)]
    halve(members)
    assert [m.status for m in members] == [None, None, "stopped_early", "halved"]
    later = [Member("a", 0.1, epoch=3), Member("b", 0.3, epoch=3)]
    halve(later)
    assert [m.status for m in later] == [None, None]


def test_learning_rates_follow_the_schedule(store):
    from torch.optim.lr_scheduler import OneCycleLR

    (track,) = trained(store, vary(LONG, {"optimisation.schedule": "one_cycle"}))
    steps = track.group.steps
    peer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))], lr=3e-3)
    schedule, want = OneCycleLR(peer, max_lr=3e-3, total_steps=EPOCHS * steps), []
    for _ in range(EPOCHS * steps):
        want.append(peer.param_groups[0]["lr"])
        peer.step()
        if len(want) < EPOCHS * steps:
            schedule.step()
    assert [row["learning_rate"] for row in track.history] == pytest.approx(want[steps - 1 :: steps], rel=1e-5)
    assert math.isfinite(track.best_r)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_learns_what_the_cpu_learns(store):
    still = vary(LONG, {"model.dropout": 0.0})
    histories = []
    for device in ("cpu", "cuda"):
        data = load(still, store)
        groups = groups_of(still, "c", 0, 0, data)[:1]
        tracks = [Track.begin(groups[0], "fixed")]
        loop.fit(tracks, Material(data, groups[0].trial, device))
        histories.append(tracks[0].history)
    for cpu, cuda in zip(*histories, strict=True):
        # The same crops in the same order; float32 rounding grows over 24 steps of AdamW.
        assert cuda["train_loss"] == pytest.approx(cpu["train_loss"], rel=1e-2)
