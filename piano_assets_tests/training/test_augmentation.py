"""Augmentation against torchaudio, scipy and crop-by-crop versions; nothing happens at probability 0."""

import math

import numpy as np
import pytest
import torch
import torchaudio
from scipy import stats

from piano_assets.training import augmentation as augment
from piano_assets.training.augmentation import MIXTURES, N_UNIFORMS, SLOTS

B, N, W = 200, 150, 128


def uniforms(*lead: int, seed: int = 1, **fixed: float) -> torch.Tensor:
    u = torch.rand(*lead, N_UNIFORMS, generator=torch.Generator().manual_seed(seed))
    for name, value in fixed.items():
        u[..., SLOTS.index(name)] = value
    return u


def crops(seed: int = 2) -> tuple[torch.Tensor, ...]:
    """Crops, partners, labels, partners' labels."""
    g = torch.Generator().manual_seed(seed)
    x, partner = (torch.randn(B, N, W, generator=g) for _ in range(2))
    target, other = (torch.rand(B, 19, generator=g) for _ in range(2))
    return x, partner, target, other


def only(name: str, p: float = 1.0) -> torch.Tensor:
    return torch.tensor([p * (name == each) for each in MIXTURES])


# SpecAugment


@pytest.mark.parametrize(("n", "frames"), [(N, 30), (500, 50)])
def test_masks_are_torchaudios(monkeypatch, n, frames):
    u, x = uniforms(B), torch.randn(B, n, W) + 10
    queue = []
    monkeypatch.setattr(torch, "rand", lambda *_, **__: queue.pop(0))
    want = x.transpose(1, 2)
    for axis, limit, p, which in ((1, 43, 1.0, "band"), (2, 50, 0.2, "frame")):
        for i in (1, 2):
            queue += [u[:, SLOTS.index(f"{which}s_{i}")], u[:, SLOTS.index(f"first_{which}_{i}")]]
            want = torchaudio.functional.mask_along_axis_iid(want, limit, 0.0, axis, p)
    assert not queue
    got = augment.spec_augment(x, u, 1.0)
    assert torch.equal(got, want.transpose(1, 2))
    # No more than two stripes of the longest kind, and among 200 draws some come near it: each is within 5 of its
    # limit with a chance of at least 0.1.
    times, bands = (got == 0).all(2).sum(1), (got == 0).all(1).sum(1)
    assert frames - 5 <= times.max() <= 2 * (frames - 1)
    assert 43 - 5 <= bands.max() <= 2 * 42


def test_a_crop_is_masked_with_its_probability():
    x = crops()[0] + 10
    p = torch.linspace(0, 1, B)
    u = uniforms(B)
    touched = (augment.spec_augment(x, u, p) == 0).flatten(1).any(1)
    drawn = u[:, 0] < p
    # Masks of width 0 touch nothing: four of them in a row have a chance of (1 / 30)**2 (1 / 43)**2.
    assert torch.equal(touched, drawn)
    assert torch.equal(augment.spec_augment(x, u, 0.0), x)


def test_narrow_inputs_pass():
    x = torch.ones(4, 3, 2)
    assert torch.equal(augment.spec_augment(x, uniforms(4), 1.0), x)


# Mixtures


def test_mixtures_exclude_one_another_and_have_their_rates():
    u, rates = uniforms(20_000), torch.tensor([0.3, 0.2, 0.1])
    share = torch.bincount(augment.mixture(u, rates), minlength=4) / len(u)
    # Standard errors are at most 0.0035: 5 of them fail by chance once in 600,000 runs.
    np.testing.assert_allclose(share, [0.4, 0.3, 0.2, 0.1], atol=0.0175)
    for i, name in enumerate(MIXTURES):
        assert (augment.mixture(u, only(name)) == i + 1).all()
    assert (augment.mixture(u, torch.zeros(3)) == 0).all()


def test_crops_without_a_mixture_are_unchanged_to_the_bit():
    x, partner, target, other = crops()
    for rates in (torch.zeros(3), torch.zeros(B, 3), torch.tensor([0.2, 0.2, 0.2])):
        u = uniforms(B, weight=0.5)
        off = augment.mixture(u, rates) == 0
        mixed, label = augment.mix(x, partner, target, other, u, rates)
        assert off.any()
        assert torch.equal(mixed[off], x[off])
        assert torch.equal(label[off], target[off])
        assert all((mixed[i] != x[i]).any() and (label[i] != target[i]).any() for i in (~off).nonzero().flatten())


@pytest.mark.parametrize("name", ["mixup", "c_mixup"])
def test_mixup_is_one_weighted_mean(name):
    x, partner, target, other = crops()
    u = uniforms(B)
    mixed, label = augment.mix(x, partner, target, other, u, only(name))
    weight = augment.own_weight(u[:, SLOTS.index("weight")])
    for got, own, foreign in ((mixed.flatten(1), x.flatten(1), partner.flatten(1)), (label, target, other)):
        want = weight[:, None] * own + (1 - weight[:, None]) * foreign
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)


def test_own_weight_is_the_larger_part_of_a_beta_draw():
    u = torch.linspace(0.001, 0.999, 500, dtype=torch.float64)
    want = stats.beta(0.5, 0.5).ppf(0.5 + u.numpy() / 2)
    np.testing.assert_allclose(augment.own_weight(u), want, rtol=1e-9)


def test_cutmix_pastes_a_box_and_mixes_labels_by_its_area():
    x, partner, target, other = crops()
    u = uniforms(B)
    mixed, label = augment.mix(x, partner, target, other, u, only("cutmix"))
    for i, row in enumerate(u[:, -3:].double().numpy()):
        side = math.sqrt(1 - row[0])
        edges = []
        for size, centre in ((N, row[1]), (W, row[2])):
            half = int(size * side) // 2
            edges += [max(0, int(centre * size) - half), min(size, int(centre * size) + half)]
        t0, t1, b0, b1 = edges
        want = x[i].clone()
        want[t0:t1, b0:b1] = partner[i, t0:t1, b0:b1]
        assert torch.equal(mixed[i], want)
        area = (t1 - t0) * (b1 - b0) / (N * W)
        torch.testing.assert_close(label[i], (1 - area) * target[i] + area * other[i], rtol=1e-5, atol=1e-6)


def test_cutmix_in_its_limits():
    x, partner, target, other = crops()
    nothing = uniforms(B, weight=1 - 2**-24)
    mixed, label = augment.mix(x, partner, target, other, nothing, only("cutmix"))
    assert torch.equal(mixed, x)
    assert torch.equal(label, target)
    everything = uniforms(B, weight=0.0, box_time=0.5, box_band=0.5)
    mixed, label = augment.mix(x, partner, target, other, everything, only("cutmix"))
    assert torch.equal(mixed, partner)
    assert torch.equal(label, other)


def test_a_members_crops_do_not_depend_on_its_stack():
    x, partner, target, other = (v.unflatten(0, (4, -1)) for v in crops())
    u, rates = uniforms(4, B // 4), torch.tensor([[0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0, 0, 0]])[:, None]
    p = torch.tensor([0.3, 0.5, 0.7, 0])[:, None]
    mixed, label = augment.mix(x, partner, target, other, u, rates)
    masked = augment.spec_augment(x, u, p)
    for i in range(4):
        own = augment.mix(x[i], partner[i], target[i], other[i], u[i], rates[i])
        assert torch.equal(mixed[i], own[0])
        assert torch.equal(label[i], own[1])
        assert torch.equal(masked[i], augment.spec_augment(x[i], u[i], p[i]))


# Partners


def test_uniform_partners_are_all_others_equally_often():
    index = torch.arange(5)[:, None].expand(5, 4000)
    u = (torch.arange(4000) / 4000).expand(5, 4000)
    partner = augment.uniform_partner(index, 5, u)
    counts = torch.stack([torch.bincount(row, minlength=5) for row in partner])
    assert torch.equal(counts, 1000 * (1 - torch.eye(5, dtype=torch.int64)))
    top = torch.full((1,), 1 - 2**-24)
    assert augment.uniform_partner(torch.zeros(1, dtype=torch.int64), 1000, top) == 999


def test_similar_partners_come_as_often_as_the_kernel_says():
    g = torch.Generator().manual_seed(3)
    y = 0.6 + 0.1 * torch.randn(6, 19, generator=g)
    kernel = np.array([[stats.norm.pdf(np.linalg.norm(a - b), scale=0.3) for b in y.numpy()] for a in y.numpy()])
    np.fill_diagonal(kernel, 0)
    want = kernel / kernel.sum(1, keepdims=True)
    cumulative = augment.partners_by_similarity(y, 0.3)
    np.testing.assert_allclose(cumulative, want.cumsum(1), rtol=1e-5)
    index = torch.arange(6).repeat(10_000, 1)
    partner = augment.similar_partner(cumulative, index, torch.rand(10_000, 6, generator=g))
    share = np.stack([np.bincount(partner[:, i], minlength=6) for i in range(6)]) / 10_000
    # Standard errors are at most 0.005: 5 of them in 30 places fail by chance once in 50,000 runs.
    np.testing.assert_allclose(share, want, atol=0.025)
    assert (np.diag(share) == 0).all()


def test_similar_partners_in_their_limits():
    y = torch.tensor([0.0, 0.1, 0.5, 0.9])[:, None].expand(4, 19)
    index, u = torch.arange(4).repeat(1000, 1), (torch.arange(1000) / 1000)[:, None].expand(1000, 4)
    nearest = augment.similar_partner(augment.partners_by_similarity(y, 1e-6), index, u)
    # 0.5 has 0.9 and 0.1 at the same distance, but for rounding.
    assert torch.equal(nearest[:, [0, 1, 3]].unique(dim=0), torch.tensor([[1, 0, 2]]))
    wide = augment.partners_by_similarity(y, 1e6)
    np.testing.assert_allclose(wide[0], [0, 1 / 3, 2 / 3, 1], atol=1e-9)
    with pytest.raises(ValueError, match="at least 2 clips"):
        augment.partners_by_similarity(y[:1])


# Tempo and pitch


def test_tempo_and_shift_reach_their_limits_and_are_off_at_zero():
    u = torch.tensor([0.0, 0.25, 0.5, 1.0])
    torch.testing.assert_close(augment.tempo_ratio(u, 0.2), torch.tensor([0.8, 0.9, 1.0, 1.2]))
    torch.testing.assert_close(augment.shift_semitones(u, 2.0), torch.tensor([-2.0, -1.0, 0.0, 2.0]))
    many = torch.rand(1000)
    assert (augment.tempo_ratio(many, torch.tensor(0.0)) == 1).all()
    assert (augment.shift_semitones(many, torch.tensor(0.0)) == 0).all()
