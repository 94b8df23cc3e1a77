"""Stacks: members are what they are alone, whoever shares their stack; what is killed goes on."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from piano_assets.catalogue.trial import BUDGETS, Trial, vary
from piano_assets.training import folds, loop, resume, stacks
from piano_assets.training.data import load
from piano_assets.training.losses import LOSSES, SCALE_FREE
from piano_assets.training.material import Material
from piano_assets.training.members import Track, groups_of
from piano_assets.training.stacks import fit_groups, stack_key
from piano_assets_tests.training.tiny import AST, BENT, HYBRID, MLP, NOTES, build_store

EPOCHS = 4
FULL = dataclasses.replace(
    BUDGETS["full"], crop_s=1.0, crop_notes=20, epochs=EPOCHS, patience=2, searches=True, rungs=(2,)
)
LONG = vary(AST, {"budget": "full", "optimisation.learning_rate": 3e-3})
SEARCHED = dataclasses.replace(LONG, search=(("optimisation.learning_rate", (1e-3, 3e-3, 1e-2)),))

ARMS = {
    "reference": {},
    "dropout": {"model.dropout": 0.3},
    "stochastic_depth": {"model.stochastic_depth": 0.2},
    "loss": {"optimisation.loss": "combined"},
    "scale_free": {"optimisation.loss": "correlation"},
    "rater_weighted": {"optimisation.loss": "rater_weighted"},
    "schedule": {"optimisation.schedule": "one_cycle"},
    "plateau": {"optimisation.schedule": "reduce_on_plateau"},
    "smoothing": {"optimisation.label_smoothing": 0.1},
    "spread": {"optimisation.spread_smoothing": True},
    "masks": {"augmentation.spec_augment": 0.7},
    "mixtures": {"augmentation.mixup": 0.3, "augmentation.cutmix": 0.2},
    "c_mixup": {"augmentation.c_mixup": 0.8},
    "versions": {"augmentation.spec_augment": 0.7, "augmentation.factor": 3},
}
"""Arms that differ in scalars, loss, schedule or augmentation: they train in one stack."""

RERENDERED = {"time_stretch": BENT[0], "pitch_shift": BENT[1], "rerender": True}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_store(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setitem(BUDGETS, "full", FULL)


def run(store, folder: Path, *trials: Trial, members: int | None = None, folds_: tuple[int, ...] = (0,), **more):
    """(config, fold) -> FoldResult, trained as stacks of at most so many members."""
    data = load(trials[0], store)
    groups = [g for i, t in enumerate(trials) for g in groups_of(t, str(i), 0, 0, data) if g.fold in folds_]
    found: dict[tuple[str, int], folds.FoldResult] = {}
    fit_groups(
        groups,
        data,
        device="cpu",
        precision="float32",
        folder_of=lambda g: folder / f"{g.config}.{g.fold}",
        on_group=lambda g, result: found.update({(g.config, g.fold): result}),
        members=members,
        **more,
    )
    return found


def assert_same(
    got: folds.FoldResult, want: folds.FoldResult, tolerance: float, slope: float | np.ndarray = 1.0
) -> None:
    """slope: (19,), by which calibration stretched each dimension; less than 1 shrinks rounding too."""
    values = (r.predictions["value"].to_numpy().reshape(-1, 19) / np.maximum(slope, 1) for r in (got, want))
    np.testing.assert_allclose(*values, rtol=0, atol=tolerance)
    assert got.predictions.drop(columns="value").equals(want.predictions.drop(columns="value"))
    assert [m["status"] for m in got.members] == [m["status"] for m in want.members]
    for name in ("train_loss", "valid_loss", "learning_rate", "gradient_norm"):
        np.testing.assert_allclose(
            [row[name] for row in got.history], [row[name] for row in want.history], rtol=100 * tolerance
        )


def test_arms_that_mix_train_in_one_stack():
    keys = {name: stack_key(vary(LONG, changes)) for name, changes in ARMS.items()}
    assert len(set(keys.values())) == 1, keys


@pytest.mark.parametrize(
    "changes",
    [
        {"model.depth": 2},
        {"model.attention": "local"},
        {"model.spectral_norm": True},
        {"optimisation.batch_size": 4},
        {"augmentation.time_stretch": 0.1},
        {"augmentation.time_stretch": 0.1, "augmentation.rerender": True},
        {"augmentation.factor": 2, "augmentation.longer": True},
        {"split": "excerpt"},
        {"budget": "smoke"},
        {"label_rule": "published"},
    ],
)
def test_what_changes_shapes_steps_or_data_does_not(changes):
    assert stack_key(vary(LONG, changes)) != stack_key(LONG)


def test_stacked_is_alone(store, tmp_path):
    arms = [vary(LONG, changes) for changes in ARMS.values()]
    together = run(store, tmp_path / "together", *arms, members=len(arms))
    for i, arm in enumerate(arms):
        alone = run(store, tmp_path / f"alone{i}", arm)
        # A batched product sums in another order than a single one: float32 rounding, grown over 16 steps of AdamW.
        # Where the loss leaves the scale free, calibration on a handful of clips stretches it by its slope (of some
        # dimensions by hundreds): there it is what the network itself predicts that is compared.
        slope = alone["0", 0].model["target_std"] / together["0", 0].model["target_std"]
        assert (slope == 1).all() or arm.optimisation.loss in SCALE_FREE
        assert_same(together[str(i), 0], alone["0", 0], 1e-4, slope)


@pytest.mark.parametrize(
    "trial",
    [
        vary(LONG, {"augmentation.time_stretch": 0.1, "augmentation.pitch_shift": 1}),
        vary(
            LONG,
            {"augmentation.time_stretch": BENT[0], "augmentation.pitch_shift": BENT[1], "augmentation.rerender": True},
        ),
        vary(HYBRID, {"budget": "full", "inputs.top_k": 3}),
        vary(NOTES, {"budget": "full"}),
        vary(MLP, {"budget": "full"}),
        vary(LONG, {"model.spectral_norm": True}),
        vary(LONG, {"model.attention": "performer"}),
        vary(LONG, {"augmentation.spec_augment": 0.5, "augmentation.factor": 2, "augmentation.longer": True}),
    ],
    ids=["bent", "rerendered", "hybrid", "notes", "mlp", "spectral_norm", "performer", "longer"],
)
def test_folds_and_points_of_every_kind_stack(store, tmp_path, trial):
    other = vary(trial, {"model.dropout": 0.3})
    together = run(store, tmp_path / "together", trial, other, members=6, folds_=(0, 1, 2))
    assert len(together) == 6
    assert_same(together["0", 1], run(store, tmp_path / "alone", trial, folds_=(1,))["0", 1], 1e-4)


def test_a_finished_member_leaves_and_the_others_go_on(store, tmp_path, monkeypatch):
    sizes = []
    real = loop.rebuilt
    monkeypatch.setattr(loop, "rebuilt", lambda *a: sizes.append(len(a[1])) or real(*a))
    monkeypatch.setitem(LOSSES, "huber", lambda pred, *_: pred.sum((-2, -1)) * float("nan"))
    got = run(store, tmp_path / "a", vary(LONG, {"optimisation.loss": "huber"}), LONG, members=2)
    assert [m["status"] for m in got["0", 0].members] == ["diverged"]
    assert sizes == [1]
    assert_same(got["1", 0], run(store, tmp_path / "b", LONG)["0", 0], 1e-4)


def test_a_search_is_one_group_and_halves_itself(store, tmp_path):
    got = run(store, tmp_path, SEARCHED)["0", 0]
    statuses = {m["search_point"]: m["status"] for m in got.members}
    assert list(statuses) == [f"optimisation.learning_rate={r}" for r in (1e-3, 3e-3, 1e-2)]
    assert list(statuses.values()).count("halved") <= 1
    assert set(got.predictions["tuning"]) == {"tuned", "fixed"}
    best = max(got.history, key=lambda row: row["valid_r"])["search_point"]
    assert got.search_point == best


class Killed(BaseException):
    """Stands for the signal that ends a run."""


@pytest.mark.parametrize("epoch", range(1, EPOCHS + 1))
@pytest.mark.parametrize(
    "trial", [SEARCHED, vary(LONG, ARMS["versions"] | {"model.dropout": 0.5})], ids=["search", "versions"]
)
def test_killed_at_any_epoch_and_resumed_is_uninterrupted(store, tmp_path, monkeypatch, epoch, trial):
    want = run(store, tmp_path / "whole", trial, folds_=(0, 1), members=6)
    saved = []
    real = resume.save_state

    def kill(*arguments):
        real(*arguments)
        saved.append(1)
        if len(saved) == 2 * epoch:  # two groups are saved an epoch
            raise Killed

    monkeypatch.setattr(resume, "save_state", kill)
    try:
        got = run(store, tmp_path / "killed", trial, folds_=(0, 1), members=6, save_every_s=0)
    except Killed:
        monkeypatch.setattr(resume, "save_state", real)
        epochs = []
        judge = loop.judge
        monkeypatch.setattr(loop, "judge", lambda track, *rest: epochs.append(track.epoch) or judge(track, *rest))
        got = run(store, tmp_path / "killed", trial, folds_=(0, 1), members=6)
        assert min(epochs, default=EPOCHS) >= epoch, "no epoch was trained twice"
    for key, result in want.items():
        assert_same(got[key], result, 0.0)
        assert got[key].history == result.history


def test_groups_side_by_side_are_groups_alone(store, tmp_path):
    threads = torch.get_num_threads()
    torch.set_num_threads(4)
    try:
        arms = [vary(LONG, ARMS[name]) for name in ("reference", "mixtures", "versions")]
        together = run(store, tmp_path / "together", *arms, folds_=(0, 1))
        assert torch.get_num_threads() == 4
        torch.set_num_threads(1)
        for i, arm in enumerate(arms):
            alone = run(store, tmp_path / f"alone{i}", arm)
            assert_same(together[str(i), 0], alone["0", 0], 1e-5)
    finally:
        torch.set_num_threads(threads)


def test_a_group_that_fails_stops_those_beside_it(store, tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    real, begun = loop.fit, []

    def breaks(tracks, *rest, **more):
        begun.append(tracks[0].group.fold)
        if tracks[0].group.fold == 0:
            raise OSError("no space left on device")
        return real(tracks, *rest, **more)

    monkeypatch.setattr(loop, "fit", breaks)
    try:
        with pytest.raises(OSError, match="no space left"):
            run(store, tmp_path, LONG, vary(LONG, {"model.dropout": 0.3}), folds_=(0, 1, 2))
    finally:
        torch.set_num_threads(threads)
    assert len(begun) < 6


def test_half_a_stack_when_memory_does_not_suffice(store, tmp_path, monkeypatch):
    sizes = []
    real = loop.fit

    def scarce(tracks, *rest, **more):
        sizes.append(len(tracks))
        if len(tracks) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(tracks, *rest, **more)

    monkeypatch.setattr(loop, "fit", scarce)
    got = run(store, tmp_path, LONG, vary(LONG, {"model.dropout": 0.3}), members=6, folds_=(0, 1, 2))
    assert sizes == [6, 3, 1, 1, 1, 1, 1, 1]
    assert len(got) == 6


def test_memory_that_does_not_suffice_for_one_group_is_an_error(store, tmp_path, monkeypatch):
    def none(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "fit", none)
    with pytest.raises(torch.OutOfMemoryError):
        run(store, tmp_path, LONG, members=4, folds_=(0, 1))


def test_a_stack_is_sized_from_free_memory(store, monkeypatch):
    data = load(LONG, store)
    (group, *_) = groups_of(LONG, "c", 0, 0, data)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (10**9, 0))
    one = stacks.bytes_of_member(group, 10_000, 112)
    assert stacks.members_that_fit(group, 10_000, 112, "cuda") == int(stacks.SHARE_OF_MEMORY * 10**9 / one)
    assert stacks.members_that_fit(group, 10**12, 112, "cuda:1") == 1


def test_the_estimate_covers_what_a_step_keeps(store):
    data = load(LONG, store)
    (group, *_) = groups_of(LONG, "c", 0, 0, data)
    material = Material(data, group.trial, "cpu")
    tracks = [Track.begin(group, group.own)]
    network = loop.begin(tracks, material).train()
    epoch = material.epoch(tracks)
    frames, mask, _ = material.batch(
        network, tracks, material.labels(tracks), epoch.clip[:, 0], epoch.uniforms[:, 0], epoch.touched[:, 0]
    )
    kept = {}

    def remember(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda t: t):
        network(frames, mask, None, loop.noise_of(tracks, "cpu"))
    n_params, n_tokens = stacks._size_of(group, material)
    assert n_params == sum(p[0].numel() for p in network.parameters())
    assert sum(kept.values()) <= stacks.bytes_of_member(group, n_params, n_tokens)
