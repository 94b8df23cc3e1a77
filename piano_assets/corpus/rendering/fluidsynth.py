"""The second renderer: any SoundFont through FluidSynth. A sampled piano that knows no half-pedal and no una corda.

FluidSynth runs inside the process (pyfluidsynth). Every clip gets a new synthesizer, because a used one remembers
(its voices fade in from the panning of their last note); one that is never played keeps the samples in FluidSynth's
cache, so that the next takes 0.1 s instead of seconds. Reverb and chorus are off, and the float output is read, not
the 16-bit one with its running dither: a clip sounds the same, to the bit, in whatever order clips are made.
"""

import os
import threading
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from piano_assets.corpus.performance import Performance
from piano_assets.corpus.rendering.timing import LOWEST_RATE, check_sample_rate, n_samples

BLOCK = 64
"""Samples between two moments at which FluidSynth hears events (its internal buffer)."""
POLYPHONY = 256
GAIN = 1.0
FOLDERS = (Path("/usr/share/sounds/sf3"), Path("/usr/share/sounds/sf2"), Path("/usr/share/soundfonts"))
PREFERRED = ("MuseScore_General_Full.sf3", "MuseScore_General.sf3", "FluidR3_GM.sf2")
INSTALL = (
    "Install the library and a SoundFont (Debian: apt-get install fluidsynth musescore-general-soundfont) and the "
    "binding (pip install 'piano_assets[render]'), or set PIANO_SOUNDFONT to an .sf2 or .sf3 file."
)
_CONTROL, _OFF, _ON = 0, 1, 2
_loading = threading.Lock()


class FluidSynthError(RuntimeError):
    """FluidSynth, its Python binding or a SoundFont is missing; the message says what to install."""


def find_soundfont(path: Path | None = None) -> Path:
    """The SoundFont to play: `path`, else the environment's PIANO_SOUNDFONT, else one that the system installed.

    Raises:
        FluidSynthError: the named file does not exist, or none was named and none was found.
    """
    named = path or os.environ.get("PIANO_SOUNDFONT")
    if named:
        if not Path(named).is_file():
            raise FluidSynthError(f"SoundFont {named} does not exist. {INSTALL}")
        return Path(named)
    installed = [f for folder in FOLDERS for f in sorted(folder.glob("*.sf[23]"))]
    found = [f for name in PREFERRED for f in installed if f.name == name] + installed
    if not found:
        raise FluidSynthError(f"No SoundFont in {', '.join(map(str, FOLDERS))}. {INSTALL}")
    return found[0]


def render_fluidsynth(performance: Performance, sample_rate: int = 22050, soundfont: Path | None = None) -> np.ndarray:
    """Render with the first preset (acoustic grand piano) of a SoundFont.

    Notes and pedal movements are heard at the nearest multiple of 64 samples; a note lasts at least 64.

    Returns:
        float32 (n_samples,) in [-1, 1], mono (mean of both channels), first onset to last note-off + tail.

    Raises:
        FluidSynthError: library, binding or SoundFont is missing or refuses the file.
        ValueError: `sample_rate` is out of range.
    """
    check_sample_rate(sample_rate)
    length = n_samples(performance, sample_rate)
    font = find_soundfont(soundfont)
    with _loading:
        _keeper(font)
    channels = np.zeros((2, -(-length // BLOCK) * BLOCK), np.float32)
    synth = _load(font, sample_rate)
    try:
        _play(synth, _events(performance, sample_rate), channels)
    finally:
        synth.delete()
    return np.clip(channels[:, :length].mean(axis=0), -1, 1)


def _play(synth: Any, events: list[tuple[int, int, int, int]], channels: np.ndarray) -> None:
    """Fill both channels, (2, n_samples), playing each event at its block."""
    from ctypes import c_int, c_void_p

    import fluidsynth

    names = ("synth", "len", "left", "left_offset", "left_step", "right", "right_offset", "right_step")
    types = (c_void_p, c_int, c_void_p, c_int, c_int, c_void_p, c_int, c_int)
    write = fluidsynth.cfunc("fluid_synth_write_float", c_int, *((n, t, 1) for n, t in zip(names, types, strict=True)))
    left, right = (channel.ctypes.data for channel in channels)

    def sound(start: int, end: int) -> None:
        if end > start:
            write(synth.synth, end - start, left, start, 1, right, start, 1)

    here = 0
    for block, kind, number, value in events:
        start = min(block * BLOCK, channels.shape[1])
        sound(here, start)
        here = start
        if kind == _CONTROL:
            synth.cc(0, number, value)
        elif kind == _OFF:
            synth.noteoff(0, number)
        else:
            synth.noteon(0, number, value)
    sound(here, channels.shape[1])


def _events(performance: Performance, sample_rate: int) -> list[tuple[int, int, int, int]]:
    """(block, kind, key or controller, value) in playing order; at one moment pedals, then note-offs, then note-ons."""

    def blocks(time_s: np.ndarray) -> np.ndarray:
        return np.rint(time_s * sample_rate / BLOCK).astype(np.int64)

    p = performance
    on = blocks(p.onset_s)
    off = np.maximum(blocks(p.offset_s), on + 1)
    events = [
        *((b, _CONTROL, c, v) for b, c, v in zip(blocks(p.control_time_s), p.controller, p.control_value, strict=True)),
        *((b, _OFF, k, 0) for b, k in zip(off, p.pitch, strict=True)),
        *((b, _ON, k, v) for b, k, v in zip(on, p.pitch, p.velocity, strict=True)),
    ]
    return sorted(((int(b), k, int(n), int(v)) for b, k, n, v in events), key=lambda e: e[:2])


@cache
def _keeper(soundfont: Path) -> Any:
    """A synthesizer that is never played nor deleted: FluidSynth keeps the samples of a SoundFont that is in use."""
    return _load(soundfont, LOWEST_RATE)


def _load(soundfont: Path, sample_rate: int) -> Any:
    try:
        import fluidsynth
    except ImportError as error:
        raise FluidSynthError(f"FluidSynth cannot be used: {error}. {INSTALL}") from error
    settings = {
        "synth.reverb.active": 0,
        "synth.chorus.active": 0,
        "synth.polyphony": POLYPHONY,
        "synth.cpu-cores": 1,
        "synth.dynamic-sample-loading": 1,  # the piano's samples alone: seconds and hundreds of megabytes less
    }
    synth = fluidsynth.Synth(gain=GAIN, samplerate=float(sample_rate), channels=16, **settings)
    font = synth.sfload(str(soundfont))
    if font == -1:
        synth.delete()
        raise FluidSynthError(f"{soundfont} is not a SoundFont that FluidSynth can read. {INSTALL}")
    synth.program_select(0, font, 0, 0)
    return synth
