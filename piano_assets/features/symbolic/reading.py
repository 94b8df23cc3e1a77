"""A performance read as chords, voices and pedalled sound: what all families of note-level features share."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from piano_assets.corpus.performance import CHORD_GAP_S, SUSTAIN, Performance

# MIDI's own limit between pedal up and pedal down.
PEDAL_DOWN = 64
# A damped string is silent at once; a pedalled one fades over about this time in the middle register.
DECAY_S = 2.0


@dataclass(frozen=True, eq=False)
class Reading:
    """Lazily derived views of one performance; every array is computed at most once.

    Notes are (n_notes,) in the performance's order; chords are (n_chords,) in order of time.
    """

    performance: Performance

    @cached_property
    def onset(self) -> np.ndarray:
        """Onsets in seconds from the first one, so that silence before the music never counts."""
        return np.asarray(self.performance.onset_s, np.float64) - self.start

    @cached_property
    def offset(self) -> np.ndarray:
        return np.asarray(self.performance.offset_s, np.float64) - self.start

    @cached_property
    def start(self) -> float:
        onset = self.performance.onset_s
        return float(onset[0]) if len(onset) else 0.0

    @cached_property
    def pitch(self) -> np.ndarray:
        return np.asarray(self.performance.pitch, np.float64)

    @cached_property
    def velocity(self) -> np.ndarray:
        return np.asarray(self.performance.velocity, np.float64)

    @property
    def n(self) -> int:
        return len(self.onset)

    @cached_property
    def duration(self) -> np.ndarray:
        """Key-down times in seconds."""
        return self.offset - self.onset

    @cached_property
    def end(self) -> float:
        """Last note-off, in seconds from the first onset."""
        return float(self.offset.max()) if self.n else 0.0

    @cached_property
    def chord_start(self) -> np.ndarray:
        """Index of each chord's first note."""
        if not self.n:
            return np.zeros(0, np.int64)
        return np.flatnonzero(np.concatenate(([True], np.diff(self.onset) > CHORD_GAP_S)))

    @cached_property
    def chord_size(self) -> np.ndarray:
        return np.diff(np.append(self.chord_start, self.n))

    @cached_property
    def chord(self) -> np.ndarray:
        """Each note's chord."""
        return np.repeat(np.arange(len(self.chord_start)), self.chord_size)

    def per_chord(self, ufunc: np.ufunc, x: np.ndarray) -> np.ndarray:
        """`ufunc` reduced over the notes of each chord."""
        return ufunc.reduceat(x, self.chord_start) if self.n else np.zeros(0)

    @cached_property
    def chord_onset(self) -> np.ndarray:
        """Mean onset of each chord."""
        return self.per_chord(np.add, self.onset) / self.chord_size

    @cached_property
    def ioi(self) -> np.ndarray:
        """Inter-onset intervals between chords, in seconds."""
        return np.diff(self.chord_onset)

    @cached_property
    def position(self) -> np.ndarray:
        """Chord onsets from 0 to 1; zeros where there is one chord."""
        t = self.chord_onset
        return (t - t[0]) / (t[-1] - t[0]) if len(t) > 1 else np.zeros(len(t))

    @cached_property
    def _covered(self) -> tuple[np.ndarray, np.ndarray]:
        """Notes with a higher, and with a lower, key held through the first half of their own time."""
        middle = (self.onset + self.offset) / 2
        held = (self.onset[None, :] <= self.onset[:, None] + CHORD_GAP_S) & (self.offset[None, :] > middle[:, None])
        # Zero-length notes still count within their own chord.
        held |= self.chord[None, :] == self.chord[:, None]
        higher = self.pitch[None, :] > self.pitch[:, None]
        return (held & higher).any(axis=1), (held & higher.T).any(axis=1)

    @cached_property
    def melody(self) -> np.ndarray:
        """(n_notes,) True for the skyline: no higher key is held (Uitdenbogerd and Zobel 1998)."""
        return ~self._covered[0]

    @cached_property
    def bass(self) -> np.ndarray:
        """(n_notes,) True for the lowest line; a lone line is the melody, not the bass."""
        return ~self._covered[1] & self._covered[0]

    @cached_property
    def inner(self) -> np.ndarray:
        return self._covered[0] & self._covered[1]

    @cached_property
    def voices(self) -> dict[str, np.ndarray]:
        """Indices of each voice's notes, in order of time."""
        return {v: np.flatnonzero(getattr(self, v)) for v in ("melody", "bass", "inner")}

    def pedal(self, controller: int = SUSTAIN) -> tuple[np.ndarray, np.ndarray]:
        """(time_s, value): the pedal as steps from 0 on; a file without movements has its pedal held up.

        A few PercePiano files hold fewer than five movements: the pedal stayed where the first one put it.
        """
        time, value = self.performance.pedal(controller)
        time, value = np.asarray(time, np.float64) - self.start, np.asarray(value, np.float64)
        before = time <= 0
        state = value[before][-1] if before.any() else 0.0
        keep = ~before & (time < self.end)
        return np.concatenate(([0.0], time[keep])), np.concatenate(([state], value[keep]))

    @cached_property
    def sustain(self) -> tuple[np.ndarray, np.ndarray]:
        return self.pedal(SUSTAIN)

    def sustain_at(self, time: np.ndarray) -> np.ndarray:
        """Sustain pedal position (0..127) at times in seconds from the first onset."""
        when, value = self.sustain
        return value[np.maximum(np.searchsorted(when, time, side="right") - 1, 0)]

    @cached_property
    def silent(self) -> np.ndarray:
        """(n_notes,) when each note is damped: key up and pedal up, or the same key struck again."""
        when, value = self.sustain
        ups = when[value < PEDAL_DOWN]
        next_up = np.append(ups, self.end)[np.searchsorted(ups, self.offset)]
        damped = np.where(self.sustain_at(self.offset) >= PEDAL_DOWN, np.maximum(next_up, self.offset), self.offset)
        order = np.lexsort((self.onset, self.pitch))
        again = np.full(self.n, np.inf)
        same = np.flatnonzero(self.pitch[order[1:]] == self.pitch[order[:-1]])
        again[order[same]] = self.onset[order[same + 1]]
        return np.maximum(np.minimum(damped, again), np.minimum(self.offset, again))

    def sounding(self, until: np.ndarray) -> np.ndarray:
        """(n_chords, n_notes) True where a note, given when each ends, still sounds just after a chord's last onset."""
        if not self.n:
            return np.zeros((0, 0), bool)
        now = self.per_chord(np.maximum, self.onset)[:, None]
        own = self.chord[None, :] == np.arange(len(self.chord_start))[:, None]
        return own | ((self.onset[None, :] <= now) & (until[None, :] > now))

    @cached_property
    def pitch_class(self) -> np.ndarray:
        """(n_notes, 12) one-hot pitch classes."""
        return np.eye(12)[self.pitch.astype(np.int64) % 12]
