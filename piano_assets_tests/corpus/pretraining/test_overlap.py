"""Evaluation music is found in whole performances, in any key, with wrong notes; other music is left alone."""

import numpy as np
import pytest

from piano_assets.corpus.pretraining.overlap import GRAM, Scores, pitch_sequence
from piano_assets_tests.corpus.pretraining.music import piece, pitches, played, with_wrong_notes

EXCERPTS = {f"excerpt{i}": piece(i, 60) for i in range(6)}
SCORES = Scores({name: pitches(chords) for name, chords in EXCERPTS.items()})


def overlap(performance):
    return SCORES.overlap(pitch_sequence(performance))


def test_a_spread_chord_is_read_from_its_lowest_note():
    chords = piece(0, 40)
    assert pitch_sequence(played(chords, seed=3)).tolist() == pitches(chords)
    assert played(chords, seed=3).pitch.tolist() != pitches(chords)


@pytest.mark.parametrize("name", EXCERPTS)
def test_the_excerpt_itself_is_found_whole(name):
    found = overlap(played(EXCERPTS[name], seed=1))
    assert found is not None
    assert (found.excerpt, found.share, found.semitones) == (name, 1.0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_one_wrong_note_in_ten_hides_nothing(seed):
    found = overlap(played(with_wrong_notes(EXCERPTS["excerpt2"], 0.1, seed), seed))
    assert found is not None
    assert found.excerpt == "excerpt2"


@pytest.mark.parametrize("wrong", [0.0, 0.1])
def test_an_excerpt_inside_a_long_piece_is_found(wrong):
    inside = with_wrong_notes(EXCERPTS["excerpt4"], wrong, 7)
    found = overlap(played([*piece(101, 800), *inside, *piece(102, 900)]))
    assert found is not None
    assert found.excerpt == "excerpt4"


def test_ornaments_move_what_follows_and_hide_nothing():
    chords = EXCERPTS["excerpt1"]
    ornate = [c for i, chord in enumerate(chords) for c in ([(chord[-1] + 2,), chord] if i % 9 == 0 else [chord])]
    assert len(ornate) > len(chords) + 5
    found = overlap(played(ornate))
    assert found is not None
    assert found.excerpt == "excerpt1"


@pytest.mark.parametrize("semitones", [-7, 1, 12])
def test_a_transposed_performance_is_found(semitones):
    found = overlap(played([*piece(101, 200), *EXCERPTS["excerpt0"]], transpose=semitones))
    assert found is not None
    assert (found.excerpt, found.semitones) == ("excerpt0", semitones)


@pytest.mark.parametrize("seed", range(200, 220))
def test_other_music_in_the_same_style_stays(seed):
    assert overlap(played(piece(seed, 1000), seed)) is None


def test_a_tenth_of_an_excerpt_is_no_overlap():
    assert overlap(played([*piece(300, 300), *EXCERPTS["excerpt3"][:6], *piece(301, 300)])) is None


def test_a_file_shorter_than_a_run_is_compared_with_nothing():
    assert overlap(played(EXCERPTS["excerpt0"][:2])) is None
    assert SCORES.found(np.arange(GRAM)) == []


@pytest.mark.percepiano
def test_every_performer_of_every_movement_is_found_but_one(loaded_percepiano):
    """A performance of a whole movement is excluded if one excerpt of it is found; one clip has clearly wrong notes."""
    from piano_assets.corpus.clusters import score_pitches
    from piano_assets.corpus.performance import performances

    corpus = loaded_percepiano
    scores = Scores(score_pitches(corpus.clips, corpus.notes))
    humans = corpus.clips[~corpus.clips["deadpan"]]
    played_by = performances(corpus.notes[corpus.notes["clip"].isin(humans["clip"])], corpus.controls)
    found = {clip: scores.overlap(pitch_sequence(p)) for clip, p in played_by.items()}
    of_movement = humans.assign(found=[found[c] is not None for c in humans["clip"]])
    whole = of_movement.groupby(["performer", of_movement["movement"].fillna("")])["found"].any()
    assert whole[~whole].index.tolist() == [("WoO80_19", "var25")]
    assert of_movement["found"].mean() > 0.97
    assert all(o.excerpt.startswith(c.split("_")[1]) for c, o in found.items() if o is not None)
