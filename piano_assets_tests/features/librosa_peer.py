"""The 65 features as one would write them with librosa, function by function, each from the samples.

The reference of the tests and the named peer of `benchmarks/audio_features.py`. It is a fair peer: what one librosa
function needs from another (MFCCs for their derivatives, chroma for the tonnetz, the onset envelope) is computed once.
"""

import librosa
import numpy as np

MAJOR = [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88]
MINOR = [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17]


def peer_features(y: np.ndarray, sr: int = 22050) -> dict[str, float]:
    found: dict[str, float] = {}
    mfcc = librosa.feature.mfcc(y=y, sr=sr, n_mfcc=13)
    delta = librosa.feature.delta(mfcc)
    delta2 = librosa.feature.delta(mfcc, order=2)
    for i in range(13):
        found[f"mfcc_{i:02d}"] = mfcc[i].mean()
        found[f"mfcc_delta_{i:02d}"] = np.abs(delta[i]).mean()
        found[f"mfcc_delta2_{i:02d}"] = np.abs(delta2[i]).mean()
    series = {
        "spectral_centroid": librosa.feature.spectral_centroid(y=y, sr=sr),
        "spectral_rolloff": librosa.feature.spectral_rolloff(y=y, sr=sr),
        "spectral_bandwidth": librosa.feature.spectral_bandwidth(y=y, sr=sr),
        "zero_crossing_rate": librosa.feature.zero_crossing_rate(y),
    }
    for name, values in series.items():
        found[f"{name}_mean"], found[f"{name}_std"] = values.mean(), values.std()

    chroma = librosa.feature.chroma_stft(y=y, sr=sr, tuning=0.0)
    for i, values in enumerate(librosa.feature.tonnetz(chroma=chroma)):
        found[f"tonnetz_{i}"] = values.mean()
    entropies = []
    for frame in chroma.T:
        share = frame[frame > 0] / frame.sum() if frame.any() else None
        if share is not None:
            entropies.append(-np.sum(share * np.log2(share)))
    found["chroma_entropy"] = np.mean(entropies)
    found["chroma_flux"] = np.mean([np.linalg.norm(a - b) for a, b in zip(chroma.T[1:], chroma.T[:-1], strict=True)])
    profile = chroma.mean(axis=1)
    found["key_strength"] = max(np.corrcoef(profile, np.roll(p, k))[0, 1] for p in (MAJOR, MINOR) for k in range(12))
    harmonic, percussive = librosa.effects.hpss(y)
    found["harmonic_energy"] = np.sqrt(np.mean(harmonic.astype(float) ** 2))
    found["percussive_energy"] = np.sqrt(np.mean(percussive.astype(float) ** 2))
    found["harmonic_ratio"] = np.sum(harmonic**2) / (np.sum(harmonic**2) + np.sum(percussive**2))

    envelope = librosa.onset.onset_strength(y=y, sr=sr)
    found["tempo"] = librosa.feature.tempo(onset_envelope=envelope, sr=sr)[0]
    found["tempo_spread"] = librosa.feature.tempo(onset_envelope=envelope, sr=sr, aggregate=None).std()
    onsets = librosa.onset.onset_detect(onset_envelope=envelope, sr=sr, units="time")
    found["onset_rate"] = len(onsets) / librosa.get_duration(y=y, sr=sr)
    found["onset_interval_spread"] = np.diff(onsets).std()
    _, beats = librosa.beat.beat_track(onset_envelope=envelope, sr=sr)
    found["beat_consistency"] = 1 - np.diff(beats).std() / np.diff(beats).mean()
    found["beat_strength"] = envelope[beats].mean()
    return {name: float(value) for name, value in found.items()}
