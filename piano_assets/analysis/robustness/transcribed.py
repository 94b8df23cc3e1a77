"""What becomes of a model of notes where the notes are heard: transcribed from the sound instead of read from the file.

The models learnt from true notes; the clips that test them are heard (table `transcriptions`). A model of
`symbolic_absolute` then knows the recording alone. One that reads features relative to the deadpan rendition knows the
score as well: the deadpan rendition stays as it is.
"""

from typing import TYPE_CHECKING

import numpy as np

from piano_assets.analysis.robustness.hearing import Alteration, Progress, heard_notes, hears
from piano_assets.catalogue.trial import Trial
from piano_assets.corpus.transcription import TRANSCRIBED as PREFIX
from piano_assets.corpus.transcription.parts import heard_parts, heard_performances
from piano_assets.schemas.probes import TRANSCRIBED
from piano_assets.store.parts import Store
from piano_assets.training.data import TrialData

if TYPE_CHECKING:
    from piano_assets.training.fitted import Fitted


def why_not(trial: Trial) -> str | None:
    """Why a trial cannot be asked: it must read notes, true ones, and no sound."""
    if trial.inputs.spectrogram or hears(trial, "audio") or hears(trial, "sound"):
        return "it hears sound itself"
    if trial.inputs.rendering.startswith(PREFIX):
        return "it learnt from transcribed notes already"
    return None


def not_transcribed(trial: Trial, store: Store) -> str | None:
    """Why nothing can be asked here: no clip of the trial's rendering is transcribed."""
    rendering = trial.inputs.rendering
    return None if heard_parts(store, rendering) else f"no clip of {rendering} is transcribed (asset transcriptions)"


def heard_rows(of: "Fitted", store: Store) -> dict[int, np.ndarray]:
    """Rows of `of.data` to ask, by fold: test clips with labels in which a note was heard."""
    heard = heard_performances(heard_parts(store, of.trial.inputs.rendering))
    there = np.isin(of.data.clips.astype(str), list(heard)) & of.data.labelled
    return {fold.fold: fold.test[there[fold.test]] for fold in of.folds}


def hear_transcription(of: "Fitted", store: Store, rows: np.ndarray, progress: Progress = None) -> TrialData:
    """The subject's data in which the clips at `rows` are what was heard of them."""
    heard = heard_performances(heard_parts(store, of.trial.inputs.rendering))
    return heard_notes(of, store, rows, lambda clip, played: heard[clip], progress)


HEARD = (Alteration(TRANSCRIBED, "heard", None, hear_transcription, why_not),)
