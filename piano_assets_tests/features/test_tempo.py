import librosa
import numpy as np
import pytest

from piano_assets.features.tempo import spread, temporal_features
from piano_assets_tests.features.tones import RATE, clicks

HOP = 512


def heard(y: np.ndarray) -> dict[str, float]:
    return temporal_features(librosa.onset.onset_strength(y=y, sr=RATE), len(y) / RATE, RATE, HOP)


def pulses(frames: list[int], n: int = 520) -> np.ndarray:
    envelope = np.full(n, 0.01, np.float32)
    envelope[frames] = 4.0
    return envelope


def test_a_metronome_by_hand():
    frames = list(range(30, 500, 26))
    found = temporal_features(pulses(frames), 520 * HOP / RATE, RATE, HOP)
    assert found == pytest.approx(
        {
            "tempo": 60 * RATE / (26 * HOP),
            "tempo_spread": 0.0,
            "onset_rate": len(frames) / (520 * HOP / RATE),
            "onset_interval_spread": 0.0,
            "beat_consistency": 1.0,
            "beat_strength": 4.0,
        },
        abs=1e-9,
    )


def test_a_change_of_tempo_spreads_it():
    frames = [*range(30, 500, 22), *range(508, 1000, 32)]
    found = temporal_features(pulses(frames, 1020), 1020 * HOP / RATE, RATE, HOP)
    # Half the time at 117.5, half at 80.7 beats per minute.
    assert found["tempo_spread"] == pytest.approx((117.5 - 80.7) / 2, rel=0.15)
    assert found["onset_interval_spread"] == pytest.approx(5 * HOP / RATE, rel=0.1)


def test_a_metronome_heard():
    found = heard(clicks(np.arange(0.5, 11.5, 0.6), 12))
    # The tempogram's lags are whole frames: 26 frames are .604 s.
    assert found["tempo"] == pytest.approx(100, rel=0.02)
    assert found["onset_rate"] == pytest.approx(100 / 60, rel=0.1)
    assert found["beat_consistency"] > 0.95


def test_rubato_is_less_consistent():
    rng = np.random.default_rng(0)
    rubato = 0.4 + np.cumsum(rng.uniform(0.3, 0.9, 17))
    free, strict = heard(clicks(rubato, 13)), heard(clicks(np.arange(0.4, 12, 0.6), 13))
    assert free["beat_consistency"] < strict["beat_consistency"]
    assert free["onset_interval_spread"] > 3 * strict["onset_interval_spread"]


def test_without_onsets_only_the_rate_is_defined():
    found = temporal_features(np.zeros(100, np.float32), 2.3, RATE, HOP)
    assert found.pop("onset_rate") == 0
    assert np.isnan(list(found.values())).all()


def test_one_onset_has_no_intervals():
    found = temporal_features(pulses([60], 130), 3.0, RATE, HOP)
    assert found["onset_rate"] == pytest.approx(1 / 3)
    assert np.isnan(found["onset_interval_spread"])
    assert not np.isinf(list(found.values())).any()


def test_spread_by_hand():
    assert spread(np.array([1.0, 3.0])) == 1
    assert np.isnan(spread(np.array([1.0])))
