"""Every attention kind against an explicit sum over all pairs, and what padding and other members may not do."""

import pytest
import torch

from piano_assets.models.attention import (
    ATTENTION,
    Grid,
    Linformer,
    band_mask,
    check_settings,
    linformer,
    local,
    orthogonal_features,
    performer,
    sparse,
    sparse_mask,
    vanilla,
)

FORMULA = {"rtol": 1e-10, "atol": 1e-12}  # two orders of the same sums in float64
GRID = Grid(n_times=6, n_bands=3)
# Small enough that no kind sees everything on this grid.
SETTINGS = {
    "vanilla": {},
    "local": {"radius": 1},
    "performer": {"n_features": 7},
    "linformer": {"k": 4},
    "sparse": {"radius": 1, "stride": 3, "n_global": 1},
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


def qkv(*shape: int) -> list[torch.Tensor]:
    return list(draw(3, *shape))


def mask_of(*lengths: int, n: int) -> torch.Tensor:
    return torch.arange(n) < torch.tensor(lengths)[:, None]


def explicit(q, k, v, keep):
    """Softmax of q.k / sqrt(d) over the kept pairs, (..., n_q, n_k)."""
    weights = (q @ k.mT / q.shape[-1] ** 0.5).exp() * keep
    return weights / weights.sum(-1, keepdim=True) @ v


def module_of(kind: str, members: int = 1, heads: int = 2, head_dim: int = 5, grid: Grid = GRID) -> torch.nn.Module:
    module = ATTENTION[kind](members, heads, head_dim, grid, **SETTINGS[kind]).double()
    if hasattr(module, "reset"):
        for member in range(members):
            module.reset(member, generator(10 + member))
    return module


@pytest.mark.parametrize("leading", [(), (3,), (2, 3)])
def test_vanilla_is_the_explicit_softmax(leading):
    q, k, v = qkv(*leading, 2, 7, 5)
    torch.testing.assert_close(vanilla(q, k, v, None), explicit(q, k, v, torch.ones(7, 7)), **FORMULA)
    keep = torch.tensor([True, False, True, True, False, True, False])  # real tokens need not come first
    torch.testing.assert_close(vanilla(q, k, v, keep), explicit(q, k, v, keep), **FORMULA)


def test_one_query_may_ask_many_keys():
    q, k, v = qkv(2, 3, 2, 7, 5)
    mask = mask_of(7, 4, 2, n=7).expand(2, 3, 7)
    want = explicit(q[..., :1, :], k, v, mask[..., None, None, :])
    torch.testing.assert_close(vanilla(q[..., :1, :], k, v, mask), want, **FORMULA)


def test_local_by_hand():
    position = Grid(3, 2).position(6, torch.device("cpu"))
    assert position.tolist() == [0, 0, 1, 1, 2, 2]
    q, k, v = qkv(1, 2, 6, 5)
    near = torch.tensor([[1, 1, 1, 1, 0, 0]] * 2 + [[1] * 6] * 2 + [[0, 0, 1, 1, 1, 1]] * 2)
    torch.testing.assert_close(local(q, k, v, None, position, 1), explicit(q, k, v, near), **FORMULA)


def test_wide_window_is_full_attention():
    q, k, v = qkv(3, 2, 18, 5)
    position, mask = GRID.position(18, q.device), mask_of(18, 11, 1, n=18)
    real = mask[:, None, :, None]
    for m in (None, mask):
        torch.testing.assert_close(local(q, k, v, m, position, 5) * real, vanilla(q, k, v, m) * real, **FORMULA)


@pytest.mark.parametrize("n_bands", [1, 3])
@pytest.mark.parametrize("token", [0, 7, 16])
def test_gradient_reaches_exactly_the_window(n_bands, token):
    q, k, v = (x.requires_grad_() for x in qkv(1, 1, 17, 5))
    position = Grid(17, n_bands).position(17, q.device)
    local(q, k, v, None, position, 2)[0, 0, token].sum().backward()
    reached = [i for i in range(17) if (v.grad[0, 0, i] != 0).any()]
    assert reached == [i for i in range(17) if abs(i // n_bands - token // n_bands) <= 2]
    assert [i for i in range(17) if (k.grad[0, 0, i] != 0).any()] == reached


def features(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Positive random features of softmax attention's kernel, as the paper writes them."""
    x = x / x.shape[-1] ** 0.25
    return (x @ w.mT - x.square().sum(-1, keepdim=True) / 2).exp() / len(w) ** 0.5


@pytest.mark.parametrize("mask", [None, mask_of(9, 4, n=9)])
def test_performer_is_the_explicit_sum_over_pairs(mask):
    q, k, v = qkv(2, 3, 9, 5)
    w = orthogonal_features(11, 5, generator(1))
    weights = features(q, w) @ features(k, w).mT
    if mask is not None:
        weights = weights * mask[:, None, None]
    want = weights / weights.sum(-1, keepdim=True) @ v
    torch.testing.assert_close(performer(q, k, v, mask, w), want, **FORMULA)


def test_performer_nears_full_attention_as_features_grow():
    # Short queries and keys: the variance of a feature grows as exp(|q + k|^2), and long ones converge too late to see.
    q, k, v = qkv(1, 8, 12, 6)
    q, k = 0.3 * q, 0.3 * k
    want = vanilla(q, k, v, None)

    def error(n_features: int) -> float:
        draws = [performer(q, k, v, None, orthogonal_features(n_features, 6, generator(s))) for s in range(60)]
        return (torch.stack(draws) - want).square().mean().sqrt().item()

    few, many = error(64), error(1024)
    # A mean of 16 times as many terms errs a quarter as much. Were all errors of a draw one, 60 draws would tell each
    # mean square within 18 % and the ratio of the roots within 13 %; n^-1/3 gives 2.5 and n^-2/3 gives 6.3.
    assert few / many == pytest.approx(4, rel=0.25)
    assert many < 0.01


def test_performer_keeps_its_weights_where_exponentials_overflow():
    q, k, v = (x.float() for x in qkv(1, 2, 9, 5))
    q, k = 60 * q, 60 * k  # exponents in the thousands: exp of them is inf or 0 even in float64
    q.requires_grad_(), k.requires_grad_()
    w = orthogonal_features(11, 5, generator(1)).float()
    got = performer(q, k, v, None, w)
    log_q, log_k = (x.double() @ w.double().mT / 5**0.25 for x in (q, k))
    log_k = log_k - k.double().square().sum(-1, keepdim=True) / (2 * 5**0.5)
    pairs = (log_q[..., :, None, :] + log_k[..., None, :, :]).logsumexp(-1)
    # Exponents of some thousands carry float32 errors of some 1e-4 each.
    torch.testing.assert_close(got, (pairs.softmax(-1) @ v.double()).float(), rtol=0, atol=5e-3)
    got.sum().backward()
    assert q.grad.isfinite().all()
    assert k.grad.isfinite().all()


def test_orthogonal_features_are_orthogonal_gaussians():
    w = orthogonal_features(8, 5, generator())
    assert w.shape == (8, 5)
    for block in (w[:5], w[5:]):
        gram = block @ block.T
        torch.testing.assert_close(gram, gram.diagonal().diag(), rtol=0, atol=1e-12)
    draws = torch.stack([orthogonal_features(8, 5, generator(s)) for s in range(4000)])
    # Squared lengths of 5 Gaussians have variance 10; 32,000 of them tell it within 1.2 %, six times.
    assert draws.square().sum(-1).var().item() == pytest.approx(10, rel=0.07)
    # Variance 1 and mean 0 in every place: 4000 draws give standard errors of .022 and .016; six of them.
    torch.testing.assert_close(draws.var(0), torch.ones(8, 5, dtype=torch.float64), rtol=0, atol=0.134)
    torch.testing.assert_close(draws.mean(0), torch.zeros(8, 5, dtype=torch.float64), rtol=0, atol=0.095)


def test_linformer_is_the_explicit_sum():
    q, k, v = qkv(2, 3, 7, 5)
    e, f = draw(2, 4, 9, seed=1)
    mask = mask_of(7, 3, n=7)
    zeroed = mask[:, None, :, None]
    want = explicit(q, e[:, :7] @ (k * zeroed), f[:, :7] @ (v * zeroed), torch.ones(4))
    torch.testing.assert_close(linformer(q, k, v, mask, e, f), want, **FORMULA)


def test_linformer_has_projections_for_keys_and_for_values():
    module = module_of("linformer", members=2)
    q, k, v = qkv(2, 3, 2, 18, 5)
    mixed_k, mixed_v = module.project_k[:, None, None] @ k, module.project_v[:, None, None] @ v
    torch.testing.assert_close(module(q, k, v, None), explicit(q, mixed_k, mixed_v, torch.ones(4)), **FORMULA)


@pytest.mark.parametrize("mask", [None, torch.tensor([[True] * 7, [False, True, True, False] + [False] * 3])])
def test_linformer_that_mixes_nothing_is_full_attention(mask):
    q, k, v = qkv(2, 3, 7, 5)
    eye = torch.eye(9, dtype=torch.float64)
    torch.testing.assert_close(linformer(q, k, v, mask, eye, eye), vanilla(q, k, v, mask), **FORMULA)


def test_linformer_has_no_more_mixtures_than_tokens():
    assert Linformer(1, 2, 5, GRID, k=32).project_k.shape == (1, 18, 18)
    module = Linformer(1, 2, 5, Grid(100, 4), k=32)
    module.reset(0, generator())
    # Each row has unit expected length: 32 squared lengths average to 1 within sqrt(2 / (32 * 400)) = .0125, six times.
    assert module.project_v.square().sum(-1).mean().item() == pytest.approx(1, abs=0.075)


def test_sparse_counts_by_hand():
    # Ten steps, window 1: 10 + 2 * 9 pairs; stride 4 adds distances 4 and 8: 2 * 6 + 2 * 2.
    position = torch.arange(10)
    assert sparse_mask(position, 1, 4, 0).sum() == 28 + 16
    # One global token adds the rest of row and column 0: distances 2, 3, 5, 6, 7 and 9, both ways.
    assert sparse_mask(position, 1, 4, 1).sum() == 44 + 12
    # With b bands every pair of steps is b * b pairs of tokens.
    assert sparse_mask(Grid(10, 3).position(30, position.device), 1, 4, 0).sum() == 9 * 44
    assert sparse_mask(position, 9, 4, 0).all()
    assert sparse_mask(position, 0, 1, 0).all()
    assert sparse_mask(position, 1, 4, 10).all()
    assert (band_mask(position, 2) == sparse_mask(position, 2, 100, 0)).all()


def test_sparse_with_a_full_mask_is_full_attention():
    q, k, v = qkv(2, 3, 18, 5)
    position, mask = GRID.position(18, q.device), mask_of(18, 9, n=18)
    real = mask[:, None, :, None]
    got = sparse(q, k, v, mask, position, 1, 1, 1)
    torch.testing.assert_close(got * real, vanilla(q, k, v, mask) * real, **FORMULA)


@pytest.mark.parametrize(("radius", "stride", "n_global"), [(1, 5, 1), (3, 4, 0)])
def test_two_sparse_layers_connect_all(radius, stride, n_global):
    # By a global token, or without: within a window of `stride` steps stands a token on any residue.
    position = Grid(13, 2).position(25, torch.device("cpu"))
    keep = sparse_mask(position, radius, stride, n_global)
    assert not keep.all()
    assert (keep.double() @ keep.double() > 0).all()
    x = draw(1, 1, 25, 4).requires_grad_()
    once = sparse(x, x, x, None, position, radius, stride, n_global)
    for i in (0, 12, 24):
        twice = sparse(once, once, once, None, position, radius, stride, n_global)
        (grad,) = torch.autograd.grad(twice[0, 0, i].square().sum(), x, retain_graph=True)
        assert (grad[0, 0] != 0).any(1).all()


@pytest.mark.parametrize("kind", ATTENTION)
def test_padding_changes_nothing(kind):
    module = module_of(kind)
    for n in (1, 5, 10):
        q, k, v = qkv(1, 2, 2, n, 5)
        alone = module(q, k, v, None)
        padded = [
            torch.cat([x, torch.full((1, 2, 2, 17 - n, 5), fill)], 3)
            for x, fill in zip((q, k, v), (7, 9, 1e6), strict=True)
        ]
        mask = mask_of(n, n, n=17)[None]
        torch.testing.assert_close(module(*padded, mask)[..., :n, :], alone, **FORMULA)


@pytest.mark.parametrize("kind", ATTENTION)
def test_no_gradient_reaches_padding(kind):
    q, k, v = (x.requires_grad_() for x in qkv(1, 2, 2, 17, 5))
    mask = mask_of(17, 6, n=17)[None]
    out = module_of(kind)(q, k, v, mask)
    assert out.isfinite().all()
    out[mask[:, :, None].expand(-1, -1, 2, -1)].square().sum().backward()
    for x in (q, k, v):
        assert (x.grad[0, 1, :, 6:] == 0).all()
        assert (x.grad[0, 1, :, :6] != 0).any(-1).all()


def test_no_softmax_is_empty():
    """A padded query far from all real tokens sees them all, and one without any real token sees padding."""
    q, k, v = qkv(2, 1, 9, 5)
    position, mask = torch.arange(9), mask_of(3, 0, n=9)
    keep = torch.stack([mask[0].expand(9, 9).clone(), torch.ones(9, 9, dtype=torch.bool)])
    keep[0, :3] &= band_mask(position, 1)[:3]
    torch.testing.assert_close(local(q, k, v, mask, position, 1), explicit(q, k, v, keep[:, None]), **FORMULA)


@pytest.mark.parametrize("kind", ATTENTION)
def test_a_clip_without_tokens_gives_no_nan(kind):
    q, k, v = (x.requires_grad_() for x in qkv(1, 2, 2, 17, 5))
    out = module_of(kind)(q, k, v, mask_of(17, 0, n=17)[None])
    out.square().sum().backward()
    assert all(x.isfinite().all() for x in (out, q.grad, k.grad, v.grad))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("kind", ATTENTION)
def test_members_share_nothing(kind, masked):
    both = module_of(kind, members=2)
    inputs = qkv(2, 3, 2, 13, 5)
    mask = mask_of(13, 8, 1, n=13).expand(2, 3, 13) if masked else None
    out = both(*(x.requires_grad_() for x in inputs), mask)
    grads = torch.autograd.grad(out[0].square().sum(), inputs)
    assert all((g[1] == 0).all() for g in grads)
    for member in range(2):
        alone = module_of(kind)
        alone.load_state_dict({name: x[member : member + 1] for name, x in both.state_dict().items()})
        got = alone(*(x[member : member + 1] for x in inputs), None if mask is None else mask[:1])
        torch.testing.assert_close(got[0], out[member], **FORMULA)


@pytest.mark.parametrize("kind", ["performer", "linformer"])
def test_members_draw_from_their_own_generators(kind):
    both, swapped = module_of(kind, members=2), module_of(kind, members=2)
    swapped.reset(0, generator(11))
    for name, x in both.state_dict().items():
        assert x.shape[0] == 2
        assert (x[0] != x[1]).any()
        assert torch.equal(swapped.state_dict()[name][0], x[1])
        assert torch.equal(swapped.state_dict()[name][1], x[1])


def test_performer_features_are_carried_but_not_trained():
    module = module_of("performer")
    assert (list(module.state_dict()), list(module.parameters())) == (["projection"], [])


@pytest.mark.parametrize("kind", ATTENTION)
def test_bfloat16_autocast_stays_near(kind):
    module = module_of(kind).float()
    q, k, v = (x.float() for x in qkv(1, 3, 2, 17, 5))
    mask = mask_of(17, 8, 1, n=17)[None]
    want = module(q, k, v, mask)
    half = [x.bfloat16().requires_grad_() for x in (q, k, v)]
    with torch.autocast("cpu", torch.bfloat16):
        got = module(*half, mask)
    assert got.dtype == torch.bfloat16
    # bfloat16 keeps 8 bits: values of up to 3 err by .01, scores by .03 and linformer's mixtures by twice that.
    real = mask[:, :, None, :, None]
    torch.testing.assert_close(got.float() * real, want * real, rtol=0, atol=0.1)
    got.float().square().sum().backward()
    assert all(x.grad.isfinite().all() for x in half)


@pytest.mark.parametrize("kind", ATTENTION)
def test_every_setting_has_a_legal_default(kind):
    module = ATTENTION[kind](2, 4, 64, Grid(10, 8))
    for member in range(2):
        if hasattr(module, "reset"):
            module.reset(member, generator(member))
    q, k, v = (x.float() for x in qkv(2, 1, 4, 80, 64))
    assert module(q, k, v, None).shape == q.shape


def test_settings_are_checked():
    for kind, settings in SETTINGS.items():
        check_settings(kind, settings)
    with pytest.raises(ValueError, match=r"model.attention='locl' must be one of \('vanilla', 'local'"):
        check_settings("locl", {})
    with pytest.raises(ValueError, match=r"model.settings.width=3: local has no such setting; known: \('radius',\)"):
        check_settings("local", {"width": 3})
    with pytest.raises(ValueError, match=r"model.settings.heads=3: vanilla has no such setting; known: \(\)"):
        check_settings("vanilla", {"heads": 3})
    for value in (0, -1, 2.0, True, "2"):
        with pytest.raises(ValueError, match=rf"model.settings.stride={value!r} must be an integer >= 1"):
            check_settings("sparse", {"stride": value})
