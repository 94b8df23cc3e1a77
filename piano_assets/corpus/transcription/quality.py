"""How well a transcription fits the notes that were played."""

import numpy as np
import pandas as pd

from piano_assets.corpus.performance import Performance
from piano_assets.corpus.transcription.transcriber import NOTE

TOLERANCE_S = 0.05
"""Largest distance of two onsets that are one note, as in MIREX."""


def quality(played: Performance, found: pd.DataFrame) -> dict[str, float]:
    """Onset precision, recall and F1, and how velocities and times were heard (mir_eval: same pitch, onset in 50 ms).

    Each note is matched once, by a largest matching (Bay, Ehmann and Downie 2009, ISMIR). Offsets do not count.

    Args:
        played: the sound's own notes, the first onset at the start of the sound. found: rows of `transcriptions`.
    Returns:
        n_played, n_heard, precision, recall, f1; velocity_r (NaN where fewer than three notes were matched or one side
        is constant); late_s, the median of heard less played onset of matched notes (NaN without any).
    """
    heard = found[found["event"] == NOTE]
    if heard.empty:
        none = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "velocity_r": np.nan, "late_s": np.nan}
        return {"n_played": played.n_notes, "n_heard": 0, **none}
    from mir_eval import transcription, util

    def intervals(onset_s: np.ndarray) -> np.ndarray:
        # mir_eval refuses intervals without length; offsets are not compared.
        return np.stack([onset_s, onset_s + 0.1], axis=1)

    onset, velocity = heard["onset_s"].to_numpy(np.float64), heard["velocity"].to_numpy(np.float64)
    pairs = transcription.match_notes(
        intervals(played.onset_s),
        util.midi_to_hz(played.pitch.astype(float)),
        intervals(onset),
        util.midi_to_hz(heard["pitch"].to_numpy(np.float64)),
        onset_tolerance=TOLERANCE_S,
        offset_ratio=None,
    )
    i, j = np.array(pairs, np.int64).reshape(-1, 2).T
    precision, recall = len(i) / len(heard), len(i) / played.n_notes
    return {
        "n_played": played.n_notes,
        "n_heard": len(heard),
        "precision": precision,
        "recall": recall,
        "f1": 2 * precision * recall / (precision + recall) if len(i) else 0.0,
        "velocity_r": _correlation(played.velocity[i], velocity[j]),
        "late_s": float(np.median(onset[j] - played.onset_s[i])) if len(i) else np.nan,
    }


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.nan
    return float(np.corrcoef(x, y)[0, 1])
