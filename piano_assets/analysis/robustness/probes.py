"""The probes that alter clips: which alterations each has, and the predictions of a fitted subject under all of them.

A new alteration is one line in its module; a new probe is one line here.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from piano_assets.analysis.panel import Block, Units
from piano_assets.analysis.robustness.curves import CLEAN, predicted, prediction_rows, sample
from piano_assets.analysis.robustness.hearing import Alteration, stream
from piano_assets.analysis.robustness.noise import NOISE
from piano_assets.analysis.robustness.recording_quality import RECORDING_QUALITY
from piano_assets.analysis.robustness.tempo import TEMPO
from piano_assets.analysis.robustness.transcribed import HEARD, heard_rows
from piano_assets.catalogue.trial import Trial
from piano_assets.schemas.probes import ADVERSARIAL, TRANSCRIBED
from piano_assets.store.parts import Store

if TYPE_CHECKING:
    from piano_assets.training.fitted import Fitted

ALTERATIONS: dict[str, tuple[Alteration, ...]] = {
    "noise": NOISE,
    "tempo": TEMPO,
    "recording_quality": RECORDING_QUALITY,
    TRANSCRIBED: HEARD,
}
EPSILONS = (0.01, 0.03, 0.1, 0.3)
"""Largest change of a standardised input, in standard deviations of the training clips."""

Progress = Callable[[int, int], None] | None


@dataclass(frozen=True, eq=False)
class Probed:
    """Rows of `predictions` under `<probe>.clean` and every condition; skipped: condition -> why it does not apply."""

    predictions: pd.DataFrame
    skipped: Mapping[str, str]


def why_not(probe: str, trial: Trial) -> str | None:
    """Why a probe cannot be asked of a trial at all; None where some of its conditions can."""
    if probe == ADVERSARIAL:
        return None if trial.optimisation is not None else "it has no gradient: only networks have an adversary"
    reasons = [a.why_not(trial) for a in ALTERATIONS[probe]]
    return None if None in reasons else reasons[0]


def probed(
    probe: str, of: "Fitted", store: Store, known: Units, n_clips: int | None, progress: Progress = None
) -> Probed:
    """Ask a fitted subject of a sample of its test clips, as they are and under every condition of a probe.

    Args:
        n_clips: clips, spread over clusters (None: all); of `transcribed` those that were heard.
        progress: told (conditions done, conditions).
    Raises:
        ValueError: the probe does not apply; the reason is given.
    """
    reason = why_not(probe, of.trial)
    if reason:
        raise ValueError(f"{probe} cannot be asked of {of.config}: {reason}")
    chosen = heard_rows(of, store) if probe == TRANSCRIBED else sample(of, known, n_clips)
    skipped = {}
    frames = [prediction_rows(predicted(of, known, chosen), clean(probe), known)]
    conditions = dict(
        _adversarial(of, known, chosen) if probe == ADVERSARIAL else _altered(probe, of, store, known, chosen)
    )
    for done, (condition, ask) in enumerate(conditions.items(), 1):
        found = ask()
        if isinstance(found, str):
            skipped[condition] = found
        else:
            frames.append(prediction_rows(found, condition, known))
        if progress:
            progress(done, len(conditions))
    return Probed(pd.concat(frames, ignore_index=True), skipped)


def clean(probe: str) -> str:
    """The condition under which a probe keeps what is predicted of its clips as they are."""
    return f"{probe}.{CLEAN}"


Ask = Callable[[], Block | str]
"""What a condition gives: the block of its predictions, or why it does not apply."""


def _altered(
    probe: str, of: "Fitted", store: Store, known: Units, chosen: Mapping[int, np.ndarray]
) -> Iterator[tuple[str, Ask]]:
    rows = np.unique(np.concatenate(list(chosen.values())))
    for alteration in ALTERATIONS[probe]:

        def ask(alteration: Alteration = alteration) -> Block | str:
            reason = alteration.why_not(of.trial)
            return reason or predicted(of, known, chosen, alteration.hear(of, store, rows, None))

        yield alteration.condition, ask


def _adversarial(of: "Fitted", known: Units, chosen: Mapping[int, np.ndarray]) -> Iterator[tuple[str, Ask]]:
    from piano_assets.analysis.robustness.adversarial import METHODS, adversarial_predictions, condition

    clips = known.clip.get_indexer(of.data.clips)
    some = {fold: rows for fold, rows in chosen.items() if len(rows)}
    for method in METHODS:
        for epsilon in EPSILONS:

            def ask(method: str = method, epsilon: float = epsilon) -> Block:
                found = adversarial_predictions(of, method, epsilon, stream(ADVERSARIAL, method), rows=some)
                fold = np.concatenate([np.full(len(rows), k) for k, (rows, _) in found.items()])
                rows, pred = (np.concatenate(parts) for parts in zip(*found.values(), strict=True))
                return Block(of.subject, of.trial.split, of.tuning, of.repeat, fold, clips[rows], pred)

            yield condition(method, epsilon), ask
