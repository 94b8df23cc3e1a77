"""What is not altered is heard as it was, to the bit; what is altered is made by the code that made the originals."""

import dataclasses

import numpy as np
import pytest

from piano_assets.analysis.robustness.hearing import (
    Alteration,
    always,
    heard_notes,
    heard_sound,
    played,
    recordings,
    stream,
    why_not,
)
from piano_assets.catalogue.trial import Inputs
from piano_assets.features.spectrograms import open_spectrograms
from piano_assets.features.traditional import traditional_features
from piano_assets.features.variants import altered, write_variant
from piano_assets_tests.analysis.robustness.sounding import CLIPS, NOTE_TABLE, NOTES, SPECTROGRAM, TABLE

pytestmark = pytest.mark.xdist_group("sounding")  # one worker makes what they share

ALL = np.arange(len(CLIPS))


def frames_of(data, row: int) -> np.ndarray:
    start = data.sequence.start[row]
    return np.asarray(data.sequence.values[start : start + data.sequence.n_frames[row]])


def same(one, other, rows=ALL) -> None:
    """Equal to the bit at `rows`, in what is read and how it is stored."""
    if one.features is not None:
        np.testing.assert_array_equal(one.features[rows], other.features[rows])
    if one.sequence is not None:
        assert one.sequence.values.dtype == other.sequence.values.dtype
        for row in rows:
            np.testing.assert_array_equal(frames_of(one, row), frames_of(other, row))


def same_predictions(of, data) -> None:
    for fold, pred in of.tested(data):
        assert np.isfinite(pred).all()
        np.testing.assert_array_equal(pred, fold.predict(of.data, fold.test))


@pytest.mark.parametrize("config", ["table", "spectrogram"])
def test_recordings_as_they_are_change_nothing(subjects, sounding, config):
    of = subjects[config]
    data = heard_sound(of, ALL, recordings(of, sounding))
    same(data, of.data)
    same_predictions(of, data)


@pytest.mark.parametrize("config", ["table", "note_table", "heard_table", "spectrogram", "notes"])
def test_notes_as_they_are_change_nothing(subjects, sounding, config):
    of = subjects[config]
    data = heard_notes(of, sounding, ALL, lambda clip, performance: performance)
    same(data, of.data)
    same_predictions(of, data)


def test_what_learnt_from_notes_as_heard_is_told_altered_notes_as_heard(subjects, sounding):
    """Half pedal is not heard: a model of true notes is told of it, this one is not."""

    def shallower(clip, performance):
        value = np.where(performance.control_value >= 64, 64, 0).astype(performance.control_value.dtype)
        return dataclasses.replace(performance, control_value=value)

    same(heard_notes(subjects["heard_table"], sounding, ALL, shallower), subjects["heard_table"].data)
    of_true = heard_notes(subjects["note_table"], sounding, ALL, shallower)
    assert (of_true.features != subjects["note_table"].data.features).any()


def test_only_the_asked_clips_are_altered_whatever_their_new_length(subjects, sounding):
    of, rows = subjects["spectrogram"], np.array([7, 2])
    original = recordings(of, sounding)
    shorter = heard_sound(of, rows, lambda clip: original(clip)[: 441 * (60 + int(clip == CLIPS[7]))])
    assert shorter.sequence.n_frames[rows].tolist() == [62, 61]
    same(shorter, of.data, np.setdiff1d(ALL, rows))
    # The first frames of what was cut short, half a window before the cut, are those of the whole.
    for row in rows:
        np.testing.assert_array_equal(frames_of(shorter, row)[:57], frames_of(of.data, row)[:57])
    untouched = [i for i, fold in enumerate(of.folds) if not np.isin(rows, fold.test).any()]
    for i in untouched:
        np.testing.assert_array_equal(
            of.folds[i].predict(shorter, of.folds[i].test), of.folds[i].predict(of.data, of.folds[i].test)
        )


def test_audio_features_are_those_of_the_altered_sound_and_note_features_stay(subjects, sounding):
    of, original = subjects["table"], recordings(subjects["table"], sounding)
    data = heard_sound(of, np.array([3]), lambda clip: original(clip)[::-1])
    found = traditional_features(np.ascontiguousarray(original(CLIPS[3])[::-1]))
    for i, name in enumerate(of.data.feature_names):
        want = found[name] if name in found else of.data.features[3, i]
        np.testing.assert_equal(data.features[3, i], want)
    assert (data.features[3] != of.data.features[3]).sum() > 30
    same(data, of.data, np.delete(ALL, 3))


def test_sound_beyond_full_scale_is_clipped_as_a_recording_is(subjects, sounding):
    of, original = subjects["spectrogram"], recordings(subjects["spectrogram"], sounding)
    loud = heard_sound(of, np.array([0]), lambda clip: original(clip) * 50.0)
    clipped = heard_sound(of, np.array([0]), lambda clip: np.clip(original(clip) * 50.0, -1, 1))
    same(loud, clipped)


@pytest.mark.parametrize("config", ["spectrogram", "notes"])
def test_altered_notes_sound_as_published_variants_do(subjects, sounding, tmp_path, config):
    of = subjects[config]
    own, _ = played(of, sounding, ALL)
    data = heard_notes(of, sounding, ALL, lambda _, performance: altered(performance, "tempo1.25"))
    name, rendering = ("note_events", "midi") if config == "notes" else ("log_mel_128", "modal")
    index = write_variant(own, tmp_path, name, "tempo1.25", rendering, workers=1).set_index("clip").loc[CLIPS]
    values = open_spectrograms(tmp_path, f"{name}+tempo1.25", rendering)
    for row, (start, n) in enumerate(zip(index["start"], index["n_frames"], strict=True)):
        np.testing.assert_array_equal(frames_of(data, row), values[start : start + n])


def test_the_deadpan_reference_is_never_altered(subjects, sounding):
    """A deadpan clip is its own reference, at a log ratio of 0; a quarter faster it lies ln 1.25 beside it."""
    of = subjects["note_table"]
    score = np.array([CLIPS.index("aScore")])
    column = of.data.feature_names.index("timing_span_s_vs_deadpan")
    data = heard_notes(of, sounding, score, lambda _, performance: altered(performance, "tempo1.25"))
    assert of.data.features[score, column] == 0
    np.testing.assert_allclose(data.features[score, column], -np.log(1.25))
    # The others still lie beside the unaltered one, and are what they were.
    same(data, of.data, np.setdiff1d(ALL, score))


def test_samples_and_variants_for_training_are_left_out(subjects, sounding):
    of = subjects["spectrogram"]
    trained = dataclasses.replace(of.data, sound=of.data.sequence, variants=(of.data.sequence,))
    data = heard_sound(dataclasses.replace(of, data=trained), np.array([0]), recordings(of, sounding))
    assert data.sound is None
    assert data.variants == ()


def test_who_hears_sound():
    assert why_not(SPECTROGRAM) is None
    assert why_not(TABLE) is None
    assert "notes only" in str(why_not(NOTE_TABLE))
    assert "notes only" in str(why_not(NOTES))
    assert why_not(dataclasses.replace(NOTE_TABLE, inputs=Inputs(features="mfcc_only"))) is None
    assert always(NOTE_TABLE) is None


def test_wrong_questions_are_refused(subjects, sounding):
    with pytest.raises(ValueError, match=r"note_table.*notes only"):
        heard_sound(subjects["note_table"], ALL, lambda clip: np.zeros(9999))
    of = subjects["spectrogram"]
    for rows in ([0, 0], [-1], [len(CLIPS)]):
        with pytest.raises(ValueError, match=r"different clips of 0\.\.11"):
            heard_sound(of, np.array(rows), recordings(of, sounding))
    with pytest.raises(ValueError, match="at least one frame of 2048 samples"):
        heard_sound(of, np.array([0]), lambda clip: np.zeros(2047))
    table = subjects["table"]
    strange = dataclasses.replace(table.data, feature_names=("loudest", *table.data.feature_names[1:]))
    with pytest.raises(ValueError, match="'loudest' is neither"):
        heard_sound(dataclasses.replace(table, data=strange), np.array([0]), recordings(table, sounding))


def test_progress_is_told(subjects, sounding):
    told = []
    of = subjects["spectrogram"]
    heard_sound(of, np.array([4, 1]), recordings(of, sounding), lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]


def test_conditions_are_named_by_probe_kind_and_strength():
    names = [Alteration("noise", "white", s, lambda *_: None).condition for s in (40, 0.5, -12, None)]
    assert names == ["noise.white:40", "noise.white:0.5", "noise.white:-12", "noise.white"]


def test_streams_differ_by_any_of_their_names_and_are_the_same_everywhere():
    draws = [stream(*names).random() for names in (("a", "b", 0), ("a", "b", 1), ("a", "c", 0), ("ab", 0))]
    assert len(set(draws)) == 4
    # Recorded: noise and rooms must not change from machine to machine or from version to version.
    assert draws[0] == 0.33225469416569575
