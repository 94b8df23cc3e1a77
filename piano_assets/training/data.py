"""What a trial trains on, read from parts alone, and the keys that say whether that was done already.

`data_version`, `part_key` and `done` read file footers only: asking about a finished partition costs milliseconds.
No torch here: the planner asks these questions in processes that never train.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from piano_assets.catalogue.trial import Tabular, Trial
from piano_assets.corpus.rater_bias import Votes
from piano_assets.dimensions import NAMES
from piano_assets.store.parts import Part, Store, digest
from piano_assets.versions import CODE_VERSION

_VERSIONED_AS = {
    "ast": "transformer",
    "hybrid": "transformer",
    "note_transformer": "transformer",
    "mlp": "transformer",
    "random_forest_founding": "random_forest",
}
PRECISIONS = ("float32", "bfloat16")
PUBLISHED = ("predictions", "history", "members")
"""Tables in which every finished partition has a part of its own, beside `runs`."""
DEVICES = ("cuda", "cpu")
SYMBOLIC_RENDERING = "midi"
VIEWED = "symbolic"
"""The features that are computed of altered clips too, in parts `symbolic+<variant>`."""
WAVEFORM = "waveform"


@dataclass(frozen=True)
class Frames:
    """A sequence of every clip as stretches of one long memory-mapped table.

    values: (n_all_frames, width); start, n_frames: (n_clips,) int64, each clip's stretch of it.
    """

    values: np.ndarray
    start: np.ndarray
    n_frames: np.ndarray


@dataclass(frozen=True)
class TrialData:
    """Everything that a trial learns from and predicts, row i of each array being `clips[i]`.

    clips: (n,) text; targets: (n, 19) on the 0..1 scale, NaN where a clip has no label under the trial's rule;
    errors: (n, 19) standard errors of the targets, NaN likewise; roles: (repeat, fold) -> (n,) text;
    features: (n, n_features) or None, NaN where undefined; sequence: what runs in time, or None;
    sound: the samples of the same clips in the same frames, where tempo and pitch are bent; variants: the sequence as
    played faster, slower, higher or lower, where notes are altered and rendered again; views: the features of clips so
    altered, by the variant's name; votes: of single listeners, where their biases are to be removed.
    """

    clips: np.ndarray
    targets: np.ndarray
    errors: np.ndarray
    roles: Mapping[tuple[int, int], np.ndarray]
    features: np.ndarray | None = None
    feature_names: tuple[str, ...] = ()
    sequence: "Frames | None" = None
    sound: "Frames | None" = None
    variants: "tuple[Frames, ...]" = ()
    votes: Votes | None = None
    views: "Mapping[str, np.ndarray]" = field(default_factory=dict)

    def seen(self, trial: Trial) -> "list[np.ndarray | None]":
        """The features over which a trial's predictions are means: as they are, then its views."""
        return [self.features, *(self.views[v] for v in views_of(trial))]

    @property
    def labelled(self) -> np.ndarray:
        """(n,) True where a clip has all its labels: only such clips are trained on or judged."""
        return ~np.isnan(self.targets).any(1)

    @property
    def n_repeats(self) -> int:
        return 1 + max(repeat for repeat, _ in self.roles)

    def rows(self, repeat: int, fold: int, *roles: str, labelled: bool = True) -> np.ndarray:
        """Row numbers of the clips that play one of `roles` in a fold (only those with labels, unless told)."""
        chosen = np.isin(self.roles[repeat, fold], roles)
        return np.flatnonzero(chosen & self.labelled if labelled else chosen)


def part_names(trial: Trial) -> list[tuple[str, str]]:
    """(table, name) of exactly the parts that decide what the trial learns (`leaks` only decides whether it may)."""
    names = [("clips", "all"), ("labels", trial.label_rule), ("splits", trial.split)]
    if isinstance(trial.model, Tabular) and trial.model.unbiased_labels:
        names.append(("ratings", "all"))
    if trial.inputs.features:
        from piano_assets.features.sets import parts

        names += [("features", name) for name in parts(trial.inputs.features, trial.inputs.rendering)]
    names += [("features", f"{VIEWED}+{variant}") for variant in feature_variants(trial)]
    return names + [("spectrograms", name) for name in sequence_names(trial)]


def views_of(trial: Trial) -> tuple[str, ...]:
    """Variants over which the trial's predictions are means, beside the clip as it is."""
    most = trial.inputs.views
    return tuple(f"shift{k:+d}" for k in range(-most, most + 1) if k)


def trained_variants(trial: Trial) -> tuple[str, ...]:
    """Variants of whose features the trial learns, beside the clip's own: where it hears nothing but features."""
    from piano_assets.features.variants import variants

    bent = trial.augmentation
    return variants(bent.time_stretch, bent.pitch_shift) if bent.rerender and trial.inputs.sequence is None else ()


def feature_variants(trial: Trial) -> tuple[str, ...]:
    """Variants of clips whose features the trial reads."""
    return tuple(dict.fromkeys((*views_of(trial), *trained_variants(trial))))


def sequence_names(trial: Trial) -> list[str]:
    """The parts of table `spectrograms` that a trial reads: its sequence first, then what its augmentation needs."""
    from piano_assets.features.variants import part_of, variants

    sequence, bent = trial.inputs.sequence, trial.augmentation
    if sequence is None:
        return []
    rendering = SYMBOLIC_RENDERING if trial.inputs.notes else trial.inputs.rendering
    names = [f"{sequence}.{rendering}"]
    if bent.rerender:
        return names + [part_of(sequence, v, rendering) for v in variants(bent.time_stretch, bent.pitch_shift)]
    return [*names, f"{WAVEFORM}.{rendering}"] if bent.bends_sound else names


def lacks(trial: Trial, store: Store) -> list[str]:
    """The parts that the trial reads and that are not there, `<table>/<name>`."""
    return [f"{table}/{name}" for table, name in part_names(trial) if not store.exists(table, name)]


def load(trial: Trial, store: Store) -> TrialData:
    """Read the parts of a trial.

    Raises:
        FileNotFoundError: a part is missing; the message says which and how to make it.
        ValueError: the split leaks what it promises not to, or names a clip that the corpus does not have, or a clip
            has no features or frames.
    """
    clips = np.sort(store.read("clips", "all", ["clip"])["clip"].to_numpy(dtype=object))
    refuse_leaks(store.read("leaks", trial.split))
    labels = store.read("labels", trial.label_rule)
    targets, errors = (_wide(labels, column, clips) for column in ("value", "standard_error"))
    roles = _roles(store.read("splits", trial.split), clips, trial.split)
    inputs: dict[str, Any] = {}
    if trial.inputs.features:
        inputs |= _features(trial, store, clips)
        inputs["views"] = {v: _view(trial, v, store, clips) for v in feature_variants(trial)}
    if isinstance(trial.model, Tabular) and trial.model.unbiased_labels:
        inputs["votes"] = Votes.of(store.read("ratings", "all"), clips)
    if trial.inputs.sequence:
        first, *others = (_frames(name, store, clips) for name in sequence_names(trial))
        inputs["sequence"] = first
        if trial.augmentation.rerender:
            inputs["variants"] = tuple(others)
        elif others:
            (inputs["sound"],) = others
    return TrialData(clips, targets, errors, roles, **inputs)


def refuse_leaks(leaks: pd.DataFrame) -> None:
    """Refuse a split that leaks what it promises not to: a batch run does not pass through the asset checks.

    Raises:
        ValueError: naming split, fold, kind and share.
    """
    wrong = leaks[leaks["promised_zero"] & (leaks["share"] > 0)]
    if len(wrong):
        first = wrong.iloc[0]
        raise ValueError(
            f"split {first['split']!r} leaks what it promises not to: {first['share']:.0%} of the test clips of repeat "
            f"{first['repeat']}, fold {first['fold']} have a {first['kind']} relative in training"
        )


def data_version(trial: Trial, store: Store) -> str:
    """Digest of the content of exactly the parts that the trial reads; footers only.

    Raises:
        FileNotFoundError: a part is missing.
    """
    return digest([[table, name, _version(store.require(table, name))] for table, name in part_names(trial)])


def _version(part: Part) -> str:
    """Content, but for what is computed from sound: the key of its recipe, since processors differ in a last bit."""
    return part.key if part.table in ("spectrograms", "features") else part.content_hash


def code_version(trial: Trial) -> int:
    """The hand-bumped version of the code of the trial's family."""
    return CODE_VERSION[_VERSIONED_AS.get(trial.family, trial.family)]


def device_class(trial: Trial, device: str) -> str:
    """`cpu` or `cuda`, without a number; tabular models always run on the CPU."""
    return "cpu" if trial.optimisation is None else device.split(":")[0]


def precision_of(trial: Trial, precision: str) -> str:
    """The precision a trial really runs in: tabular models are float64 whatever is asked for."""
    return "float64" if trial.optimisation is None else precision


def has_inner_folds(trial: Trial) -> bool:
    """Whether the trial is also fitted on inner folds, as its split says."""
    from piano_assets.corpus.splits import SPLITS

    return trial.split in SPLITS and SPLITS[trial.split].n_inner_folds > 0


def part_key(trial: Trial, seed: int, store: Store, precision: str = "float32", device: str = "cpu") -> str:
    """Part key: trial, seed, data version, code version, precision and device class.

    Where there are inner folds, the version of what is done with them enters too.
    """
    inner = {"inner_folds": CODE_VERSION["inner_folds"]} if has_inner_folds(trial) else {}
    return digest(
        trial.key,
        seed,
        data_version(trial, store),
        code_version(trial),
        precision_of(trial, precision),
        device_class(trial, device),
        *inner.items(),
    )


def part_name(trial: Trial, config: str, seed: int, precision: str = "float32", device: str = "cpu") -> str:
    """Name of the parts of one partition: `<config>/<seed>.<precision>-<device class>`."""
    return f"{config}/{seed}.{precision_of(trial, precision)}-{device_class(trial, device)}"


def way_of(run: Part) -> tuple[str, str]:
    """(precision, device class) in which a partition was trained, as its part's name says."""
    precision, device = run.name.rpartition(".")[2].split("-")
    return precision, device


def done(
    trial: Trial, config: str, seed: int, store: Store, precision: str = "float32", device: str = "cpu"
) -> Part | None:
    """The `runs` part of a finished partition, or None; see `finished`."""
    key = part_key(trial, seed, store, precision, device)
    return finished(store, part_name(trial, config, seed, precision, device), key)


def finished(store: Store, name: str, key: str) -> Part | None:
    """The `runs` part of this name and key, or None; it is written last, so that it vouches for the others.

    A partition of which a part was removed since is not finished any more.
    """
    run = store.part("runs", name, key=key)
    return run if run is not None and all(store.exists(table, name) for table in PUBLISHED) else None


def ways(trial: Trial, config: str, seed: int, first: str = DEVICES[0]) -> dict[str, tuple[str, str]]:
    """Part name -> (precision, device class) of each way in which a partition may be trained, device `first` first."""
    devices = (first, *(d for d in DEVICES if d != first))
    return {part_name(trial, config, seed, p, d): (p, d) for p in PRECISIONS for d in devices}


def standing(trial: Trial, config: str, seed: int, store: Store, device: str = "cpu") -> list[Part]:
    """The `runs` parts of a finished partition, one for each way in which it was trained: this device class first,
    float32 before bfloat16. Empty where it must be trained; without the parts that it reads, nothing can stand.
    """
    names = ways(trial, config, seed, device)
    # Part keys take reading many footers: first ask whether there is a file at all.
    there = [way for name, way in names.items() if store.part("runs", name) is not None]
    if not there or lacks(trial, store):
        return []
    found = (done(trial, config, seed, store, *way) for way in there)
    return [part for part in found if part is not None]


def seeds_of(trial: Trial, n_repeats: int) -> tuple[int, ...]:
    """The seeds a trial owes: one per repeat of its split, and seed 0 alone where the split has one repeat."""
    return tuple(range(n_repeats)) if n_repeats > 1 else (0,)


def repeat_of(seed: int, n_repeats: int) -> int:
    """The repeat of the fold assignment that a seed stands for.

    Raises:
        ValueError: the split has several repeats, but not this one.
    """
    if n_repeats > 1 and seed >= n_repeats:
        raise ValueError(f"seed={seed} must be below the split's {n_repeats} repeats")
    return seed if n_repeats > 1 else 0


def _wide(labels: pd.DataFrame, column: str, clips: np.ndarray) -> np.ndarray:
    wide = labels.pivot(index="clip", columns="dimension", values=column)
    return wide.reindex(index=clips, columns=list(NAMES)).to_numpy(np.float64)


def _roles(splits: pd.DataFrame, clips: np.ndarray, name: str) -> dict[tuple[int, int], np.ndarray]:
    outer = splits[splits["inner_fold"].isna()]
    row = pd.Index(clips).get_indexer(outer["clip"])
    if (row < 0).any():
        raise ValueError(f"split {name!r}: clip {outer['clip'][row < 0].iloc[0]!r} is not among the corpus's clips")
    roles = {}
    for (repeat, fold), rows in outer.assign(row=row).groupby(["repeat", "fold"]):
        of_clip = np.full(len(clips), "unused", dtype=object)
        of_clip[rows["row"]] = rows["role"]
        roles[int(repeat), int(fold)] = of_clip
    return roles


def _features(trial: Trial, store: Store, clips: np.ndarray) -> dict[str, Any]:
    from piano_assets.features.sets import design_matrix

    parts = [n for t, n in part_names(trial) if t == "features" and "+" not in n]
    long = pd.concat([store.read("features", n) for n in parts], ignore_index=True)
    matrix, names = design_matrix(long, str(trial.inputs.features), list(clips), trial.inputs.rendering)
    return {"features": np.asarray(matrix, np.float64), "feature_names": tuple(names)}


def _view(trial: Trial, variant: str, store: Store, clips: np.ndarray) -> np.ndarray:
    """The trial's features of a variant of every clip."""
    from piano_assets.features.sets import design_matrix

    # They have a rendering of their own, so that nobody takes them for the clips' own.
    long = store.read("features", f"{VIEWED}+{variant}").assign(rendering=SYMBOLIC_RENDERING)
    return np.asarray(design_matrix(long, str(trial.inputs.features), list(clips))[0], np.float64)


def _frames(name: str, store: Store, clips: np.ndarray) -> Frames:
    from piano_assets.features.spectrograms import open_spectrograms

    part = store.require("spectrograms", name)
    index = store.read("spectrograms", part.name).set_index("clip")
    absent = np.setdiff1d(clips, index.index)
    if len(absent):
        raise ValueError(f"spectrogram {name}: {len(absent)} clips have none, first {absent[0]!r}")
    index = index.loc[clips]
    # The frames lie in the corpus folder that the part came from.
    folder: Path = part.path.parents[2]
    values = open_spectrograms(folder, *name.rsplit(".", 1))
    return Frames(values, index["start"].to_numpy(np.int64), index["n_frames"].to_numpy(np.int64))
