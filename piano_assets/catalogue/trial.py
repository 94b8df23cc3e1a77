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

from piano_assets.schemas import RULES
from piano_assets.store.parts import digest

Scalar = str | int | float | bool
Settings = tuple[tuple[str, Scalar], ...]


class IllegalTrial(ValueError):
    """A field whose value breaks a rule; the message names the field, the rule and the value."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise IllegalTrial(message)


@dataclass(frozen=True, kw_only=True)
class Tabular:
    """A regressor on a table of features; `settings` override the registry's defaults."""

    regressor: str = "random_forest"
    settings: Settings = ()


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """An audio transformer: patches of a spectrogram, pre-norm blocks, mean pooling, one head per dimension.

    `head_dim` is explicit, so that the inner width is heads x head_dim whatever `dim` is.
    """

    depth: int = 3
    dim: int = 256
    heads: int = 4
    head_dim: int = 64
    mlp_ratio: float = 2.0
    dropout: float = 0.4
    patch_size: int = 16
    attention: str = "vanilla"

    def __post_init__(self) -> None:
        for name in ("depth", "dim", "heads", "head_dim", "patch_size"):
            value = getattr(self, name)
            _require(isinstance(value, int) and value >= 1, f"model.{name}={value!r} must be an integer >= 1")
        _require(self.mlp_ratio > 0, f"model.mlp_ratio={self.mlp_ratio} must be > 0")
        _require(0 <= self.dropout < 1, f"model.dropout={self.dropout} must lie in [0, 1)")


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What a model hears: a named feature set, a spectrogram, or both, of one rendering."""

    features: str | None = None
    spectrogram: str | None = None
    rendering: str = "modal"

    def __post_init__(self) -> None:
        _require(
            bool(self.features or self.spectrogram), "inputs: name a feature set or a spectrogram (both are empty)"
        )


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """How a network is trained. Learning rate per AdamW step; warm-up as a share of all steps."""

    loss: str = "mse"
    schedule: str = "warmup_cosine"
    learning_rate: float = 1e-4
    weight_decay: float = 1e-4
    warmup: float = 0.1
    batch_size: int = 32

    def __post_init__(self) -> None:
        _require(self.learning_rate > 0, f"optimisation.learning_rate={self.learning_rate} must be > 0")
        _require(self.weight_decay >= 0, f"optimisation.weight_decay={self.weight_decay} must be >= 0")
        _require(0 <= self.warmup < 1, f"optimisation.warmup={self.warmup} must lie in [0, 1)")
        _require(self.batch_size >= 1, f"optimisation.batch_size={self.batch_size} must be >= 1")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much training a network gets. `n_clips` limits the training clips; None means all."""

    crop_s: float
    epochs: int
    patience: int
    searches: bool
    n_clips: int | None = None


BUDGETS: dict[str, Budget] = {
    "full": Budget(crop_s=10.0, epochs=40, patience=8, searches=True),
    "reduced": Budget(crop_s=3.0, epochs=8, patience=3, searches=False),
    "smoke": Budget(crop_s=3.0, epochs=2, patience=2, searches=False, n_clips=8),
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
    search: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()
    split: str = "cluster"
    label_rule: str = "clean"
    budget: str = "full"

    def __post_init__(self) -> None:
        _require(self.label_rule in RULES, f"label_rule={self.label_rule!r} must be one of {RULES}")
        _require(self.budget in BUDGETS, f"budget={self.budget!r} must be one of {tuple(BUDGETS)}")
        neural = isinstance(self.model, Encoder)
        _require(neural == (self.optimisation is not None), "optimisation: networks have one, tabular models none")
        _require(not neural or bool(self.inputs.spectrogram), "inputs.spectrogram: an encoder needs one (is None)")
        _require(neural or bool(self.inputs.features), "inputs.features: a tabular model needs a set (is None)")

    @property
    def key(self) -> str:
        """Trial key: the intent, without seed, data or code."""
        return digest(as_dict(self))

    @property
    def family(self) -> str:
        """Family of the model: the regressor's name, or the kind of network."""
        return self.model.regressor if isinstance(self.model, Tabular) else "ast"


def as_dict(trial: Any) -> dict[str, Any]:
    """The tree as JSON-able dictionaries; `from_dict` reads it back."""
    return dataclasses.asdict(trial)


def from_dict(values: Mapping[str, Any]) -> Trial:
    """Rebuild a trial from `as_dict`'s output.

    Raises:
        IllegalTrial: an unknown field (named) or an illegal value.
    """
    model = Tabular if "regressor" in values["model"] else Encoder
    nested = {"model": model, "inputs": Inputs, "optimisation": Optimisation}
    built = {
        name: _build(nested[name], value) if name in nested and value is not None else _tuples(value)
        for name, value in values.items()
    }
    return _build(Trial, built)


def _build(kind: type, values: Mapping[str, Any]) -> Any:
    known = {f.name for f in dataclasses.fields(kind)}
    unknown = sorted(set(values) - known)
    _require(not unknown, f"unknown field {unknown} of {kind.__name__}; known: {sorted(known)}")
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


def _replace(node: Any, changes: Mapping[str, Any]) -> Any:
    inner: dict[str, dict[str, Any]] = {}
    outer: dict[str, Any] = {}
    for path, value in changes.items():
        head, _, rest = path.partition(".")
        _require(
            dataclasses.is_dataclass(node) and head in {f.name for f in dataclasses.fields(typing.cast(Any, node))},
            f"unknown field {path!r}: {type(node).__name__} has no {head!r}",
        )
        if rest:
            inner.setdefault(head, {})[rest] = value
        else:
            outer[head] = value
    for head, below in inner.items():
        start = outer.get(head, getattr(node, head))
        outer[head] = tuple(sorted((dict(start) | below).items())) if head == "settings" else _replace(start, below)
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


@dataclass(frozen=True)
class Comparison:
    """A hypothesis, the config it differs from, and named differences: one line an arm.

    `arms` maps an arm's name to its changed fields. An empty change is the reference itself.
    """

    name: str
    hypothesis: str
    reference: str
    arms: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    label_changing: frozenset[str] = frozenset()
    tested: bool = True
    """False where the arms have different test sets, so that no significance test applies."""
