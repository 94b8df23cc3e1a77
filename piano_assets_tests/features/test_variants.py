from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from piano_assets.corpus.rendering import render_corpus
from piano_assets.corpus.rendering.modal import render_modal
from piano_assets.features.note_events import note_events
from piano_assets.features.spectrograms import open_spectrograms, write_spectrograms
from piano_assets.features.variants import altered, part_of, variants, write_variant
from piano_assets.schemas import TABLES
from piano_assets.store.parts import Store
from piano_assets_tests.features.notes import line, performance
from piano_assets_tests.features.tones import RATE

CLIPS = {
    "b": performance(line([60, 64, 67], ioi=0.3, duration=0.25), [(0.1, 64, 100), (0.5, 64, 0)]),
    "a": performance([(0, 0.4, 21, 90), (0, 0.4, 108, 50), (0.2, 0.6, 72, 120)]),
}


@pytest.mark.parametrize(
    ("stretch", "shift", "names"),
    [
        (0.0, 0, ()),
        (0.05, 0, ("tempo0.95", "tempo0.975", "tempo1.025", "tempo1.05")),
        (0.2, 1, ("tempo0.8", "tempo0.9", "tempo1.1", "tempo1.2", "shift-1", "shift+1")),
        (0.0, 2, ("shift-2", "shift-1", "shift+1", "shift+2")),
        (0.0, 3, ("shift-3", "shift-1", "shift+1", "shift+3")),
    ],
)
def test_names(stretch, shift, names):
    assert variants(stretch, shift) == names


@given(stretch=st.floats(0, 0.9), shift=st.integers(0, 12))
def test_names_are_legal_parts_without_duplicates_and_can_be_played(stretch, shift):
    names = variants(stretch, shift)
    assert len(set(names)) == len(names)
    for name in names:
        Store(Path("x")).path("spectrograms", part_of("log_mel_128", name, "modal"))
        assert altered(CLIPS["a"], name).n_notes == 3


def test_part_names():
    assert part_of("log_mel_128", "tempo0.95", "modal") == "log_mel_128+tempo0.95.modal"


def test_tempo_divides_every_time_and_nothing_else():
    p = CLIPS["b"]
    fast = altered(p, "tempo1.25")
    for name in ("onset_s", "offset_s", "control_time_s"):
        np.testing.assert_allclose(getattr(fast, name), getattr(p, name) / 1.25)
    for name in ("pitch", "velocity", "controller", "control_value"):
        np.testing.assert_array_equal(getattr(fast, name), getattr(p, name))
    # 0.85 s of music and 1 s of tail.
    assert len(render_modal(fast)) == round((0.85 / 1.25 + 1) * RATE)


def test_a_shift_moves_pitches_and_nothing_else():
    p = CLIPS["b"]
    up = altered(p, "shift+2")
    np.testing.assert_array_equal(up.pitch, [62, 66, 69])
    assert up.pitch.dtype == p.pitch.dtype
    for name in ("onset_s", "offset_s", "control_time_s", "velocity", "controller", "control_value"):
        np.testing.assert_array_equal(getattr(up, name), getattr(p, name))


@given(shift=st.integers(-12, 12))
def test_notes_stay_on_the_keyboard_in_order_with_their_pitch_class_and_touch(shift):
    rng = np.random.default_rng(shift + 12)
    p = performance(
        [(t / 4, t / 4 + 0.2, int(k), int(k)) for t in range(4) for k in rng.permutation(np.arange(21, 109))]
    )
    got = altered(p, f"shift{shift:+d}")
    assert got.pitch.min() >= 21
    assert got.pitch.max() <= 108
    order = list(zip(got.onset_s, got.pitch, strict=True))
    assert order == sorted(order)
    # Velocity tells which key each note came from.
    np.testing.assert_array_equal((got.velocity + shift - got.pitch) % 12, 0)
    inside = (got.velocity + shift >= 21) & (got.velocity + shift <= 108)
    np.testing.assert_array_equal(got.pitch[inside], got.velocity[inside] + shift)
    assert sorted(got.velocity) == sorted(p.velocity)


def test_the_performance_given_is_untouched():
    before = [x.copy() for x in astuple(CLIPS["a"])]
    for variant in ("tempo0.5", "shift+7", "shift-7"):
        altered(CLIPS["a"], variant)
    for old, new in zip(before, astuple(CLIPS["a"]), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("name", ["log_mel_128", "waveform"])
def test_at_its_own_tempo_a_variant_is_what_the_stored_sound_gives(tmp_path, name):
    audio = render_corpus(CLIPS, tmp_path, "modal").set_index("clip")["path"]
    want = write_spectrograms(dict(audio), tmp_path, name, "modal")
    seen = []
    got = write_variant(CLIPS, tmp_path, name, "tempo1.0", "modal", lambda done, total: seen.append((done, total)))
    TABLES["spectrograms"].conform(got)
    assert got["spectrogram"].unique() == [f"{name}+tempo1.0"]
    assert got.drop(columns="spectrogram").equals(want.drop(columns="spectrogram"))
    assert seen == [(1, 2), (2, 2)]
    stored, direct = (open_spectrograms(tmp_path, n, "modal") for n in (name, f"{name}+tempo1.0"))
    np.testing.assert_array_equal(direct, stored)


def test_a_variant_keeps_no_sound_files(tmp_path):
    write_variant(CLIPS, tmp_path, "mel_128", "shift-1", "modal")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()] == [
        "spectrograms/mel_128+shift-1.modal.npy"
    ]


def test_a_transposed_clip_sounds_higher_by_its_semitones(tmp_path):
    """The loudest constant-Q band below the second partial moves by two bands a semitone."""
    clips = {"a": performance([(0, 1.5, 60, 80)])}
    loudest = {}
    for variant in ("tempo1.0", "shift+3", "shift-2"):
        write_variant(clips, tmp_path, "cqt", variant, "modal")
        rows = np.asarray(open_spectrograms(tmp_path, f"cqt+{variant}", "modal"), np.float32)
        loudest[variant] = rows[30:60, :90].mean(axis=0).argmax()
    assert loudest == {"tempo1.0": 78, "shift+3": 84, "shift-2": 74}


def test_note_events_of_a_variant_need_no_sound(tmp_path):
    table = write_variant(CLIPS, tmp_path, "note_events", "tempo0.8", "midi")
    assert table["spectrogram"].unique() == ["note_events+tempo0.8"]
    want = [note_events(altered(CLIPS[c], "tempo0.8")) for c in "ab"]
    np.testing.assert_array_equal(open_spectrograms(tmp_path, "note_events+tempo0.8", "midi"), np.concatenate(want))


@pytest.mark.parametrize(
    ("name", "variant", "rendering", "message"),
    [
        ("mel_12", "shift+1", "modal", "unknown spectrogram 'mel_12'"),
        ("mel_128", "shift+1", "organ", "rendering='organ' must be one of modal, fluidsynth"),
        ("mel_128", "shift1", "modal", r"variant='shift1' must be tempo<ratio> or shift<semitones>"),
        ("mel_128", "tempo0", "modal", "variant='tempo0': the tempo ratio must be > 0"),
        ("note_events", "slow", "midi", "variant='slow' must be"),
    ],
)
def test_what_is_unknown_is_refused_and_nothing_published(tmp_path, name, variant, rendering, message):
    with pytest.raises(ValueError, match=message):
        write_variant(CLIPS, tmp_path, name, variant, rendering)
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize(("stretch", "shift"), [(0.95, 0), (-0.1, 0), (0.1, -1)])
def test_illegal_ranges_are_refused(stretch, shift):
    with pytest.raises(ValueError, match="must"):
        variants(stretch, shift)
