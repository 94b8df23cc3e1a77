"""D. Training: loss, schedule, regularisation."""

from piano_assets.catalogue.comparison import Comparison

LOSS = Comparison(
    "loss",
    "Losses that ask for correlation raise r over the squared error, at the price of scale.",
    "ast.reference",
    {"mse": {}}
    | {
        name: {"optimisation.loss": name}
        for name in ("correlation", "concordance", "ranking", "combined", "huber", "focal_mse", "rater_weighted")
    },
)

SCHEDULE = Comparison(
    "schedule",
    "With early stopping the schedule hardly matters, as long as the rate falls.",
    "ast.reference",
    {"warmup_cosine": {}}
    | {
        name: {"optimisation.schedule": name}
        for name in ("constant", "cosine", "step", "reduce_on_plateau", "one_cycle")
    },
)

REGULARISATION = Comparison(
    "regularisation",
    "Stronger regularisation than a dropout of .1 raises held-out r at this data size.",
    "regularisation.reference",
    {
        "light_dropout": {},
        "heavy_dropout": {"model.dropout": 0.3},
        "label_smoothing": {"optimisation.label_smoothing": 0.1},
        "label_smoothing_spread": {"optimisation.spread_smoothing": True},
        "mixup_cutmix": {"augmentation.mixup": 0.3, "augmentation.cutmix": 0.2},
        "spectral_norm": {"model.spectral_norm": True},
        "stochastic_depth": {"model.stochastic_depth": 0.2},
    },
)

COMPARISONS = (LOSS, SCHEDULE, REGULARISATION)
