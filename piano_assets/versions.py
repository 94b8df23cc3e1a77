"""Code versions, one hand-bumped integer per family.

A version enters the part key of everything the family computes. Bump it when results change, not when a comment
does: golden-value tests fail when results change without a bump.
"""

CODE_VERSION: dict[str, int] = {
    "corpus": 1,
    "ceiling": 1,
    "splits": 1,
    "modal": 1,
    "fluidsynth": 1,
    "transcription": 1,
    "as_heard": 1,
    "symbolic": 1,
    "music": 1,
    "audio": 1,
    "sound": 1,
    "spectrograms": 1,
    "ridge": 1,
    "kernel_ridge": 1,
    "relevance_kernel_ridge": 1,
    "random_forest": 2,
    "extra_trees": 2,
    "gradient_boosting": 2,
    "transformer": 3,
    "inner_folds": 1,
    "lookup": 1,
    "ensemble": 1,
    "champion": 1,
    "scoring": 1,
    "adaptation": 1,
    "pretraining": 1,
    "evaluation": 4,
    "diagnostics": 2,
    "robustness": 2,
}
