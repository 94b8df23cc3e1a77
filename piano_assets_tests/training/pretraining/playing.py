"""Made-up performances with a rule in them: high notes are loud, low ones soft, and the pedal follows the bass."""

import numpy as np

from piano_assets.corpus.performance import Performance
from piano_assets_tests.corpus.playing import play


def performance(seed: int, n: int = 200, surprise: float = 0.0) -> Performance:
    """Chords of one or two notes a quarter second apart.

    surprise: share of the notes whose velocity breaks the rule.
    """
    rng = np.random.default_rng(seed)
    notes = []
    for i in range(n):
        for pitch in rng.choice(np.arange(40, 90), size=1 + i % 2, replace=False):
            loud = 30 + 1.4 * (pitch - 40) + rng.normal(0, 2)
            velocity = int(np.clip(130 - loud if rng.random() < surprise else loud, 1, 127))
            onset = 0.25 * i + rng.uniform(0, 0.015)
            notes.append((onset, onset + rng.uniform(0.1, 0.3), int(pitch), velocity))
    first = min(on for on, *_ in notes)
    controls = [(0.5 * i, 64, 127 * (i % 2)) for i in range(n // 2)]
    return play([(on - first, off - first, p, v) for on, off, p, v in notes], controls)
