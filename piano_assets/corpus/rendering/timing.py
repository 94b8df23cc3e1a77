"""What both renderers agree on: sample rates, lengths, and where a performance begins and ends."""

from piano_assets.corpus.performance import Performance

TAIL_S = 1.0
"""Sound after the last note-off."""
LOWEST_RATE, HIGHEST_RATE = 8000, 96000


def check_sample_rate(sample_rate: int) -> None:
    if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
        raise ValueError(f"sample_rate={sample_rate} must lie in {LOWEST_RATE}..{HIGHEST_RATE} Hz")


def n_samples(performance: Performance, sample_rate: int) -> int:
    """Samples from the first onset to the last note-off + tail; without notes, the tail alone."""
    duration_s = performance.duration_s if performance.n_notes else 0.0
    return round((duration_s + TAIL_S) * sample_rate)
