"""A. Data: how much augmentation helps, what the split does to the score, and what is left of a choice."""

from typing import Any

from piano_assets.catalogue.comparison import FULL_OR_REDUCED, TABULAR, Comparison
from piano_assets.catalogue.references import TABULAR_SEARCH

STRENGTHS: dict[str, dict[str, float]] = {
    "light": {"spec_augment": 0.3, "mixup": 0.2, "time_stretch": 0.05, "pitch_shift": 1},
    "medium": {"spec_augment": 0.5, "mixup": 0.3, "time_stretch": 0.15, "pitch_shift": 2},
    "heavy": {"spec_augment": 0.7, "mixup": 0.5, "time_stretch": 0.2, "pitch_shift": 3},
}
PRESERVING = ("spec_augment", "mixup")
"""Parts that change nothing which a label describes; tempo and pitch do."""

FACTORS = (2, 3, 5, 8, 10)


def _augmentation(**parts: Any) -> dict[str, Any]:
    return {f"augmentation.{name}": value for name, value in parts.items()}


def _strength(name: str) -> dict[str, dict[str, Any]]:
    """The whole mixture, each part alone, and the parts that keep the labels true."""
    parts = STRENGTHS[name]
    alone = {f"{name}_{part}": _augmentation(**{part: value}) for part, value in parts.items()}
    preserving = _augmentation(**{part: parts[part] for part in PRESERVING})
    return {name: _augmentation(**parts), **alone, f"{name}_preserving": preserving}


AUGMENTATION_STRENGTH = Comparison(
    "augmentation_strength",
    "Augmentation raises r up to a medium strength; what changes tempo or pitch costs what it gains, since listeners "
    "rated just these.",
    "ast.reference",
    {
        "none": {},
        **_strength("light"),
        **_strength("medium"),
        **_strength("heavy"),
        "heavy_rerendered": _augmentation(**STRENGTHS["heavy"], rerender=True),
        "heavy_c_mixup": _augmentation(c_mixup=STRENGTHS["heavy"]["mixup"]),
    },
)

AUGMENTATION_FACTOR = Comparison(
    "augmentation_factor",
    "Fresh augmentation beats any fixed number of versions; at equal steps their number hardly matters.",
    "augmentation.reference",
    {"afresh": {}}
    | {f"x{n}_steps": _augmentation(factor=n) for n in FACTORS}
    | {f"x{n}_epochs": _augmentation(factor=n, longer=True) for n in FACTORS},
    budget_note="x<n>_steps takes the reference's time, x<n>_epochs n times as long. " + FULL_OR_REDUCED,
)

SPLITS: dict[str, dict[str, Any]] = {
    "cluster": {},
    **{
        name: {"split": name}
        for name in (
            *("random", "founding", "excerpt", "performer", "percepiano_performer", "composer", "temporal"),
            *("stratified_difficulty", "leave_one_performer_out", "holdout", "nested"),
        )
    },
}

SPLIT_STRATEGY = Comparison(
    "split_strategy",
    "The protocol moves the score more than the model does: the gap is what a split leaks.",
    "forest.reference",
    SPLITS,
    budget_note=TABULAR,
    tested=False,
)

SPLIT_STRATEGY_AST = Comparison(
    "split_strategy_ast",
    "A network gains from a leaking split at least as much as a forest does.",
    "ast.reference",
    SPLITS,
    budget_note="Leave-one-performer-out trains one network a performer. " + FULL_OR_REDUCED,
    tested=False,
)

PROCEDURE = Comparison(
    "procedure",
    "What is chosen for its inner folds holds outside: with search and choice inside, the best family keeps its lead.",
    "procedure.reference",
    {
        "random_forest": {},
        **{
            name: {"model.regressor": name, "search": TABULAR_SEARCH[name]}
            for name in ("ridge", "kernel_ridge", "extra_trees", "gradient_boosting")
        },
    },
    budget_note="Tabular models in full, each point of the search on 4 inner folds of each fold: four times a `family` "
    "arm's minutes. Five seeds, each with its repeat of the split.",
)

_KERNEL_RIDGE = {"model.regressor": "kernel_ridge"}
_LISTENER = {"model.regressor": "relevance_kernel_ridge", "inputs.features": "all_music"}
_BOOSTING = {"model.regressor": "gradient_boosting", "inputs.features": "all_music"}
_PROTOCOLS = ("percepiano_performer", "performer", "founding")

LITERATURE = Comparison(
    "literature",
    "On the literature's own splits and labels, note-level features reach the published numbers.",
    "literature.reference",
    {
        "excerpt": {},
        **{split: {"split": split} for split in _PROTOCOLS},
        "excerpt_kernel_ridge": _KERNEL_RIDGE,
        **{f"{split}_kernel_ridge": {"split": split, **_KERNEL_RIDGE} for split in _PROTOCOLS},
        **{f"{split}_listener": {"split": split, **_LISTENER} for split in ("excerpt", *_PROTOCOLS)},
        **{f"{split}_boosting": {"split": split, **_BOOSTING} for split in ("excerpt", *_PROTOCOLS)},
        # The performer's protocol is also run as ours are: clean labels, folds pooled.
        "performer_clean_listener": {"split": "performer", "label_rule": "clean", **_LISTENER},
        "performer_clean_boosting": {"split": "performer", "label_rule": "clean", **_BOOSTING},
    },
    budget_note=TABULAR,
    tested=False,
)

COMPARISONS = (AUGMENTATION_STRENGTH, AUGMENTATION_FACTOR, SPLIT_STRATEGY, SPLIT_STRATEGY_AST, PROCEDURE, LITERATURE)
