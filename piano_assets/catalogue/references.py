"""References: what comparisons differ from, and the search that every arm gets.

Equal search: a network tries four learning rates, a tabular model four values of the one setting that pays most; the
model's own value is among them, and is the `fixed` result.
"""

import dataclasses

from piano_assets.catalogue.trial import Augmentation, Encoder, Inputs, Optimisation, Scalar, Tabular, Trial, vary

Search = tuple[tuple[str, tuple[Scalar, ...]], ...]

NEURAL_SEARCH: Search = (("optimisation.learning_rate", (3e-5, 1e-4, 3e-4, 1e-3)),)
N_POINTS = 4
"""Points that each arm's search has."""


def _grid(setting: str, *values: float) -> Search:
    return ((f"model.settings.{setting}", values),)


TABULAR_SEARCH: dict[str, Search] = {
    "ridge": _grid("alpha", 300.0, 1000.0, 3000.0, 10000.0),
    "kernel_ridge": _grid("alpha", 0.1, 0.3, 1.0, 3.0),
    "relevance_kernel_ridge": _grid("alpha", 0.15, 0.3, 0.6, 1.2),
    "random_forest": _grid("min_samples_leaf", 2, 3, 5, 10),
    "random_forest_founding": _grid("max_features", 0.1, 0.2, 0.4, 1.0),
    "extra_trees": _grid("min_samples_leaf", 1, 2, 4, 8),
    "gradient_boosting": _grid("colsample", 0.025, 0.05, 0.1, 0.2),
}
"""Regressor -> its grid."""

AST = Trial(
    model=Encoder(),
    inputs=Inputs(spectrogram="log_mel_128"),
    optimisation=Optimisation(),
    search=NEURAL_SEARCH,
)
FOREST = Trial(model=Tabular(), inputs=Inputs(features="all_traditional"), search=TABULAR_SEARCH[Tabular().regressor])

LISTENER = Trial(
    model=Tabular(regressor="relevance_kernel_ridge"),
    inputs=Inputs(features="all_music"),
    search=TABULAR_SEARCH["relevance_kernel_ridge"],
)

REFERENCES: dict[str, Trial] = {
    "ast.reference": AST,
    "forest.reference": FOREST,
    "hybrid.reference": vary(AST, {"inputs.features": "all_traditional", "model.fusion": "gated"}),
    "family.reference": vary(FOREST, {"inputs.features": "symbolic"}),
    "augmentation.reference": dataclasses.replace(AST, augmentation=Augmentation(spec_augment=0.5, mixup=0.3)),
    "regularisation.reference": vary(AST, {"model.dropout": 0.1}),
    "listener.reference": LISTENER,
    "candidate.reference": vary(LISTENER, {"split": "nested"}),
    "candidate_performance.reference": vary(LISTENER, {"inputs.features": "all_music_absolute", "split": "nested"}),
    "candidate_recording.reference": vary(
        LISTENER,
        {"inputs.features": "transcribable", "inputs.rendering": "as_heard.modal", "split": "nested"},
    ),
    "candidate_sound.reference": vary(LISTENER, {"inputs.features": "audio_rich", "split": "nested"}),
    "procedure.reference": vary(FOREST, {"inputs.features": "symbolic", "split": "nested"}),
    "literature.reference": Trial(
        model=Tabular(regressor="extra_trees"),
        inputs=Inputs(features="symbolic"),
        split="excerpt",
        label_rule="published",
    ),
}
"""Config -> trial."""
