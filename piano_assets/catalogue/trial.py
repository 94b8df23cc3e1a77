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

from piano_assets.catalogue.nodes import Augmentation, Encoder, Inputs, Optimisation, Scalar, Tabular
from piano_assets.catalogue.rules import IllegalTrial, conform, require
from piano_assets.schemas import RULES
from piano_assets.store.parts import digest

__all__ = ["BUDGETS", "Augmentation", "Budget", "Encoder", "IllegalTrial", "Inputs", "Optimisation", "Tabular", "Trial"]

MOST_SEEDS = 1000
"""Seeds and replicates are below it, so that no two of them share a random stream."""


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

    Attributes:
        replicate: another start: initial weights, order of the data and noise differ, folds and clips do not.
        resample: number of a bootstrap resample of the training clips, as many with replacement (Breiman 1996); 0 takes
            each once. Validation clips stay as they are.
        rounds: networks in a row, each fitted to what the sum of those before leaves over (Friedman 2001); 0 fits one.
        shrinkage: share of each round's prediction that enters the sum.
    """

    model: Tabular | Encoder
    inputs: Inputs
    optimisation: Optimisation | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    search: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()
    split: str = "cluster"
    label_rule: str = "clean"
    budget: str = "full"
    replicate: int = 0
    resample: int = 0
    rounds: int = 0
    shrinkage: float = 0.0

    def __post_init__(self) -> None:
        conform(self)
        for axis in self.search:
            kinds = tuple(type(v) for v in axis) if isinstance(axis, tuple) else ()
            well_formed = kinds == (str, tuple)
            require(well_formed, f"search={axis!r} must be pairs of a field and its values")
        require(self.label_rule in RULES, f"label_rule={self.label_rule!r} must be one of {RULES}")
        require(self.budget in BUDGETS, f"budget={self.budget!r} must be one of {tuple(BUDGETS)}")
        require(0 <= self.replicate < MOST_SEEDS, f"replicate={self.replicate} must lie in [0, {MOST_SEEDS})")
        require(self.resample >= 0, f"resample={self.resample} must be >= 0")
        neural = isinstance(self.model, Encoder)
        self._check_rounds(neural)
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

    def _check_rounds(self, neural: bool) -> None:
        require(self.rounds >= 0, f"rounds={self.rounds} must be >= 0")
        require(0 <= self.shrinkage <= 1, f"shrinkage={self.shrinkage} must lie in [0, 1]")
        require((self.rounds > 0) == (self.shrinkage > 0), f"rounds={self.rounds} and shrinkage={self.shrinkage}: both")
        if self.rounds:
            require(neural, f"rounds={self.rounds}: only networks have them; gradient_boosting boosts trees")
            require(not self.search, f"rounds={self.rounds}: each round would search by itself; search must be empty")
            snapshots = self.optimisation is not None and self.optimisation.snapshots
            require(not snapshots, f"rounds={self.rounds} beside optimisation.snapshots={snapshots}: one of them")

    @property
    def several(self) -> bool:
        """Whether its predictions are of several networks, or of several views of a clip, together."""
        snapshots = self.optimisation.snapshots if self.optimisation else 0
        return bool(self.rounds or snapshots or self.inputs.views)

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
