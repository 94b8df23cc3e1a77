"""How well is a recording heard that comes from another piano? Clips rendered by a SoundFont that no training knows.

    python -m benchmarks.fidelity --soundfont FluidR3_GM.sf2 --heard heard [--data data/percepiano] [--clips 100]

Scored by champions that have not learnt from a clip's cluster (`benchmarks.unheard`): from its MIDI; from the sound
that champions learn from; from FluidSynth's sound of the SoundFont; and from the notes and pedals that the transcriber
hears in that. Mean r with the labels on the same clips of people, with intervals by resampling clusters. Transcriptions
are kept in the folder `heard`, a file a clip, so that a killed run goes on: a folder for each SoundFont. Results go to
`benchmarks/results/fidelity.json`, beside those of other SoundFonts.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.environment import environment
from benchmarks.unheard import unheard
from piano_assets.corpus.performance import Performance, performances
from piano_assets.corpus.rendering.fluidsynth import render_fluidsynth
from piano_assets.corpus.rendering.write import as_pcm
from piano_assets.corpus.transcription.transcriber import performance_of
from piano_assets.ensembles.champion_files import Holder, Learnt, current_champion, load_champion
from piano_assets.metrics.regression import pearson
from piano_assets.scoring.domain import domain_of
from piano_assets.scoring.heard import Window, features_of
from piano_assets.scoring.recordings import SAMPLE_RATE, music_in
from piano_assets.scoring.score import BEYOND
from piano_assets.store.parts import Store

RESULT = Path(__file__).parent / "results" / "fidelity.json"
RESAMPLED = 2000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--soundfont", type=Path, required=True)
    parser.add_argument("--heard", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data/percepiano"))
    parser.add_argument("--clips", type=int, default=100)
    given = parser.parse_args()
    found = measure(Store(given.data), given.soundfont, given.heard, given.clips)
    others = json.loads(RESULT.read_text()) if RESULT.is_file() else {}
    others[given.soundfont.name] = {"environment": environment(), **found}
    RESULT.write_text(json.dumps(others, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def measure(store: Store, soundfont: Path, heard: Path, n_clips: int) -> dict[str, Any]:
    notes_of, recorded_of, sound_of = (
        load_champion(current_champion(store.root, t)) for t in ("performance", "recording", "sound")
    )
    chosen = np.random.default_rng(0).permutation(notes_of.clips[notes_of.human])[:n_clips]
    sounds = _sounds(store, chosen, soundfont)
    x = np.stack([_of_sound(sounds[clip], sound_of) for clip in chosen])
    y = np.stack([_of_notes(_transcribed(clip, sounds[clip], heard), recorded_of) for clip in chosen])
    target, clusters = _rows(notes_of, chosen, notes_of.target), _rows(notes_of, chosen, notes_of.clusters)
    said = {
        "midi": _rows(notes_of, chosen, notes_of.out_of_fold),
        "as_heard": _rows(recorded_of, chosen, recorded_of.out_of_fold),
        "sound": _rows(sound_of, chosen, sound_of.out_of_fold),
        "other_sound": _unheard(sound_of, store, chosen, x),
        "other_transcribed": _unheard(recorded_of, store, chosen, y),
    }
    return {
        "n_clips": len(chosen),
        "mean_r": {name: _with_interval(lambda k, v=v: _r(v[k], target[k]), clusters) for name, v in said.items()},
        "midi_less": {
            name: _with_interval(lambda k, v=said[name]: _r(said["midi"][k], target[k]) - _r(v[k], target[k]), clusters)
            for name in ("other_sound", "other_transcribed")
        },
        "mean_score_moves_by": {
            "other_sound": float((said["other_sound"] - said["sound"]).mean()),
            "other_transcribed": float((said["other_transcribed"] - said["as_heard"]).mean()),
        },
        "share_beyond": {"other_sound": _beyond(sound_of, x), "other_transcribed": _beyond(recorded_of, y)},
    }


def _sounds(store: Store, clips: np.ndarray, soundfont: Path) -> dict[str, np.ndarray]:
    """clip -> the music of what the SoundFont plays of it."""
    notes, controls = store.read("notes", "all"), store.read("controls", "all")
    played = performances(notes[notes["clip"].isin(clips)], controls[controls["clip"].isin(clips)])
    found = {}
    for number, clip in enumerate(clips, start=1):
        sound = as_pcm(render_fluidsynth(played[clip], SAMPLE_RATE, soundfont)) / np.float32(2**15)
        found[clip] = sound[slice(*music_in(sound))]
        if number % 20 == 0:
            print(f"rendered: {number} of {len(clips)}", flush=True)
    return found


def _transcribed(clip: str, sound: np.ndarray, folder: Path) -> Performance:
    path = folder / f"{clip}.parquet"
    if not path.is_file():
        from piano_assets.scoring.api import hearing

        folder.mkdir(parents=True, exist_ok=True)
        hearing(lambda said: print(f"{clip}: {said}", flush=True))(sound).to_parquet(path)
    return performance_of(pd.read_parquet(path))


def _of_sound(sound: np.ndarray, holder: Learnt) -> np.ndarray:
    window = Window(0.0, len(sound) / SAMPLE_RATE, None, sound)
    return features_of([window], holder.feature_set, holder.rendering)[0][0]


def _of_notes(performance: Performance, holder: Learnt) -> np.ndarray:
    window = Window(0.0, performance.duration_s, performance, None)
    return features_of([window], holder.feature_set, holder.rendering)[0][0]


def _unheard(holder: Holder, store: Store, clips: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(n, 19) what champions that have not learnt from a clip's cluster say of its features."""
    found = np.full((len(clips), holder.target.shape[1]), np.nan)
    for mine, predict in unheard(holder, store):
        rows = np.isin(clips, list(mine))
        found[rows] = predict(x[rows])
    return found


def _beyond(holder: Learnt, x: np.ndarray) -> dict[str, float]:
    """Aspect -> share of clips that are out of domain in it."""
    domain = domain_of(holder.features, holder.feature_names, holder.clusters)
    share = (domain.share_nearer(x) >= BEYOND).mean(0).round(3)
    return dict(zip(domain.aspects, share.tolist(), strict=True))


def _rows(holder: Learnt, clips: np.ndarray, of: np.ndarray) -> np.ndarray:
    place = {clip: k for k, clip in enumerate(holder.clips)}
    return of[[place[clip] for clip in clips]]


def _r(said: np.ndarray, target: np.ndarray) -> float:
    return float(pearson(said, target).mean())


def _with_interval(of: Any, clusters: np.ndarray) -> dict[str, float]:
    """`of(row numbers)` on all rows, with the middle 95 % of clusters drawn with replacement."""
    rng, names = np.random.default_rng(1), np.unique(clusters)
    members = {name: np.flatnonzero(clusters == name) for name in names}
    drawn = [of(np.concatenate([members[n] for n in rng.choice(names, len(names))])) for _ in range(RESAMPLED)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return {"value": of(np.arange(len(clusters))), "ci_low": float(low), "ci_high": float(high)}


if __name__ == "__main__":
    main()
