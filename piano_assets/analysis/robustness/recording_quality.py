"""The same performance, recorded otherwise: another piano, a poorer microphone, a room, a codec, another level.

Nothing is delayed: filters run both ways, the direct sound of a room comes at once, and encoders' delays are taken out
by their decoders, so that clips keep their length and every frame its place.
"""

import io
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from piano_assets.analysis.robustness.hearing import (
    Alteration,
    Progress,
    heard_sound,
    played,
    recordings,
    stream,
    why_not,
)
from piano_assets.catalogue.trial import Trial
from piano_assets.corpus.performance import Performance
from piano_assets.corpus.rendering.fluidsynth import FluidSynthError
from piano_assets.corpus.rendering.registry import RENDERERS
from piano_assets.features.sets import sound_of
from piano_assets.features.traditional import SAMPLE_RATE
from piano_assets.features.variants import as_read
from piano_assets.store.parts import Store
from piano_assets.training.data import TrialData

if TYPE_CHECKING:
    from piano_assets.training.fitted import Fitted

PROBE = "recording_quality"
FILTER_ORDER = 4
"""Of the Butterworth low-pass; running both ways doubles its slope, to 48 dB an octave."""
ROOM_M3, DISTANCE_M = 100.0, 1.0
"""Volume of the room, and how far from the piano the microphone stands."""
MP3_KBPS = 8, 160
"""Lowest and highest bit rate of MPEG-2 Layer III, the MP3 of 22.05 kHz."""

Effect = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]


def band_limited(samples: np.ndarray, cutoff_hz: float, rng: np.random.Generator | None = None) -> np.ndarray:
    """Samples through a Butterworth low-pass that runs forwards and backwards: no phase, -6 dB at `cutoff_hz`."""
    from scipy.signal import butter, sosfiltfilt

    return sosfiltfilt(butter(FILTER_ORDER, cutoff_hz, fs=SAMPLE_RATE, output="sos"), np.asarray(samples, np.float64))


def impulse_response(rt60_s: float, rng: np.random.Generator) -> np.ndarray:
    """Impulse response of a room that decays by 60 dB in `rt60_s`: 1 at once, then Gaussian noise under an exponential.

    The classical stochastic model of reverberation (Polack 1988; Jot et al. 1997). The tail's energy over the direct
    sound's is (distance / critical distance)^2 with the critical distance .057 sqrt(V / RT60) (Kuttruff, Room
    Acoustics, on the reverberation distance): it grows with RT60. (ceil(rt60_s * rate),), float64.

    Raises:
        ValueError: `rt60_s` not over a sample.
    """
    n = int(np.ceil(rt60_s * SAMPLE_RATE))
    if n < 2:
        raise ValueError(f"rt60_s={rt60_s} must last at least 2 samples of {SAMPLE_RATE} Hz")
    t = np.arange(1, n) / SAMPLE_RATE
    tail = rng.standard_normal(n - 1) * 10 ** (-3 * t / rt60_s)
    ratio = DISTANCE_M**2 * rt60_s / (0.057**2 * ROOM_M3)
    return np.concatenate([[1.0], tail * np.sqrt(ratio / np.sum(tail**2))])


def in_room(samples: np.ndarray, rt60_s: float, rng: np.random.Generator) -> np.ndarray:
    """Samples in a room, at the loudness (root mean square) they had: level is a probe of its own. (n_samples,)."""
    from scipy.signal import oaconvolve

    dry = np.asarray(samples, np.float64)
    wet = oaconvolve(dry, impulse_response(rt60_s, rng))[: len(dry)]
    return wet * np.sqrt(np.mean(dry**2) / np.mean(wet**2))


def mp3(samples: np.ndarray, kbps: float, rng: np.random.Generator | None = None) -> np.ndarray:
    """Samples after an MP3 of this average bit rate.

    At constant low rates LAME leaves no note of its delay in the file, and decoders come 50 ms late; at average rates
    it does.

    Raises:
        ValueError: a bit rate that MPEG-2 Layer III does not have, or a decoder that gives another length.
    """
    low, high = MP3_KBPS
    if not low < kbps <= high:
        raise ValueError(f"kbps={kbps} must lie in ({low}, {high}]")
    # libsndfile spans the legal bit rates by its compression level.
    level = (high - kbps) / (high - low)
    return _coded(samples, "MP3", "MPEG_LAYER_III", compression_level=level, bitrate_mode="AVERAGE")


def vorbis(samples: np.ndarray, quality: float, rng: np.random.Generator | None = None) -> np.ndarray:
    """Samples after an Ogg Vorbis file of this quality (0 the poorest, 1 the best).

    Raises:
        ValueError: another quality, or a decoder that gives another length.
    """
    if not 0 <= quality <= 1:
        raise ValueError(f"quality={quality} must lie in [0, 1]")
    return _coded(samples, "OGG", "VORBIS", compression_level=1 - quality)


def louder(samples: np.ndarray, gain_db: float, rng: np.random.Generator | None = None) -> np.ndarray:
    """Samples at another level, clipped where they leave [-1, 1]."""
    return np.clip(np.asarray(samples, np.float64) * 10 ** (gain_db / 20), -1, 1)


EFFECTS: dict[str, tuple[Effect, tuple[float, ...]]] = {
    "band_limit": (band_limited, (8000, 4000, 2000)),
    "room": (in_room, (0.3, 0.6, 1.2)),
    "mp3": (mp3, (32, 16)),
    "vorbis": (vorbis, (0.5, 0.2, 0)),
    "gain": (louder, (-12, -6, 6)),
}
"""Kind -> (effect, its strengths): cut-off in Hz, RT60 in s, kilobits per second, quality, decibels."""


def hear_effect(
    of: "Fitted",
    store: Store,
    rows: np.ndarray,
    progress: Progress = None,
    *,
    kind: str,
    strength: float,
    seed: int = 0,
) -> TrialData:
    """The subject's data with an effect on the sound of the clips at `rows`; each clip has a room of its own."""
    original, (effect, _) = recordings(of, store), EFFECTS[kind]

    def samples(clip: str) -> np.ndarray:
        return effect(original(clip), strength, stream(PROBE, kind, clip, seed))

    return heard_sound(of, rows, samples, progress)


def hear_renderer(
    of: "Fitted", store: Store, rows: np.ndarray, progress: Progress = None, *, rendering: str
) -> TrialData:
    """The subject's data with the clips at `rows` played on another piano.

    Raises:
        FluidSynthError: FluidSynth is asked for and not installed.
    """
    own, _ = played(of, store, rows)
    return heard_sound(of, rows, lambda clip: as_read(RENDERERS[rendering](own[clip], SAMPLE_RATE)), progress)


def why_not_renderer(trial: Trial, rendering: str) -> str | None:
    """Why a trial cannot hear another renderer here: it hears no sound, it knows this one, or this is not installed."""
    if reason := why_not(trial):
        return reason
    if sound_of(trial.inputs.rendering) == rendering:
        return f"{rendering} is the renderer that it was trained with"
    try:
        RENDERERS[rendering](_ONE_NOTE, SAMPLE_RATE)
    except FluidSynthError as error:
        return str(error)
    return None


def why_not_codec(trial: Trial, container: str) -> str | None:
    """Why a trial cannot hear a codec here: it hears no sound, or libsndfile was built without this one."""
    import soundfile

    if reason := why_not(trial):
        return reason
    if container not in soundfile.available_formats():
        return f"libsndfile {soundfile.__libsndfile_version__} cannot write {container}"
    return None


_WHY_NOT = {"mp3": partial(why_not_codec, container="MP3"), "vorbis": partial(why_not_codec, container="OGG")}

RECORDING_QUALITY: tuple[Alteration, ...] = (
    *(
        Alteration(PROBE, name, None, partial(hear_renderer, rendering=name), partial(why_not_renderer, rendering=name))
        for name in RENDERERS
    ),
    *(
        Alteration(PROBE, kind, s, partial(hear_effect, kind=kind, strength=s), _WHY_NOT.get(kind, why_not))
        for kind, (_, strengths) in EFFECTS.items()
        for s in strengths
    ),
)

_ONE_NOTE = Performance(
    onset_s=np.zeros(1),
    offset_s=np.full(1, 0.1),
    pitch=np.full(1, 60, np.int16),
    velocity=np.full(1, 64, np.int16),
    control_time_s=np.zeros(0),
    controller=np.zeros(0, np.int16),
    control_value=np.zeros(0, np.int16),
)


def _coded(samples: np.ndarray, container: str, subtype: str, **quality: float | str) -> np.ndarray:
    """Samples encoded and decoded in memory, as many as there were."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, np.asarray(samples, np.float32), SAMPLE_RATE, format=container, subtype=subtype, **quality)
    file.seek(0)
    decoded, rate = soundfile.read(file, dtype="float32")
    if (len(decoded), rate) != (len(samples), SAMPLE_RATE):
        raise ValueError(
            f"{container}: {len(samples)} samples at {SAMPLE_RATE} Hz must be as many when they are decoded "
            f"(found {len(decoded)} at {rate} Hz)"
        )
    return decoded
