"""What listeners would hear: the declared functions from played parameters to the 19 dimensions.

An impression stands on the rating scale (1..7) before any listener's bias, noise or rounding. It is a weighted sum of
z-scored parameters (`performers.measure`), brought to the same spread for every dimension and bent by a tanh, so it is
monotone in each parameter and never leaves the scale.
"""

import numpy as np
import pandas as pd

from piano_assets.dimensions import NAMES

CENTRE = 4.0
SPREAD = 1.1
"""Standard deviation of the human clips' impressions, in rating points, before bending."""
REACH = 2.9
"""Farthest distance of an impression from the scale's centre, in rating points."""

WEIGHTS: dict[str, dict[str, float]] = {
    "timing_stable_unstable": {"irregularity": 0.9, "lead_s": 0.3},
    "articulation_short_long": {"legato": 0.7, "pedal_share": 0.5},
    "articulation_soft_hard": {"loudness": 0.8, "legato": -0.3, "soft_share": -0.2},
    "pedal_sparse_saturated": {"pedal_share": 0.8, "pedal_depth": 0.3},
    "pedal_clean_blurred": {"pedal_overlap": 0.6, "pedal_share": 0.5},
    "timbre_even_colorful": {"dynamic_spread": 0.6, "irregularity": 0.4, "soft_share": 0.3},
    "timbre_shallow_rich": {"pedal_depth": 0.5, "voicing": 0.4, "loudness": 0.3, "height": -0.3},
    "timbre_bright_dark": {"soft_share": 0.5, "loudness": -0.5, "height": -0.4, "minor": 0.3},
    "timbre_soft_loud": {"loudness": 0.9, "soft_share": -0.3},
    "dynamic_mellow_raw": {"loudness": 0.7, "voicing": -0.4, "legato": -0.2},
    "dynamic_range_little_large": {"dynamic_spread": 0.9, "loudness": 0.2},
    "tempo_fast_slow": {"slowness": 0.8, "density": -0.4},
    "space_flat_spacious": {"pedal_share": 0.5, "slowness": 0.4, "dynamic_spread": 0.4},
    "balance_disproportioned_balanced": {"voicing": 0.8, "irregularity": -0.4},
    "drama_pure_dramatic": {"dynamic_spread": 0.6, "irregularity": 0.4, "loudness": 0.3},
    "mood_optimistic_dark": {"minor": 0.6, "slowness": 0.4, "soft_share": 0.4},
    "mood_low_high_energy": {"loudness": 0.6, "slowness": -0.5, "density": 0.3},
    "mood_honest_imaginative": {"irregularity": 0.5, "dynamic_spread": 0.4, "soft_share": 0.3},
    "interpretation_doubtful_convincing": {"voicing": 0.5, "dynamic_spread": 0.5, "pedal_overlap": -0.4},
}


def impressions(parameters: pd.DataFrame, human: np.ndarray) -> pd.DataFrame:
    """Impressions on the rating scale, (n_clips, 19), columns in the order of `NAMES`.

    Args:
        parameters: one row per clip, one column per parameter of `performers.measure`.
        human: (n_clips,) flags; z-scores and spread are taken over these clips, so that deadpan renditions stand
            where they fall. A parameter that all of them share counts as 0.
    """
    people = parameters[human]
    spread = people.std(ddof=0)
    z = (parameters - people.mean()) / spread.where(spread > 1e-12, np.inf)
    sums = pd.DataFrame({name: sum(w * z[p] for p, w in WEIGHTS[name].items()) for name in NAMES})
    scaled = SPREAD * sums / sums[human].std(ddof=0)
    return CENTRE + REACH * np.tanh(scaled / REACH)
