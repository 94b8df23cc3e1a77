import numpy as np
import pytest

from piano_assets.corpus.performance import SOFT, SUSTAIN
from piano_assets.corpus.synthetic.performers import HABITS, Rendition, deadpan, draw_habits, measure, perform, vary
from piano_assets.corpus.synthetic.themes import ACCOMPANIMENT, MELODY, Score, score

MUSIC = score(("lament",))
MEANS = {name: habit.mean for name, habit in HABITS.items()}


def played(seed=0, **changes):
    return measure(perform(MUSIC, MEANS | changes, np.random.default_rng(seed)), MUSIC)


def test_without_any_habit_a_player_keeps_the_deadpan_times():
    """The limit: no tempo change, no noise, no lead. Lengths keep their 5 % of noise."""
    habits = dict.fromkeys(HABITS, 0.0) | {"level": 64.0, "gate": 0.95}
    rendition = perform(MUSIC, habits, np.random.default_rng(0))
    np.testing.assert_allclose(rendition.onset_s, deadpan(MUSIC).onset_s, atol=1e-9)
    np.testing.assert_allclose(rendition.beat_s, deadpan(MUSIC).beat_s, atol=1e-9)


@pytest.mark.parametrize(
    ("habit", "parameter", "sign"),
    [
        ("tempo", "slowness", -1),
        ("ritardando", "slowness", 1),
        ("rubato", "irregularity", 1),
        ("unsteadiness", "irregularity", 1),
        ("level", "loudness", 1),
        ("swell", "dynamic_spread", 1),
        ("voicing", "voicing", 1),
        ("gate", "legato", 1),
        ("lead_s", "lead_s", 1),
        ("pedal_share", "pedal_share", 1),
        ("pedal_overlap", "pedal_overlap", 1),
        ("pedal_depth", "pedal_depth", 1),
        ("pedal_rest", "pedal_depth", 1),
        ("soft_share", "soft_share", 1),
    ],
)
def test_a_habit_moves_what_it_is_about(habit, parameter, sign):
    h = HABITS[habit]
    low, high = max(h.low, h.mean - h.between), min(h.high, h.mean + h.between)
    means = [np.mean([played(seed, **{habit: value})[parameter] for seed in range(5)]) for value in (low, high)]
    assert sign * (means[1] - means[0]) > 0


def test_deadpan_has_no_expression():
    got = measure(deadpan(MUSIC), MUSIC)
    silent = ["irregularity", "lead_s", "dynamic_spread", "voicing", "pedal_share", "pedal_depth", "soft_share"]
    np.testing.assert_allclose([got[name] for name in silent], 0.0, atol=1e-12)
    assert got["legato"] == pytest.approx(0.95)
    assert got["loudness"] == 64


def test_parameters_by_hand():
    """Two bars of 2 beats at 60 bpm, played in 5 s: 1, 1, 1 and 2 s a beat."""
    music = Score(
        onset=np.array([0.0, 0.0, 2.0, 2.0]),
        duration=np.full(4, 2.0),
        pitch=np.array([48, 60, 50, 62]),
        voice=np.array([ACCOMPANIMENT, MELODY, ACCOMPANIMENT, MELODY]),
        harmony=np.array([0.0, 2.0]),
        beats_per_bar=2,
        n_bars=2,
        tempo_bpm=60,
        minor_share=0.5,
    )
    rendition = Rendition(
        onset_s=np.array([0.1, 0.0, 2.05, 2.0]),
        offset_s=np.array([2.1, 1.0, 5.0, 5.0]),
        pitch=music.pitch,
        velocity=np.array([50, 70, 50, 70]),
        voice=music.voice,
        beat_s=np.array([0.0, 1.0, 2.0, 3.0, 5.0]),
        harmony_s=np.array([0.0, 2.0]),
        controls=np.array([(1.0, SUSTAIN, 127), (2.5, SUSTAIN, 63), (4.0, SOFT, 127), (9.0, SUSTAIN, 0)]),
    )
    got = measure(rendition, music)
    assert got["slowness"] == pytest.approx(np.log(5 / 4))
    assert got["irregularity"] == pytest.approx(np.log(2) * np.sqrt(3) / 4)
    assert got["lead_s"] == pytest.approx((0.1 + 0.05) / 2)
    assert (got["loudness"], got["dynamic_spread"], got["voicing"]) == (60, 10, 20)
    assert got["legato"] == pytest.approx(np.median([1.0, 0.5, 2.95 / 3, 1.0]))
    assert got["pedal_share"] == pytest.approx(1.5 / 5)
    assert got["pedal_depth"] == pytest.approx((127 * 1.5 + 63 * 2.5) / 5 / 127)
    assert got["pedal_overlap"] == 1
    assert got["soft_share"] == pytest.approx(1 / 5)
    assert (got["minor"], got["height"], got["density"]) == (0.5, 55, pytest.approx(0.0))


def test_a_key_is_released_before_it_is_struck_again():
    legato = MEANS | {"gate": 1.08}
    r = perform(MUSIC, legato, np.random.default_rng(3))
    for key in np.unique(r.pitch):
        mine = np.flatnonzero(r.pitch == key)
        mine = mine[np.argsort(r.onset_s[mine])]
        assert (r.offset_s[mine[:-1]] < r.onset_s[mine[1:]]).all()
    assert (r.offset_s > r.onset_s).all()


def test_a_held_pedal_is_one_movement():
    r = perform(MUSIC, MEANS, np.random.default_rng(0), held_pedal=True)
    assert (r.controls[:, 1] == SUSTAIN).sum() == 1
    assert measure(r, MUSIC)["pedal_share"] == 1


def test_players_differ_more_than_their_own_clips():
    """Intraclass correlation of 60 players with 20 clips each, against its value from the declared spreads.

    `voicing` is hardly ever clipped at its range (declared 0.8; standard error over 60 players about 0.04).
    """
    rng = np.random.default_rng(5)
    clips = np.array([[vary(h, rng)["voicing"] for _ in range(20)] for h in (draw_habits(rng) for _ in range(60))])
    within = clips.var(axis=1, ddof=1).mean()
    between = clips.mean(axis=1).var(ddof=1) - within / 20
    h = HABITS["voicing"]
    assert between / (between + within) == pytest.approx(h.between**2 / (h.between**2 + h.within**2), abs=0.15)


def test_settings_stay_in_their_range():
    rng = np.random.default_rng(0)
    for _ in range(200):
        clip = vary(draw_habits(rng), rng)
        assert all(HABITS[name].low <= value <= HABITS[name].high for name, value in clip.items())
