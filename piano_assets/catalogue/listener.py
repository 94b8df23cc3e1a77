"""E. The best listener: what each of its ingredients brings, and the candidates among which a procedure chooses."""

from typing import Any

from piano_assets.catalogue.comparison import TABULAR, Comparison
from piano_assets.catalogue.references import TABULAR_SEARCH


def _regressor(name: str) -> dict[str, Any]:
    return {"model.regressor": name, "search": TABULAR_SEARCH[name]}


INGREDIENT = Comparison(
    "ingredient",
    "The best single model owes its lead to features of the music and to weighting by relevance; how labels are "
    "cleaned and weighted matters little.",
    "listener.reference",
    {
        "all": {},
        "without_music": {"inputs.features": "all"},
        "without_sound": {"inputs.features": "symbolic_music"},
        "without_music_and_sound": {"inputs.features": "symbolic"},
        "without_deadpan": {"inputs.features": "all_music_absolute"},
        "without_relevance": _regressor("kernel_ridge"),
        "gradient_boosting": _regressor("gradient_boosting"),
        "extra_trees": _regressor("extra_trees"),
        "ridge": _regressor("ridge"),
        "unbiased_labels": {"model.unbiased_labels": True},
        "error_weights": {"model.error_weights": True},
        **{f"label_rank_{k}": {"model.label_rank": k} for k in (5, 10)},
    },
    budget_note=TABULAR,
)

_MIXED = {
    "relevance": {},
    "unbiased": {"model.unbiased_labels": True},
    "gradient_boosting": _regressor("gradient_boosting"),
    "extra_trees": _regressor("extra_trees"),
}
_NESTED = "Each point of the search on 4 inner folds of each fold: minutes a config and seed on two cores. Five seeds, "
_NESTED += "each with its repeat of the split."

CANDIDATE = Comparison(
    "candidate",
    "With search inside, the families that the best listener is mixed from keep their order.",
    "candidate.reference",
    {**_MIXED, "kernel_ridge": _regressor("kernel_ridge")},
    budget_note=_NESTED,
)

CANDIDATE_PERFORMANCE = Comparison(
    "candidate_performance",
    "They keep it where no score is at hand.",
    "candidate_performance.reference",
    _MIXED,
    budget_note=_NESTED,
)

CANDIDATE_RECORDING = Comparison(
    "candidate_recording",
    "They keep it where notes and pedals are known as a transcriber hears them.",
    "candidate_recording.reference",
    _MIXED,
    budget_note=_NESTED,
)

CANDIDATE_SOUND = Comparison(
    "candidate_sound",
    "On sound alone, where features are many and each says little, boosting is as good as relevance.",
    "candidate_sound.reference",
    {name: _MIXED[name] for name in ("relevance", "gradient_boosting", "extra_trees")},
    budget_note=_NESTED,
)

_RICH, _RECORDING, _NOTES = (
    {"inputs.features": name} for name in ("audio_rich", "recording", "symbolic_music_absolute")
)

AUDIO_ONLY = Comparison(
    "audio_only",
    "Loudness, rhythm and register of the sound say more than the 65 traditional features, without a single note; "
    "notes beside it, which the probe `transcribed` asks as they were heard, say more again.",
    "forest.reference",
    {
        "rich_random_forest": _RICH,
        "rich_kernel_ridge": _RICH | _regressor("kernel_ridge"),
        "rich_relevance": _RICH | _regressor("relevance_kernel_ridge"),
        "rich_extra_trees": _RICH | _regressor("extra_trees"),
        "rich_gradient_boosting": _RICH | _regressor("gradient_boosting"),
        "recording_kernel_ridge": _RECORDING | _regressor("kernel_ridge"),
        "recording_relevance": _RECORDING | _regressor("relevance_kernel_ridge"),
        "recording_gradient_boosting": _RECORDING | _regressor("gradient_boosting"),
        "notes_kernel_ridge": _NOTES | _regressor("kernel_ridge"),
        "notes_relevance": _NOTES | _regressor("relevance_kernel_ridge"),
        "notes_gradient_boosting": _NOTES | _regressor("gradient_boosting"),
    },
    budget_note=TABULAR,
)

COMPARISONS = (INGREDIENT, CANDIDATE, CANDIDATE_PERFORMANCE, CANDIDATE_RECORDING, CANDIDATE_SOUND, AUDIO_ONLY)
