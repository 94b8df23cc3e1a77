"""What a transformer's prediction of a clip rests on: attention rolled out over all layers (Abnar & Zuidema 2020).

A layer passes on (A + I) / 2: what attention mixes, averaged over heads, and what the residual keeps. The product over
layers says how much of each input token is in each output token; since the outputs are pooled by a masked mean, the
mean over output tokens is each input token's share of the clip's vector. The map follows attention and residuals only:
what values, perceptrons and norms do to the information it does not know.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from einops import rearrange
from torch import Tensor, nn

from piano_assets.analysis import listening
from piano_assets.analysis.diagnostics.rows import row, table
from piano_assets.analysis.listening import WINDOWS, Heard
from piano_assets.catalogue.trial import Encoder
from piano_assets.features.spectrogram_specs import SPECTROGRAMS
from piano_assets.models.attention import PAIRS, attention_weights
from piano_assets.models.network import Network
from piano_assets.models.transformer import Attention, Patches, Transformer
from piano_assets.training.fitted import Fitted, FittedFold

EVEN = "_even"
"""What a metric ends with that says what attention to all tokens alike would be."""


def attention_rollout(
    of: Fitted, clips: Sequence[str], *, notes: pd.DataFrame | None = None, fold: int | None = None
) -> pd.DataFrame:
    """How a network's attention is spread over clips, as shares that sum to 1 over a clip.

    Args:
        notes: the table `notes`, which says when the events of a note transformer are; spectrograms need none.
        fold: whose network; None: for each clip that which it tests, which never heard it.
    Returns:
        rows with the clip as condition. Of a spectrogram: `attention` in stretches as long as a patch, by their middle
        in seconds, and `attention_band` by the middle of a patch's bands, lowest first. Of note events: `attention`
        by onset in seconds, and `attention_note` by the note's number within its clip in `notes`, from 0. Beside them
        `attention_even` and `attention_note_even`: the shares if all tokens were looked at alike. These are not equal:
        where windows overlap there are two tokens, and the last patch of a window may be a short one.
    Raises:
        ValueError: the network has no attention, or one without weights; an unknown clip, or one that no fold tests;
            notes are missing or are not as many as the events.
    """
    known = list(of.data.clips)
    found: list[dict[str, object]] = []
    for clip in clips:
        if clip not in known:
            raise ValueError(f"clip={clip!r} must be one of the {len(known)} clips of {of.config}")
        index = known.index(clip)
        model = listening.network_of(of, _tested_by(of, index, clip) if fold is None else fold)
        heard = listening.whole(model, of.data, np.array([index]))
        share = window_attention(model, heard)
        if of.trial.inputs.notes:
            mine = None if notes is None else notes[notes["clip"] == clip]
            found += _note_rows(clip, heard, share, mine)
        else:
            found += _patch_rows(clip, model, heard, share)
    return table(found)


@torch.no_grad()
def window_attention(model: FittedFold, heard: Heard) -> Tensor:
    """The share of each token in its window's vector, (b, n_tokens): sums to 1, 0 at padding.

    Raises:
        ValueError: the network has no attention, or one that gives no weights.
    """
    network = model.network
    assert network is not None
    assert isinstance(model.trial.model, Encoder)
    if not isinstance(network.sequence, Transformer):
        kind = model.trial.model.attention if network.sequence is not None else f"{model.trial.family}, without any"
        raise ValueError(f"attention must be one of {tuple(PAIRS)} to be rolled out (is {kind})")
    found = []
    for start in range(0, len(heard.place), WINDOWS):
        layers, mask = layer_weights(
            network, model.trial.model.attention, *heard.inputs(1, slice(start, start + WINDOWS))
        )
        found.append(pooled(rollout([layer.mean(2) for layer in layers]), mask)[0])
    return torch.cat(found)


def layer_weights(
    network: Network, kind: str, frames: Tensor | None, mask: Tensor | None, features: Tensor | None
) -> tuple[list[Tensor], Tensor | None]:
    """Every layer's attention weights, (m, b, heads, n, n) each, and the mask of real tokens.

    Fused attention returns no weights: they are computed again from the queries and keys that it is given.
    """
    given: list[tuple[nn.Module, tuple[Tensor, Tensor, Tensor, Tensor | None]]] = []
    layers = [m.attend for m in network.modules() if isinstance(m, Attention)]
    hooks = [layer.register_forward_pre_hook(lambda module, args: given.append((module, args))) for layer in layers]
    try:
        network(frames, mask, features)
    finally:
        for hook in hooks:
            hook.remove()
    return [attention_weights(kind, layer, q, k, real) for layer, (q, k, _, real) in given], given[-1][1][3]


def rollout(layers: Sequence[Tensor]) -> Tensor:
    """Share of each input token (last axis) in each output token: (..., n, n) a layer, first layer first, and all.

    Abnar & Zuidema (2020), section 3: the product of (A + I) / 2, rows normalised.
    """
    n = layers[0].shape[-1]
    joint = torch.eye(n, dtype=layers[0].dtype, device=layers[0].device)
    for layer in layers:
        passed = (layer + torch.eye(n, dtype=layer.dtype, device=layer.device)) / 2
        joint = passed / passed.sum(-1, keepdim=True) @ joint
    return joint


def pooled(joint: Tensor, mask: Tensor | None) -> Tensor:
    """Share of each input token in the mean over real output tokens: (..., n, n), (..., n) or None -> (..., n)."""
    if mask is None:
        return joint.mean(-2)
    real = mask.to(joint.dtype)
    return (joint * real[..., None]).sum(-2) / real.sum(-1, keepdim=True)


def _tested_by(of: Fitted, index: int, clip: str) -> int:
    for model in of.folds:
        if index in model.test:
            return model.fold
    raise ValueError(f"clip={clip!r} must be tested by a fold of {of.config}, or a fold must be named")


def _patch_rows(clip: str, model: FittedFold, heard: Heard, share: Tensor) -> list[dict[str, object]]:
    assert model.network is not None
    assert isinstance(model.network.sequence, Transformer)
    stem = model.network.sequence.stem
    assert isinstance(stem, Patches)
    patch, rate = stem.patch_size, SPECTROGRAMS[str(model.trial.inputs.spectrogram)].frame_rate
    grid = rearrange(share, "b (t f) -> b t f", f=stem.n_bands)
    found = []
    for metric, steps in (("attention", grid.sum(2)), (f"attention{EVEN}", evenly(heard, patch))):
        of_frame = spread(heard, steps, patch)
        for first in range(0, len(of_frame), patch):
            some = of_frame[first : first + patch]
            found.append(row(clip, (first + len(some) / 2) / rate, metric, some.sum().item()))
    n_bands = model.network.shape.width
    for band, value in enumerate(grid.sum(1).mean(0).tolist()):
        found.append(row(clip, (band * patch + min((band + 1) * patch, n_bands)) / 2, "attention_band", value))
    return found


def evenly(heard: Heard, patch: int) -> Tensor:
    """The share of each time step of `patch` frames if all of a window's real ones have the same: (b, t)."""
    assert heard.at is not None
    first = slice(None, None, patch)  # real frames come first: a step has some exactly where its first frame is one
    real = torch.ones_like(heard.at[:, first], dtype=torch.bool) if heard.mask is None else heard.mask[:, first]
    return real.float() / real.sum(1, keepdim=True)


def spread(heard: Heard, share: Tensor, patch: int) -> Tensor:
    """Shares of time steps of `patch` frames, (b, t), over the real frames of a clip: (n_frames,), sums to 1.

    A step's share is spread evenly over its real frames; a clip's is the mean over its windows, as its prediction is.
    """
    assert heard.at is not None
    assert heard.frames is not None
    real = torch.ones_like(heard.at, dtype=torch.bool) if heard.mask is None else heard.mask
    step = torch.arange(heard.at.shape[1], device=real.device) // patch
    n_real = torch.zeros_like(share).index_add(1, step, real.to(share.dtype))
    each = torch.where(real, (share / n_real.clamp(min=1))[:, step], 0.0)
    total = torch.zeros(len(heard.frames), dtype=share.dtype, device=share.device)
    return total.index_add(0, heard.at.flatten(), each.flatten()) / len(heard.place)


def _note_rows(clip: str, heard: Heard, share: Tensor, notes: pd.DataFrame | None) -> list[dict[str, object]]:
    if notes is None:
        raise ValueError(f"clip={clip!r}: note events need the table `notes` for their onsets (is None)")
    found = []
    for ending, shares in (("", share), (EVEN, evenly(heard, 1))):
        of_note = spread(heard, shares, 1).cpu().numpy()
        if len(notes) != len(of_note):
            raise ValueError(f"clip={clip!r}: {len(of_note)} note events must have as many notes (are {len(notes)})")
        by_onset = pd.Series(of_note).groupby(notes["onset_s"].to_numpy()).sum()
        found += [row(clip, float(onset), f"attention{ending}", float(v)) for onset, v in by_onset.items()]
        found += [row(clip, float(i), f"attention_note{ending}", float(v)) for i, v in enumerate(of_note)]
    return found
