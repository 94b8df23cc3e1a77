"""A tiny corpus in parts, built in memory: 60 clips, a split of 3 folds x 2 repeats, features with gaps, frames.

Labels follow three hidden numbers of each clip, which features show all, the lower bands of the spectrogram the first,
and note events the second.
"""

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.catalogue.trial import Encoder, Inputs, Optimisation, Tabular, Trial, vary
from piano_assets.dimensions import NAMES
from piano_assets.features.variants import part_of, variants
from piano_assets.store.parts import Store
from piano_assets.training.data import TrialData

N_CLIPS, N_FOLDS, N_REPEATS, N_FEATURES = 60, 3, 2, 6
UNLABELLED = "clip_07"
CLIPS = [f"clip_{i:02d}" for i in range(N_CLIPS)]

RIDGE = Trial(model=Tabular(regressor="ridge", settings=(("alpha", 10.0),)), inputs=Inputs(features="symbolic"))
SEARCHED = Trial(
    model=Tabular(regressor="ridge", settings=(("alpha", 10.0),)),
    inputs=Inputs(features="all"),
    search=(("model.settings.alpha", (0.1, 10.0, 1e6)),),
)
ENCODER = Encoder(depth=1, dim=16, heads=2, head_dim=8, patch_size=8, dropout=0.1)
AST = Trial(
    model=ENCODER,
    inputs=Inputs(spectrogram="log_mel_128"),
    optimisation=Optimisation(learning_rate=1e-3, batch_size=8),
    budget="smoke",
)
HYBRID = vary(AST, {"inputs.features": "symbolic", "model.fusion": "gated"})
NOTES = vary(AST, {"inputs.spectrogram": None, "inputs.notes": True})
MLP = vary(AST, {"inputs.spectrogram": None, "inputs.features": "all"})
EVENT_COLUMNS = 5
BENT = (0.1, 1)
"""Stretch and shift whose rendered variants the corpus has."""


def build_store(root: Path) -> Store:
    """Write the parts that trials read, and the spectrogram file, below `root`."""
    store, rng = Store(root), np.random.default_rng(5)
    hidden = rng.normal(size=(N_CLIPS, 3))
    store.write("clips", _clips(), key="k")
    store.write("labels", _labels(hidden, rng), key="k", name="clean")
    store.write("splits", _splits(rng), key="k", name="cluster")
    store.write("leaks", _leaks(), key="k", name="cluster")
    store.write("features", _features(hidden, rng, "symbolic", "midi"), key="k", name="symbolic")
    store.write("features", _features(hidden, rng, "audio", "modal"), key="k", name="audio.modal")
    n_frames = rng.integers(60, 260, N_CLIPS)
    frames = rng.normal(size=(n_frames.sum(), 128)) * 10 - 50
    frames[:, :40] += 10 * np.repeat(hidden[:, 0], n_frames)[:, None]
    _sequence(store, "log_mel_128.modal", n_frames, frames.astype(np.float16))
    for i, variant in enumerate(variants(*BENT), start=1):
        # Told apart from the plain frames by their level, and shorter.
        kept = np.concatenate([np.arange(n) >= i for n in n_frames])
        _sequence(store, part_of("log_mel_128", variant, "modal"), n_frames - i, (frames[kept] + i).astype(np.float16))
    _sequence(store, "waveform.modal", n_frames, rng.normal(size=(n_frames.sum(), 441), scale=3000).astype(np.int16))
    n_notes = rng.integers(20, 90, N_CLIPS)
    events = rng.normal(size=(n_notes.sum(), EVENT_COLUMNS)) + np.repeat(hidden[:, 1], n_notes)[:, None]
    _sequence(store, "note_events.midi", n_notes, events.astype(np.float32))
    return store


def with_errors(data: TrialData) -> TrialData:
    """The same data with standard errors no two of which are alike; one rater's labels have none."""
    rng = np.random.default_rng(6)
    errors = rng.uniform(0.01, 0.12, data.targets.shape)
    errors[np.isnan(data.targets) | (rng.random(errors.shape) < 0.05)] = np.nan
    return dataclasses.replace(data, errors=errors)


def _sequence(store: Store, name: str, n_frames: np.ndarray, frames: np.ndarray) -> None:
    (store.root / "spectrograms").mkdir(parents=True, exist_ok=True)
    np.save(store.root / "spectrograms" / f"{name}.npy", frames)
    spectrogram, rendering = name.rsplit(".", 1)
    rows = {"clip": CLIPS, "spectrogram": spectrogram, "rendering": rendering}
    rows |= {"start": np.cumsum(n_frames) - n_frames, "n_frames": n_frames}
    store.write("spectrograms", pd.DataFrame(rows), key="k", name=name)


def _clips() -> pd.DataFrame:
    constant = {
        "composer": "Beethoven",
        "work": "WoO80",
        "movement": None,
        "bars": 8,
        "segment": 1,
        "excerpt": "e",
        "cluster": "c",
        "player": "1",
        "performer": "p",
        "deadpan": False,
        "duration_s": 4.0,
        "n_notes": 50,
        "content_hash": "h",
    }
    return pd.DataFrame([{"clip": clip, **constant} for clip in reversed(CLIPS)])


def _labels(hidden: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    value = 0.5 + 0.1 * np.tanh(hidden @ rng.normal(size=(3, 19))) + 0.02 * rng.normal(size=(N_CLIPS, 19))
    frame = pd.DataFrame(
        {
            "clip": np.repeat(CLIPS, 19),
            "dimension": np.tile(NAMES, N_CLIPS),
            "rule": "clean",
            "value": value.ravel(),
            "standard_error": 0.05,
            "n_raters": 5,
        }
    )
    return frame[frame["clip"] != UNLABELLED]


def _splits(rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for repeat in range(N_REPEATS):
        fold_of = rng.permutation(N_CLIPS) % N_FOLDS
        for fold in range(N_FOLDS):
            role = np.where(fold_of == fold, "test", np.where(rng.random(N_CLIPS) < 0.25, "valid", "train"))
            rows += [
                {"repeat": repeat, "fold": fold, "inner_fold": None, "clip": c, "role": r}
                for c, r in zip(CLIPS, role, strict=True)
            ]
            # An inner assignment, which trials of the outer level must not mistake for theirs.
            rows += [{"repeat": repeat, "fold": fold, "inner_fold": 0, "clip": c, "role": "train"} for c in CLIPS]
    return pd.DataFrame(rows).assign(split="cluster", split_hash="s")


def _leaks(share: float = 0.0) -> pd.DataFrame:
    row = {"split": "cluster", "repeat": 0, "fold": 0, "kind": "cluster", "share": share, "promised_zero": True}
    return pd.DataFrame([row])


def _features(hidden: np.ndarray, rng: np.random.Generator, source: str, rendering: str) -> pd.DataFrame:
    x = hidden @ rng.normal(size=(3, N_FEATURES)) + 0.3 * rng.normal(size=(N_CLIPS, N_FEATURES))
    x[rng.random(x.shape) < 0.05] = np.nan
    return pd.DataFrame(
        {
            "clip": np.repeat(CLIPS, N_FEATURES),
            "rendering": rendering,
            "feature": np.tile([f"{source}_{k}" for k in range(N_FEATURES)], N_CLIPS),
            "value": x.ravel(),
            "source": source,
        }
    )
