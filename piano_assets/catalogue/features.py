"""C. Features: which of them, and which picture of the sound."""

from typing import Any

from piano_assets.catalogue.comparison import FULL_OR_REDUCED, TABULAR, Comparison

SETS: dict[str, dict[str, Any]] = {
    "spectral_only": {"inputs.features": "spectral_only"},
    "mfcc_only": {"inputs.features": "mfcc_only"},
    "temporal_only": {"inputs.features": "temporal_only"},
    "harmonic_only": {"inputs.features": "harmonic_only"},
    "all_traditional": {},
    "symbolic": {"inputs.features": "symbolic"},
    "all": {"inputs.features": "all"},
    **{f"top_k_{k}": {"inputs.features": "all", "inputs.top_k": k} for k in (10, 20, 40)},
}

FEATURE_SET = Comparison(
    "feature_set",
    "What the notes say predicts listeners better than the 65 traditional audio features; both together do best; forty "
    "chosen in each fold are as good as all.",
    "forest.reference",
    SETS,
    budget_note=TABULAR,
)

FEATURE_SET_HYBRID = Comparison(
    "feature_set_hybrid",
    "Beside a spectrogram, sets of features differ less than alone: the network hears part of them by itself.",
    "hybrid.reference",
    SETS,
)

SPECTROGRAM = Comparison(
    "spectrogram",
    "Decibels hear more than linear power; cutting at 8 kHz costs brightness; a constant-Q or a second resolution adds "
    "little.",
    "ast.reference",
    {"log_mel_128": {}}
    | {
        name: {"inputs.spectrogram": name}
        for name in ("mel_128", "mel_256", "log_mel_128_8k", "cqt", "multi_resolution")
    },
    budget_note="Each spectrogram is computed once per clip before training. " + FULL_OR_REDUCED,
)

COMPARISONS = (FEATURE_SET, FEATURE_SET_HYBRID, SPECTROGRAM)
