"""The bands themselves."""

import numpy as np

from piano_assets.features.sound.hearing import Hearing


def bands(h: Hearing) -> dict[str, float]:
    """Of each of 32 mel bands: mean level, spread, 10th and 90th percentile above the mean, mean rise, in dB."""
    low, high = np.quantile(h.bands, (0.1, 0.9), axis=0)
    mean = h.bands.mean(axis=0)
    columns = {"mean": mean, "sd": h.bands.std(axis=0), "low": low - mean, "high": high - mean}
    columns["rise"] = h.rise.mean(axis=0)
    return {f"band_{i:02d}_{name}_db": float(v) for name, values in columns.items() for i, v in enumerate(values)}
