"""Explicit attention weights against the fused kernels, and the kinds that have none."""

import pytest
import torch

from piano_assets.models.attention import ATTENTION, PAIRS, attention_weights
from piano_assets_tests.models.test_attention import GRID, mask_of, module_of, qkv


@pytest.mark.parametrize("kind", sorted(PAIRS))
@pytest.mark.parametrize("padded", [False, True])
def test_weights_times_values_are_what_the_layer_gives(kind, padded):
    q, k, v = qkv(2, 3, 2, GRID.n_tokens, 5)
    mask = mask_of(18, 11, 1, n=18).expand(2, 3, 18) if padded else None
    layer = module_of(kind, members=2)
    weights = attention_weights(kind, layer, q, k, mask)
    torch.testing.assert_close(weights @ v, layer(q, k, v, mask), rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 2, 18, dtype=torch.float64), rtol=1e-12, atol=0)
    if padded:
        assert weights.movedim(-1, 2)[~mask].count_nonzero() == 0, "no padded key gets weight"


@pytest.mark.parametrize("kind", sorted(set(ATTENTION) - set(PAIRS)))
def test_kinds_without_weights_are_refused(kind):
    q, k, _ = qkv(1, 1, 2, 18, 5)
    with pytest.raises(ValueError, match=f"{kind!r} gives no weights to single tokens"):
        attention_weights(kind, module_of(kind), q, k, None)


def test_a_kind_is_known_by_weights_or_without():
    assert set(PAIRS) == {"vanilla", "local", "sparse"}
