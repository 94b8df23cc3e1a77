"""The family of a feature: what of the playing, the music or the sound it measures."""

from functools import cache

from piano_assets.features import traditional
from piano_assets.features.sets import PRETRAINED, RELATIVE_SUFFIX, STATES

# The deviations of matched notes from the score measure what the family of that aspect measures without one.
ALIGNED = {
    **dict.fromkeys(("matched", "added", "missing"), "completeness"),
    **dict.fromkeys(("tempo", "interval", "onset"), "timing"),
    **dict.fromkeys(("spread", "melody_lead", "bass_lead", "rolled"), "asynchrony"),
    **dict.fromkeys(("velocity", "tempo_velocity"), "dynamics"),
    **dict.fromkeys(("duration", "sound"), "articulation"),
}
AUDIO = {
    "mfcc": traditional.MFCC,
    "mfcc_derivatives": traditional.MFCC_DERIVATIVES,
    "spectral": traditional.SPECTRAL,
    "harmonic": traditional.HARMONIC,
    "temporal": traditional.TEMPORAL,
}
ASPECTS: dict[str, tuple[str, ...]] = {
    "timing": ("symbolic.timing", "symbolic.asynchrony", "symbolic.completeness", "sound.rhythm", "audio.temporal"),
    "touch": ("symbolic.articulation", "sound.decay"),
    "dynamics": ("symbolic.dynamics", "sound.loudness"),
    "pedal": ("symbolic.pedal", "symbolic.soft_pedal"),
    "harmony": (
        *("symbolic.tonality", "music.mode", "music.windowed_mode", "music.chords", "music.fourier", "music.intervals"),
        *("audio.harmonic", "sound.harmony"),
    ),
    "texture": ("symbolic.texture", "music.lines", "sound.register"),
    "timbre": ("audio.mfcc", "audio.mfcc_derivatives", "audio.spectral", "sound.timbre", "sound.bands"),
    "learnt": ("pretrained.states", "pretrained.departures"),
}
"""What a musician calls them: aspect -> families."""
_ASPECT_OF = {family: aspect for aspect, families in ASPECTS.items() for family in families}
_LEARNT = {STATES: "states", "departure_": "departures", "surprise_": "departures"}


@cache
def family_of(feature: str) -> str:
    """`<source>.<family>` of a feature; its version relative to the deadpan belongs with it.

    Raises:
        ValueError: no family has such a feature.
    """
    from piano_assets.features.sound import family_of_sound
    from piano_assets.features.symbolic import FAMILIES
    from piano_assets.features.symbolic.music import family_of_music

    for family, names in AUDIO.items():
        if feature in names:
            return f"audio.{family}"
    for source, family_in in (("sound", family_of_sound), ("music", family_of_music)):
        if known_there := family_in(feature):
            return f"{source}.{known_there}"
    for prefix, family in _LEARNT.items():
        if feature.startswith(prefix):
            return f"{PRETRAINED}.{family}"
    name = feature.removesuffix(RELATIVE_SUFFIX)
    known = {f: f for f in FAMILIES} | {f"aligned_{aspect}": family for aspect, family in ALIGNED.items()}
    fits = [prefix for prefix in known if f"{name}_".startswith(f"{prefix}_")]
    if not fits:
        raise ValueError(f"feature {feature!r} belongs to no family (audio: {', '.join(AUDIO)}; {', '.join(known)})")
    return f"symbolic.{known[max(fits, key=len)]}"


def aspect_of(feature: str) -> str:
    """The aspect of the music or of its playing that a feature measures, a key of `ASPECTS`.

    Raises:
        ValueError: no family has such a feature.
    """
    return _ASPECT_OF[family_of(feature)]
