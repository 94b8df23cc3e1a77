"""Contract of every registry: each entry trains two epochs on eight clips, and predicts every test clip."""

import dataclasses

import numpy as np
import pytest

from piano_assets.catalogue.trial import Tabular, vary
from piano_assets.dimensions import NAMES
from piano_assets.features.spectrogram_specs import SPECTROGRAMS
from piano_assets.models.fusion import FUSIONS
from piano_assets.models.network import KINDS
from piano_assets.models.tabular import REGRESSORS
from piano_assets.store.parts import Store
from piano_assets.training.augmentation import MIXTURES
from piano_assets.training.check import check
from piano_assets.training.data import WAVEFORM
from piano_assets.training.losses import LOSSES
from piano_assets.training.run import run_trial
from piano_assets.training.schedules import SCHEDULES
from piano_assets_tests.training.tiny import AST, BENT, CLIPS, HYBRID, MLP, NOTES, build_store

pytestmark = pytest.mark.filterwarnings("ignore:n_quantiles")

FEATURES = {"inputs.features": "all"}
BEND = {"augmentation.time_stretch": BENT[0], "augmentation.pitch_shift": BENT[1]}
ENTRIES = {
    **{f"loss.{name}": vary(AST, {"optimisation.loss": name}) for name in LOSSES},
    **{f"schedule.{name}": vary(AST, {"optimisation.schedule": name}) for name in SCHEDULES},
    **{f"attention.{name}": vary(AST, {"model.attention": name}) for name in KINDS},
    **{f"note_attention.{name}": vary(NOTES, {"model.attention": name}) for name in KINDS if name != "multi_scale"},
    **{f"fusion.{name}": vary(HYBRID, {"model.fusion": name}) for name in FUSIONS},
    **{f"spectrogram.{name}": vary(AST, {"inputs.spectrogram": name}) for name in SPECTROGRAMS if name != WAVEFORM},
    **{f"mixture.{name}": vary(AST, {f"augmentation.{name}": 1.0}) for name in MIXTURES},
    **{
        f"regressor.{name}": dataclasses.replace(
            vary(AST, {"model": Tabular(regressor=name), "optimisation": None, "inputs.spectrogram": None} | FEATURES),
        )
        for name in REGRESSORS
    },
    "patch.odd": vary(AST, {"model.patch_size": 12}),
    "masks": vary(AST, {"augmentation.spec_augment": 1.0}),
    "bent": vary(AST, BEND),
    "bent.linear": vary(AST, BEND | {"inputs.spectrogram": "mel_128"}),
    "rerendered": vary(AST, BEND | {"augmentation.rerender": True}),
    "factor": vary(AST, {"augmentation.spec_augment": 1.0, "augmentation.factor": 3}),
    "factor.longer": vary(
        AST, {"augmentation.spec_augment": 1.0, "augmentation.factor": 3, "augmentation.longer": True}
    ),
    "spectral_norm": vary(AST, {"model.spectral_norm": True}),
    "stochastic_depth": vary(AST, {"model.stochastic_depth": 0.2, "model.depth": 2}),
    "label_smoothing": vary(AST, {"optimisation.label_smoothing": 0.1}),
    "spread_smoothing": vary(AST, {"optimisation.spread_smoothing": True}),
    "top_k": vary(HYBRID, {"inputs.top_k": 4}),
    "mlp": MLP,
    "hybrid.notes": vary(NOTES, {"inputs.features": "symbolic", "model.fusion": "late"}),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    """The tiny corpus with every spectrogram: noise of the right width, whose first bands hold the labels' cause."""
    store = build_store(tmp_path_factory.mktemp("tiny"))
    rng = np.random.default_rng(3)
    base = store.read("spectrograms", "log_mel_128.modal")
    log_mel = np.load(store.root / "spectrograms" / "log_mel_128.modal.npy")
    for name, spec in SPECTROGRAMS.items():
        if name not in ("log_mel_128", WAVEFORM):
            frames = rng.normal(size=(len(log_mel), spec.n_bands))
            frames[:, :40] += log_mel[:, :40] / 10 + 5
            np.save(store.root / "spectrograms" / f"{name}.modal.npy", frames.astype(spec.dtype))
            store.write("spectrograms", base.assign(spectrogram=name), key="k", name=f"{name}.modal")
    return store


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_trains_and_predicts(store, name):
    trial = ENTRIES[name]
    check(trial)
    result = run_trial(trial, name, 1, store)
    assert result.status == "finished"
    test = store.read("predictions", result.part_name)
    test = test[(test["role"] == "test") & (test["tuning"] == "fixed")]
    assert sorted(test["clip"].unique()) == CLIPS
    assert len(test) == len(CLIPS) * len(NAMES)
    assert np.isfinite(test["value"]).all()
    # Two epochs on eight clips teach little; wild values would mean that a scale was lost.
    assert test["value"].between(-0.5, 1.5).all()
    spread = test.pivot(index="clip", columns="dimension", values="value").std()
    assert (spread > 0).all(), "clips are told apart"
    history = store.read("history", result.part_name)
    if trial.optimisation is not None:
        assert history.groupby("fold")["epoch"].apply(list).tolist() == [[0, 1]] * 3
        assert (history["gradient_norm"] > 0).all()
