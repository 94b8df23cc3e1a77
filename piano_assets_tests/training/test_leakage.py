"""Nothing about test clips reaches a fitted network, and of validation clips only when to stop and which scale."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from piano_assets.catalogue.trial import BUDGETS, Trial, vary
from piano_assets.training.data import Frames, TrialData, load
from piano_assets.training.folds import FoldResult
from piano_assets.training.members import groups_of
from piano_assets.training.stacks import fit_groups
from piano_assets_tests.training.tiny import AST, BENT, HYBRID, NOTES, build_store, with_errors

FOLD = 0
FULL = dataclasses.replace(BUDGETS["full"], crop_s=1.5, crop_notes=40, epochs=2, patience=2)
"""Crops that some clips do not fill; nothing stops early, so that every run has the same epochs."""
LONG = vary(AST, {"budget": "full", "optimisation.learning_rate": 3e-3})
BENDS = {"augmentation.time_stretch": BENT[0], "augmentation.pitch_shift": BENT[1]}

ARMS = {
    "reference": LONG,
    "rater_weighted": vary(LONG, {"optimisation.loss": "rater_weighted"}),
    "spread_smoothing": vary(LONG, {"optimisation.spread_smoothing": True}),
    "c_mixup": vary(LONG, {"augmentation.c_mixup": 1.0}),
    "top_k": vary(HYBRID, {"budget": "full", "inputs.top_k": 3}),
    "calibrated": vary(LONG, {"optimisation.loss": "correlation"}),
    "bent": vary(LONG, BENDS),
    "rerendered": vary(LONG, BENDS | {"augmentation.rerender": True}),
    "notes": vary(NOTES, {"budget": "full"}),
    "versions": vary(LONG, {"augmentation.spec_augment": 0.7, "augmentation.factor": 3}),
    "search": dataclasses.replace(LONG, search=(("optimisation.learning_rate", (1e-3, 1e-2)),)),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_store(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setitem(BUDGETS, "full", FULL)


def with_other_clips(data: TrialData, rows: np.ndarray) -> TrialData:
    """The data with other labels, errors, features and frames of some clips; what is undefined stays so."""
    rng = np.random.default_rng(1)

    def other(table: np.ndarray, scale: float) -> np.ndarray:
        table = table.copy()
        table[rows] = np.where(np.isnan(table[rows]), np.nan, scale * rng.random(table[rows].shape))
        return table

    def elsewhere(frames: Frames) -> Frames:
        values = np.array(frames.values)
        for start, n in zip(frames.start[rows], frames.n_frames[rows], strict=True):
            values[start : start + n] = 9 * rng.normal(size=(n, values.shape[1]))
        return dataclasses.replace(frames, values=values)

    return dataclasses.replace(
        data,
        targets=other(data.targets, 1.0),
        errors=other(data.errors, 0.5),
        features=None if data.features is None else other(data.features, 9.0),
        sequence=None if data.sequence is None else elsewhere(data.sequence),
        sound=None if data.sound is None else elsewhere(data.sound),
        variants=tuple(map(elsewhere, data.variants)),
    )


def trained(trial: Trial, data: TrialData, folder: Path) -> FoldResult:
    groups = [g for g in groups_of(trial, "c", 0, 0, data) if g.fold == FOLD]
    found: list[FoldResult] = []
    fit_groups(
        groups,
        data,
        device="cpu",
        precision="float32",
        folder_of=lambda _: folder / "fold",
        on_group=lambda _, result: found.append(result),
    )
    (result,) = found
    return result


def values(result: FoldResult, role: str) -> np.ndarray:
    return result.predictions.loc[result.predictions["role"] == role, "value"].to_numpy()


def curve(result: FoldResult, name: str) -> list[float]:
    return [row[name] for row in result.history]


@pytest.mark.parametrize("arm", ARMS)
def test_what_is_fitted_does_not_depend_on_clips_it_may_not_see(store, tmp_path, arm):
    trial = ARMS[arm]
    data = with_errors(load(trial, store))
    want = trained(trial, data, tmp_path)

    test = data.rows(0, FOLD, "test", labelled=False)
    got = trained(trial, with_other_clips(data, test), tmp_path)
    # A dimension whose calibration has slope 0 is predicted by its mean.
    assert (values(got, "test") != values(want, "test")).mean() > 0.5, "other clips were heard"
    assert got.history == want.history
    assert got.search_point == want.search_point
    assert got.model.keys() == want.model.keys()
    for name, array in want.model.items():
        np.testing.assert_array_equal(got.model[name], array, err_msg=name)
    np.testing.assert_array_equal(values(got, "valid"), values(want, "valid"))

    valid = data.rows(0, FOLD, "valid", labelled=False)
    got = trained(trial, with_other_clips(data, valid), tmp_path)
    assert curve(got, "train_loss") == curve(want, "train_loss")
    assert curve(got, "gradient_norm") == curve(want, "gradient_norm")
    assert all(np.not_equal(curve(got, "valid_r"), curve(want, "valid_r")))


def test_a_scale_free_loss_takes_its_scale_from_validation_labels(store, tmp_path):
    trial = ARMS["calibrated"]
    data = load(trial, store)
    valid = data.rows(0, FOLD, "valid")
    result = trained(trial, data, tmp_path)
    # Least squares leaves residuals without a mean, whatever the slope; float32 sums of 16 clips.
    pred = values(result, "valid").reshape(-1, 19)
    np.testing.assert_allclose(pred.mean(0), data.targets[valid].mean(0), rtol=0, atol=1e-5)
