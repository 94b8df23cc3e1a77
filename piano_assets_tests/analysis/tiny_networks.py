"""Models fitted on the tiny corpus, each when it is first asked for."""

from pathlib import Path

from piano_assets.catalogue.trial import vary
from piano_assets.training.fitted import Fitted, fitted
from piano_assets.training.run import run_trial
from piano_assets_tests.training.tiny import AST, HYBRID, MLP, NOTES, build_store

# Long enough that what they hear moves what they predict.
TRAINED = {
    "model.patch_size": 16,
    "budget": "reduced",
    "optimisation.learning_rate": 1e-2,
    "optimisation.batch_size": 16,
}
TRIALS = {
    "ast": vary(AST, {**TRAINED, "model.depth": 2}),
    "hybrid": vary(HYBRID, {**TRAINED, "model.fusion": "late", "optimisation.loss": "combined"}),
    "mlp": vary(MLP, TRAINED),
    "smoothed": vary(MLP, {"optimisation.label_smoothing": 0.2, "optimisation.spread_smoothing": True}),
    "notes": vary(NOTES, {"optimisation.learning_rate": 1e-2}),
}


class TinyNetworks(dict[str, Fitted]):
    """Name of a trial -> its models, all on one corpus below `root`."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.store = build_store(root)

    def __missing__(self, name: str) -> Fitted:
        run_trial(TRIALS[name], name, 0, self.store)
        self[name] = fitted(self.store, name, TRIALS[name])
        return self[name]
