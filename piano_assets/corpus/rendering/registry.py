"""The renderers by name."""

from collections.abc import Callable

import numpy as np

from piano_assets.corpus.rendering.fluidsynth import render_fluidsynth
from piano_assets.corpus.rendering.modal import render_modal

RENDERERS: dict[str, Callable[..., np.ndarray]] = {"modal": render_modal, "fluidsynth": render_fluidsynth}
"""name -> render(performance, sample_rate=22050) -> float32 (n_samples,) mono in [-1, 1]."""
