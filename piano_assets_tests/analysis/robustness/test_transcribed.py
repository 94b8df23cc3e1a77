"""Notes that are heard instead of read: nothing changes where every note was heard, and only then."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from piano_assets.analysis.robustness.transcribed import (
    calibrated,
    hear_calibrated,
    hear_transcription,
    heard_rows,
    not_transcribed,
    why_not,
)
from piano_assets.catalogue.trial import vary
from piano_assets.corpus.performance import SUSTAIN
from piano_assets.corpus.transcription.parts import part_key, part_name
from piano_assets.features.traditional import TRADITIONAL
from piano_assets.store.parts import Store
from piano_assets_tests.analysis.robustness.sounding import CLIPS, NOTE_TABLE, NOTES, SPECTROGRAM, TABLE

pytestmark = pytest.mark.xdist_group("sounding")  # one worker makes what they share

MISHEARD, DEAF = "a1", "b2"
"""A clip whose velocities are heard wrong, and one in which nothing is heard."""


@pytest.fixture(scope="module")
def heard(sounding: Store) -> Store:
    """The corpus with every clip of excerpts a and b transcribed: what was played, 100 ms into the sound."""
    notes, controls = sounding.read("notes", "all"), sounding.read("controls", "all")
    for clip in (c for c in CLIPS if c[0] in "ab"):
        mine = notes[notes["clip"] == clip].assign(event="note")
        if clip == MISHEARD:
            mine["velocity"] = 64
        moves = controls[(controls["clip"] == clip) & (controls["controller"] == SUSTAIN)]
        rows = pd.concat(
            [mine.iloc[:0] if clip == DEAF else mine, presses(moves, float(mine["offset_s"].max()))]
        ).sort_values("onset_s")
        rows = rows.assign(clip=clip, rendering="modal", onset_s=rows["onset_s"] + 0.1, offset_s=rows["offset_s"] + 0.1)
        rows[["pitch", "velocity"]] = rows[["pitch", "velocity"]].astype("Int64")
        sounding.write("transcriptions", rows, key=part_key("k", clip), name=part_name("modal", clip))
    return sounding


def presses(moves: pd.DataFrame, end_s: float) -> pd.DataFrame:
    """Stretches with the pedal down, as a transcriber tells of them."""
    down = moves["value"].to_numpy() >= 64
    time = moves["time_s"].to_numpy()
    starts = np.flatnonzero(down & ~np.concatenate(([False], down[:-1])))
    stops = [next((time[k] for k in range(s, len(down)) if not down[k]), end_s) for s in starts]
    frame = pd.DataFrame({"onset_s": time[starts], "offset_s": stops})
    return frame.assign(event="sustain", pitch=pd.NA, velocity=pd.NA)


def test_only_labelled_test_clips_in_which_a_note_was_heard_are_asked(heard, subjects):
    of = subjects["note_table"]
    rows = heard_rows(of, heard)
    asked = {of.data.clips[k] for mine in rows.values() for k in mine}
    assert asked == {c for c in CLIPS if c[0] in "ab"} - {DEAF}
    for fold in of.folds:
        assert set(rows[fold.fold]) <= set(fold.test)


def test_what_was_heard_right_is_what_was_played(heard, subjects):
    """All features but those of how far the pedal goes down, which is heard as down or up, and of the soft pedal."""
    of = subjects["note_table"]
    rows = np.concatenate(list(heard_rows(of, heard).values()))
    found = hear_transcription(of, heard, rows)
    same = np.array([not n.startswith(("pedal", "soft_pedal")) for n in of.data.feature_names])
    right = rows[of.data.clips[rows] != MISHEARD]
    # Times are sums and differences of a tenth of a second; where a press ends is heard as where it began to be up.
    np.testing.assert_allclose(found.features[right][:, same], of.data.features[right][:, same], rtol=1e-6, atol=1e-9)
    others = np.setdiff1d(np.arange(len(CLIPS)), rows)
    np.testing.assert_array_equal(found.features[others], of.data.features[others])


def test_what_was_misheard_is_other_music(heard, subjects):
    of = subjects["note_table"]
    rows = np.concatenate(list(heard_rows(of, heard).values()))
    found, row = hear_transcription(of, heard, rows), CLIPS.index(MISHEARD)
    is_same = np.isclose(found.features[row], of.data.features[row], rtol=1e-6, atol=1e-9, equal_nan=True)
    moved = [n for n, same in zip(of.data.feature_names, is_same, strict=True) if not same]
    assert any(n.startswith("dynamics") for n in moved)
    assert not any(n.startswith("tonality") for n in moved)


def test_calibration_is_the_regression_line_shrunk_by_two_clips():
    rng = np.random.default_rng(3)
    heard, noise = rng.normal(size=(200, 2)), rng.normal(size=200)
    true = np.stack([2 * heard[:, 0] + 1, noise], axis=1)
    asked = np.array([[0.5, 0.5], [np.nan, -1], [99, 0]])
    got = calibrated(true, heard, asked)
    for k in range(2):
        slope = np.polyfit(heard[:, k], true[:, k], 1)[0] * 200 / 202
        x = np.clip(asked[:, k], heard[:, k].min(), heard[:, k].max())
        want = true[:, k].mean() + slope * np.nan_to_num(x - heard[:, k].mean(), nan=0.0)
        np.testing.assert_allclose(got[:, k], want, rtol=1e-10)
    assert np.abs(got[:, 1] - noise.mean()).max() < 0.3, "what is not heard is the mean"


def test_calibration_without_pairs_is_the_mean_and_without_values_nothing():
    true = np.array([[1.0, np.nan, 4.0]] * 3 + [[2.0, np.nan, 4.0]] * 3)
    heard = np.array([[np.nan, 1.0, 7.0]] * 6)
    np.testing.assert_array_equal(calibrated(true, heard, np.ones((1, 3))), [[1.5, np.nan, 4.0]])


def test_no_tested_clip_calibrates_its_own_fold(heard, subjects):
    """Notes of tested clips may change as they like: what is heard of them is calibrated by the others."""
    of = subjects["note_table"]
    rows = heard_rows(of, heard)
    fold = of.folds[0]
    mine = rows[fold.fold]
    before = hear_calibrated(of, heard, mine).features[mine]
    others = of.data.features.copy()
    others[fold.test] = np.nan
    after = hear_calibrated(dataclasses.replace(of, data=dataclasses.replace(of.data, features=others)), heard, mine)
    np.testing.assert_array_equal(after.features[mine], before)


def test_features_of_the_sound_stay_as_they_are(heard, subjects):
    of = subjects["table"]
    rows = np.concatenate(list(heard_rows(of, heard).values()))
    sound = np.isin(of.data.feature_names, TRADITIONAL)
    assert sound.sum() == 65
    for hear in (hear_transcription, hear_calibrated):
        found = hear(of, heard, rows)
        np.testing.assert_array_equal(found.features[:, sound], of.data.features[:, sound])
        assert not np.array_equal(found.features[:, ~sound], of.data.features[:, ~sound], equal_nan=True)


def test_who_is_not_asked():
    assert why_not(NOTE_TABLE) is None
    assert why_not(NOTES) is None
    assert why_not(TABLE) is None
    for trial in (SPECTROGRAM, vary(TABLE, {"inputs.features": "audio_rich"})):
        assert why_not(trial) == "it reads no notes"
    beside = {"inputs.features": "symbolic", "model.fusion": "gated"}
    assert why_not(vary(SPECTROGRAM, beside)) == "it hears a spectrogram beside its notes"
    learnt = vary(NOTE_TABLE, {"inputs.rendering": "transcribed.modal"})
    assert why_not(learnt) == "it learnt from transcribed notes already"


def test_without_transcriptions_the_asset_is_named(tmp_path, heard):
    assert not_transcribed(NOTE_TABLE, heard) is None
    empty = dataclasses.replace(heard, root=tmp_path)
    assert not_transcribed(NOTE_TABLE, empty) == "no clip of modal is transcribed (asset transcriptions)"
