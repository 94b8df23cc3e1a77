"""How large a trial's network is, before anything is trained."""

from functools import cache

import pyarrow.parquet as pq

from piano_assets.catalogue.trial import Encoder, Trial
from piano_assets.store.parts import Store
from piano_assets.training.data import part_names


def n_params(trial: Trial, store: Store) -> int | None:
    """Trained parameters of a network, counted on the built model; None for tabular models.

    None too where the number of features that it reads is not known yet, because the corpus has none.
    """
    from piano_assets.features.note_events import NOTE_EVENTS
    from piano_assets.features.spectrogram_specs import SPECTROGRAMS
    from piano_assets.models.network import Shape
    from piano_assets.models.network import n_params as count
    from piano_assets.training.members import crop_length

    if not isinstance(trial.model, Encoder):
        return None
    features = n_features(trial, store)
    if features is None:
        return None
    width = 0
    if trial.inputs.sequence:
        width = (NOTE_EVENTS if trial.inputs.notes else SPECTROGRAMS[str(trial.inputs.spectrogram)]).n_bands
    networks = max(1, trial.rounds, trial.optimisation.snapshots if trial.optimisation else 0)
    return networks * count(trial.model, Shape(width, crop_length(trial), features, trial.inputs.notes))


def n_features(trial: Trial, store: Store) -> int | None:
    """How many features a trial reads; None where the corpus has no features yet."""
    if not trial.inputs.features:
        return 0
    if trial.inputs.top_k:
        return trial.inputs.top_k
    from piano_assets.features.sets import feature_set

    parts = [store.part(table, name) for table, name in part_names(trial) if table == "features" and "+" not in name]
    if any(part is None for part in parts):
        return None
    belongs = feature_set(trial.inputs.features)
    found = {pair for part in parts if part is not None for pair in _named(str(part.path), part.content_hash)}
    return sum(belongs(source, feature) for source, feature in found)


@cache
def _named(path: str, content_hash: str) -> frozenset[tuple[str, str]]:
    """(source, feature) of a part; the hash tells the cache when the file was replaced."""
    with pq.ParquetFile(path) as file:
        table = file.read(["source", "feature"])
    rows = table.group_by(["source", "feature"]).aggregate([]).to_pylist()
    return frozenset((row["source"], row["feature"]) for row in rows)
