"""Small performances for the tests of note-level features."""

import numpy as np

from piano_assets.corpus.performance import Performance


def performance(notes, controls=()):
    """`notes`: rows (onset_s, offset_s, pitch, velocity); `controls`: rows (time_s, controller, value)."""
    table = np.array(sorted(notes, key=lambda n: (n[0], n[2])), np.float64).reshape(-1, 4)
    moves = np.array(sorted(controls), np.float64).reshape(-1, 3)
    return Performance(
        onset_s=table[:, 0],
        offset_s=table[:, 1],
        pitch=table[:, 2].astype(np.int16),
        velocity=table[:, 3].astype(np.int16),
        control_time_s=moves[:, 0],
        controller=moves[:, 1].astype(np.int16),
        control_value=moves[:, 2].astype(np.int16),
    )


def line(pitches, ioi=0.5, duration=0.4, velocity=64):
    """Successive single notes; ioi, duration and velocity may be sequences."""
    n = len(pitches)
    onset = np.concatenate(([0.0], np.cumsum(np.broadcast_to(ioi, n - 1)))) if n else np.zeros(0)
    held, struck = np.broadcast_to(duration, n), np.broadcast_to(velocity, n)
    return [(t, t + d, p, v) for t, d, p, v in zip(onset, held, pitches, struck, strict=True)]


def played(rng, n_chords=24):
    """A chordal excerpt: (deadpan, human) notes, the same score with rubato, spread, dynamics, touch and pedal."""
    chords = [sorted(rng.choice(np.arange(45, 80), size=rng.integers(1, 5), replace=False)) for _ in range(n_chords)]
    written = np.concatenate(([0.0], np.cumsum(rng.choice([0.25, 0.5], n_chords - 1))))
    tempo = np.exp(rng.normal(0, 0.05, n_chords - 1))
    when = np.concatenate(([0.0], np.cumsum(np.diff(written) * tempo)))
    deadpan, human = [], []
    for k, chord in enumerate(chords):
        length = 0.9 * (written[k + 1] - written[k]) if k + 1 < n_chords else 0.4
        for m, p in enumerate(chord):
            deadpan.append((written[k], written[k] + length, p, 64))
            t = when[k] + (0.004 * m if when[k] else 0.004 * (len(chord) - 1 - m))
            human.append((t, t + length * np.exp(rng.normal(-0.1, 0.2)), p, int(rng.integers(30, 100))))
    first = min(n[0] for n in human)
    human = [(a - first, b - first, p, v) for a, b, p, v in human]
    pedal = [(t + 0.1 + d, 64, v) for t in when[::3] for d, v in ((0.0, 0), (0.05, 70), (0.1, 110))]
    return deadpan, human, [*pedal, (0.0, 67, 30)]
