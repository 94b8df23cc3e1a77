"""Ask whether scores make sense: does slower playing sound slower, more pedal more saturated, higher velocity louder?

    python -m benchmarks.sense [--data data/percepiano] [--clips 60]

People's clips are edited in five strengths and scored by the champion as it is without their cluster, see
`benchmarks.unheard`. For each edit and clip: Kendall's tau between strength and score, and the largest fall from one
strength to the next. An edit makes sense of a clip where tau > 0 and no fall is over .01. Steps at which a clip leaves
what the champion has heard (`scoring.domain`) are counted. What the other dimensions do is kept too. Results go to
`benchmarks/results/sense.json`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from benchmarks.environment import environment
from benchmarks.unheard import unheard
from piano_assets.corpus.performance import Performance, performances
from piano_assets.dimensions import NAMES
from piano_assets.ensembles.champion_files import Learnt, current_champion, load_champion
from piano_assets.scoring.domain import domain_of
from piano_assets.scoring.edits import EDITS, STEPS
from piano_assets.scoring.heard import Window, features_of
from piano_assets.scoring.score import BEYOND
from piano_assets.store.parts import Store

RESULT = Path(__file__).parent / "results" / "sense.json"
TITLE = "performance"
FALL = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("data/percepiano"))
    parser.add_argument("--clips", type=int, default=60)
    given = parser.parse_args()
    found = measure(Store(given.data), given.clips)
    RESULT.write_text(json.dumps({"environment": environment(), **found}, indent=1) + "\n")
    print(json.dumps({k: v["makes_sense"] for k, v in found["edits"].items()}, indent=1))


def measure(store: Store, n_clips: int) -> dict[str, Any]:
    holder = load_champion(current_champion(store.root, TITLE))
    people = holder.clips[holder.human]
    chosen = np.random.default_rng(0).permutation(people)[:n_clips]
    notes, controls = store.read("notes", "all"), store.read("controls", "all")
    played = performances(notes[notes["clip"].isin(chosen)], controls[controls["clip"].isin(chosen)])
    domain = domain_of(holder.features, holder.feature_names, holder.clusters)
    features = {
        (edit, clip): _measured(played[clip], alter, holder, f"{edit}: {number} of {len(chosen)}")
        for edit, (alter, _) in EDITS.items()
        for number, clip in enumerate(chosen, start=1)
    }
    scores: dict[tuple[str, str], np.ndarray] = {}
    for mine, predict in unheard(holder, store):
        scores |= {of: predict(x) for of, x in features.items() if of[1] in mine}
    found: dict[str, Any] = {}
    for edit, (_, dimension) in EDITS.items():
        said = np.stack([scores[edit, clip] for clip in chosen])
        outside = np.stack([domain.share_nearer(features[edit, clip]) >= BEYOND for clip in chosen])
        found[edit] = _told(said, outside, domain.aspects, dimension)
    return {"procedure": holder.record["procedure"], "n_clips": len(chosen), "steps": STEPS, "edits": found}


def _measured(played: Performance, alter: Any, holder: Learnt, told: str) -> np.ndarray:
    """(steps, d) features of a clip in each strength of an edit."""
    windows = [Window(0.0, 0.0, alter(played, step), None) for step in range(STEPS)]
    print(told, flush=True)
    return features_of(windows, holder.feature_set, holder.rendering)[0]


def _told(scores: np.ndarray, outside: np.ndarray, aspects: tuple[str, ...], dimension: str) -> dict[str, Any]:
    """scores: (n_clips, steps, 19); outside: (n_clips, steps, n_aspects)."""
    strength = np.arange(scores.shape[1])
    tau = np.array([[kendalltau(strength, s[:, k]).statistic for k in range(len(NAMES))] for s in scores])
    tau = np.nan_to_num(tau)  # a score that does not move at all
    fall = -np.diff(scores, axis=1).min(axis=1)
    sensible = (tau > 0) & (fall <= FALL)
    k = NAMES.index(dimension)
    return {
        "dimension": dimension,
        "makes_sense": float(sensible[:, k].mean()),
        "mean_tau": float(tau[:, k].mean()),
        "mean_change": (scores[..., k].mean(0) - scores[:, 0, k].mean()).round(4).tolist(),
        "outside_by_step": {a: outside[:, :, i].mean(0).round(3).tolist() for i, a in enumerate(aspects)},
        "other_dimensions": {
            name: {
                "mean_tau": float(tau[:, i].mean()),
                "mean_change": float((scores[:, -1, i] - scores[:, 0, i]).mean()),
            }
            for i, name in enumerate(NAMES)
        },
    }


if __name__ == "__main__":
    main()
