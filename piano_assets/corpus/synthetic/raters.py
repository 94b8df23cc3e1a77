"""The listeners of the synthetic corpus, their answers, and how reliable the mean answer then is.

A listener's answer is the impression plus a bias (per listener and dimension) plus fresh noise, rounded to an integer
and clipped to 1..7. Expectation and variance of such an answer are known in closed form, and so is the truth.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import ndtr

LOWEST, HIGHEST = 1, 7
BIAS_SD = 0.6
NOISE_SD = 1.4
NOISE_FACTORS = (0.8, 1.2)
"""Some listeners answer more steadily than others: evenly spaced multiples of `NOISE_SD` from the first to the last."""
MIN_CLIPS = 5
"""Excerpts with fewer clips do not enter the level `within_excerpt`."""

_STEPS = np.arange(LOWEST, HIGHEST) + 0.5


@dataclass(frozen=True, eq=False)
class Panel:
    """Listeners of one round: their ids (n_raters,), biases (n_raters, 19) and noise (n_raters,), in rating points."""

    users: np.ndarray
    bias: np.ndarray
    noise_sd: np.ndarray


def draw_panel(users: np.ndarray, n_dimensions: int, rng: np.random.Generator) -> Panel:
    """Listeners with normal biases, independent over dimensions, and evenly spaced steadiness.

    A panel's biases are not balanced: panels that are known to average to 0 would make the halves of a panel err in
    opposite directions, and every estimate from halves would be too low (by about 0.01 here).
    """
    noise_sd = NOISE_SD * np.linspace(*NOISE_FACTORS, len(users))
    bias = BIAS_SD * rng.standard_normal((len(users), n_dimensions))
    return Panel(users=users, bias=bias, noise_sd=rng.permutation(noise_sd))


def moments(impression: np.ndarray, noise_sd: np.ndarray | float) -> tuple[np.ndarray, np.ndarray]:
    """(mean, variance) of an answer: round(impression + noise_sd * N(0, 1)) clipped to 1..7.

    The answer is 1 plus the number of steps 1.5, 2.5 .. 6.5 passed, so mean and mean square are sums of normal tails.
    """
    passed = ndtr((np.asarray(impression)[..., None] - _STEPS) / np.asarray(noise_sd)[..., None])
    mean = LOWEST + passed.sum(axis=-1)
    square = LOWEST**2 + (passed * (2 * (_STEPS + 0.5) - 1)).sum(axis=-1)
    return mean, square - mean**2


def truth(impression: np.ndarray) -> np.ndarray:
    """What infinitely many listeners' mean answer / 7 would be, in the shape of `impression`."""
    spreads = [np.hypot(BIAS_SD, NOISE_SD * f) for f in np.linspace(*NOISE_FACTORS, 9)]
    return np.mean([moments(impression, s)[0] for s in spreads], axis=0) / HIGHEST


def answer(impression: np.ndarray, panel: Panel, raters: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Answers of listeners to clips; impression: (n_answers, 19), raters: (n_answers,) places in the panel."""
    noise = panel.noise_sd[raters, None] * rng.standard_normal(impression.shape)
    return np.clip(np.rint(impression + panel.bias[raters] + noise), LOWEST, HIGHEST)


def label_noise(
    impression: np.ndarray,
    clips: np.ndarray,
    raters: np.ndarray,
    bias: np.ndarray,
    noise_sd: np.ndarray,
    valid: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """How far each clip's mean label stands from the truth: (expected error, variance), both (n_clips, 19), 0..1 scale.

    One rater has one vote: a rater's repeated answers to a clip count together as one.

    Args:
        impression: (n_clips, 19). clips, raters: (n_answers,), which clip, and who answers.
        bias: (n_answers, 19). noise_sd: (n_answers,). valid: (n_answers, 19), answers that are a number 1..7.
    """
    mean, variance = moments(impression[clips] + bias, noise_sd[:, None])
    keys = [clips, raters]
    votes = pd.DataFrame(valid.astype(float))
    repeats = votes.groupby(keys).transform("sum").to_numpy()
    share = np.divide(valid, repeats, out=np.zeros_like(mean), where=valid)
    n_raters = pd.DataFrame(share).groupby(clips).transform("sum").to_numpy()
    weight = np.divide(share, n_raters, out=np.zeros_like(mean), where=valid)
    expected, spread = np.zeros(impression.shape), np.zeros(impression.shape)
    np.add.at(expected, clips, weight * mean)
    np.add.at(spread, clips, weight**2 * variance)
    return expected / HIGHEST - truth(impression), spread / HIGHEST**2


def reliability(
    true: np.ndarray, error: np.ndarray, variance: np.ndarray, groups: np.ndarray | None = None
) -> np.ndarray:
    """Share of the variance of mean labels (over clips) that is true variance, (n_dimensions,).

    True variance over true variance plus that of the raters' biases that happen to meet in a clip (`error`) plus that
    of their noise (`variance`); the first two with the actual raters. With `groups` (n_clips,) all are taken within
    groups (excerpts) of at least `MIN_CLIPS` clips; NaN without any such group.
    """
    groups = np.zeros(len(true), dtype=int) if groups is None else groups
    size = pd.Series(groups).groupby(groups).transform("size").to_numpy()
    kept = (size >= MIN_CLIPS) if len(np.unique(groups)) > 1 else size > 0
    if not kept.any():
        return np.full(true.shape[1], np.nan)

    def within(x: np.ndarray) -> np.ndarray:
        centred = x - pd.DataFrame(x).groupby(groups).transform("mean").to_numpy()
        return (centred[kept] ** 2).mean(axis=0)

    # centring n independent errors leaves (n - 1) / n of their variance
    noise = (variance * (1 - 1 / size)[:, None])[kept].mean(axis=0)
    signal = within(true)
    return signal / (signal + within(error) + noise)
