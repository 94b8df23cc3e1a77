"""A performance in memory: notes and pedal movements, in seconds from the first onset."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

SUSTAIN, SOSTENUTO, SOFT = 64, 66, 67

# Onsets closer than this belong to one chord: played chords spread over 10 to 30 ms (Goebl 2001, JASA 110:563),
# while the fastest notes of trills lie 60 ms apart.
CHORD_GAP_S = 0.035


@dataclass(frozen=True, eq=False)
class Performance:
    """Notes sorted by onset, then pitch, and pedal movements sorted by time.

    Times are in seconds; the first onset is at 0. Pedal movements run from 0 (which carries the state before the
    first onset) to the last note-off.

    Shapes: onset_s, offset_s, pitch, velocity: (n_notes,); control_time_s, controller, control_value: (n_controls,).
    """

    onset_s: np.ndarray
    offset_s: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    control_time_s: np.ndarray
    controller: np.ndarray
    control_value: np.ndarray

    @property
    def duration_s(self) -> float:
        """First onset to last note-off."""
        return float(self.offset_s.max())

    @property
    def n_notes(self) -> int:
        return len(self.onset_s)

    def pedal(self, controller: int = SUSTAIN) -> tuple[np.ndarray, np.ndarray]:
        """(time_s, value) of one pedal's movements."""
        chosen = self.controller == controller
        return self.control_time_s[chosen], self.control_value[chosen]


def performances(notes: pd.DataFrame, controls: pd.DataFrame) -> dict[str, Performance]:
    """Turn the tables `notes` and `controls` into one `Performance` per clip."""
    pedals = dict(iter(controls.groupby("clip", sort=False)))
    nothing = controls.iloc[:0]
    found = {}
    for clip, n in notes.groupby("clip", sort=True):
        c = pedals.get(clip, nothing)
        found[str(clip)] = Performance(
            onset_s=n["onset_s"].to_numpy(np.float64),
            offset_s=n["offset_s"].to_numpy(np.float64),
            pitch=n["pitch"].to_numpy(np.int16),
            velocity=n["velocity"].to_numpy(np.int16),
            control_time_s=c["time_s"].to_numpy(np.float64),
            controller=c["controller"].to_numpy(np.int16),
            control_value=c["value"].to_numpy(np.int16),
        )
    return found
