"""Whether a MIDI file is a piano performance: who plays its notes."""

from collections import Counter
from operator import itemgetter
from pathlib import Path

import mido

from piano_assets.corpus.midi import MidiError

DRUMS = 9
"""Channel of the percussion, counted from 0 (General MIDI 1)."""

PIANOS = range(4)
"""Programs that are pianos, counted from 0: acoustic, bright, electric grand, honky-tonk (General MIDI 1)."""


def only_piano(path: Path, midi: mido.MidiFile) -> None:
    """Refuse what is no performance on one piano; two hands on two channels are one piano.

    Raises:
        MidiError: notes on the drum channel, of a program that is no piano, or of several programs.
    """
    played = played_notes(midi)
    drums = sum(count for (channel, _), count in played.items() if channel == DRUMS)
    if drums:
        raise MidiError(path, "no note is on the drum channel", f"{drums} notes")
    programs = Counter[int]()
    for (_, program), count in played.items():
        programs[program] += count
    other = sorted(program for program in programs if program not in PIANOS)
    if other:
        what = ", ".join(f"program {program}: {programs[program]} notes" for program in other)
        raise MidiError(path, f"notes are played by a piano (programs {PIANOS.start} to {PIANOS.stop - 1})", what)
    if len(programs) > 1:
        raise MidiError(path, "one instrument plays", ", ".join(f"program {p}" for p in sorted(programs)))


def played_notes(midi: mido.MidiFile) -> Counter[tuple[int, int]]:
    """(channel, program) -> notes; a channel that names no program plays program 0, the piano.

    A program named at the tick of a note counts for it, in whatever track it stands.
    """
    events: list[tuple[int, int, int, int]] = []  # tick, programs before notes, channel, program or -1
    for track in midi.tracks:
        tick = 0
        for message in track:
            tick += message.time
            if message.type == "program_change":
                events.append((tick, 0, message.channel, message.program))
            elif message.type == "note_on" and message.velocity:
                events.append((tick, 1, message.channel, -1))
    program: dict[int, int] = {}
    played = Counter[tuple[int, int]]()
    for _, is_note, channel, number in sorted(events, key=itemgetter(0, 1)):
        if is_note:
            played[channel, program.get(channel, 0)] += 1
        else:
            program[channel] = number
    return played
