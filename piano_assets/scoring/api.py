"""Score a file: what a program calls, and what the command line, the page and the inbox call too."""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.ensembles.champion_files import beside_champion, champion_home, current_champion, current_key
from piano_assets.scoring.recordings import AUDIO, MIDI, SAMPLE_RATE, Hear, Recording, read_recording
from piano_assets.scoring.score import Scorer, Scores, score, scorer_of

TRANSCRIBER = "transkun"


def can_transcribe() -> bool:
    """Whether the extra `transcribe` is installed."""
    return find_spec(TRANSCRIBER) is not None


def title_for(recording: Recording) -> str:
    """The title whose champion scores a recording: `performance` MIDI, `recording` transcribed notes, `sound` sound.

    The champion of exact notes is not asked of transcribed ones: they know no half pedal, and notes last as long as the
    pedal holds them. That of recordings has learnt from notes that are so.
    """
    if recording.kind == MIDI:
        return "performance"
    return "sound" if recording.performance is None else "recording"


def titles_asked(transcribe: bool | None = None) -> tuple[str, ...]:
    """Titles whose champions score what may come. transcribe: see `score_file`."""
    return "performance", "recording" if _heard(transcribe) else "sound"


def _heard(transcribe: bool | None) -> bool:
    return can_transcribe() if transcribe is None else transcribe


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
    transcribe = _heard(transcribe)
    say(f"reading {path.name}")
    hear = hearing(say) if transcribe else None
    recording = read_recording(path, hear, TRANSCRIBER if transcribe else None)
    folder = current_champion(root, title_for(recording))
    say(f"scoring {recording.duration_s:.0f} s of {'sound' if recording.kind == AUDIO else 'MIDI'}")
    return score(recording, scorer_in(folder, _ear(recording, root)))


def score_beside(scores: Scores, root: Path) -> Scores | None:
    """The same recording by the champion that was asked to score beside the present one; None where none was."""
    folder = beside_champion(root, title_for(scores.recording))
    return None if folder is None else score(scores.recording, scorer_in(folder, _ear(scores.recording, root)))


def _ear(recording: Recording, root: Path) -> Path | None:
    """The champion of sound, where somebody holds that title and the recording is scored by one that hears none."""
    held = title_for(recording) == "recording" and current_key(champion_home(root, "sound")) is not None
    return current_champion(root, "sound") if held else None


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
def scorer_in(folder: Path, ear: Path | None = None) -> Scorer:
    """The champion in a folder, read once: folders are named by part key, so that what lies in one never changes."""
    return scorer_of(folder, ear)
