"""Scores of recordings: the clips that a champion learnt from come back as they were learnt, and sums add up."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from piano_assets.corpus.rendering.modal import render_modal
from piano_assets.corpus.rendering.write import write_wav
from piano_assets.ensembles.champion_files import champion_home
from piano_assets.features.families import family_of
from piano_assets.features.sound import sound_table
from piano_assets.features.symbolic import music_features, symbolic_features
from piano_assets.features.traditional import traditional_table
from piano_assets.scoring.heard import Window, features_of, windows_of
from piano_assets.scoring.recordings import read_recording
from piano_assets.scoring.score import PASSAGES, score, scorer_of
from piano_assets.scoring.tell import warnings
from piano_assets.scoring.windows import Lengths, without


def test_a_window_has_the_features_of_the_corpus(midi_files, tmp_path):
    """Training reads sound from files and features from tables: both ways give the same numbers, to the last bit."""
    recording = read_recording(midi_files[0])
    (window,) = windows_of(recording, Lengths(1, 10, 1000))
    x, names = features_of([window], "all_music_absolute", "modal")
    found = dict(zip(names, x[0], strict=True))
    path = tmp_path / "clip.wav"
    write_wav(path, render_modal(recording.performance), 22050)
    audio = traditional_table({"clip": path}, tmp_path, "modal").set_index("feature")["value"]
    sound = sound_table({"clip": path}, tmp_path, "modal").set_index("feature")["value"]
    notes = symbolic_features(recording.performance) | music_features(recording.performance)
    own = {n: v for n, v in notes.items() if not n.endswith("_vs_deadpan")} | dict(audio)
    assert set(found) == set(own)
    np.testing.assert_array_equal([found[n] for n in names], [own[n] for n in names])
    rich, rich_names = features_of([window], "audio_rich", "modal")
    of_sound = dict(audio) | dict(sound)
    np.testing.assert_array_equal(rich[0], [of_sound[n] for n in rich_names])


def test_a_clip_of_the_corpus_gets_the_score_of_its_members(midi_files, scorer):
    scores = score(read_recording(midi_files[5]), scorer)
    holder = scorer.holder
    by_hand = sum(0.5 * m.predict(holder.features[[5]]) for m in holder.models)[0]
    np.testing.assert_allclose(scores.value, by_hand, atol=1e-9)
    np.testing.assert_allclose(scores.high - scores.value, holder.half_widths, atol=1e-9)
    people = holder.out_of_fold[holder.human]
    below = [100 * np.mean(people[:, k] < by_hand[k] - 1e-9) for k in range(19)]
    np.testing.assert_allclose(scores.percentile, below, atol=100 / len(people) + 1e-9)
    assert scores.champion["champion"] == "performance"


def test_aspects_share_the_difference_to_the_median_performance(midi_files, scorer):
    scores = score(read_recording(midi_files[3]), scorer)
    np.testing.assert_allclose(scores.moved.sum(0), scores.value - scores.reference_value, atol=1e-9)
    assert scores.aspects == ("timing", "touch", "dynamics", "pedal", "harmony", "texture", "timbre")
    # A feature's effect is what its score loses when it is as in the median performance.
    k = int(np.argmax(np.abs(scores.effects[:, 0])))
    altered = scores.features[0].copy()
    altered[k] = scorer.reference[k]
    before, after = scorer.holder.predict(np.stack([scores.features[0], altered]))
    np.testing.assert_allclose(scores.effects[k], before - after, atol=1e-9)


def test_a_long_recording_is_the_mean_of_its_windows_by_time(midi_files, scorer):
    short = replace(scorer, lengths=Lengths(2.0, 3.0, 5.0))
    scores = score(read_recording(midi_files[0]), short)
    assert len(scores.windows) > 2
    seconds = np.array([w.end_s - w.start_s for w in scores.windows])
    alone = np.concatenate(
        [scorer.holder.predict(features_of([w], "all_music_absolute", "modal")[0]) for w in scores.windows]
    )
    np.testing.assert_allclose(scores.by_window, np.clip(alone, 0, 1), atol=1e-9)
    np.testing.assert_allclose(scores.value, np.average(np.clip(alone, 0, 1), axis=0, weights=seconds), atol=1e-9)


def test_twice_as_slow_is_outside_what_was_heard(midi_files, scorer):
    recording = read_recording(midi_files[2])
    usual = score(recording, scorer)
    assert usual.in_domain
    p = recording.performance
    slow = replace(p, onset_s=6 * p.onset_s, offset_s=6 * p.offset_s, control_time_s=6 * p.control_time_s)
    strange = score(replace(recording, performance=slow, duration_s=6 * recording.duration_s), scorer)
    assert not strange.in_domain
    assert "timing" in strange.beyond


def test_sound_without_notes_is_scored_by_the_champion_of_sound(midi_files, champion_root, tmp_path):
    of_sound = scorer_of(champion_home(champion_root, "sound") / "k1")
    midi = read_recording(midi_files[4])
    path = tmp_path / "played.wav"
    write_wav(path, render_modal(midi.performance), 22050)
    heard = read_recording(path)
    assert (heard.kind, heard.performance) == ("audio", None)
    scores = score(heard, replace(of_sound, lengths=Lengths(1, 10, 1000)))
    # The file's silent end is cut off, so features differ a little.
    np.testing.assert_allclose(
        scores.value, score(midi, replace(of_sound, lengths=Lengths(1, 10, 1000))).value, atol=0.03
    )
    with pytest.raises(ValueError, match="features of notes need notes: transcribe the recording, or bring MIDI"):
        features_of([Window(0, 1, None, heard.samples)], "all_music_absolute", "modal")


def test_passages_say_what_a_score_would_lose_without_them(midi_files, scorer):
    recording = read_recording(midi_files[4])
    scores = score(recording, scorer)
    window = scores.windows[0]
    assert {p.window for p in scores.passages} == set(range(len(scores.windows)))
    mine = [p for p in scores.passages if p.window == 0]
    assert 2 <= len(mine) <= PASSAGES
    assert (mine[0].start_s, mine[-1].end_s) == (window.start_s, window.end_s)
    assert all(a.end_s == b.start_s for a, b in itertools.pairwise(mine))
    onsets = recording.performance.onset_s
    assert all(np.isclose(onsets, p.start_s).any() for p in mine)
    # By hand: notes of the passage left out, the sound as it was.
    rest = replace(window, performance=without(window.performance, mine[1].start_s, mine[1].end_s))
    x, names = features_of([rest], "all_music_absolute", "modal")
    sounding = np.array([family_of(name).startswith("audio") for name in names])
    x[0, sounding] = scores.features[0, sounding]
    lost = scores.by_window[0] - np.clip(scorer.holder.predict(x)[0], 0, 1)
    np.testing.assert_allclose(scores.by_passage[1], lost, atol=1e-12)
    assert np.abs(scores.by_passage).max() > 0


def held(seconds=9.0):
    """A chorale of harmonic tones with vibrato, each as loud at its end as at its beginning."""
    t = np.arange(round(1.5 * 22050)) / 22050
    chords = [(60, 64, 67), (57, 60, 65), (55, 59, 62), (60, 64, 67), (62, 65, 69), (60, 64, 67)]
    swell = np.minimum(1, np.minimum(t, t[::-1]) / 0.08)
    bent = t + 2e-4 * np.sin(2 * np.pi * 5.5 * t)
    hertz = [[440 * 2 ** ((p - 69) / 12) * k for p in chord for k in (1, 2, 3)] for chord in chords]
    sound = np.concatenate([swell * sum(np.sin(2 * np.pi * f * bent) for f in of) for of in hertz])
    return 0.05 * sound[: round(seconds * 22050)]


def test_what_is_held_is_no_piano(midi_files, champion_root, tmp_path):
    """A physical difference: between strokes a string dies away."""
    sound = scorer_of(champion_home(champion_root, "sound") / "k1")
    write_wav(tmp_path / "organ.wav", held(), 22050)
    organ = score(read_recording(tmp_path / "organ.wav"), sound)
    assert organ.held
    assert not organ.in_domain
    assert warnings(organ)[0].startswith("This does not sound like a piano: what was heard is held")
    assert "bring a recording of a piano alone" in warnings(organ)[0]
    for path in midi_files[::9]:
        write_wav(tmp_path / "piano.wav", render_modal(read_recording(path).performance), 22050)
        piano = score(read_recording(tmp_path / "piano.wav"), sound)
        assert not piano.held
        assert not piano.held_windows.any()
    assert not score(read_recording(midi_files[0]), sound).held
