"""True notes as a transcriber would have heard them, so that a model can learn what it will be told of a recording.

Of a transcription two things are never as the file has them, however well it hears. Pedals are down or up: half pedal
is one of both. And a note lasts as long as it sounds: whether a key or the pedal held it, the sound does not say (notes
of transcribers are trained with offsets that the sustain pedal extends: Hawthorne et al. 2018, ISMIR, sec. 3; Yan and
Duan 2024, ISMIR). What it mishears beside these, a missed note or a velocity, is left out.
"""

from dataclasses import replace

import numpy as np

from piano_assets.corpus.performance import SOFT, SUSTAIN, Performance

DOWN_FROM = 64
"""Position from which a pedal is heard as down: MIDI's own limit, by which transcribers were taught."""
_UP, _DOWN = 0, 127


def as_heard(performance: Performance) -> Performance:
    """The performance with pedals that are down or up, and notes that last while the sustain pedal holds them.

    Such a note ends where the pedal comes up, where its key is struck again, or with the music. Onsets, pitches and
    velocities stay. The sostenuto pedal is left out: no transcriber hears it.
    """
    presses = {pedal: _presses(*performance.pedal(pedal)) for pedal in (SUSTAIN, SOFT)}
    time, value, controller = (
        np.concatenate(arrays)
        for arrays in zip(*((t, v, np.full(len(t), pedal)) for pedal, (t, v) in presses.items()), strict=True)
    )
    order = np.argsort(time, kind="stable")
    return replace(
        performance,
        offset_s=np.minimum(_released(performance, *presses[SUSTAIN]), _struck_again(performance)),
        control_time_s=time[order],
        controller=controller[order].astype(performance.controller.dtype),
        control_value=value[order].astype(performance.control_value.dtype),
    )


def _presses(time: np.ndarray, value: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(when, 0 or 127) of the moments at which a pedal goes down or comes up; before the first it is up."""
    down = value >= DOWN_FROM
    moved = np.diff(down, prepend=False)
    return time[moved], np.where(down[moved], _DOWN, _UP)


def _released(performance: Performance, time: np.ndarray, value: np.ndarray) -> np.ndarray:
    """(n_notes,) when key and sustain pedal have both let a note go."""
    offset = performance.offset_s
    if not len(time):
        return offset
    state = np.searchsorted(time, offset, side="right") - 1
    held = (state >= 0) & (value[state] == _DOWN)
    lift = np.append(time[1:], performance.duration_s)[state]
    return np.where(held, np.maximum(offset, lift), offset)


def _struck_again(performance: Performance) -> np.ndarray:
    """(n_notes,) when a note's key is struck the next time; infinity where it is not."""
    order = np.lexsort((performance.onset_s, performance.pitch))
    onset, pitch = performance.onset_s[order], performance.pitch[order]
    same = np.append(pitch[1:] == pitch[:-1], False)
    found = np.full(len(order), np.inf)
    found[order] = np.where(same, np.append(onset[1:], np.inf), np.inf)
    return found
