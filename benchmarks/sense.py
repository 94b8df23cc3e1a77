"""Ask whether scores make sense: does slower playing sound slower, more pedal more saturated, higher velocity louder?

    python -m benchmarks.sense [--data data/percepiano] [--clips 60]

People's clips are edited in five strengths and scored by models that have not learnt from their cluster: those of the
outer folds of the champion's procedure (seed 0 of its candidates, which must be trained here), weighted as the
procedure weighted them. For each edit and clip: Kendall's tau between strength and score, and the largest fall from
one strength to the next. An edit makes sense of a clip where tau > 0 and no fall is over .01. Steps at which a clip
leaves what the champion has heard (`scoring.domain`) are counted. What the other dimensions do is kept too.
Results go to `benchmarks/results/sense.json`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import kendalltau

from benchmarks.environment import environment
from piano_assets.catalogue.comparisons import catalogue
from piano_assets.corpus.performance import performances
from piano_assets.dimensions import NAMES
from piano_assets.ensembles.procedures import PREFIX, PROCEDURES
from piano_assets.ensembles.titles import TITLES
from piano_assets.scoring.domain import Domain, domain_of
from piano_assets.scoring.edits import EDITS, STEPS
from piano_assets.scoring.heard import Window, features_of
from piano_assets.scoring.score import BEYOND
from piano_assets.store.parts import Store, read_part
from piano_assets.training.fitted import Fitted, fitted

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
    name = TITLES[TITLE].procedures[0]
    members = {c: fitted(store, c, catalogue()[c]) for c in PROCEDURES[name].candidates}
    weights = read_part(store.require("ensemble_weights", f"procedures/{name}")).to_pandas()
    data = next(iter(members.values())).data
    clips = store.read("clips", "all").set_index("clip")
    people = [c for c in data.clips[data.labelled] if not clips.loc[c, "deadpan"]]
    chosen = np.random.default_rng(0).permutation(people)[:n_clips]
    notes, controls = store.read("notes", "all"), store.read("controls", "all")
    played = performances(notes[notes["clip"].isin(chosen)], controls[controls["clip"].isin(chosen)])
    trial = next(iter(members.values())).trial
    assert data.features is not None
    heard = domain_of(data.features, data.feature_names, clips["cluster"].reindex(data.clips).to_numpy(object))
    found: dict[str, Any] = {}
    for edit, (alter, dimension) in EDITS.items():
        scores, outside = [], []
        for number, clip in enumerate(chosen, start=1):
            windows = [Window(0.0, 0.0, alter(played[clip], step), None) for step in range(STEPS)]
            x, _ = features_of(windows, str(trial.inputs.features), trial.inputs.rendering)
            scores.append(_unheard(members, weights, str(clip), x))
            outside.append(_beyond(heard, x))
            print(f"{edit}: {number} of {len(chosen)}", flush=True)
        found[edit] = _told(np.stack(scores), np.stack(outside), heard.aspects, dimension)
    return {"procedure": f"{PREFIX}{name}", "n_clips": len(chosen), "steps": STEPS, "edits": found}


def _unheard(members: dict[str, Fitted], weights: Any, clip: str, x: np.ndarray) -> np.ndarray:
    """(steps, 19) by the models of the outer fold that tests the clip."""
    data = next(iter(members.values())).data
    row = int(np.flatnonzero(data.clips == clip)[0])
    total = np.zeros((len(x), len(NAMES)))
    for config, of in members.items():
        (fold,) = [f for f in of.folds if row in f.test]
        mine = weights[
            (weights["member"] == config) & (weights["fold"] == fold.fold) & (weights["repeat"] == of.repeat)
        ]
        # A weight that all dimensions share stands under `mean`.
        of_dimension = mine.set_index("dimension")["weight"]
        shared = of_dimension.get("mean", np.nan)
        weight = of_dimension.reindex(list(NAMES)).fillna(shared).to_numpy(float)
        if not np.isfinite(weight).all():
            raise ValueError(f"{config}, fold {fold.fold}: the procedure has no weight for every dimension")
        total += weight * np.asarray(fold.regressor.predict(x))
    return total


def _beyond(heard: Domain, x: np.ndarray) -> np.ndarray:
    """(steps, n_aspects) True where an aspect is beyond what was heard."""
    return heard.share_nearer(x) >= BEYOND


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
