"""A corpus that sounds: 12 clips of about 3 s with notes, sound, features and frames, all made by the project's code.

Three excerpts in two clusters, each played by three people and a deadpan rendition.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from piano_assets.catalogue.trial import Encoder, Inputs, Optimisation, Tabular, Trial
from piano_assets.corpus.performance import Performance, performances
from piano_assets.corpus.rendering import render_corpus
from piano_assets.corpus.transcription.likeness import as_heard
from piano_assets.dimensions import NAMES
from piano_assets.features.note_events import write_note_events
from piano_assets.features.spectrograms import write_spectrograms
from piano_assets.features.symbolic import music_feature_table, symbolic_feature_table
from piano_assets.features.traditional import traditional_table
from piano_assets.store.parts import Store
from piano_assets_tests.features.notes import performance, played

PLAYERS = ("1", "2", "3", "Score")
EXCERPTS = {"a": "x", "b": "x", "c": "y"}
"""Excerpt -> cluster."""
CLIPS = sorted(f"{excerpt}{player}" for excerpt in EXCERPTS for player in PLAYERS)

_RIDGE = Tabular(regressor="ridge", settings=(("alpha", 10.0),))
_TINY = Encoder(depth=1, dim=16, heads=2, head_dim=8, patch_size=8, dropout=0.1)
_STEPS = Optimisation(learning_rate=1e-3, batch_size=8)
TABLE = Trial(model=_RIDGE, inputs=Inputs(features="all"))
NOTE_TABLE = Trial(model=_RIDGE, inputs=Inputs(features="symbolic"))
HEARD_TABLE = Trial(model=_RIDGE, inputs=Inputs(features="symbolic", rendering="as_heard.modal"))
SPECTROGRAM = Trial(
    model=_TINY, inputs=Inputs(spectrogram="log_mel_128"), optimisation=_STEPS, budget="smoke"
)  # frames alone
NOTES = Trial(model=_TINY, inputs=Inputs(notes=True), optimisation=_STEPS, budget="smoke")
TRIALS = {
    "table": TABLE,
    "note_table": NOTE_TABLE,
    "heard_table": HEARD_TABLE,
    "spectrogram": SPECTROGRAM,
    "notes": NOTES,
}
"""Config -> trial."""


def build_store(root: Path) -> Store:
    """Write all parts that the trials read, the audio files and the files of frames, below `root`."""
    store, rng = Store(root), np.random.default_rng(11)
    notes, controls = _music(rng)
    store.write("notes", notes, key="k")
    store.write("controls", controls, key="k")
    store.write("clips", _clips(), key="k")
    found = performances(store.read("notes", "all"), store.read("controls", "all"))
    audio = render_corpus(found, root, "modal", workers=1)
    store.write("audio", audio, key="k", name="modal")
    paths = {clip: Path(path) for clip, path in zip(audio["clip"], audio["path"], strict=True)}
    store.write("features", symbolic_feature_table(found, store.read("clips", "all")), key="k", name="symbolic")
    heard = {clip: as_heard(performance) for clip, performance in found.items()}
    of_heard = symbolic_feature_table(heard, store.read("clips", "all"), rendering="as_heard")
    for source, rows in (("symbolic", of_heard), ("music", music_feature_table(heard, rendering="as_heard"))):
        store.write("features", rows, key="k", name=f"{source}.as_heard")
    store.write("features", traditional_table(paths, root, "modal", workers=1), key="k", name="audio.modal")
    frames = write_spectrograms(paths, root, "log_mel_128", "modal", workers=1)
    store.write("spectrograms", frames, key="k", name="log_mel_128.modal")
    store.write("spectrograms", write_note_events(found, root), key="k", name="note_events.midi")
    store.write("labels", _labels(rng), key="k", name="clean")
    store.write("splits", _splits(rng), key="k", name="cluster")
    store.write("leaks", _leaks(), key="k", name="cluster")
    return store


def _music(rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    notes, controls = [], []
    for excerpt in EXCERPTS:
        for player in PLAYERS:
            # One stream, so that excerpts share their first chords and few keys need tables of their sound.
            deadpan, human, pedal = played(np.random.default_rng(7), n_chords=3 + ord(excerpt) % 4)
            if player == "Score":
                p = performance(deadpan)
            else:
                louder = int(rng.integers(-10, 20))
                p = performance([(a * (1 + int(player) / 10), b * 1.4, k, v + louder) for a, b, k, v in human], pedal)
            clip = f"{excerpt}{player}"
            notes.append(_notes(clip, p))
            moves = {"time_s": p.control_time_s, "controller": p.controller, "value": p.control_value}
            controls.append(pd.DataFrame(moves).assign(clip=clip))
    return pd.concat(notes, ignore_index=True), pd.concat(controls, ignore_index=True)


def _notes(clip: str, p: Performance) -> pd.DataFrame:
    columns = {"onset_s": p.onset_s, "offset_s": p.offset_s, "pitch": p.pitch, "velocity": p.velocity}
    return pd.DataFrame(columns).assign(clip=clip)


def _clips() -> pd.DataFrame:
    constant = {"composer": "Beethoven", "work": "WoO80", "movement": None, "bars": 8, "segment": 1}
    constant |= {"duration_s": 3.0, "n_notes": 20, "content_hash": "h"}
    rows = [
        {
            "clip": clip,
            "excerpt": clip[0],
            "cluster": EXCERPTS[clip[0]],
            "player": clip[1:],
            "performer": f"p{clip[1:]}",
            "deadpan": clip[1:] == "Score",
            **constant,
        }
        for clip in CLIPS
    ]
    return pd.DataFrame(rows)


def _labels(rng: np.random.Generator) -> pd.DataFrame:
    rows = {"clip": np.repeat(CLIPS, len(NAMES)), "dimension": np.tile(NAMES, len(CLIPS)), "rule": "clean"}
    value = rng.uniform(0.3, 0.8, len(CLIPS) * len(NAMES))
    return pd.DataFrame(rows).assign(value=value, standard_error=0.05, n_raters=5)


def _splits(rng: np.random.Generator) -> pd.DataFrame:
    fold_of, rows = rng.permutation(len(CLIPS)) % 2, []
    for fold in range(2):
        role = np.where(fold_of == fold, "test", "train").astype(object)
        role[np.flatnonzero(role == "train")[:2]] = "valid"
        rows += [{"fold": fold, "clip": clip, "role": r} for clip, r in zip(CLIPS, role, strict=True)]
    return pd.DataFrame(rows).assign(split="cluster", repeat=0, inner_fold=None, split_hash="s")


def _leaks() -> pd.DataFrame:
    row = {"split": "cluster", "repeat": 0, "fold": 0, "kind": "cluster", "share": 0.0, "promised_zero": True}
    return pd.DataFrame([row])
