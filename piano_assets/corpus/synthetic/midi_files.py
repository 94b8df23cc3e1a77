"""MIDI files as PercePiano has them: recordings with a late start and a long silent end, scores in two tracks."""

from pathlib import Path

import numpy as np
from mido import Message, MetaMessage, MidiFile, MidiTrack

from piano_assets.corpus.synthetic.performers import DEADPAN_GATE, Rendition
from piano_assets.corpus.synthetic.themes import ACCOMPANIMENT, MELODY, Score

TICKS_PER_BEAT = 480
TEMPO_US, D960_TEMPO_US = 500_000, 512_821
"""Tempo of the human files in microseconds a beat: it only scales the clock, since recordings have no beat."""
MAX_START_S = 2.0
TAIL_S = (5.0, 25.0)
SHARE_RELEASED = 0.6
"""Share of the recordings whose pedal is let up after the last note; the others end as the last note left it."""

# (ticks, order within a tick: releases, pedals, strikes; then the message without its delta time)
_Event = tuple[int, int, Message]


def write_performance(path: Path, rendition: Rendition, tempo_us: int, rng: np.random.Generator) -> None:
    """Write a recording: one track, pedals, a start 0..2 s into the file and 5 to 25 s of silence at the end."""
    start = rng.uniform(0.0, MAX_START_S) - rendition.onset_s.min()
    per_second = TICKS_PER_BEAT * 1e6 / tempo_us

    def ticks(seconds: float) -> int:
        return max(0, round((seconds + start) * per_second))

    events: list[_Event] = []
    for onset, offset, pitch, velocity in zip(
        rendition.onset_s.tolist(),
        rendition.offset_s.tolist(),
        rendition.pitch.tolist(),
        rendition.velocity.tolist(),
        strict=True,
    ):
        on = ticks(onset)
        events.append((on, 2, Message("note_on", note=pitch, velocity=velocity)))
        events.append((max(on + 1, ticks(offset)), 0, Message("note_on", note=pitch, velocity=0)))
    for time, controller, value in rendition.controls.tolist():
        events.append((ticks(time), 1, Message("control_change", control=int(controller), value=int(value))))
    if rng.random() < SHARE_RELEASED:
        last = max(rendition.offset_s.max(), rendition.controls[:, 0].max(initial=0.0))
        events.append((ticks(last + 0.6), 1, Message("control_change", control=64)))
    end = max(e[0] for e in events) + round(rng.uniform(*TAIL_S) * per_second)
    track = MidiTrack(
        [
            MetaMessage("track_name", name="Piano"),
            MetaMessage("time_signature", numerator=4, denominator=4),
            MetaMessage("set_tempo", tempo=tempo_us),
        ]
    )
    _append(track, events, end)
    MidiFile(type=0, ticks_per_beat=TICKS_PER_BEAT, tracks=[track]).save(path)


def write_score(path: Path, score: Score, tempo_ratio: float, velocity: int) -> None:
    """Write a score: one track a hand, the notated tempo times `tempo_ratio`, one velocity, no pedal."""
    tracks = []
    for voice in (MELODY, ACCOMPANIMENT):
        track = MidiTrack([MetaMessage("track_name", name="Piano")])
        if voice == MELODY:
            six = score.beats_per_bar == 6
            track.append(MetaMessage("time_signature", numerator=score.beats_per_bar, denominator=8 if six else 4))
            track.append(MetaMessage("set_tempo", tempo=round(60e6 / (score.tempo_bpm * tempo_ratio))))
        events: list[_Event] = []
        mine = score.voice == voice
        for onset, length, pitch in zip(
            score.onset[mine].tolist(), score.duration[mine].tolist(), score.pitch[mine].tolist(), strict=True
        ):
            on, off = round(onset * TICKS_PER_BEAT), round((onset + DEADPAN_GATE * length) * TICKS_PER_BEAT)
            events.append((on, 2, Message("note_on", note=pitch, velocity=velocity)))
            events.append((off, 0, Message("note_on", note=pitch, velocity=0)))
        _append(track, events, max(e[0] for e in events) + 1)
        tracks.append(track)
    MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT, tracks=tracks).save(path)


def _append(track: MidiTrack, events: list[_Event], end: int) -> None:
    now = 0
    for at, _, message in sorted(events, key=lambda e: e[:2]):
        message.time = at - now
        track.append(message)
        now = at
    track.append(MetaMessage("end_of_track", time=end - now))
