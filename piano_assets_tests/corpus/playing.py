"""Small performances written by hand, for the tests of the renderers."""

import numpy as np

from piano_assets.corpus.performance import Performance

RATE = 22050


def play(
    notes: list[tuple[float, float, int, int]], controls: list[tuple[float, int, int]] | None = None
) -> Performance:
    """A performance of (onset_s, offset_s, pitch, velocity) and (time_s, controller, value)."""
    n = np.array(sorted(notes, key=lambda x: (x[0], x[2])), dtype=np.float64).reshape(-1, 4)
    c = np.array(controls or [], dtype=np.float64).reshape(-1, 3)
    return Performance(
        onset_s=n[:, 0],
        offset_s=n[:, 1],
        pitch=n[:, 2].astype(np.int16),
        velocity=n[:, 3].astype(np.int16),
        control_time_s=c[:, 0],
        controller=c[:, 1].astype(np.int16),
        control_value=c[:, 2].astype(np.int16),
    )


def rms_db(samples: np.ndarray, start_s: float = 0.0, end_s: float | None = None) -> float:
    """Root mean square between two times, in dB of full scale."""
    part = samples[int(start_s * RATE) : None if end_s is None else int(end_s * RATE)].astype(np.float64)
    return float(10 * np.log10(np.mean(part**2) + 1e-20))


def centroid_hz(samples: np.ndarray) -> float:
    """Magnitude-weighted mean frequency of a whole signal."""
    magnitude = np.abs(np.fft.rfft(samples))
    return float(np.sum(np.fft.rfftfreq(len(samples), 1 / RATE) * magnitude) / magnitude.sum())
