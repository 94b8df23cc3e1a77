"""A corpus whose prediction errors are known: what excerpts, performers and the clips' duration add to them."""

import numpy as np
import pandas as pd

from piano_assets.dimensions import NAMES

N_EXCERPTS, N_PERFORMERS = 24, 14
SLOPE, EXCERPT_SD, PERFORMER_SD, REST_SD = 0.02, 0.03, 0.02, 0.05


def corpus(rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, np.ndarray]:
    """(predictions, clips, labels, residuals): residuals of known excerpts, performers and slope on duration."""
    excerpt, performer = (x.ravel() for x in np.indices((N_EXCERPTS, N_PERFORMERS)))
    n = len(excerpt)
    duration = rng.uniform(10, 60, n)
    clips = pd.DataFrame(
        {
            "clip": [f"e{e:02d}p{p:02d}" for e, p in zip(excerpt, performer, strict=True)],
            "composer": np.where(excerpt < 16, "Schubert", "Beethoven"),
            "excerpt": [f"e{e:02d}" for e in excerpt],
            "cluster": [f"c{e // 2:02d}" for e in excerpt],
            "performer": [f"p{p:02d}" for p in performer],
            "deadpan": performer == 0,
            "duration_s": duration,
            "n_notes": rng.integers(80, 400, n),
        }
    )
    log = np.log(duration)
    residual = SLOPE * ((log - log.mean()) / log.std())[:, None] + REST_SD * rng.normal(size=(n, 19))
    residual += EXCERPT_SD * rng.normal(size=(N_EXCERPTS, 19))[excerpt]
    residual += PERFORMER_SD * rng.normal(size=(N_PERFORMERS, 19))[performer]
    value = rng.uniform(0.3, 0.7, (n, 19))
    labels = pd.DataFrame(
        {
            "clip": np.repeat(clips["clip"].to_numpy(), 19),
            "dimension": np.tile(NAMES, n),
            "rule": "clean",
            "value": value.ravel(),
            "standard_error": rng.uniform(0.02, 0.08, n * 19),
            "n_raters": np.repeat(rng.integers(3, 15, n), 19),
        }
    )
    pred = pd.DataFrame(value + residual, clips["clip"].to_numpy(), list(NAMES))
    return pred, clips, labels, residual
