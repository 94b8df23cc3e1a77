"""Score a file: what a program calls, and what the command line, the page and the inbox call too."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.ensembles.champion_files import beside_champion, current_champion
from piano_assets.scoring.recordings import AUDIO, MIDI, SAMPLE_RATE, Hear, Recording, read_recording
from piano_assets.scoring.score import Scorer, Scores, score, scorer_of

TRANSCRIBER = "transkun"


def can_transcribe() -> bool:
    """Whether the extra `transcribe` is installed."""
    return find_spec(TRANSCRIBER) is not None


def title_for(recording: Recording) -> str:
    """The title whose champion scores a recording: `performance` MIDI, `sound` sound, whether notes were heard or not.

    The champion of notes has learnt from exact ones. Transcribed pedals are down or up: it takes half-pedalled playing
    for dry, and says so of everything that hangs on the pedal.
    """
    return "performance" if recording.kind == MIDI else "sound"


def score_file(
    path: Path, root: Path, transcribe: bool | None = None, told: Callable[[str], None] | None = None
) -> Scores:
    """Score a MIDI or sound file with the champion that holds the title for what it holds.

    Args:
        root: folder of the corpus whose champions score, as `data/percepiano`.
        transcribe: whether notes of sound are transcribed; None: where the extra `transcribe` is installed.
        told: called with what is being done.
    Raises:
        RecordingError: a file that holds no music, too little or too much of it.
        NoChampion: nobody holds the title; the message says how a champion is made.
        TranscriberMissing: transcription was asked for and the extra is not installed.
        OSError: the file cannot be read from the disk.
    """
    say = told or (lambda _: None)
    transcribe = can_transcribe() if transcribe is None else transcribe
    say(f"reading {path.name}")
    hear = hearing(say) if transcribe else None
    recording = read_recording(path, hear, TRANSCRIBER if transcribe else None)
    folder = current_champion(root, title_for(recording))
    say(f"scoring {recording.duration_s:.0f} s of {'sound' if recording.kind == AUDIO else 'MIDI'}")
    return score(recording, scorer_in(folder))


def score_beside(scores: Scores, root: Path) -> Scores | None:
    """The same recording by the champion that was asked to score beside the present one; None where none was."""
    folder = beside_champion(root, title_for(scores.recording))
    return None if folder is None else score(scores.recording, scorer_in(folder))


def hearing(say: Callable[[str], None]) -> Hear:
    """A transcriber that is loaded when the first sound is heard."""

    def hear(samples: np.ndarray) -> pd.DataFrame:
        say(f"transcribing {len(samples) / SAMPLE_RATE:.0f} s of sound")
        return _transcriber()(samples)

    return hear


@cache
def _transcriber() -> Hear:
    import torch

    from piano_assets.corpus.transcription.transcriber import transcriber
    from piano_assets.training.provenance import precision_that_gains

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return transcriber(device, precision_that_gains(device))


@cache
def scorer_in(folder: Path) -> Scorer:
    """The champion in a folder, read once: folders are named by part key, so that what lies in one never changes."""
    return scorer_of(folder)
