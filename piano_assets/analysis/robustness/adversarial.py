"""Inputs altered to make a network err most: how far predictions move when every number may change by epsilon.

Epsilon is in standard deviations of the training clips: inputs are altered as they stand before the network, after
standardisation. For a spectrogram these are its frames, each once, whatever windows it lies in; for a note transformer
its events; for features the features; for a hybrid both of what it hears. The sign of random noise of the same size is
the control: what it does is the effect of any noise, not of an adversary.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from piano_assets.analysis import listening
from piano_assets.analysis.listening import WINDOWS, Heard
from piano_assets.models.network import Network
from piano_assets.training.batches import window_starts
from piano_assets.training.data import TrialData
from piano_assets.training.fitted import Fitted, FittedFold
from piano_assets.training.members import crop_length

Inputs = tuple[Tensor, ...]
Loss = Callable[[Inputs], Tensor]

STEP = 2.5
"""A step of projected gradient descent times their number, in epsilons: from anywhere in the ball its border can be
reached (Madry et al. 2018, section 5 and their challenge)."""


def fgsm(loss: Loss, inputs: Inputs, epsilon: float, uniforms: Inputs, steps: int) -> Inputs:
    """One step of epsilon along the sign of the gradient (Goodfellow et al. 2015, section 4); draws nothing."""
    return tuple(x + epsilon * g.sign() for x, g in zip(inputs, _gradient(loss, inputs), strict=True))


def pgd(loss: Loss, inputs: Inputs, epsilon: float, uniforms: Inputs, steps: int) -> Inputs:
    """Steps along the sign of the gradient from a random point of the ball, back into it after each (Madry et al. 2018,
    section 2.1, with the maximum norm). The last point is taken."""
    moved = tuple(x + epsilon * (2 * u - 1) for x, u in zip(inputs, uniforms, strict=True))
    for _ in range(steps):
        there = (m + STEP * epsilon / steps * g.sign() for m, g in zip(moved, _gradient(loss, moved), strict=True))
        moved = tuple(x + (m - x).clamp(-epsilon, epsilon) for x, m in zip(inputs, there, strict=True))
    return moved


def random_sign(loss: Loss, inputs: Inputs, epsilon: float, uniforms: Inputs, steps: int) -> Inputs:
    """The control: epsilon up or down by chance; asks for no gradient."""
    return tuple(x + torch.where(u < 0.5, -epsilon, epsilon) for x, u in zip(inputs, uniforms, strict=True))


METHODS: dict[str, Callable[[Loss, Inputs, float, Inputs, int], Inputs]] = {
    "fgsm": fgsm,
    "pgd": pgd,
    "random_sign": random_sign,
}
"""Method -> `f(loss, inputs, epsilon, uniforms, steps)`, which gives the altered inputs; uniforms in [0, 1) are shaped
as the inputs are."""


def condition(method: str, epsilon: float) -> str:
    """Name of the condition under which predictions are published."""
    return f"adversarial.{method}:{epsilon:g}"


def adversarial_predictions(
    of: Fitted,
    method: str,
    epsilon: float,
    rng: np.random.Generator,
    *,
    rows: Mapping[int, np.ndarray] | None = None,
    steps: int = 10,
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """What each fold's network predicts of clips that were altered against it.

    The adversary knows network and labels and raises the squared error of a clip's prediction over all 19 dimensions,
    the prediction being the mean over the clip's windows. A clip without labels is left as it is.

    Args:
        rows: fold -> clips to alter, as rows of the data; default: all test clips of every fold. steps: of `pgd`.
    Returns:
        fold -> (rows (n,), predictions (n, 19)), in float32 whatever the network was trained in.
    Raises:
        ValueError: an unknown method, a negative epsilon, no step, or a model that is no network.
    """
    if method not in METHODS:
        raise ValueError(f"method={method!r} must be one of {tuple(METHODS)}")
    if not epsilon >= 0:
        raise ValueError(f"epsilon={epsilon} must be >= 0")
    if steps < 1:
        raise ValueError(f"steps={steps} must be >= 1")
    chosen = {f.fold: f.test for f in of.folds} if rows is None else rows
    found = {}
    for fold, mine in chosen.items():
        model = listening.network_of(of, fold)
        # Streams for each input, so that what is drawn for a clip does not depend on how clips are batched.
        streams = rng.spawn(2)
        pred = [
            _altered(model, of.data, batch, METHODS[method], epsilon, streams, steps)
            for batch in _batches(model, of.data, mine)
        ]
        found[fold] = (mine, np.concatenate(pred))
    return found


def _altered(
    model: FittedFold,
    data: TrialData,
    rows: np.ndarray,
    method: Callable[[Loss, Inputs, float, Inputs, int], Inputs],
    epsilon: float,
    streams: list[np.random.Generator],
    steps: int,
) -> np.ndarray:
    """Predictions (n_rows, 19) of altered clips."""
    heard = listening.whole(model, data, rows)
    inputs = inputs_of(heard)
    uniforms = tuple(
        torch.from_numpy(stream.random(x.shape, dtype=np.float32)).to(x)
        for stream, x in zip(streams, inputs, strict=False)
    )
    network = model.network
    assert network is not None
    altered = method(lambda moved: squared_error(network, heard, moved), inputs, epsilon, uniforms, steps)
    labelled = ~heard.target.isnan().any(1)
    altered = tuple(
        torch.where(labelled[of_row][:, None], new, old)
        for new, old, of_row in zip(altered, inputs, _clip_of_rows(heard, data, rows), strict=True)
    )
    with torch.no_grad():
        return listening.predict(network, with_inputs(heard, altered))[0].double().cpu().numpy()


def inputs_of(heard: Heard) -> Inputs:
    """What may be altered: frames, features, or both."""
    return tuple(x for x in (heard.frames, heard.features) if x is not None)


def with_inputs(heard: Heard, inputs: Inputs) -> Heard:
    """The same clips with other frames and features, given as `inputs_of` does."""
    rest = iter(inputs)
    frames = None if heard.frames is None else next(rest)
    return replace(heard, frames=frames, features=None if heard.features is None else next(rest))


def squared_error(network: Network, heard: Heard, inputs: Inputs) -> Tensor:
    """Sum over labelled clips of their squared errors over all dimensions: no clip's gradient depends on another."""
    error = listening.predict(network, with_inputs(heard, inputs))[0] - heard.target
    return torch.where(heard.target.isnan(), 0.0, error).square().sum()


def _gradient(loss: Loss, inputs: Inputs) -> Inputs:
    leaves = tuple(x.detach().requires_grad_() for x in inputs)
    return torch.autograd.grad(loss(leaves), leaves)


def _clip_of_rows(heard: Heard, data: TrialData, rows: np.ndarray) -> list[Tensor]:
    """For each input, the clip that each of its rows belongs to."""
    clip, found = torch.arange(len(rows), device=heard.place.device), []
    if heard.frames is not None and data.sequence is not None:
        found.append(clip.repeat_interleave(torch.from_numpy(data.sequence.n_frames[rows]).to(clip.device)))
    return found + ([clip] if heard.features is not None else [])


def _batches(model: FittedFold, data: TrialData, rows: np.ndarray) -> Iterator[np.ndarray]:
    """Clips in their order, as many at once as have `WINDOWS` windows together, but one at least."""
    crop = crop_length(model.trial)
    n_frames = np.ones(len(data.clips), np.int64) if data.sequence is None else data.sequence.n_frames
    batch: list[int] = []
    windows = 0
    for row in rows:
        n = len(window_starts(int(n_frames[row]), crop or 1))
        if batch and windows + n > WINDOWS:
            yield np.array(batch)
            batch, windows = [], 0
        batch.append(int(row))
        windows += n
    if batch:
        yield np.array(batch)
