"""Is a piano told from what is held? Clips of the corpus played by other instruments of a SoundFont, and by its piano.

    python -m benchmarks.instruments --midi <folder> --soundfont FluidR3_GM.sf2 [--clips 20]

For each instrument: the share of clips that are taken for held (`scoring.domain.is_held`), which a piano never is. The
clips of the corpus in the sound that champions learn from are asked too. Needs the program `fluidsynth`. Results go to
`benchmarks/results/instruments.json`.
"""

import argparse
import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import mido
import numpy as np

from benchmarks.environment import environment
from piano_assets.corpus.audio import read_audio
from piano_assets.scoring.domain import is_held
from piano_assets.scoring.recordings import SAMPLE_RATE, music_in
from piano_assets.store.parts import Store

RESULT = Path(__file__).parent / "results" / "instruments.json"
INSTRUMENTS = {
    "piano": 0,
    "electric_piano": 4,
    "harpsichord": 6,
    "church_organ": 19,
    "nylon_guitar": 24,
    "violin": 40,
    "strings": 48,
    "choir": 52,
    "brass": 61,
    "flute": 73,
}
"""Programs of General MIDI, from 0."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--midi", type=Path, required=True)
    parser.add_argument("--soundfont", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data/percepiano"))
    parser.add_argument("--clips", type=int, default=20)
    given = parser.parse_args()
    store = Store(given.data)
    clips = store.read("clips", "all")
    people = np.sort(clips[~clips["deadpan"]]["clip"].to_numpy(str))
    chosen = np.random.default_rng(0).permutation(people)[: given.clips]
    with tempfile.TemporaryDirectory() as folder:
        found = {
            name: _told([_played(given.midi / f"{c}.mid", program, given.soundfont, Path(folder)) for c in chosen])
            for name, program in INSTRUMENTS.items()
            if print(name, flush=True) is None
        }
    audio = store.read("audio")
    modal = audio[audio["rendering"] == "modal"].sort_values("clip")
    corpus = _told([is_held(_music(store.root / path)) for path in modal["path"]])
    told = {"environment": environment(), "soundfont": given.soundfont.name}
    RESULT.write_text(json.dumps({**told, "corpus": corpus, "instruments": found}, indent=1) + "\n")
    print(json.dumps({"corpus": corpus, **found}, indent=1))


def _played(midi: Path, program: int, soundfont: Path, folder: Path) -> bool:
    file = mido.MidiFile(midi)
    file.tracks[0].insert(0, mido.Message("program_change", program=program, channel=0, time=0))
    file.save(folder / "clip.mid")
    sound = folder / "clip.wav"
    command = ["fluidsynth", "-ni", "-r", str(SAMPLE_RATE), "-F", sound, soundfont, folder / "clip.mid"]
    subprocess.run(command, capture_output=True, check=True)
    return is_held(_music(sound))


def _music(path: Path) -> np.ndarray:
    sound = read_audio(path, SAMPLE_RATE)
    start, end = music_in(sound)
    return sound[start:end]


def _told(held: list[bool]) -> dict[str, Any]:
    return {"n": len(held), "taken_for_held": float(np.mean(held))}


if __name__ == "__main__":
    main()
