"""What a pretrained network says of a clip, as features: how it plays beside what was expected, and pooled states."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from piano_assets.corpus.performance import Performance
from piano_assets.features.sets import SYMBOLIC_RENDERING
from piano_assets.models.masked_notes import MaskedNotes
from piano_assets.training.pretraining.answers import VIEWS, Answers, answers
from piano_assets.training.pretraining.windows import ATTRIBUTES, SCORE, events

SOURCE = "pretrained"

VOICES = ("melody", "bass")
"""Columns of `SCORE` that name a voice."""


def pooled(found: Answers, notes: np.ndarray) -> dict[str, float]:
    """Features of a clip from the answers about its notes, and the notes' `events` (n, WIDTH).

    For each view and attribute: mean and spread of the departures, their mean in the melody and in the bass (NaN where
    a clip has no such voice), and the mean surprise. Then mean and spread of each state over the notes.
    """
    features: dict[str, float] = {}
    in_voice = {voice: notes[:, SCORE.index(voice)] > 0 for voice in VOICES}
    for v, view in enumerate(VIEWS):
        for i, attribute in enumerate(ATTRIBUTES):
            departure, name = found.departure[v, :, i], f"{attribute}_given_{view}"
            features[f"departure_{name}_mean"] = float(departure.mean())
            features[f"departure_{name}_std"] = float(departure.std())
            for voice, chosen in in_voice.items():
                features[f"departure_{name}_{voice}"] = float(departure[chosen].mean()) if chosen.any() else np.nan
            features[f"surprise_{name}"] = float(found.surprise[v, :, i].mean())
    for k, values in enumerate(found.states.T):
        features[f"state_{k:03d}_mean"] = float(values.mean())
        features[f"state_{k:03d}_std"] = float(values.std())
    return features


def clip_features(network: MaskedNotes, performance: Performance) -> dict[str, float]:
    """The features of one performance. network: in evaluation mode."""
    notes = events(performance)
    return pooled(answers(network, notes), notes)


def feature_table(
    network: MaskedNotes,
    performances: Mapping[str, Performance],
    progress: Callable[[int, int], None] | None = None,
) -> pd.DataFrame:
    """Rows of the table `features` for every clip, clips in the order of their names.

    Args:
        network: in evaluation mode.
        progress: called with (clips done, clips in all).
    """
    frames = []
    for done, clip in enumerate(sorted(performances), start=1):
        features = clip_features(network, performances[clip])
        frames.append(pd.DataFrame({"feature": list(features), "value": list(features.values())}).assign(clip=clip))
        if progress is not None:
            progress(done, len(performances))
    long = pd.concat(frames, ignore_index=True)
    return long.assign(rendering=SYMBOLIC_RENDERING, source=SOURCE)[["clip", "rendering", "feature", "value", "source"]]
