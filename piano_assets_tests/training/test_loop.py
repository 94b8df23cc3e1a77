"""The loop: it learns, stops, keeps the best state, repeats itself and survives a diverging loss."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from piano_assets.catalogue.trial import Budget, Encoder, Optimisation
from piano_assets.metrics.regression import pearson
from piano_assets.models.transformer import SpectrogramTransformer, initialise
from piano_assets.training.batches import Spectra
from piano_assets.training.loop import fit, mean_r, predict
from piano_assets.training.losses import LOSSES

ENCODER = Encoder(depth=1, dim=16, heads=2, head_dim=8, patch_size=4, dropout=0.1)
OPTIMISATION = Optimisation(learning_rate=3e-3, batch_size=8)
BUDGET = Budget(crop_s=1.0, epochs=6, patience=6, searches=False)
CROP = 8


def spectra(n: int = 32, seed: int = 0) -> Spectra:
    """Clips whose 19 targets follow the level of their lower bands."""
    rng = np.random.default_rng(seed)
    n_frames = rng.integers(5, 20, n)
    level = rng.normal(size=n)
    frames = rng.normal(size=(n_frames.sum(), 8))
    frames[:, :4] += np.repeat(level, n_frames)[:, None]
    targets = 0.5 + 0.1 * level[:, None] * np.linspace(-1, 1, 19)[None] + 0.01 * rng.normal(size=(n, 19))
    return Spectra(
        torch.from_numpy(frames).float(),
        torch.from_numpy(np.cumsum(n_frames) - n_frames),
        torch.from_numpy(n_frames),
        torch.from_numpy(targets).float(),
    )


def train(optimisation=OPTIMISATION, budget=BUDGET, seed=0, **more):
    data = spectra()
    model = SpectrogramTransformer(ENCODER, 8)
    initialise(model, torch.Generator().manual_seed(seed))
    model.standardise(*data.moments(), data.targets)
    streams = {name: torch.Generator().manual_seed(seed + k) for k, name in enumerate(("order", "noise"), 1)}
    return model, fit(model, data, spectra(16, seed=1), optimisation, budget, crop=CROP, **streams, **more)


@pytest.fixture(scope="module")
def trained():
    return train()


def test_it_learns(trained):
    _, result = trained
    assert result.status == "finished"
    assert [row["epoch"] for row in result.history] == list(range(6))
    assert result.history[-1]["train_loss"] < 0.7 * result.history[0]["train_loss"]
    assert max(row["valid_r"] for row in result.history) > 0.6


def test_best_state_is_restored_and_is_the_best(trained):
    model, result = trained
    best = max(result.history, key=lambda row: row["valid_r"])
    assert result.best_epoch == best["epoch"]
    valid = spectra(16, seed=1)
    r = pearson(predict(model, valid, CROP, 8).numpy(), valid.targets.numpy()).mean()
    assert r == pytest.approx(best["valid_r"], abs=1e-6)
    for name, value in model.state_dict().items():
        assert torch.equal(value, result.best_state[name])


def test_same_generators_same_result_whatever_the_global_state(trained):
    torch.manual_seed(99)
    before = torch.get_rng_state()
    model, again = train()
    assert again.history == trained[1].history
    del model
    other = train(seed=5)[1]
    assert other.history != trained[1].history
    torch.set_rng_state(before)


def test_training_draws_nothing_from_the_global_generator():
    data, model = spectra(), SpectrogramTransformer(ENCODER, 8)
    before = torch.get_rng_state()
    initialise(model, torch.Generator())
    fit(model, data, data, OPTIMISATION, BUDGET, crop=CROP, order=torch.Generator(), noise=torch.Generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_first_step_is_torchs_adamw():
    data = spectra(8)
    model, peer = (SpectrogramTransformer(dataclasses.replace(ENCODER, dropout=0.0), 8) for _ in range(2))
    initialise(model, torch.Generator().manual_seed(3))
    peer.load_state_dict(model.state_dict())
    budget = dataclasses.replace(BUDGET, epochs=1)
    optimisation = Optimisation(learning_rate=1e-2, weight_decay=0.1, schedule="constant", warmup=0, batch_size=8)
    whole = int(data.n_frames.max())
    streams = {"order": torch.Generator().manual_seed(4), "noise": torch.Generator().manual_seed(4)}
    result = fit(model, data, data, optimisation, budget, crop=whole, **streams)
    optimizer = torch.optim.AdamW(peer.parameters(), lr=1e-2, weight_decay=0.1)
    frames, mask = data.cut(torch.arange(8), torch.zeros(8, dtype=torch.long), whole)
    loss = nn.functional.mse_loss(peer(frames, mask), data.targets)
    loss.backward()
    norm = torch.cat([p.grad.flatten() for p in peer.parameters()]).norm()
    optimizer.step()
    assert result.history[0]["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert result.history[0]["gradient_norm"] == pytest.approx(norm.item(), rel=1e-4)
    # Clips go in another order, so gradients differ by float32 rounding; AdamW's first step is lr x sign(gradient).
    theirs = dict(peer.named_parameters())
    torch.testing.assert_close(model.head.weight, theirs["head.weight"], rtol=0, atol=1e-4)


def test_patience_stops():
    frozen = Optimisation(learning_rate=1e-12, batch_size=8)
    _, result = train(frozen, dataclasses.replace(BUDGET, epochs=20, patience=3))
    assert result.status == "stopped_early"
    assert len(result.history) == result.best_epoch + 4


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_diverges_with_the_last_good_state(monkeypatch, bad, trained):
    calls = []

    def breaks(pred, target):
        calls.append(1)
        # 4 training batches and 1 validation an epoch: the 13th call lies in the third epoch.
        return nn.functional.mse_loss(pred, target) * (bad if len(calls) == 13 else 1)

    monkeypatch.setitem(LOSSES, "mse", breaks)
    model, result = train()
    assert result.status == "diverged"
    assert result.history == trained[1].history[:2]
    assert all(p.isfinite().all() for p in model.parameters())


def test_divergence_before_the_first_epoch_ends_leaves_the_initial_state(monkeypatch):
    monkeypatch.setitem(LOSSES, "mse", lambda pred, target: pred.sum() * float("nan"))
    model, result = train()
    assert (result.status, result.best_epoch, result.history) == ("diverged", None, [])
    assert predict(model, spectra(), CROP, 8).isfinite().all()


def test_prediction_is_the_mean_over_windows(trained):
    model, _ = trained
    data = spectra(16, seed=1)
    clip = int(data.n_frames.argmax())
    n = int(data.n_frames[clip])
    assert n > CROP
    starts = [round(k * (n - CROP) / (-(-n // CROP) - 1)) for k in range(-(-n // CROP))]
    frames = data.frames[data.start[clip] : data.start[clip] + n]
    with torch.no_grad():
        want = torch.stack([model(frames[None, s : s + CROP])[0] for s in starts]).mean(0)
    torch.testing.assert_close(predict(model, data, CROP, 5)[clip], want)


def test_progress_counts_epochs():
    seen = []
    train(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(k, 6) for k in range(1, 7)]


def test_bfloat16_learns_the_same_thing(trained):
    _, result = train(precision="bfloat16")
    # 8 bits of mantissa: curves agree to a few per cent, which tells a working autocast from a broken one.
    got, want = (max(row["valid_r"] for row in r.history) for r in (result, trained[1]))
    assert got == pytest.approx(want, abs=0.05)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_learns_what_the_cpu_learns():
    histories = []
    for device in ("cpu", "cuda"):
        data, valid = (
            dataclasses.replace(s, **{f.name: getattr(s, f.name).to(device) for f in dataclasses.fields(s)})
            for s in (spectra(), spectra(16, seed=1))
        )
        model = SpectrogramTransformer(dataclasses.replace(ENCODER, dropout=0.0), 8)
        initialise(model, torch.Generator().manual_seed(0))
        model.to(device).standardise(*data.moments(), data.targets)
        streams = {"order": torch.Generator().manual_seed(1), "noise": torch.Generator(device).manual_seed(2)}
        histories.append(fit(model, data, valid, OPTIMISATION, BUDGET, crop=CROP, **streams).history)
    for cpu, cuda in zip(*histories, strict=True):
        # The same crops in the same order; float32 rounding grows over 24 steps of AdamW.
        assert cuda["train_loss"] == pytest.approx(cpu["train_loss"], rel=1e-2)


def test_constant_predictions_count_as_no_correlation():
    assert mean_r(np.full((5, 19), 0.5), np.random.default_rng(0).random((5, 19))) == 0
