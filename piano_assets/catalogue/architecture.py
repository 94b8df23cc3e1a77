"""B. Architecture: size, patches, attention, branches, families."""

from typing import Any

from piano_assets.catalogue.comparison import FULL_OR_REDUCED, Comparison
from piano_assets.catalogue.references import REFERENCES, TABULAR_SEARCH
from piano_assets.catalogue.trial import Encoder, Inputs, Optimisation, Trial

MILLION = 1_000_000


def _shape(depth: int, dim: int, heads: int, mlp_ratio: float, **more: Any) -> dict[str, Any]:
    fields = {"depth": depth, "dim": dim, "heads": heads, "mlp_ratio": mlp_ratio, **more}
    return {f"model.{name}": value for name, value in fields.items()}


MODEL_SIZE = Comparison(
    "model_size",
    "With 1,202 clips a network of 2M parameters hears as much as one of 20M, and more than one of 86M.",
    "ast.reference",
    {
        # As the plan writes them, dim shared out among the heads; 320 does not divide by 6, so tiny's inner width is
        # 324. The plan gives medium and base no MLP ratio and dropout: those are ViT's.
        "ultra_tiny": {},
        "tiny": _shape(4, 320, 6, 3.0, head_dim=54, dropout=0.3),
        "small": _shape(6, 384, 8, 3.0, head_dim=48, dropout=0.2),
        "medium": _shape(6, 512, 8, 4.0, dropout=0.2),
        "base": _shape(12, 768, 12, 4.0, dropout=0.1),
        # As it means them: depth and dropout stay, width grows until the measured count is the claimed one.
        "size_5m": _shape(6, 264, 4, 4.0, dropout=0.4),
        "size_10m": _shape(6, 368, 6, 4.0, dropout=0.4),
        "size_15m": _shape(6, 456, 7, 4.0, dropout=0.4),
        "size_20m": _shape(6, 528, 8, 4.0, dropout=0.4),
    },
    budget_note="base takes about 50 times as long as the reference: a CPU trains it only by name. " + FULL_OR_REDUCED,
    claims={
        **{"ultra_tiny": 5 * MILLION, "tiny": 10 * MILLION, "small": 15 * MILLION, "medium": 20 * MILLION},
        "base": 86 * MILLION,
        **{f"size_{n}m": n * MILLION for n in (5, 10, 15, 20)},
    },
    needs_gpu=frozenset({"base"}),
)

PATCH_SIZE = Comparison(
    "patch_size",
    "Patches of 160 to 400 ms hear about the same; 640 ms blur the timing that listeners rate.",
    "ast.reference",
    {"8": {"model.patch_size": 8}, "16": {}} | {str(p): {"model.patch_size": p} for p in (12, 20, 24, 32)},
    budget_note="Patches of 8 make four times as many tokens as the reference's. " + FULL_OR_REDUCED,
)

ATTENTION = Comparison(
    "attention",
    "At some 500 tokens cheaper attention gains nothing in r; windows lose nothing either.",
    "ast.reference",
    {
        "vanilla": {},
        "local": {"model.attention": "local"},
        "linear_performer": {"model.attention": "performer"},
        "linear_linformer": {"model.attention": "linformer"},
        "sparse": {"model.attention": "sparse"},
        "multi_scale": {"model.attention": "multi_scale"},
    },
    budget_note="@reduced with one seed is enough to see what each costs (--seeds 1).",
)

FUSIONS = ("concat", "gated", "late")
FEATURES = ("all_traditional", "symbolic", "all")


def _branch(features: str) -> dict[str, Any]:
    return {"inputs.spectrogram": None, "inputs.features": features}


HYBRID = Comparison(
    "hybrid",
    "Features beside the spectrogram raise r; note-level ones more than the traditional; how they are fused matters "
    "less than which they are.",
    "ast.reference",
    {
        "spectrogram_only": {},
        **{
            f"{fusion}_{features}": {"model.fusion": fusion, "inputs.features": features}
            for fusion in FUSIONS
            for features in FEATURES
        },
        "tabular_only": _branch("all_traditional"),
        "tabular_only_symbolic": _branch("symbolic"),
        "tabular_only_all": _branch("all"),
    },
)


def _regressor(name: str) -> dict[str, Any]:
    return {"model.regressor": name, "search": TABULAR_SEARCH[name]}


def _network(trial: Trial) -> dict[str, Any]:
    return {
        "model": trial.model,
        "inputs": trial.inputs,
        "optimisation": trial.optimisation,
        "search": trial.search,
    }


FAMILY = Comparison(
    "family",
    "Among what a user would really choose between, some families hear more than a random forest does.",
    "family.reference",
    {
        "ridge": _regressor("ridge"),
        "kernel_ridge": _regressor("kernel_ridge"),
        "random_forest": {},
        "random_forest_founding": _regressor("random_forest_founding"),
        "extra_trees": _regressor("extra_trees"),
        "gradient_boosting": _regressor("gradient_boosting"),
        "ast": _network(REFERENCES["ast.reference"]),
        "hybrid": _network(REFERENCES["hybrid.reference"]),
        "note_transformer": {
            "model": Encoder(),
            "inputs": Inputs(notes=True),
            "optimisation": Optimisation(),
            "search": REFERENCES["ast.reference"].search,
        },
    },
    budget_note="Tabular families take minutes on a CPU. " + FULL_OR_REDUCED,
)

COMPARISONS = (MODEL_SIZE, PATCH_SIZE, ATTENTION, HYBRID, FAMILY)
