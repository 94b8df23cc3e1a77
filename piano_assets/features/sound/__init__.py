"""Features of the sound alone, beside the 65 traditional ones: no note and no score is known here.

Families are functions of a `Hearing`; each names its features after itself.
"""

from collections.abc import Callable, Mapping
from functools import cache
from math import isfinite
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.features.recorded import recorded_table
from piano_assets.features.sound.bands import bands
from piano_assets.features.sound.decay import decay
from piano_assets.features.sound.hearing import N_FFT, SAMPLE_RATE, Hearing
from piano_assets.features.sound.loudness import loudness
from piano_assets.features.sound.pitch import harmony, register
from piano_assets.features.sound.rhythm import rhythm
from piano_assets.features.sound.timbre import timbre

FAMILIES: dict[str, Callable[[Hearing], dict[str, float]]] = {
    "loudness": loudness,
    "rhythm": rhythm,
    "decay": decay,
    "timbre": timbre,
    "register": register,
    "harmony": harmony,
    "bands": bands,
}


def sound_features(samples: np.ndarray) -> dict[str, float]:
    """All features of one recording; NaN where undefined, never infinite.

    Args:
        samples: (n_samples,) at 22.05 kHz in [-1, 1], at least 2048.
    Raises:
        ValueError: no such samples.
    """
    h = Hearing(samples)
    found = {name: value for family in FAMILIES.values() for name, value in family(h).items()}
    return {name: float(value) if isfinite(value) else np.nan for name, value in found.items()}


@cache
def sound_names() -> tuple[str, ...]:
    """Names of all features, in order."""
    return tuple(sound_features(np.zeros(N_FFT, np.float32)))


@cache
def _families() -> dict[str, str]:
    h = Hearing(np.zeros(N_FFT, np.float32))
    return {name: family for family, make in FAMILIES.items() for name in make(h)}


def family_of_sound(feature: str) -> str | None:
    """The family of a feature of the sound; None where it is none."""
    return _families().get(feature)


def sound_table(
    paths: Mapping[str, Path],
    folder: Path,
    rendering: str,
    progress: Callable[[int, int], None] | None = None,
    workers: int = 2,
) -> pd.DataFrame:
    """The table `features` (source `sound`) of recordings: clip -> sound file, absolute or relative to `folder`.

    Raises:
        corpus.audio.AudioError: a file that holds no usable sound.
    """
    measured = sound_features, sound_names(), "sound", SAMPLE_RATE
    return recorded_table(*measured, paths, folder, rendering, progress, workers)
