"""The named spectrograms and what decides each: light enough to be imported wherever only names or shapes are needed.

Decibels are relative to what a full-scale sine reaches (about, in mel bands), so that spectrograms of different
transforms can stand side by side.
"""

from dataclasses import dataclass, replace

from piano_assets.features.transforms import TRANSFORMS

STORED_AS = ("float16", "int16")


@dataclass(frozen=True, kw_only=True)
class SpectrogramSpec:
    """What decides a spectrogram.

    Attributes:
        transform: key of `TRANSFORMS`: how samples become rows.
        n_bands: numbers in a row.
        fmin, fmax: range in Hz; constant-Q bands start at fmin, `bins_per_octave` to the octave.
        decibel: whether powers become decibels relative to `reference`, floored at -`floor_db`.
        reference: power that is 0 dB: a full-scale sine in the narrowest mel bands reaches about 1e4.
        parts: the spectrograms that stand side by side in this one.
        dtype: how rows are stored, one of `STORED_AS`; samples as int16, 32768 being full scale.
    """

    n_bands: int
    fmin: float
    fmax: float
    decibel: bool
    transform: str = "mel"
    bins_per_octave: int = 24
    sample_rate: int = 22050
    n_fft: int = 2048
    hop_length: int = 441
    reference: float = 1e4
    floor_db: float = 100.0
    parts: tuple["SpectrogramSpec", ...] = ()
    dtype: str = "float16"

    def __post_init__(self) -> None:
        if self.transform not in TRANSFORMS:
            raise ValueError(f"transform={self.transform!r} must be one of {', '.join(TRANSFORMS)}")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ValueError(f"fmin={self.fmin}, fmax={self.fmax} must lie in [0, {self.sample_rate / 2}], fmin below")
        if self.dtype not in STORED_AS:
            raise ValueError(f"dtype={self.dtype!r} must be one of {', '.join(STORED_AS)}")

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.hop_length


def side_by_side(*parts: SpectrogramSpec) -> SpectrogramSpec:
    """The bands of several spectrograms in one row, each with its own scale, in the order given.

    Raises:
        ValueError: the parts have different frames.
    """
    if len({(p.sample_rate, p.hop_length) for p in parts}) != 1:
        raise ValueError("spectrograms side by side must share sample_rate and hop_length")
    return replace(
        parts[0],
        transform="side_by_side",
        n_bands=sum(p.n_bands for p in parts),
        fmin=min(p.fmin for p in parts),
        fmax=max(p.fmax for p in parts),
        parts=parts,
    )


_LOG_MEL = SpectrogramSpec(n_bands=128, fmin=20, fmax=11025, decibel=True)
# A0 to 10.5 kHz: the next band would reach beyond 11.025 kHz.
_CQT = SpectrogramSpec(n_bands=207, fmin=27.5, fmax=11025, decibel=True, transform="cqt", reference=1.0)

SPECTROGRAMS: dict[str, SpectrogramSpec] = {
    "mel_128": SpectrogramSpec(n_bands=128, fmin=20, fmax=8000, decibel=False),
    "mel_256": SpectrogramSpec(n_bands=256, fmin=20, fmax=8000, decibel=False),
    "log_mel_128": _LOG_MEL,
    "log_mel_128_8k": replace(_LOG_MEL, fmax=8000),
    "cqt": _CQT,
    "multi_resolution": side_by_side(_LOG_MEL, _CQT),
    # Row t holds samples t * 441 to (t + 1) * 441 - 1; frame t of the others is centred at sample t * 441.
    "waveform": SpectrogramSpec(n_bands=441, fmin=0, fmax=11025, decibel=False, transform="waveform", dtype="int16"),
}
