"""The players of the synthetic corpus: habits, their realisation on a score, and what was really played.

A habit has a mean over players, a spread between players and a smaller spread between one player's clips, so that
knowing who plays says much about a clip, but not all.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from piano_assets.corpus.performance import SOFT, SUSTAIN
from piano_assets.corpus.synthetic.themes import MELODY, Score

PEDAL_DOWN = 64
PEDAL_GAP_S = 0.08
OVERLAP_S = 0.1
"""A pedal that is still down so long after the harmony has changed was held over the change."""
PHRASE_BARS = 4
SOFT_BARS = 2
DEADPAN_VELOCITY = 64
DEADPAN_GATE = 0.95


@dataclass(frozen=True, kw_only=True)
class Habit:
    """Mean over players, standard deviations between players and between a player's clips, and the legal range."""

    mean: float
    between: float
    within: float
    low: float
    high: float


HABITS: dict[str, Habit] = {
    # log of played over notated speed
    "tempo": Habit(mean=0.0, between=0.13, within=0.07, low=-0.5, high=0.5),
    # depth of the phrase-wise tempo arch and of the final slowing, in log tempo
    "rubato": Habit(mean=0.10, between=0.06, within=0.03, low=0.02, high=0.4),
    "ritardando": Habit(mean=0.25, between=0.12, within=0.06, low=0.03, high=0.7),
    # unintended deviation from beat to beat (log tempo) and from note to note (s)
    "unsteadiness": Habit(mean=0.04, between=0.025, within=0.012, low=0.005, high=0.2),
    "jitter_s": Habit(mean=0.008, between=0.004, within=0.002, low=0.0, high=0.03),
    # mean velocity, height of the phrase-wise dynamic arch, melody above accompaniment, note-to-note noise
    "level": Habit(mean=62.0, between=8.0, within=4.0, low=35.0, high=92.0),
    "swell": Habit(mean=14.0, between=7.0, within=3.5, low=0.0, high=34.0),
    "voicing": Habit(mean=10.0, between=6.0, within=3.0, low=-8.0, high=28.0),
    "unevenness": Habit(mean=4.0, between=1.5, within=0.8, low=0.5, high=9.0),
    # sounding over notated length, and the melody's lead
    "gate": Habit(mean=0.82, between=0.16, within=0.07, low=0.35, high=1.08),
    "lead_s": Habit(mean=0.014, between=0.010, within=0.005, low=-0.01, high=0.05),
    # share of each harmony with the pedal down, share of harmony changes it is held over, how deep it goes, how high
    # it comes up
    "pedal_share": Habit(mean=0.60, between=0.24, within=0.10, low=0.05, high=1.0),
    "pedal_overlap": Habit(mean=0.20, between=0.18, within=0.08, low=0.0, high=0.9),
    "pedal_depth": Habit(mean=100.0, between=15.0, within=7.0, low=70.0, high=127.0),
    "pedal_rest": Habit(mean=10.0, between=14.0, within=6.0, low=0.0, high=50.0),
    # share of the two-bar groups played with the soft pedal
    "soft_share": Habit(mean=0.25, between=0.28, within=0.12, low=0.0, high=1.0),
}


@dataclass(frozen=True, eq=False)
class Rendition:
    """A played score, in seconds from the score's first beat; notes in score order (n_notes,), pedals (n_controls,).

    `beat_s`: times of the beats 0..n_beats (n_beats + 1,). `harmony_s`: times of the harmony changes.
    """

    onset_s: np.ndarray
    offset_s: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    voice: np.ndarray
    beat_s: np.ndarray
    harmony_s: np.ndarray
    controls: np.ndarray
    """(n_controls, 3): time in s, controller, value; sorted by time."""


def draw_habits(rng: np.random.Generator) -> dict[str, float]:
    """One player's habits: the mean of that player's clips."""
    return {name: h.mean + h.between * rng.standard_normal() for name, h in HABITS.items()}


def vary(habits: dict[str, float], rng: np.random.Generator) -> dict[str, float]:
    """What a player with these habits does in one clip, held inside the legal range."""
    return {
        name: float(np.clip(habits[name] + h.within * rng.standard_normal(), h.low, h.high))
        for name, h in HABITS.items()
    }


def deadpan(score: Score, tempo_ratio: float = 1.0, velocity: int = DEADPAN_VELOCITY) -> Rendition:
    """The score as notation software plays it: even tempo, one velocity, no pedal."""
    beat_s = 60.0 / (score.tempo_bpm * tempo_ratio)
    n = len(score.pitch)
    return Rendition(
        onset_s=score.onset * beat_s,
        offset_s=(score.onset + DEADPAN_GATE * score.duration) * beat_s,
        pitch=score.pitch,
        velocity=np.full(n, velocity),
        voice=score.voice,
        beat_s=np.arange(score.n_beats + 1) * beat_s,
        harmony_s=score.harmony * beat_s,
        controls=np.zeros((0, 3)),
    )


def perform(score: Score, clip: dict[str, float], rng: np.random.Generator, held_pedal: bool = False) -> Rendition:
    """Play `score` with one clip's settings (`vary`); `held_pedal` leaves the pedal down from before the start."""
    beats = np.arange(score.n_beats + 1, dtype=float)
    arch = _arch(beats, score)
    last_bar = np.clip((beats - (score.n_beats - 1.5 * score.beats_per_bar)) / (1.5 * score.beats_per_bar), 0, 1)
    log_tempo = (
        clip["tempo"]
        + clip["rubato"] * (arch - 0.5)
        - clip["ritardando"] * last_bar**2
        + clip["unsteadiness"] * rng.standard_normal(len(beats))
    )
    seconds = 60.0 / score.tempo_bpm * np.exp(-log_tempo[:-1])
    beat_s = np.concatenate([[0.0], np.cumsum(seconds)])

    def at(beat: np.ndarray) -> np.ndarray:
        return np.interp(beat, beats, beat_s)

    n = len(score.pitch)
    melody = score.voice == MELODY
    accompanied = np.isin(score.onset, score.onset[~melody])
    onset = at(score.onset) + clip["jitter_s"] * rng.standard_normal(n) - clip["lead_s"] * (melody & accompanied)
    length = clip["gate"] * (at(score.onset + score.duration) - at(score.onset))
    length = np.maximum(length * (1 + 0.05 * rng.standard_normal(n)), 0.03)
    side = np.where(melody, 0.5, -0.5)
    tilt = np.where(melody, score.pitch - score.pitch[melody].mean(), 0.0)
    velocity = (
        clip["level"]
        + clip["swell"] * (_arch(score.onset, score) - 0.5)
        + clip["voicing"] * side
        + 0.04 * clip["swell"] * tilt
        + 2.0 * (score.onset % score.beats_per_bar == 0)
        + clip["unevenness"] * rng.standard_normal(n)
    )
    return Rendition(
        onset_s=onset,
        offset_s=_released(onset, onset + length, score.pitch),
        pitch=score.pitch,
        velocity=np.clip(np.rint(velocity), 12, 120).astype(int),
        voice=score.voice,
        beat_s=beat_s,
        harmony_s=at(score.harmony),
        controls=_pedals(score, clip, at, rng, held_pedal),
    )


def _arch(beat: np.ndarray, score: Score) -> np.ndarray:
    """0 where a phrase begins and ends, 1 in its middle."""
    phrase = PHRASE_BARS * score.beats_per_bar
    return np.sin(np.pi * (beat % phrase) / phrase)


def _released(onset: np.ndarray, offset: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """Offsets that let go of a key 10 ms before it is struck again."""
    offset = offset.copy()
    for key in np.unique(pitch):
        mine = np.flatnonzero(pitch == key)
        mine = mine[np.argsort(onset[mine])]
        offset[mine[:-1]] = np.minimum(offset[mine[:-1]], onset[mine[1:]] - 0.01)
    return np.maximum(offset, onset + 0.005)


def _pedals(score: Score, clip: dict[str, float], at: Callable, rng: np.random.Generator, held: bool) -> np.ndarray:
    end = float(at(np.array([score.n_beats]))[0])
    depth, rest = round(clip["pedal_depth"]), round(clip["pedal_rest"])
    events: list[tuple[float, int, int]] = []
    if held:
        events.append((-0.3, SUSTAIN, depth))
    else:
        bounds = np.append(at(score.harmony), end)
        ready = -1.0
        for start, stop in pairwise(bounds.tolist()):
            down = max(start + PEDAL_GAP_S, ready)
            up = start + PEDAL_GAP_S + clip["pedal_share"] * (stop - start - PEDAL_GAP_S)
            if rng.random() < clip["pedal_overlap"]:
                up = stop + rng.uniform(2.5, 5.0) * OVERLAP_S
            if up - down < 0.1:
                continue
            # the foot travels: a few values on the way down and up, as continuous pedals send them
            events += [
                (down + 0.01 * i, SUSTAIN, round(rest + (depth - rest) * s)) for i, s in enumerate((0.4, 0.8, 1))
            ]
            events += [
                (up - 0.01 * (2 - i), SUSTAIN, round(rest + (depth - rest) * s)) for i, s in enumerate((0.7, 0.3, 0))
            ]
            ready = up + 0.05
    groups = np.arange(0, score.n_beats, SOFT_BARS * score.beats_per_bar, dtype=float)
    chosen = rng.permutation(len(groups)) < round(clip["soft_share"] * len(groups))
    for first, soft in zip(groups, chosen, strict=True):
        if soft:
            last = min(first + SOFT_BARS * score.beats_per_bar, score.n_beats)
            press, lift = at(np.array([first, last]))
            events += [
                (press - 0.06, SOFT, 50),
                (press - 0.04, SOFT, 105),
                (lift - 0.12, SOFT, 40),
                (lift - 0.1, SOFT, 0),
            ]
    return np.array(sorted(events), dtype=float).reshape(-1, 3)


def _held(times: np.ndarray, values: np.ndarray, end: float) -> tuple[np.ndarray, np.ndarray]:
    """(value, seconds) of every stretch between 0 and `end` during which a pedal stands still."""
    edges = np.concatenate([[0.0], np.clip(times, 0.0, end), [end]])
    return np.concatenate([[0.0], values]), np.diff(edges)


def _down_throughout(pedal: np.ndarray, start: float, stop: float) -> bool:
    """Whether a pedal's movements (n, 3) leave it down from `start` to `stop`."""
    before = pedal[pedal[:, 0] <= start]
    during = pedal[(pedal[:, 0] > start) & (pedal[:, 0] <= stop)]
    return len(before) > 0 and bool(before[-1, 2] >= PEDAL_DOWN and (during[:, 2] >= PEDAL_DOWN).all())


def measure(rendition: Rendition, score: Score) -> dict[str, float]:
    """What was really played, and what music it was: the parameters that listeners' answers are made of.

    Returns:
        `slowness` (log of played over notated length), `irregularity` (standard deviation of log beat lengths),
        `lead_s`, `loudness` and `dynamic_spread` (mean and standard deviation of velocity), `voicing` (melody minus
        accompaniment), `legato` (median of sounding over available time), `pedal_share`, `pedal_depth` (mean value /
        127), `pedal_overlap` (share of harmony changes that the pedal is held over), `soft_share`; of the music
        `minor`, `height` (mean pitch) and `density` (log of notated notes per second).
    """
    r, melody = rendition, rendition.voice == MELODY
    start, end = r.onset_s.min(), r.offset_s.max()
    sustain = r.controls[r.controls[:, 1] == SUSTAIN]
    soft = r.controls[r.controls[:, 1] == SOFT]
    value, seconds = _held(sustain[:, 0], sustain[:, 2], end)
    soft_value, soft_seconds = _held(soft[:, 0], soft[:, 2], end)
    held_over = [_down_throughout(sustain, change, change + OVERLAP_S) for change in r.harmony_s[1:]]
    notated_s = score.n_beats * 60.0 / score.tempo_bpm
    available = np.interp(score.onset + score.duration, np.arange(len(r.beat_s)), r.beat_s) - np.interp(
        score.onset, np.arange(len(r.beat_s)), r.beat_s
    )
    leads = [
        np.mean(r.onset_s[~melody & same]) - np.mean(r.onset_s[melody & same])
        for same in (score.onset == b for b in np.unique(score.onset))
        if (melody & same).any() and (~melody & same).any()
    ]
    return {
        "slowness": float(np.log((end - start) / notated_s)),
        "irregularity": float(np.std(np.log(np.diff(r.beat_s)))),
        "lead_s": float(np.mean(leads)),
        "loudness": float(r.velocity.mean()),
        "dynamic_spread": float(r.velocity.std()),
        "voicing": float(r.velocity[melody].mean() - r.velocity[~melody].mean()),
        "legato": float(np.median((r.offset_s - r.onset_s) / available)),
        "pedal_share": float(seconds[value >= PEDAL_DOWN].sum() / end),
        "pedal_depth": float((value * seconds).sum() / end / 127),
        "pedal_overlap": float(np.mean(held_over)),
        "soft_share": float(soft_seconds[soft_value >= PEDAL_DOWN].sum() / end),
        "minor": score.minor_share,
        "height": float(score.pitch.mean()),
        "density": float(np.log(len(score.pitch) / notated_s)),
    }
