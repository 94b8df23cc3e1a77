"""A trial: all that decides a result and nothing else, as a frozen dataclass tree.

Paths, devices and worker counts do not belong here. The trial key is the hash of the tree, so equal trials run once.
Ranges are checked here; names of regressors, losses and feature sets are checked against their registries by
`piano_assets.training.check`.
"""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from piano_assets.catalogue.rules import IllegalTrial, conform, require
from piano_assets.corpus.transcription import TRANSCRIBED
from piano_assets.dimensions import N_DIMENSIONS
from piano_assets.schemas import RULES
from piano_assets.store.parts import digest

__all__ = ["BUDGETS", "Augmentation", "Budget", "Encoder", "IllegalTrial", "Inputs", "Optimisation", "Tabular", "Trial"]

Scalar = str | int | float | bool
Settings = tuple[tuple[str, Scalar], ...]


@dataclass(frozen=True, kw_only=True)
class Tabular:
    """A regressor on a table of features; `settings` override the registry's defaults.

    What it learns are the labels, or, of its training clips, what is asked for here; it is judged by the labels always.

    Attributes:
        label_rank: learn so many principal components of the standardised labels instead of all 19; 0 learns all.
        unbiased_labels: learn labels without the biases of the listeners, estimated among the training clips.
        error_weights: a clip counts by how sure its labels are.
    """

    regressor: str = "random_forest"
    settings: Settings = ()
    label_rank: int = 0
    unbiased_labels: bool = False
    error_weights: bool = False

    def __post_init__(self) -> None:
        conform(self, "model.")
        require(
            0 <= self.label_rank <= N_DIMENSIONS, f"model.label_rank={self.label_rank} must lie in 0..{N_DIMENSIONS}"
        )


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A transformer over the patches of a spectrogram or over note events, a branch over features, or both fused.

    `head_dim` is explicit, so that the inner width is heads x head_dim whatever `dim` is. `settings` override the
    defaults of the attention kind. `fusion` says how the two branches of a hybrid meet, and is empty elsewhere.
    """

    depth: int = 3
    dim: int = 256
    heads: int = 4
    head_dim: int = 64
    mlp_ratio: float = 2.0
    dropout: float = 0.4
    patch_size: int = 16
    attention: str = "vanilla"
    settings: Settings = ()
    fusion: str = ""
    stochastic_depth: float = 0.0
    spectral_norm: bool = False

    def __post_init__(self) -> None:
        conform(self, "model.")
        for name in ("depth", "dim", "heads", "head_dim", "patch_size"):
            value = getattr(self, name)
            require(value >= 1, f"model.{name}={value!r} must be an integer >= 1")
        require(self.dim % 2 == 0, f"model.dim={self.dim} must be even: positions are pairs of sine and cosine")
        hidden = round(self.dim * self.mlp_ratio)
        require(hidden >= 1, f"model.mlp_ratio={self.mlp_ratio} must leave a hidden layer of >= 1 (is {hidden})")
        for name in ("dropout", "stochastic_depth"):
            value = getattr(self, name)
            require(0 <= value < 1, f"model.{name}={value} must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a model hears of one rendering: a feature set, a spectrogram, note events, or features beside one of these.

    `top_k` keeps the k features that a forest finds most important in the training clips of each fold; 0 keeps all.
    """

    features: str | None = None
    spectrogram: str | None = None
    notes: bool = False
    top_k: int = 0
    rendering: str = "modal"

    def __post_init__(self) -> None:
        conform(self, "inputs.")
        require(
            bool(self.features or self.spectrogram or self.notes),
            "inputs: name a feature set, a spectrogram or notes (all are empty)",
        )
        require(not (self.spectrogram and self.notes), f"inputs: notes beside spectrogram={self.spectrogram!r}")
        require(self.top_k >= 0, f"inputs.top_k={self.top_k} must be >= 0")
        require(
            not (self.rendering.startswith(TRANSCRIBED) and self.sequence),
            f"inputs.rendering={self.rendering!r} has features only, no {self.sequence}",
        )
        require(not self.top_k or bool(self.features), f"inputs.top_k={self.top_k} selects features: name their set")

    @property
    def sequence(self) -> str | None:
        """What runs in time: a spectrogram's name, `note_events`, or None where there are features only."""
        return "note_events" if self.notes else self.spectrogram


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How a network is trained. Learning rate per AdamW step; warm-up as a share of all steps.

    `label_smoothing` moves every label by this share towards the training mean; `spread_smoothing` moves it by the
    share of its variance that is rater noise.
    """

    loss: str = "mse"
    schedule: str = "warmup_cosine"
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    warmup: float = 0.1
    batch_size: int = 32
    label_smoothing: float = 0.0
    spread_smoothing: bool = False

    def __post_init__(self) -> None:
        conform(self, "optimisation.")
        require(self.learning_rate > 0, f"optimisation.learning_rate={self.learning_rate} must be > 0")
        require(self.weight_decay >= 0, f"optimisation.weight_decay={self.weight_decay} must be >= 0")
        require(0 <= self.warmup < 1, f"optimisation.warmup={self.warmup} must lie in [0, 1)")
        require(self.batch_size >= 1, f"optimisation.batch_size={self.batch_size} must be >= 1")
        require(
            0 <= self.label_smoothing < 1, f"optimisation.label_smoothing={self.label_smoothing} must lie in [0, 1)"
        )


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What happens to training crops; everything off by default.

    Attributes:
        spec_augment, mixup, c_mixup, cutmix: probability, per crop, of each. Mixtures exclude one another.
        time_stretch: largest relative change of tempo; 0.2 draws tempo ratios from 0.8 to 1.2.
        pitch_shift: largest shift in semitones.
        rerender: stretch and shift the notes and render them again, instead of the sound.
        factor: number of fixed versions of each clip, the untouched one among them; 0 draws afresh every time.
        longer: with a factor, an epoch passes over all versions, which multiplies the steps; else steps stay equal.
    """

    spec_augment: float = 0.0
    mixup: float = 0.0
    c_mixup: float = 0.0
    cutmix: float = 0.0
    time_stretch: float = 0.0
    pitch_shift: int = 0
    rerender: bool = False
    factor: int = 0
    longer: bool = False

    def __post_init__(self) -> None:
        conform(self, "augmentation.")
        for name in ("spec_augment", "mixup", "c_mixup", "cutmix"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"augmentation.{name}={value} must lie in [0, 1]")
        mixed = self.mixup + self.c_mixup + self.cutmix
        require(mixed <= 1, f"augmentation: mixup + c_mixup + cutmix = {mixed:g} must be <= 1")
        require(0 <= self.time_stretch <= 0.5, f"augmentation.time_stretch={self.time_stretch} must lie in [0, 0.5]")
        require(0 <= self.pitch_shift <= 12, f"augmentation.pitch_shift={self.pitch_shift} must lie in [0, 12]")
        require(self.factor == 0 or self.factor >= 2, f"augmentation.factor={self.factor} must be 0 or >= 2")
        require(not self.longer or self.factor > 0, "augmentation.longer=True needs a factor (is 0)")
        require(
            not self.rerender or self.bends_sound,
            "augmentation.rerender=True needs time_stretch or pitch_shift (are 0)",
        )

    @property
    def bends_sound(self) -> bool:
        """Whether tempo or pitch change."""
        return bool(self.time_stretch or self.pitch_shift)


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much training a network gets. `n_clips` limits the training clips; None means all.

    Crops are `crop_s` seconds of sound or `crop_notes` notes. After each epoch of `rungs` the worse half of a search's
    points stops (successive halving, Jamieson & Talwalkar 2016); the trial's own values always go on.
    """

    crop_s: float
    crop_notes: int
    epochs: int
    patience: int
    searches: bool
    rungs: tuple[int, ...] = ()
    n_clips: int | None = None


BUDGETS: dict[str, Budget] = {
    "full": Budget(crop_s=10.0, crop_notes=256, epochs=40, patience=8, searches=True, rungs=(10, 20)),
    "reduced": Budget(crop_s=3.0, crop_notes=96, epochs=8, patience=3, searches=False),
    "smoke": Budget(crop_s=3.0, crop_notes=64, epochs=2, patience=2, searches=False, n_clips=8),
}


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Everything that decides a result.

    `search` is a grid over dotted fields, `(("model.settings.alpha", (1.0, 10.0)), ...)`: each point is judged on
    inner validation clips inside the training folds. The trial's own values are the `fixed` result.
    """

    model: Tabular | Encoder
    inputs: Inputs
    optimisation: Optimisation | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    search: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()
    split: str = "cluster"
    label_rule: str = "clean"
    budget: str = "full"

    def __post_init__(self) -> None:
        conform(self)
        for axis in self.search:
            kinds = tuple(type(v) for v in axis) if isinstance(axis, tuple) else ()
            well_formed = kinds == (str, tuple)
            require(well_formed, f"search={axis!r} must be pairs of a field and its values")
        require(self.label_rule in RULES, f"label_rule={self.label_rule!r} must be one of {RULES}")
        require(self.budget in BUDGETS, f"budget={self.budget!r} must be one of {tuple(BUDGETS)}")
        neural = isinstance(self.model, Encoder)
        require(neural == (self.optimisation is not None), "optimisation: networks have one, tabular models none")
        if isinstance(self.model, Encoder):
            fused = bool(self.inputs.features and self.inputs.sequence)
            require(
                fused == bool(self.model.fusion),
                f"model.fusion={self.model.fusion!r}: networks with features and a sequence name one, others none",
            )
            return
        require(
            self.label_rule == "clean" or not self.model.unbiased_labels,
            f"model.unbiased_labels=True needs label_rule 'clean', which knows who voted (is {self.label_rule!r})",
        )
        require(bool(self.inputs.features), "inputs.features: a tabular model needs a set (is None)")
        require(not self.inputs.sequence, f"inputs: a tabular model hears features only, not {self.inputs.sequence!r}")
        require(self.augmentation == Augmentation(), "augmentation: only networks have one")

    @property
    def key(self) -> str:
        """Trial key: the intent, without seed, data or code.

        Fields that are off (None, False, zero or empty) are left out, so that a field that is added later, off by
        default, changes no key.
        """
        return digest(_without_off(as_dict(self)))

    @property
    def family(self) -> str:
        """Family of the model: the regressor's name, or the kind of network."""
        if isinstance(self.model, Tabular):
            return self.model.regressor
        if self.inputs.sequence is None:
            return "mlp"
        if self.inputs.features:
            return "hybrid"
        return "note_transformer" if self.inputs.notes else "ast"


def _without_off(node: Any) -> Any:
    return {k: _without_off(v) for k, v in node.items() if v or v == {}} if isinstance(node, dict) else node


def as_dict(trial: Any) -> dict[str, Any]:
    """The tree as JSON-able dictionaries; `from_dict` reads it back."""
    return dataclasses.asdict(trial)


def from_dict(values: Mapping[str, Any]) -> Trial:
    """Rebuild a trial from `as_dict`'s output.

    Raises:
        IllegalTrial: an unknown field (named) or an illegal value.
    """
    model = Tabular if "regressor" in values["model"] else Encoder
    nested = {"model": model, "inputs": Inputs, "optimisation": Optimisation, "augmentation": Augmentation}
    built = {
        name: _build(nested[name], value) if name in nested and value is not None else _tuples(value)
        for name, value in values.items()
    }
    return _build(Trial, built)


def _build(kind: type, values: Mapping[str, Any]) -> Any:
    known = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    require(not unknown, f"unknown field {unknown} of {kind.__name__}; known: {sorted(known)}")
    return kind(**{k: _tuples(v) for k, v in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, list | tuple) else value


def vary(trial: Trial, changes: Mapping[str, Any]) -> Trial:
    """Return the trial with dotted fields replaced, all at once: `{"model.dropout": 0.3}`.

    `model.settings.<name>` sets one setting of a tabular model.

    Raises:
        IllegalTrial: a field that does not exist, or an illegal value.
    """
    return _replace(trial, {path: _tuples(value) for path, value in changes.items()})


def _replace(node: Any, changes: Mapping[str, Any], prefix: str = "") -> Any:
    inner: dict[str, dict[str, Any]] = {}
    outer: dict[str, Any] = {}
    for path, value in changes.items():
        head, _, rest = path.partition(".")
        require(
            dataclasses.is_dataclass(node) and head in {f.name for f in dataclasses.fields(typing.cast(Any, node))},
            f"unknown field {prefix}{path} (is {value!r}): {type(node).__name__} has no {head!r}",
        )
        if rest:
            inner.setdefault(head, {})[rest] = value
        else:
            outer[head] = value
    for head, below in inner.items():
        start = outer.get(head, getattr(node, head))
        outer[head] = (
            tuple((dict(start) | below).items()) if head == "settings" else _replace(start, below, f"{prefix}{head}.")
        )
    return dataclasses.replace(node, **outer)


def differences(trial: Trial, reference: Trial) -> dict[str, tuple[Any, Any]]:
    """Dotted fields in which two trials differ: name -> (value in trial, value in reference)."""
    ours, theirs = dict(_leaves(trial)), dict(_leaves(reference))
    return {n: (ours.get(n), theirs.get(n)) for n in sorted({*ours, *theirs}) if ours.get(n) != theirs.get(n)}


def _leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for f in dataclasses.fields(node):
        value, name = getattr(node, f.name), f"{prefix}{f.name}"
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, name + ".")
        elif f.name == "settings":
            yield from ((f"{name}.{k}", v) for k, v in value)
        else:
            yield name, value
