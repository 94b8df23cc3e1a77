"""Families of features."""

from collections import Counter

import pytest

from piano_assets.features import traditional
from piano_assets.features.families import ASPECTS, aspect_of, family_of
from piano_assets.features.sound import sound_names
from piano_assets.features.symbolic import FAMILIES, music_names, relative, symbolic_features, symbolic_names
from piano_assets.features.symbolic.reading import Reading
from piano_assets_tests.features.notes import performance


def test_every_feature_is_in_the_family_of_the_function_that_measures_it():
    alone = performance([(0, 0.4, 60, 64), (0.5, 0.9, 64, 70)])
    names = list(symbolic_features(alone, alone))
    reading = Reading(alone)
    family = {name: f for f, measure in FAMILIES.items() for name in measure(reading)}
    pairing = relative.Pairing(reading, reading)
    measured = {
        "timing": {**relative._tempo(pairing), **relative._intervals(pairing)},
        "asynchrony": relative._chords(pairing),
        "dynamics": relative._velocities(pairing),
        "articulation": relative._durations(pairing),
    }
    family |= {name: f for f, found in measured.items() for name in found}
    for name in names:
        bare = name.removesuffix("_vs_deadpan")
        assert family_of(name) == f"symbolic.{family.get(bare, 'completeness')}", name
    assert sum(family_of(n) == "symbolic.completeness" for n in names) == 3
    audio = [family_of(name) for name in traditional.TRADITIONAL]
    assert [audio.count(f"audio.{f}") for f in ("mfcc", "mfcc_derivatives", "spectral", "harmonic", "temporal")] == [
        13, 26, 8, 12, 6,
    ]  # fmt: skip
    for name in sound_names():
        assert family_of(name).split(".")[0] == "sound"
    assert {"sound.loudness", "sound.rhythm", "sound.bands"} <= {family_of(name) for name in sound_names()}
    music = Counter(family_of(name) for name in music_names())
    assert (music["music.mode"], music["music.intervals"], sum(music.values())) == (27, 6, len(music_names()))
    assert family_of("state_003_std") == "pretrained.states"
    assert family_of("departure_velocity_given_score_mean") == "pretrained.departures"
    with pytest.raises(ValueError, match="'loudness_lufs' belongs to no family"):
        family_of("loudness_lufs")


def test_every_family_is_an_aspect_of_the_music_or_its_playing():
    names = [*traditional.TRADITIONAL, *sound_names(), *music_names(), *symbolic_names(), "state_000_mean"]
    assert {aspect_of(name) for name in names} == set(ASPECTS)
    families = [family for of in ASPECTS.values() for family in of]
    assert len(families) == len(set(families))
    assert set(families) >= {family_of(name) for name in names}
