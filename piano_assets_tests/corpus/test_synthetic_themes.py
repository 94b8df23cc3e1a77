import numpy as np
import pytest

from piano_assets.corpus.synthetic import themes
from piano_assets.corpus.synthetic.themes import ACCOMPANIMENT, EXCERPTS, MELODY, THEMES, Theme, score


@pytest.fixture
def one_theme(monkeypatch):
    """Score of a theme given by its melody and chords."""

    def make(melody, chords, beats=4):
        theme = Theme(origin="test", beats=beats, tempo_bpm=60, style="pulse", melody=melody, chords=chords)
        monkeypatch.setitem(THEMES, "test", theme)
        return themes.score.__wrapped__(("test",))

    return make


@pytest.mark.parametrize("name", THEMES)
def test_every_theme_fills_its_bars_and_strikes_no_key_twice(name):
    music = score((name,))
    assert music.n_bars in (4, 8)
    assert THEMES[name].chords.count("|") + 1 == music.n_bars
    melody = music.voice == MELODY
    assert music.duration[melody].sum() == music.n_beats
    assert 40 <= len(music.pitch) <= 130
    for i in range(len(music.pitch)):
        same = np.flatnonzero(music.pitch == music.pitch[i])
        sounding = (music.onset[same] <= music.onset[i]) & (music.onset[i] < music.onset[same] + music.duration[same])
        assert sounding.sum() == 1


def test_notation_by_hand(one_theme):
    music = one_theme("C5*1.5 Bb4*.5 F#5*2 | C4*4", "C,Am | G")
    melody = music.voice == MELODY
    assert music.pitch[melody].tolist() == [72, 70, 78, 60]
    assert music.onset[melody].tolist() == [0, 1.5, 2, 4]
    assert music.harmony.tolist() == [0, 2, 4]
    first = (music.onset == 0) & (music.voice == ACCOMPANIMENT)
    assert music.pitch[first].tolist() == [48, 52, 55]  # C major
    third = (music.onset == 2) & (music.voice == ACCOMPANIMENT)
    assert music.pitch[third].tolist() == [45, 48, 52]  # A minor


@pytest.mark.parametrize(
    ("melody", "chords", "message"),
    [
        ("C5*3", "C", "bar 1: 3.0 beats instead of 4"),
        ("C5*4 | H5*4", "C | C", "'H5\\*4' is not a note"),
        ("C5*4", "Cdim", "'Cdim' is not a chord"),
        ("C5*4", "C,F,G", "does not divide 4 beats"),
    ],
)
def test_wrong_notation_is_refused_with_bar_and_value(one_theme, melody, chords, message):
    with pytest.raises(ValueError, match=message):
        one_theme(melody, chords)


def test_themes_of_different_metres_do_not_join():
    with pytest.raises(ValueError, match="beats a bar"):
        score(("ode", "minuet"))


def test_long_excerpts_contain_the_short_ones_note_by_note():
    """A plain search for the pitch sequence, not the clusters' own matching."""
    found = set()
    for a, long in enumerate(EXCERPTS[:14]):
        for b, short in enumerate(EXCERPTS[:14]):
            inner, outer = short.score.pitch.tolist(), long.score.pitch.tolist()
            if a != b and any(outer[i : i + len(inner)] == inner for i in range(len(outer) - len(inner) + 1)):
                found.add((a, b))
    assert found == {(6, 1), (6, 7), (12, 10)}


def test_excerpts_differ():
    assert len({e.stem("1") for e in EXCERPTS}) == len(EXCERPTS)


def test_an_opening_ends_with_its_last_bar(one_theme):
    music = one_theme("C5 D5 E5 F5 | G4*2 A4*2 | C4*4", "C | G,Am | C")
    two = music.opening(2)
    assert two.n_bars == 2
    assert two.harmony.tolist() == [0, 4, 6]
    assert (two.onset + two.duration).max() == two.n_beats == 8
    kept = music.onset < 8
    for name in ("onset", "pitch", "voice"):
        np.testing.assert_array_equal(getattr(two, name), getattr(music, name)[kept])
    whole = music.opening(7)
    np.testing.assert_array_equal(whole.onset, music.onset)
    assert whole.n_bars == 3


def test_a_note_over_the_bar_is_cut_at_the_end(one_theme):
    music = one_theme("C5*4 | D5*4", "C | G")
    long = themes.replace(music, duration=np.full(len(music.onset), 7.0))
    assert (long.opening(1).onset + long.opening(1).duration).max() == 4
