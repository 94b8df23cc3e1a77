"""E1. Ensembles: what they are made of, as comparisons of their own; the recipes are in `piano_assets.ensembles`.

The base learner is a small network on note-level features, which a CPU trains at full budget in seconds. No arm
searches; the learning rate is one of three that are alike on inner validation clips (3e-4, 1e-3, 3e-3: r .710, .709,
.711 on repeat 0). The split `nested` has the outer folds of `cluster`, and inner folds from which weights are learnt.
"""

import dataclasses

from piano_assets.catalogue.comparison import Comparison
from piano_assets.catalogue.trial import Encoder, Inputs, Optimisation, Tabular, Trial

MLP = Trial(model=Encoder(), inputs=Inputs(features="symbolic"), optimisation=Optimisation(learning_rate=1e-3))
REFERENCES: dict[str, Trial] = {
    "mlp.reference": MLP,
    "mlp_nested.reference": dataclasses.replace(MLP, split="nested"),
}

N_MEMBERS = 5
ROUNDS, SHRINKAGE = 5, 0.5
SNAPSHOTS = 5
VIEWS = 2
"""Semitones up and down."""

ENSEMBLE_MEMBERS = Comparison(
    "ensemble_members",
    "No member is better than the network that starts from other weights; resamples are worse.",
    "mlp.reference",
    {
        "single": {},
        **{f"replicate_{k}": {"replicate": k} for k in range(1, N_MEMBERS)},
        **{f"resample_{k}": {"resample": k} for k in range(1, N_MEMBERS + 1)},
        "boosting": {"rounds": ROUNDS, "shrinkage": SHRINKAGE},
        "snapshot": {"optimisation.schedule": "cyclic_cosine", "optimisation.snapshots": SNAPSHOTS},
        "views": {"inputs.views": VIEWS},
        "transposed": {"augmentation.pitch_shift": VIEWS, "augmentation.rerender": True},
        "transposed_views": {
            "augmentation.pitch_shift": VIEWS,
            "augmentation.rerender": True,
            "inputs.views": VIEWS,
        },
    },
    budget_note="Networks of seconds: a CPU trains them in full. Five seeds, each with its repeat of the split.",
)


MIXED_MEMBERS = Comparison(
    "mixed_members",
    "Families without a search, each with inner predictions, hear about as much as a network.",
    "mlp_nested.reference",
    {
        "mlp": {},
        **{
            name: {"model": Tabular(regressor=name), "optimisation": None}
            for name in ("ridge", "kernel_ridge", "extra_trees", "gradient_boosting")
        },
        "mlp_wide_transposed": {
            "model.dim": 512,
            "replicate": 1,
            "augmentation.pitch_shift": VIEWS,
            "augmentation.rerender": True,
        },
        "mlp_all": {"inputs.features": "all", "replicate": 2},
    },
    budget_note="Five models for each fold: its own and those of four inner folds. Minutes on a CPU; gradient boosting "
    "takes most of them.",
)

COMPARISONS = (ENSEMBLE_MEMBERS, MIXED_MEMBERS)
