"""What becomes of a model of notes where the notes are heard: transcribed from the sound instead of read from the file.

The models learnt from true notes; the clips that test them are heard (table `transcriptions`). A model of
`symbolic_absolute` then knows the recording alone. One that reads features relative to the deadpan rendition knows the
score as well: the deadpan rendition stays as it is.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from piano_assets.analysis.robustness.hearing import Alteration, Progress, heard_notes, hears
from piano_assets.catalogue.trial import Trial
from piano_assets.corpus.transcription import TRANSCRIBED as PREFIX
from piano_assets.corpus.transcription.parts import heard_parts, heard_performances
from piano_assets.features.sets import FROM_NOTES, sound_of
from piano_assets.features.sound import sound_names
from piano_assets.features.traditional import TRADITIONAL
from piano_assets.schemas.probes import TRANSCRIBED
from piano_assets.store.parts import Store
from piano_assets.training.data import TrialData

if TYPE_CHECKING:
    from piano_assets.training.fitted import Fitted

FEWEST = 5
"""Clips that a calibration needs."""
SHRUNK = 2.0
"""Clips at the mean that are added to a calibration."""


def why_not(trial: Trial) -> str | None:
    """Why a trial cannot be asked: it must read notes, true ones; features of the sound beside them stay."""
    if not (trial.inputs.notes or any(hears(trial, source) for source in FROM_NOTES)):
        return "it reads no notes"
    if trial.inputs.spectrogram:
        return "it hears a spectrogram beside its notes"
    if trial.inputs.rendering.startswith(PREFIX):
        return "it learnt from transcribed notes already"
    return None


def not_transcribed(trial: Trial, store: Store) -> str | None:
    """Why nothing can be asked here: no clip of the trial's rendering is transcribed."""
    rendering = sound_of(trial.inputs.rendering)
    return None if heard_parts(store, rendering) else f"no clip of {rendering} is transcribed (asset transcriptions)"


def heard_rows(of: "Fitted", store: Store) -> dict[int, np.ndarray]:
    """Rows of `of.data` to ask, by fold: test clips with labels in which a note was heard."""
    heard = heard_performances(heard_parts(store, sound_of(of.trial.inputs.rendering)))
    there = np.isin(of.data.clips.astype(str), list(heard)) & of.data.labelled
    return {fold.fold: fold.test[there[fold.test]] for fold in of.folds}


def hear_transcription(of: "Fitted", store: Store, rows: np.ndarray, progress: Progress = None) -> TrialData:
    """The subject's data in which the clips at `rows` are what was heard of them."""
    heard = heard_performances(heard_parts(store, sound_of(of.trial.inputs.rendering)))
    return heard_notes(of, store, rows, lambda clip, played: heard[clip], progress, sound=False)


def hear_calibrated(of: "Fitted", store: Store, rows: np.ndarray, progress: Progress = None) -> TrialData:
    """As `hear_transcription`, each feature replaced by what it most likely is of the true notes.

    Of every fold the clips that were heard and are not tested say how: see `calibrated`. So no label and no true note
    of a tested clip enters.
    """
    heard = heard_performances(heard_parts(store, sound_of(of.trial.inputs.rendering)))
    known = np.flatnonzero(np.isin(of.data.clips.astype(str), list(heard)))
    found = heard_notes(of, store, known, lambda clip, played: heard[clip], progress, sound=False)
    assert found.features is not None
    assert of.data.features is not None
    features, sound = of.data.features.copy(), {*TRADITIONAL, *sound_names()}
    notes = np.flatnonzero([name not in sound for name in of.data.feature_names])
    for fold in of.folds:
        own = np.intersect1d(rows, fold.test)
        learnt = np.intersect1d(known, np.concatenate([fold.train, fold.valid]))
        there = np.ix_(learnt, notes)
        features[np.ix_(own, notes)] = calibrated(
            of.data.features[there], found.features[there], found.features[np.ix_(own, notes)]
        )
    return replace(found, features=features)


def calibrated(true: np.ndarray, heard: np.ndarray, asked: np.ndarray) -> np.ndarray:
    """Regression calibration (Carroll et al. 2006, Measurement Error in Nonlinear Models, ch. 4), feature by feature.

    The least-squares line of the true over the heard value, shrunk as if two clips more had been heard at the mean of
    both: a feature that is heard badly becomes its mean. Heard values beyond those of `heard` are moved to their edge.

    Args:
        true, heard: (n, d) of the same clips, NaN where undefined; asked: (m, d) heard values of others.
    Returns:
        (m, d); the mean of the true values where a feature was undefined in `asked`, or has fewer than 5 pairs or one
        heard value alone; NaN where no true value is defined.
    """
    found = np.full(asked.shape, np.nan)
    for k in range(asked.shape[1]):
        both = np.isfinite(true[:, k]) & np.isfinite(heard[:, k])
        x, y = heard[both, k], true[both, k]
        if len(x) < FEWEST or np.ptp(x) == 0:
            defined = true[np.isfinite(true[:, k]), k]
            found[:, k] = defined.mean() if len(defined) else np.nan
            continue
        d = x - x.mean()
        slope = d @ (y - y.mean()) / (d @ d * (1 + SHRUNK / len(x)))
        line = y.mean() + slope * (np.clip(asked[:, k], x.min(), x.max()) - x.mean())
        found[:, k] = np.where(np.isfinite(asked[:, k]), line, y.mean())
    return found


def why_not_calibrated(trial: Trial) -> str | None:
    """As `why_not`; and it must read features."""
    return why_not(trial) or (None if trial.inputs.features else "it reads no features that could be calibrated")


HEARD = (
    Alteration(TRANSCRIBED, "heard", None, hear_transcription, why_not),
    Alteration(TRANSCRIBED, "calibrated", None, hear_calibrated, why_not_calibrated),
)
