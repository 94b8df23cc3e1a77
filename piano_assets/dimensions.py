"""The 19 perceptual dimensions of PercePiano: column, name and both poles, in the published order.

Park et al. (2024), Scientific Reports 14:23002. Ratings run from 1 (low pole) to 7 (high pole). Name and column
live in this one table because a follow-up paper shifted nine of them by reading positions instead of columns.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Dimension:
    """One rated dimension: its question column in the ratings file, its name, and the words of both poles."""

    column: str
    name: str
    low: str
    high: str


DIMENSIONS: tuple[Dimension, ...] = (
    Dimension("Question_1_1_1", "timing_stable_unstable", "stable timing", "unstable timing"),
    Dimension("Question_2_1_1", "articulation_short_long", "short articulation", "long articulation"),
    Dimension("Question_2_2_1", "articulation_soft_hard", "soft articulation", "hard articulation"),
    Dimension("Question_3_1_1", "pedal_sparse_saturated", "sparse pedal", "saturated pedal"),
    Dimension("Question_3_2_1", "pedal_clean_blurred", "clean pedal", "blurred pedal"),
    Dimension("Question_4_1_1", "timbre_even_colorful", "even timbre", "colourful timbre"),
    Dimension("Question_4_2_1", "timbre_shallow_rich", "shallow timbre", "rich timbre"),
    Dimension("Question_4_3_1", "timbre_bright_dark", "bright timbre", "dark timbre"),
    Dimension("Question_4_4_1_5_2_1", "timbre_soft_loud", "soft timbre", "loud timbre"),
    Dimension("Question_5_3_1", "dynamic_mellow_raw", "mellow dynamics", "raw dynamics"),
    Dimension("Question_5_5_1", "dynamic_range_little_large", "little dynamic range", "large dynamic range"),
    Dimension("Question_6_1_1", "tempo_fast_slow", "fast paced", "slow paced"),
    Dimension("Question_6_4_1", "space_flat_spacious", "flat", "spacious"),
    Dimension("Question_6_5_1_5_4_1", "balance_disproportioned_balanced", "disproportioned", "balanced"),
    Dimension("Question_6_6_1_5_1_1", "drama_pure_dramatic", "pure", "dramatic"),
    Dimension("Question_7_1_1", "mood_optimistic_dark", "optimistic mood", "dark mood"),
    Dimension("Question_7_2_1", "mood_low_high_energy", "low energy", "high energy"),
    Dimension("Question_8_1_1", "mood_honest_imaginative", "honest", "imaginative"),
    Dimension("Question_9_1_1", "interpretation_doubtful_convincing", "doubtful", "convincing"),
)

NAMES: tuple[str, ...] = tuple(d.name for d in DIMENSIONS)
COLUMNS: tuple[str, ...] = tuple(d.column for d in DIMENSIONS)
N_DIMENSIONS = len(DIMENSIONS)
