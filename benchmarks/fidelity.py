"""How well is a recording heard that comes from another piano? Clips rendered by a SoundFont that no training knows.

    python -m benchmarks.fidelity --soundfont FluidR3_GM.sf2 [--data data/percepiano] [--clips 200]

Scored three ways by champions that have not learnt from a clip's cluster (`benchmarks.unheard`): from its MIDI; from
the sound that champions learn from; and from FluidSynth's sound of the SoundFont. Mean r with the labels on the same
clips of people, with intervals by resampling clusters. Results go to `benchmarks/results/fidelity.json`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.environment import environment
from benchmarks.unheard import unheard
from piano_assets.corpus.performance import performances
from piano_assets.corpus.rendering.fluidsynth import render_fluidsynth
from piano_assets.corpus.rendering.write import as_pcm
from piano_assets.ensembles.champion_files import Holder, current_champion, load_champion
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
    parser.add_argument("--data", type=Path, default=Path("data/percepiano"))
    parser.add_argument("--clips", type=int, default=200)
    given = parser.parse_args()
    found = measure(Store(given.data), given.soundfont, given.clips)
    RESULT.write_text(json.dumps({"environment": environment(), **found}, indent=1) + "\n")
    print(json.dumps(found, indent=1))


def measure(store: Store, soundfont: Path, n_clips: int) -> dict[str, Any]:
    notes_of, sound_of = (load_champion(current_champion(store.root, t)) for t in ("performance", "sound"))
    chosen = np.random.default_rng(0).permutation(notes_of.clips[notes_of.human])[:n_clips]
    x = _heard(store, chosen, soundfont, sound_of)
    other = np.full((len(chosen), sound_of.target.shape[1]), np.nan)
    for mine, predict in unheard(sound_of, store):
        rows = np.isin(chosen, list(mine))
        other[rows] = predict(x[rows])
    target, clusters = _rows(notes_of, chosen, notes_of.target), _rows(notes_of, chosen, notes_of.clusters)
    said = {
        "midi": _rows(notes_of, chosen, notes_of.out_of_fold),
        "sound": _rows(sound_of, chosen, sound_of.out_of_fold),
        "other_sound": other,
    }
    domain = domain_of(sound_of.features, sound_of.feature_names, sound_of.clusters)
    beyond = domain.share_nearer(x) >= BEYOND
    return {
        "soundfont": soundfont.name,
        "n_clips": len(chosen),
        "mean_r": {name: _with_interval(lambda k, v=v: _r(v[k], target[k]), clusters) for name, v in said.items()},
        "midi_less_other_sound": _with_interval(
            lambda k: _r(said["midi"][k], target[k]) - _r(other[k], target[k]), clusters
        ),
        "mean_score_moves_by": float((other - said["sound"]).mean()),
        "share_beyond": dict(zip(domain.aspects, beyond.mean(0).round(3).tolist(), strict=True)),
    }


def _heard(store: Store, clips: np.ndarray, soundfont: Path, holder: Holder) -> np.ndarray:
    """(n, d) what the champion of sound reads of clips that the SoundFont plays, cut as recordings are."""
    notes, controls = store.read("notes", "all"), store.read("controls", "all")
    played = performances(notes[notes["clip"].isin(clips)], controls[controls["clip"].isin(clips)])
    found = []
    for number, clip in enumerate(clips, start=1):
        sound = as_pcm(render_fluidsynth(played[clip], SAMPLE_RATE, soundfont)) / np.float32(2**15)
        start, end = music_in(sound)
        window = Window(0.0, (end - start) / SAMPLE_RATE, None, sound[start:end])
        found.append(features_of([window], holder.feature_set, holder.rendering)[0][0])
        if number % 20 == 0:
            print(f"heard: {number} of {len(clips)}", flush=True)
    return np.stack(found)


def _rows(holder: Holder, clips: np.ndarray, of: np.ndarray) -> np.ndarray:
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
