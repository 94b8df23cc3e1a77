"""The table `features` of recordings, whatever is measured in them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.corpus.audio import read_audio
from piano_assets.features.ordered import ordered_map


def recorded_table(
    measure: Callable[[np.ndarray], Mapping[str, float]],
    names: Sequence[str],
    source: str,
    sample_rate: int,
    paths: Mapping[str, Path],
    folder: Path,
    rendering: str,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 2,
) -> pd.DataFrame:
    """What `measure` finds in every recording, long, clips in the order of their names.

    Args:
        measure: samples -> feature by name; `names` are its features, in its order.
        paths: clip -> sound file, absolute or relative to `folder`.
        progress: called with (clips done, clips in all).
        workers: threads; the costly steps release the interpreter lock.
    Raises:
        corpus.audio.AudioError: a file that holds no usable sound.
    """
    clips = sorted(paths)

    def one(clip: str) -> list[float]:
        return list(measure(read_audio(folder / paths[clip], sample_rate)).values())

    values = list(ordered_map(one, clips, workers, progress))
    return pd.DataFrame(
        {
            "clip": np.repeat(clips, len(names)),
            "rendering": rendering,
            "feature": np.tile(names, len(clips)),
            "value": np.array(values, np.float64).ravel(),
            "source": source,
        }
    )
