"""Asynchrony: how chords are spread in time, and which voice leads (Goebl 2001, JASA 110:563)."""

import numpy as np

from piano_assets.features.symbolic.reading import Reading
from piano_assets.features.symbolic.summary import NAN, mean, quantiles, sd, share

ROLLED_S = 0.03
TIGHT_S = 0.01


def asynchrony(reading: Reading) -> dict[str, float]:
    """Onset spread within chords in seconds; a lead is positive where the voice comes before the rest of its chord."""
    several = reading.chord_size > 1
    spread = (reading.per_chord(np.maximum, reading.onset) - reading.per_chord(np.minimum, reading.onset))[several]
    middle, p90 = quantiles(spread, 0.5, 0.9)
    top, low = _lead(reading, highest=True), _lead(reading, highest=False)
    return {
        "asynchrony_chord_share": share(several),
        "asynchrony_spread_mean_s": mean(spread),
        "asynchrony_spread_median_s": middle,
        "asynchrony_spread_sd_s": sd(spread),
        "asynchrony_spread_p90_s": p90,
        "asynchrony_tight_share": share(spread < TIGHT_S),
        "asynchrony_rolled_share": share(spread > ROLLED_S),
        "asynchrony_melody_lead_mean_s": mean(top),
        "asynchrony_melody_lead_sd_s": sd(top),
        "asynchrony_bass_lead_mean_s": mean(low),
        "asynchrony_bass_lead_sd_s": sd(low),
        "asynchrony_upward_balance": share(low > 0) - share(top > 0) if several.any() else NAN,
    }


def _lead(reading: Reading, highest: bool) -> np.ndarray:
    """(n_chords of two notes or more,) mean onset of a chord's other notes minus that of its outer note, in seconds."""
    several = reading.chord_size > 1
    if not several.any():
        return np.zeros(0)
    extreme = reading.per_chord(np.maximum if highest else np.minimum, reading.pitch)
    outer = reading.pitch == extreme[reading.chord]
    # Unison doublings within a chord count as one outer note.
    n_outer = reading.per_chord(np.add, outer.astype(np.float64))
    sum_outer = reading.per_chord(np.add, np.where(outer, reading.onset, 0.0))
    sum_rest = reading.per_chord(np.add, np.where(outer, 0.0, reading.onset))
    n_rest = reading.chord_size - n_outer
    use = several & (n_rest > 0)
    return sum_rest[use] / n_rest[use] - sum_outer[use] / n_outer[use]
