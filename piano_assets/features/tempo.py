"""What the onsets of a recording say: tempo, onset rate, beats. Detection and tracking are librosa's."""

from typing import Any

import numpy as np


def temporal_features(envelope: np.ndarray, duration_s: float, sample_rate: int, hop_length: int) -> dict[str, float]:
    """Six numbers from an onset envelope.

    Args:
        envelope: (n_frames,) onset strength (`librosa.onset.onset_strength`: mean rise over mel bands, in dB).
        duration_s: length of the recording.
    Returns:
        tempo: in beats per minute, from the time-averaged tempogram (Grosche 2010) under librosa's log-normal prior;
        tempo_spread: standard deviation over time of the tempo estimated at each frame, in beats per minute;
        onset_rate: detected onsets per second;
        onset_interval_spread: standard deviation of the intervals between onsets in seconds;
        beat_consistency: 1 - (standard deviation / mean) of the intervals between tracked beats (Ellis 2007), 1 for a
            metronome;
        beat_strength: mean onset strength at the tracked beats.
        NaN where undefined: everything but the rate without onsets, spreads with fewer than two intervals.
    """
    import librosa

    if not envelope.any():
        return {
            "tempo": np.nan,
            "tempo_spread": np.nan,
            "onset_rate": 0.0,
            "onset_interval_spread": np.nan,
            "beat_consistency": np.nan,
            "beat_strength": np.nan,
        }
    rate: dict[str, Any] = {"sr": sample_rate, "hop_length": hop_length}
    width = int(librosa.time_to_frames(8.0, **rate))
    tempogram = librosa.feature.tempogram(onset_envelope=envelope, win_length=width, **rate)
    tempo = float(librosa.feature.tempo(tg=tempogram, **rate)[0])
    local = librosa.feature.tempo(tg=tempogram, aggregate=None, **rate)
    onsets = librosa.onset.onset_detect(onset_envelope=envelope, units="time", **rate)
    _, beats = librosa.beat.beat_track(onset_envelope=envelope, bpm=tempo, **rate)
    between = np.diff(beats)
    return {
        "tempo": tempo,
        "tempo_spread": float(local.std()),
        "onset_rate": len(onsets) / duration_s,
        "onset_interval_spread": spread(np.diff(onsets)),
        "beat_consistency": 1 - spread(between) / float(between.mean()) if len(between) > 1 else np.nan,
        "beat_strength": float(envelope[beats].mean()) if len(beats) else np.nan,
    }


def spread(intervals: np.ndarray) -> float:
    """Standard deviation (1/n); NaN of fewer than two intervals."""
    return float(intervals.std()) if len(intervals) > 1 else np.nan
