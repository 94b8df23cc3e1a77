"""The transcriber: transkun 2.0 (Yan and Duan 2024, ISMIR), whose weights lie in its wheel.

It hears notes and both pedals as intervals, at 44.1 kHz in windows of 16 s. It was trained on recordings of real pianos
(MAESTRO), not on this project's renderings. The extra `transcribe` brings it.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.corpus.performance import SOFT, SUSTAIN, Performance

SAMPLE_RATE = 22050
NOTE = "note"
PEDALS = {SUSTAIN: "sustain", SOFT: "soft"}
COLUMNS = ("event", "onset_s", "offset_s", "pitch", "velocity")
WINDOW_S, STEP_S = 16.0, 12.0
"""Windows as the model was trained on, and their distance. Its authors' program steps by 8 s, which hears each second
twice and pads a clip with 8 s on each side: two thirds more work, most of it on silence, for the clips of this corpus.
"""
_UP, _DOWN = 0, 127


class TranscriberMissing(ImportError):
    """The extra `transcribe` is not installed."""


def transcriber(device: str = "cpu", precision: str = "float32") -> Callable[[np.ndarray], pd.DataFrame]:
    """A function from samples (n_samples,) at 22.05 kHz in [-1, 1] to what is heard in them.

    It returns one row an event, in order of time, with the columns `COLUMNS`: `event` is `note`, `sustain` or `soft`;
    times are in seconds from the start of the sound; pitch and velocity are NULL for pedals, whose presses are
    intervals. Nothing heard gives no rows.

    Args:
        precision: `float32`, or `bfloat16` for products in mixed precision (torch.autocast), which is twice as fast
            where a processor multiplies bfloat16, and hears as well: `docs/data.md`.
    Raises:
        TranscriberMissing: transkun is not installed.
    """
    try:
        import moduleconf
        import transkun
    except ImportError as error:
        raise TranscriberMissing(f"transcribing needs {error.name}: pip install 'piano_assets[transcribe]'") from error
    import torch
    from scipy.signal import resample_poly

    folder = Path(transkun.__file__).parent / "pretrained"
    conf = moduleconf.parseFromFile(str(folder / "2.0.conf"))["Model"]
    model = conf.module.TransKun(conf=conf.config).to(device)
    weights = torch.load(folder / "2.0.pt", map_location=device, weights_only=True)
    # The wheel's weights lack the frequencies of its window functions, which the constructor computes.
    model.load_state_dict(weights.get("best_state_dict", weights.get("state_dict")), strict=False)
    model.eval()

    def hear(samples: np.ndarray) -> pd.DataFrame:
        up = resample_poly(samples, model.fs, SAMPLE_RATE).astype(np.float32)
        mixed = torch.autocast(device.split(":")[0], torch.bfloat16, enabled=precision == "bfloat16")
        with torch.no_grad(), mixed, warnings.catch_warnings():
            # It asks for checkpoints of gradients that nobody takes, and torch says so once a call.
            warnings.filterwarnings("ignore", category=UserWarning, module="torch")
            x = torch.from_numpy(up[:, None]).to(device)
            return events(model.transcribe(x, stepInSecond=STEP_S, segmentSizeInSecond=WINDOW_S))

    return hear


def events(heard: list) -> pd.DataFrame:
    """The transcriber's own objects (start, end, pitch, velocity) as rows; it writes a pedal as a negative pitch."""
    rows = [
        (NOTE if n.pitch > 0 else PEDALS[-n.pitch], n.start, n.end, n.pitch, n.velocity)
        for n in sorted(heard, key=lambda n: (n.start, n.pitch))
    ]
    found = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"onset_s": "float64", "offset_s": "float64"})
    # A note that is heard with velocity 0 is heard all the same; MIDI has no such note.
    found["velocity"] = found["velocity"].clip(lower=1)
    found[["pitch", "velocity"]] = found[["pitch", "velocity"]].astype("Int64").where(found["event"] == NOTE)
    return found


def performance_of(found: pd.DataFrame) -> Performance:
    """What was heard of one clip as a performance, the first onset at 0; pressed pedals are at 127, released ones at 0.

    Raises:
        ValueError: no note was heard.
    """
    notes = found[found["event"] == NOTE].sort_values(["onset_s", "pitch"])
    if notes.empty:
        raise ValueError("no note was heard")
    start = float(notes["onset_s"].iloc[0])
    moves = [
        (max(time - start, 0.0), controller, value)
        for controller, name in PEDALS.items()
        for column, value in (("onset_s", _DOWN), ("offset_s", _UP))
        for time in found.loc[found["event"] == name, column]
    ]
    # Of a release and a press at one moment the release comes first.
    control = np.array(sorted(moves, key=lambda move: (move[0], move[2])), np.float64).reshape(-1, 3)
    return Performance(
        onset_s=notes["onset_s"].to_numpy(np.float64) - start,
        offset_s=notes["offset_s"].to_numpy(np.float64) - start,
        pitch=notes["pitch"].to_numpy(np.int16),
        velocity=notes["velocity"].to_numpy(np.int16),
        control_time_s=control[:, 0],
        controller=control[:, 1].astype(np.int16),
        control_value=control[:, 2].astype(np.int16),
    )
