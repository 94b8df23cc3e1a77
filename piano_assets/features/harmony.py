"""What the pitch classes of a recording say: entropy, flux, strength of the key, tonnetz."""

import numpy as np

KRUMHANSL_KESSLER: dict[str, tuple[float, ...]] = {
    "major": (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88),
    "minor": (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17),
}
"""How well each pitch class fits a key on C, as rated by listeners: Krumhansl & Kessler 1982, Psych. Review 89:334."""


def key_correlations(profile: np.ndarray) -> np.ndarray:
    """Pearson correlation of a pitch-class profile with the 24 keys.

    Args:
        profile: (12,) from C upwards.
    Returns:
        (2, 12): major and minor, tonic from C upwards; NaN for a flat profile.
    """
    keys = np.array([np.roll(p, k) for p in KRUMHANSL_KESSLER.values() for k in range(12)])
    keys -= keys.mean(axis=1, keepdims=True)
    centred = profile.astype(np.float64) - profile.mean(dtype=np.float64)
    norm = np.linalg.norm(centred)
    if norm <= 1e-6 * np.abs(profile).sum():
        return np.full((2, 12), np.nan)
    return (keys @ centred / (np.linalg.norm(keys, axis=1) * norm)).reshape(2, 12)


def harmonic_features(chroma: np.ndarray) -> dict[str, float]:
    """Nine numbers from a chromagram.

    Args:
        chroma: (12, n_frames), each frame divided by its largest value (`librosa.feature.chroma_stft`).
    Returns:
        tonnetz_0..5: means over time of the tonal centroid (Harte, Sandler & Gasser 2006);
        chroma_entropy: Shannon entropy of the frame's pitch classes in bits (0 one pitch class .. log2(12) all alike),
            mean over the frames that sound;
        chroma_flux: Euclidean distance between neighbouring frames, mean over time;
        key_strength: correlation of the time-averaged pitch classes with the best of the 24 keys.
        NaN where nothing sounds (entropy, key).
    """
    import librosa

    tonnetz = librosa.feature.tonnetz(chroma=chroma).mean(axis=1)
    share = chroma.T.astype(np.float64)
    share = share[share.sum(axis=1) > 0]
    share /= share.sum(axis=1, keepdims=True)
    entropy = -(share * np.log2(np.where(share > 0, share, 1))).sum(axis=1)
    flux = np.sqrt(np.square(np.diff(chroma, axis=1)).sum(axis=0))
    return {
        **{f"tonnetz_{i}": float(v) for i, v in enumerate(tonnetz)},
        "chroma_entropy": float(entropy.mean()) if len(entropy) else np.nan,
        "chroma_flux": float(flux.mean()),
        "key_strength": float(key_correlations(chroma.mean(axis=1)).max()),
    }
