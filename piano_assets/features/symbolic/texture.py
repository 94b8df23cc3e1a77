"""Texture: density, polyphony, register and the shape of the melody. Mostly the piece, less the playing."""

import numpy as np

from piano_assets.features.symbolic.reading import Reading
from piano_assets.features.symbolic.summary import NAN, arch, correlation, entropy, mean, quantiles, sd, share, slope


def texture(reading: Reading) -> dict[str, float]:
    """Notes per second, notes at a time, register (MIDI pitch) and melodic motion (semitones)."""
    end = reading.end
    held = reading.sounding(reading.offset).sum(axis=1).astype(np.float64)
    size = reading.chord_size.astype(np.float64)
    window = _busiest(reading.onset, 1.0)
    return {
        "texture_duration_s": end if reading.n else NAN,
        "texture_notes": float(reading.n),
        "texture_notes_per_s": reading.n / end if end > 0 else NAN,
        "texture_chords_per_s": len(reading.chord_start) / end if end > 0 else NAN,
        "texture_busiest_second_notes": window,
        "texture_notes_per_chord_mean": mean(size),
        "texture_notes_per_chord_sd": sd(size),
        "texture_single_share": share(size == 1),
        "texture_polyphony_mean": mean(held),
        "texture_polyphony_max": float(held.max()) if held.size else NAN,
        "texture_polyphony_time_mean": float(reading.duration.sum()) / end if end > 0 else NAN,
        **_register(reading),
        **_melody(reading),
    }


def _busiest(onset: np.ndarray, width_s: float) -> float:
    """Most notes that begin within any `width_s` seconds; NaN without notes."""
    if not len(onset):
        return NAN
    return float((np.searchsorted(onset, onset + width_s) - np.arange(len(onset))).max())


def _register(reading: Reading) -> dict[str, float]:
    pitch = reading.pitch
    p10, p50, p90 = quantiles(pitch, 0.1, 0.5, 0.9)
    width = reading.per_chord(np.maximum, pitch) - reading.per_chord(np.minimum, pitch)
    found = {
        "texture_pitch_mean": mean(pitch),
        "texture_pitch_sd": sd(pitch),
        "texture_pitch_median": p50,
        "texture_pitch_p10": p10,
        "texture_pitch_p90": p90,
        "texture_pitch_range": float(np.ptp(pitch)) if pitch.size else NAN,
        "texture_pitch_entropy": entropy(np.bincount(pitch.astype(np.int64)).astype(np.float64)),
        "texture_low_share": share(pitch < 48),
        "texture_high_share": share(pitch >= 72),
        "texture_chord_width_mean": mean(width[reading.chord_size > 1]),
        "texture_pitch_slope": slope(reading.position[reading.chord], pitch),
    }
    for voice, notes in reading.voices.items():
        found[f"texture_{voice}_pitch_mean"] = mean(pitch[notes])
        found[f"texture_{voice}_share"] = share(getattr(reading, voice))
    found["texture_melody_over_bass"] = found["texture_melody_pitch_mean"] - found["texture_bass_pitch_mean"]
    return found


def _melody(reading: Reading) -> dict[str, float]:
    """Motion of the skyline and of the bass: steps, leaps, repetitions, contour."""
    notes = reading.voices["melody"]
    pitch = reading.pitch[notes]
    motion = np.abs(np.diff(pitch))
    where = reading.onset[notes] / reading.end if reading.end > 0 else np.zeros(len(notes))
    bass = np.abs(np.diff(reading.pitch[reading.voices["bass"]]))
    return {
        "texture_melody_pitch_sd": sd(pitch),
        "texture_melody_motion_mean": mean(motion),
        "texture_melody_step_share": share((motion > 0) & (motion <= 2)),
        "texture_melody_repeat_share": share(motion == 0),
        "texture_melody_leap_share": share(motion > 4),
        "texture_melody_slope": slope(where, pitch),
        "texture_melody_arch": arch(where, pitch),
        "texture_melody_notes_per_s": len(notes) / reading.end if reading.end > 0 else NAN,
        "texture_bass_motion_mean": mean(bass),
        "texture_pitch_time_r": correlation(reading.onset, reading.pitch),
    }
