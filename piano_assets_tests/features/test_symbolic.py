"""Laws that hold for all families: invariances, scale laws, edges, and the table."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from piano_assets.corpus.midi import read_midi
from piano_assets.features.symbolic import (
    FAMILIES,
    SUFFIX,
    symbolic_feature_table,
    symbolic_features,
    symbolic_names,
)
from piano_assets.schemas import TABLES
from piano_assets_tests.features.notes import line, performance, played


@pytest.fixture(scope="module")
def music():
    deadpan, human, controls = played(np.random.default_rng(4))
    return performance(deadpan), human, controls


def same(a, b, names=None, atol=1e-9):
    """Equal up to rounding of times, with equal NaNs; the message names the features that differ."""
    names = list(a) if names is None else names
    wrong = [n for n in names if not np.isclose(a[n], b[n], rtol=1e-7, atol=atol, equal_nan=True)]
    assert not wrong, [(n, a[n], b[n]) for n in wrong]


def test_numbers_and_names_of_features():
    names = symbolic_names()
    absolute = [n for n in names if not n.endswith(SUFFIX)]
    assert len(set(names)) == len(names)
    assert len(absolute) >= 200
    assert len(names) - len(absolute) >= 150
    families = (*FAMILIES, "aligned")
    assert all(n.startswith(tuple(f"{f}_" for f in families)) for n in names)
    for family in FAMILIES:
        assert any(n.startswith(family) for n in absolute)


def test_silence_before_the_music_changes_nothing(music):
    _, human, controls = music
    late = performance([(a + 3, b + 3, p, v) for a, b, p, v in human], [(t + 3, c, v) for t, c, v in controls])
    same(symbolic_features(performance(human, controls)), symbolic_features(late))


@settings(max_examples=15, deadline=None)
@given(shift=st.integers(-24, 24).filter(bool))
def test_transposition_changes_only_register(music, shift):
    deadpan, human, controls = music
    a = symbolic_features(performance(human, controls), deadpan)
    up = performance([(s, e, p + shift, v) for s, e, p, v in human], controls)
    up_deadpan = performance(
        [
            (s, e, p + shift, v)
            for s, e, p, v in zip(deadpan.onset_s, deadpan.offset_s, deadpan.pitch, deadpan.velocity, strict=True)
        ]
    )
    b = symbolic_features(up, up_deadpan)
    registers = ("dynamics_low_", "dynamics_middle_", "dynamics_high_", "pedal_bass_lingering")
    keep = [n for n in a if not n.startswith(("texture_", *registers))]
    same(a, b, keep)
    # Spreads and relations of pitch stay; positions move by exactly the interval.
    assert b["texture_pitch_mean"] - a["texture_pitch_mean"] == pytest.approx(shift, abs=1e-9)
    same(a, b, ["texture_pitch_sd", "texture_pitch_range", "texture_melody_motion_mean", "texture_chord_width_mean"])


@settings(max_examples=15, deadline=None)
@given(factor=st.floats(1.0, 3.0))
def test_stretching_time_scales_seconds_and_rates(music, factor):
    # Without spread chords, so that the fixed limit between chord and succession never changes sides.
    deadpan, _, controls = music
    still = list(zip(deadpan.onset_s, deadpan.offset_s, deadpan.pitch, deadpan.velocity, strict=True))
    a = symbolic_features(performance(still, controls))
    b = symbolic_features(
        performance(
            [(s * factor, e * factor, p, v) for s, e, p, v in still], [(t * factor, c, v) for t, c, v in controls]
        )
    )
    absolute = [n for n in a if not n.endswith(SUFFIX)]
    # Shares below a limit in seconds, and decay in seconds, have no scale law.
    fixed = (
        *("articulation_short_share", "pedal_quick_change_share", "pedal_syncopated_share", "pedal_extended_share"),
        *("texture_busiest_second_notes", "pedal_roughness", "pedal_clash", "pedal_lingering", "pedal_pitch_classes"),
    )
    rates = [n for n in absolute if n.endswith("_per_s")]
    seconds = [n for n in absolute if n.endswith("_s") and n not in rates]
    assert len(rates) >= 8
    assert len(seconds) >= 20
    same({n: a[n] / factor for n in rates}, b, rates)
    same({n: a[n] * factor for n in seconds}, b, seconds)
    others = [n for n in absolute if n not in {*rates, *seconds} and not n.startswith(tuple(fixed))]
    same(a, b, others, atol=1e-7)


@settings(max_examples=15, deadline=None)
@given(shift=st.integers(-25, 25))
def test_playing_louder_shifts_means_and_keeps_spreads(music, shift):
    _, human, controls = music
    a = symbolic_features(performance(human, controls))
    b = symbolic_features(performance([(s, e, p, v + shift) for s, e, p, v in human], controls))
    levels = [
        f"dynamics_{n}" for n in ("mean", "median", "p10", "p90", "max", "melody_mean", "bass_mean", "chord_mean")
    ]
    same({n: a[n] + shift for n in levels}, b, levels)
    spreads = (
        "sd",
        "range",
        "skewness",
        "slope",
        "arch",
        "minus",
        "step",
        "autocorrelation",
        "residual",
        "quarter",
        "_r",
    )
    stay = [n for n in a if n.startswith("dynamics_") and any(s in n for s in spreads) and not n.endswith(SUFFIX)]
    assert len(stay) >= 30
    same(a, b, stay)
    elsewhere = [n for n in a if n.startswith(("timing", "asynchrony", "articulation", "texture", "tonality", "soft"))]
    same(a, b, [n for n in elsewhere if not n.endswith(SUFFIX)])


EDGES = {
    "nothing": performance([]),
    "one note": performance([(0, 1, 60, 64)]),
    "one instant": performance([(0, 0, 60, 64)]),
    "one chord": performance([(0, 1, p, 64) for p in (60, 64, 67)]),
    "zero-length notes": performance([(0, 0, 60, 64), (0.5, 0.5, 62, 64), (1, 1, 60, 1)]),
    "two notes": performance(line([60, 62])),
    "one pitch, one velocity": performance(line([60] * 20)),
    "no chord, no pedal": performance(line([60, 64, 62, 67, 65] * 3)),
    "overlapping same pitch": performance([(0, 2, 60, 64), (1, 1.5, 60, 70), (1.8, 3, 60, 40)]),
    "pedal held": performance(line([60, 64, 62]), [(0.0, 64, 127)]),
}


@pytest.mark.parametrize("edge", EDGES)
@pytest.mark.parametrize("reference", [None, "one note", "no chord, no pedal", "nothing"])
def test_edges_give_null_and_no_warning(edge, reference):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = symbolic_features(EDGES[edge], None if reference is None else EDGES[reference])
    assert tuple(found) == symbolic_names()
    assert not any(np.isinf(v) for v in found.values())
    if reference is None:
        assert all(np.isnan(v) for n, v in found.items() if n.endswith(SUFFIX))


@settings(max_examples=40, deadline=None)
@given(
    notes=st.lists(
        st.tuples(st.floats(0, 5), st.floats(0, 3), st.integers(0, 127), st.integers(1, 127)), min_size=1, max_size=12
    ),
    controls=st.lists(st.tuples(st.floats(0, 6), st.sampled_from([64, 66, 67]), st.integers(0, 127)), max_size=8),
)
def test_anything_played_is_finite_or_null(notes, controls):
    p = performance([(s, s + d, pitch, v) for s, d, pitch, v in notes], controls)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = symbolic_features(p, p)
    assert not any(np.isinf(v) for v in found.values())
    shares = {n: v for n, v in found.items() if n.endswith("_share") and not np.isnan(v)}
    assert {n: v for n, v in shares.items() if not -1e-9 <= v <= 1 + 1e-9} == {}


def test_a_deadpan_rendition_adds_nothing_to_itself(music):
    deadpan, _, _ = music
    found = symbolic_features(deadpan, deadpan)
    zero = [n for n in found if n.endswith(SUFFIX) and not n.startswith("aligned_") and not np.isnan(found[n])]
    assert len(zero) >= 100
    assert all(found[n] == 0 for n in zero)
    assert found["aligned_matched_share" + SUFFIX] == 1
    for name in ("tempo", "tempo_8_sd", "tempo_32_roughness", "interval_sd", "velocity_change_sd", "duration_sd"):
        assert found[f"aligned_{name}{SUFFIX}"] == pytest.approx(0, abs=1e-9)


def clips_table(**players):
    rows = [(clip, excerpt, player, player.startswith("Score")) for clip, (excerpt, player) in players.items()]
    return pd.DataFrame(rows, columns=["clip", "excerpt", "player", "deadpan"])


def test_the_table_is_the_dictionary_in_long_form(music):
    deadpan, human, controls = music
    players = {"a": ("x", "1"), "b": ("x", "Score"), "d": ("x", "Score2"), "c": ("y", "1")}
    own = performance(human, controls)
    other = performance(line([60, 62, 64]))
    seen = []
    table = symbolic_feature_table(
        {"a": own, "b": deadpan, "d": other, "c": own}, clips_table(**players), lambda *x: seen.append(x)
    )
    TABLES["features"].conform(table)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    wide = table.pivot(index="clip", columns="feature", values="value")
    assert len(table) == 4 * len(symbolic_names())
    want = {"a": symbolic_features(own, deadpan), "d": symbolic_features(other, deadpan), "c": symbolic_features(own)}
    for clip, features in want.items():
        same(features, wide.loc[clip].to_dict())


def test_a_performance_that_no_clip_knows_is_an_error(music):
    with pytest.raises(KeyError, match="'z'"):
        symbolic_feature_table({"z": music[0]}, clips_table(a=("x", "1")))


def test_no_feature_looks_at_other_performances(music):
    deadpan, human, controls = music
    own = performance(human, controls)
    clips = clips_table(a=("x", "1"), b=("x", "Score"), c=("x", "2"))
    alone = symbolic_feature_table({"a": own, "b": deadpan}, clips)
    beside = symbolic_feature_table({"a": own, "b": deadpan, "c": performance(line([60, 61]))}, clips)
    pd.testing.assert_frame_equal(alone, beside[beside["clip"] != "c"])


@pytest.mark.percepiano
def test_real_renditions_of_one_excerpt_align_and_differ(percepiano_dir):
    folder = percepiano_dir / "virtuoso" / "data" / "all_2rounds"
    for music, segment in (("Schubert_D960_mv3_8bars", "11"), ("Beethoven_WoO80_var3_8bars", "2")):
        own = {p.stem: read_midi(p) for p in sorted(folder.glob(f"{music}_*_{segment}.mid"))}
        score = own.pop(f"{music}_Score_{segment}")
        own.pop(f"{music}_Score2_{segment}", None)
        assert len(own) >= 8
        table = pd.DataFrame({clip: symbolic_features(p, score) for clip, p in own.items()}).T
        # People play nearly all notes of the score; a matching that jumps between repetitions loses far more.
        assert table["aligned_matched_share" + SUFFIX].median() > 0.93
        assert (table["aligned_velocity_change_sd" + SUFFIX] > 3).all()
        assert table["aligned_tempo_16_sd" + SUFFIX].between(0.01, 0.5).all()
        # The total tempo is the ratio of the spans but for a missing first or last note.
        spans = np.log(table["timing_span_s"] / np.ptp(score.onset_s))
        np.testing.assert_allclose(table["aligned_tempo" + SUFFIX], spans, atol=0.05)
        defined = table.loc[:, table.notna().any()]
        assert (defined.nunique() > 1).mean() > 0.95
