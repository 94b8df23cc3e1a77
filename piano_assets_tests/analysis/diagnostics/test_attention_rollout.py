"""Rollouts of attention that is known, and shares that add up over clips."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from piano_assets.analysis import listening
from piano_assets.analysis.diagnostics.attention_rollout import (
    attention_rollout,
    layer_weights,
    pooled,
    rollout,
    spread,
    window_attention,
)
from piano_assets.catalogue.trial import Encoder, vary
from piano_assets.models.network import Network, initialise
from piano_assets_tests.training.tiny import CLIPS

EXACT = {"rtol": 1e-12, "atol": 1e-12}


def random_layers(n_layers: int, *shape: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(2)
    return [torch.randn(*shape, generator=g, dtype=torch.float64).softmax(-1) for _ in range(n_layers)]


def test_attention_to_itself_alone_stays_where_it_is():
    eye = torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(rollout([eye.expand(2, 5, 5)] * 3), eye.expand(2, 5, 5), **EXACT)


def test_rows_sum_to_one():
    joint = rollout(random_layers(4, 2, 3, 7, 7))
    torch.testing.assert_close(joint.sum(-1), torch.ones(2, 3, 7, dtype=torch.float64), **EXACT)


def test_uniform_attention_by_hand():
    """(J / n + I) / 2 to the power L: a token keeps 2^-L of itself, the rest is spread evenly."""
    uniform = torch.full((4, 4), 0.25, dtype=torch.float64)
    want = torch.eye(4, dtype=torch.float64) / 8 + 7 / 8 * uniform
    torch.testing.assert_close(rollout([uniform] * 3), want, **EXACT)


def test_later_layers_come_from_the_left():
    first, second = random_layers(2, 3, 3)
    eye = np.eye(3)
    want = ((second.numpy() + eye) / 2) @ ((first.numpy() + eye) / 2)
    np.testing.assert_allclose(rollout([first, second]), want, rtol=1e-12)


def test_padding_gets_nothing():
    mask = torch.tensor([[True, True, True, False, False], [True] * 5])
    layers = [layer.masked_fill(~mask[:, None], 0) for layer in random_layers(3, 2, 5, 5)]
    layers = [layer / layer.sum(-1, keepdim=True) for layer in layers]
    share = pooled(rollout(layers), mask)
    assert share[0, 3:].tolist() == [0, 0]
    torch.testing.assert_close(share.sum(-1), torch.ones(2, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(pooled(rollout(layers), None)[1], share[1], **EXACT)


@pytest.mark.parametrize("kind", ["vanilla", "local", "sparse"])
def test_weights_are_those_with_which_the_layer_mixes(tiny, kind):
    """The output of every layer, from the weights by hand, is the fused one; hooks leave no trace."""
    encoder = Encoder(depth=2, dim=16, heads=2, head_dim=8, patch_size=16, attention=kind)
    network = Network(encoder, tiny["ast"].folds[0].network.shape)
    initialise(network, [torch.Generator().manual_seed(3)])
    heard = listening.whole(tiny["ast"].folds[0], tiny["ast"].data, np.arange(6))
    inputs = heard.inputs(1, slice(None))
    seen = []
    watch = [
        b.attention.attend.register_forward_hook(lambda m, args, out: seen.append((args[2], out)))
        for b in network.sequence.blocks
    ]
    weights, mask = layer_weights(network, kind, *inputs)
    for hook in watch:
        hook.remove()
    assert len(weights) == len(seen) == 2
    for weight, (v, fused) in zip(weights, seen, strict=True):
        torch.testing.assert_close(weight @ v, fused, rtol=1e-5, atol=1e-6)  # float32
    assert not torch.equal(weights[0], weights[1])
    assert mask is not None
    assert all(not b.attention.attend._forward_pre_hooks for b in network.sequence.blocks)


def test_spread_by_hand():
    """Two windows of 4 frames over a clip of 6, steps of 3 frames, the last step of a window cut to one frame."""
    heard = listening.Heard(
        rows=np.array([0]),
        place=torch.tensor([0, 0]),
        first=torch.tensor([0, 2]),
        target=torch.zeros(1, 19),
        error=torch.ones(1, 19),
        frames=torch.zeros(6, 2),
        at=torch.tensor([[0, 1, 2, 3], [2, 3, 4, 5]]),
    )
    share = torch.tensor([[0.6, 0.4], [0.9, 0.1]])
    want = np.array([0.2, 0.2, 0.2 + 0.3, 0.4 + 0.3, 0.3, 0.1]) / 2
    np.testing.assert_allclose(spread(heard, share, 3), want, rtol=1e-6)


def test_shares_of_a_clip_sum_to_one_over_time_and_over_bands(tiny):
    of = tiny["ast"]
    found = attention_rollout(of, CLIPS[:3])
    assert set(found["condition"]) == set(CLIPS[:3])
    sums = found.groupby(["condition", "metric"])["value"].sum()
    np.testing.assert_allclose(sums, 1, rtol=1e-5)
    for i, clip in enumerate(CLIPS[:3]):
        mine = found[(found["condition"] == clip) & (found["metric"] == "attention")]
        n = of.data.sequence.n_frames[i]
        starts = np.arange(0, n, 16)
        ends = np.minimum(starts + 16, n)
        np.testing.assert_allclose(mine["step"], (starts + ends) / 2 / 50)  # 50 frames a second
        bands = found[(found["condition"] == clip) & (found["metric"] == "attention_band")]
        assert bands["step"].tolist() == list(range(8, 128, 16))


def test_a_network_that_looks_everywhere_alike_spreads_evenly(tiny):
    """Without queries all weights are equal: a patch's share is 1 / their number, counted by hand."""
    of = tiny["ast"]
    model = of.folds[0]
    network = listening.stack(model, torch.cat([v.flatten(1) for v in model.network.state_dict().values()], 1))
    for block in network.sequence.blocks:
        torch.nn.init.zeros_(block.attention.qkv.weight)
    blind = dataclasses.replace(of, folds=(dataclasses.replace(model, network=network),))
    clip = int(np.argmax(of.data.sequence.n_frames < 150))  # one window, partly padded
    n = int(of.data.sequence.n_frames[clip])
    found = attention_rollout(blind, [CLIPS[clip]], fold=model.fold)
    time = found[found["metric"] == "attention"]["value"]
    np.testing.assert_allclose(time, 1 / -(-n // 16), rtol=1e-5)
    np.testing.assert_allclose(found[found["metric"] == "attention_even"]["value"], time, rtol=1e-5)
    np.testing.assert_allclose(found[found["metric"] == "attention_band"]["value"], 1 / 8, rtol=1e-5)
    # Windows that overlap, each with a short last patch: not even over time, but as even as tokens allow.
    longer = CLIPS[int(np.argmax(of.data.sequence.n_frames > 200))]
    found = attention_rollout(blind, [longer], fold=model.fold)
    time, even = (found[found["metric"] == m]["value"].to_numpy() for m in ("attention", "attention_even"))
    np.testing.assert_allclose(time, even, rtol=1e-4)
    assert even.max() > 1.5 * even.min()


def test_a_clip_is_looked_at_by_the_fold_that_tests_it(tiny):
    of = tiny["ast"]
    model = of.folds[1]
    clip = CLIPS[model.test[0]]
    pd.testing.assert_frame_equal(attention_rollout(of, [clip]), attention_rollout(of, [clip], fold=1))
    other = attention_rollout(of, [clip], fold=0)
    assert not np.allclose(other["value"], attention_rollout(of, [clip])["value"], rtol=1e-4)


def notes_of(of, *clips: str) -> pd.DataFrame:
    """As many notes as there are events, in chords of two."""
    frames = []
    for clip in clips:
        n = int(of.data.sequence.n_frames[CLIPS.index(clip)])
        onset = 0.25 * (np.arange(n) // 2)
        frames.append(
            pd.DataFrame({"clip": clip, "onset_s": onset, "offset_s": onset + 0.2, "pitch": 60, "velocity": 64})
        )
    return pd.concat(frames, ignore_index=True)


def test_notes_have_shares_by_number_and_by_onset(tiny):
    of = tiny["notes"]
    clip = CLIPS[int(np.argmax(of.data.sequence.n_frames > 64))]  # two windows
    found = attention_rollout(of, [clip], notes=notes_of(of, CLIPS[0], clip))
    single = found[found["metric"] == "attention_note"]
    n = int(of.data.sequence.n_frames[CLIPS.index(clip)])
    assert single["step"].tolist() == list(range(n))
    np.testing.assert_allclose(single["value"].sum(), 1, rtol=1e-5)
    by_onset = found[found["metric"] == "attention"]
    np.testing.assert_allclose(by_onset["step"], 0.25 * np.arange(-(-n // 2)))
    pairs = np.append(single["value"], np.zeros(n % 2)).reshape(-1, 2).sum(1)
    np.testing.assert_allclose(by_onset["value"], pairs, rtol=1e-6)
    model = next(f for f in of.folds if CLIPS.index(clip) in f.test)
    heard = listening.whole(model, of.data, np.array([CLIPS.index(clip)]))
    share = window_attention(model, heard).numpy()
    by_hand = np.zeros(n)
    for window, first in zip(share, heard.first.tolist(), strict=True):
        by_hand[first : first + 64] += window / len(share)
    np.testing.assert_allclose(single["value"], by_hand, rtol=1e-5)
    even = found[found["metric"] == "attention_note_even"]["value"]
    count = np.zeros(n)
    for first in heard.first.tolist():
        count[first : first + 64] += 1 / 64 / len(share)
    np.testing.assert_allclose(even, count, rtol=1e-5)
    assert count.max() > count.min(), "windows overlap"


def test_what_cannot_be_rolled_out_is_refused(tiny):
    model = tiny["ast"].folds[0]
    heard = listening.whole(model, tiny["ast"].data, model.test[:1])
    for kind, told in (("multi_scale", r"\(is multi_scale\)"), ("performer", "'performer' gives no weights")):
        trial = vary(model.trial, {"model.attention": kind})
        other = dataclasses.replace(model, trial=trial, network=Network(trial.model, model.network.shape))
        with pytest.raises(ValueError, match=rf"attention.*{told}"):
            window_attention(other, heard)
    with pytest.raises(ValueError, match=r"\(is mlp, without any\)"):
        attention_rollout(tiny["mlp"], CLIPS[:1])
    with pytest.raises(ValueError, match="clip='nobody' must be one of the 60 clips"):
        attention_rollout(tiny["ast"], ["nobody"])
    with pytest.raises(ValueError, match="note events need the table `notes`"):
        attention_rollout(tiny["notes"], CLIPS[:1])
    fewer = notes_of(tiny["notes"], CLIPS[0]).iloc[1:]
    with pytest.raises(ValueError, match=r"must have as many notes \(are"):
        attention_rollout(tiny["notes"], CLIPS[:1], notes=fewer)
