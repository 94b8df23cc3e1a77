"""The training benchmark: its peer is our network, its figures follow from what it timed, and a GPU run comes home."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from benchmarks import device
from piano_assets.catalogue.trial import BUDGETS, Encoder, vary
from piano_assets.models.network import Network, Shape, initialise, n_params
from piano_assets_tests.training.tiny import AST, build_store

pytest.importorskip("lightning", reason="the peer comes with the extra `bench`")

from benchmarks import training, training_lightning
from benchmarks import training_systems as systems

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_store(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Crops of a second, which every clip lasts; all clips train."""
    for name in ("smoke", "full"):
        new = dataclasses.replace(BUDGETS[name], crop_s=1.0, epochs=6, patience=6, n_clips=None, searches=False)
        monkeypatch.setitem(BUDGETS, name, new)


def scene_of(store, device_: str = "cpu", n: int = 2, share: float = 1.0, epochs: int = 2) -> systems.Scene:
    return systems.set_scene(AST, store, n, share, device_, "float32", epochs)


@pytest.mark.parametrize("device_", DEVICES)
def test_ours_and_the_peer_learn_alike(store, device_):
    said = systems.learn_alike(scene_of(store, device_))
    assert said["steps"] == 16
    # Measured 1e-6 on a CPU: rounding, after 16 steps of AdamW.
    assert said["apart"]["train_loss"] < 1e-4


def test_a_peer_that_is_another_network_is_refused(store, monkeypatch):
    load = training_lightning.Peer.load

    def without_positions(self, start):
        load(self, start)
        self.positions.zero_()

    monkeypatch.setattr(training_lightning.Peer, "load", without_positions)
    with pytest.raises(SystemExit, match="part by"):
        systems.learn_alike(scene_of(store))


def test_the_peer_has_as_many_parameters_and_the_same_predictions(store):
    scene = scene_of(store)
    group = scene.groups[0]
    network = systems.initial(scene, group)
    with torch.no_grad():  # the head starts at zero, which would hide everything before it
        for p in network.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
    peer = training_lightning.Peer(group.encoder, AST.optimisation, group, network, lambda: 0.0).eval()
    assert sum(p.numel() for p in peer.parameters()) == n_params(group.encoder, network.shape)
    raw = torch.randn(1, 3, group.crop, 128, generator=torch.Generator().manual_seed(2)) * 10 - 50
    with torch.no_grad():
        want = network.eval()(network.standardise_frames(raw, None))[0]
        got = peer(raw[0])
    assert want.std() > 0.01
    torch.testing.assert_close(got, want, rtol=0, atol=1e-5)


def test_what_the_peer_does_not_know_is_refused(store):
    scene = scene_of(store)
    other = dataclasses.replace(scene.groups[0].encoder, attention="local")
    with pytest.raises(ValueError, match="vanilla"):
        training_lightning.Peer(other, AST.optimisation, scene.groups[0], systems.initial(scene, scene.groups[0]), None)
    with pytest.raises(ValueError, match=r"must last a crop of 1000 frames"):
        training_lightning.Crops(scene.data.sequence, 1000, scene.data.targets)


def test_a_share_is_taken_of_steps_and_of_judged_clips(store):
    whole, half = scene_of(store, n=8), scene_of(store, n=8, share=0.5)
    assert len({(g.seed, g.fold) for g in whole.groups}) == 8
    for a, b in zip(whole.groups, half.groups, strict=True):
        assert b.steps == round(a.steps / 2)
        assert set(b.valid) < set(a.valid)
        assert len(b.valid) == pytest.approx(len(a.valid) / 2, abs=1)
        assert np.array_equal(a.train, b.train)


def test_figures_follow_from_what_was_timed(store):
    scene = scene_of(store, share=0.5)
    whole = systems.members(AST, scene.data, 2)
    by_steps = np.mean([g.steps for g in whole]) / scene.groups[0].steps
    by_windows = scene.n_windows(whole) / scene.n_windows(scene.groups)
    runs = [systems.Timed(members=2, start_s=4, train_s=6, eval_s=2, processor_s=10, host_mb=1, device_mb=0)] * 3
    got = training.figures(runs, scene, whole)
    epoch = (6 * by_steps + 2 * by_windows) / 2
    assert got["epoch_s_a_member"]["median"] == pytest.approx(epoch, rel=1e-3)
    assert got["members_per_hour"]["median"] == pytest.approx(3600 / (2 + 6 * epoch), rel=1e-3)
    assert got["share_of_time_in_evaluation"]["median"] == pytest.approx(by_windows / epoch, rel=1e-3)
    assert got["processor_s_a_member_and_epoch_as_run"]["median"] == 5


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_all_systems_are_measured_and_kept_beside_earlier_runs(store, tmp_path, two_threads):
    changes = ["model.depth=1", "model.dim=16", "model.heads=2", "model.head_dim=8", "optimisation.batch_size=8"]
    call = ["--data", str(store.root), "--budget", "smoke", "--members", "2", "--repeats", "1", "--epochs", "2"]
    call += ["--workers", "0", "--results", str(tmp_path), "--share", "1", *(f"--change={c}" for c in changes)]
    (tmp_path / "training_cpu.json").write_text('{"earlier": 1}')
    training.main(call)
    kept = json.loads((tmp_path / "training_cpu.json").read_text())
    assert kept.pop("earlier") == 1
    ((label, found),) = kept.items()
    assert label == "; ".join(["ast.reference@smoke", "float32", *changes])
    assert set(found["systems"]) == {"one after another", "stack of 2", "side by side", "lightning"}
    for system in found["systems"].values():
        assert system["members_per_hour"]["median"] > 0
        assert 0 < system["share_of_time_in_evaluation"]["median"] < 1
        assert system["host_peak_mb"] > 100
    hourly = {n: s["members_per_hour"]["median"] for n, s in found["systems"].items()}
    best = max(value for name, value in hourly.items() if name != "lightning")
    assert found["goals"]["to_lightning"]["reached"] == pytest.approx(best / hourly["lightning"], abs=0.01)
    assert set(found["goals"]["to_one_after_another"]["reached"]) == {"stack of 2", "side by side"}
    assert found["environment"]["load_1min"] >= 0
    assert torch.get_num_threads() == 2


def test_operations_are_those_of_the_matrix_products():
    encoder = Encoder(depth=2, dim=16, heads=2, head_dim=8, mlp_ratio=2.0, patch_size=8, dropout=0.0)
    network = Network(encoder, Shape(width=16, crop=24))
    initialise(network, [torch.Generator()])
    got_training, got = device.flops(network, torch.zeros(1, 3, 24, 16))
    tokens, d = 3 * 2, 16
    block = 2 * tokens * (d * 3 * d + d * d + 2 * d * 2 * d) + 2 * (2 * tokens * tokens * d)
    stem = 2 * tokens * 64 * d
    want = 3 * (2 * block + stem + 2 * d * 19)
    assert got == want
    # Twice as much backwards, but for the gradient of the input, which nobody needs.
    assert got_training == 3 * want - 3 * stem


def test_busy_time_counts_overlaps_once():
    ns = 10**9
    assert device.busy_seconds([(0, 2 * ns), (1 * ns, 3 * ns), (6 * ns, 1 * ns), (2 * ns, 1 * ns)]) == 5
    assert device.busy_seconds([]) == 0


def test_kernels_are_timed_and_named():
    a = torch.randn(300, 300)
    busy, costly = device.kernels(lambda: [torch.mm(a, a) for _ in range(5)], "cpu")
    calls = {name: n for name, _, n in costly}
    assert calls["aten::mm"] == 5
    assert busy == pytest.approx(sum(s for name, s, _ in costly if name == "aten::mm"), rel=0.5)


def test_the_use_of_a_device_is_counted_operations_over_time(store, monkeypatch):
    monkeypatch.setattr(device, "matmul_rate", lambda _: 1e9)
    scene = scene_of(store)
    ways = {"one after another": lambda first: systems.stack(scene, first, 1)[0]}
    took = systems.Timed(members=4, start_s=0, train_s=2, eval_s=1, processor_s=3, host_mb=1, device_mb=0)
    got = training.use_of(scene, {"one after another": [took]}, ways)
    group = scene.groups[0]
    network = Network(group.encoder, Shape(width=128, crop=group.crop))
    step, prediction = device.flops(network, torch.zeros(1, 1, group.crop, 128))
    want = 4 * (group.steps * group.batch_size * step + scene.n_windows(scene.groups) * prediction) / 3
    used = got["systems"]["one after another"]
    assert used["share_of_matmul_rate"] == pytest.approx(want / 1e9, rel=1e-3)
    assert 0 <= used["share_of_time_the_gpu_waits"] < 1


def test_the_rate_of_products_is_that_of_their_operations():
    # Whatever this machine is: between a billion and a quadrillion operations a second.
    assert 1e9 < device.matmul_rate("cpu", n=128, repeats=3) < 1e15


def test_peaks_start_anew():
    device.forget_peaks("cpu")
    before, on_device = device.peaks("cpu")
    block = np.ones(25_000_000)
    device.forget_peaks("cpu")
    with_block, _ = device.peaks("cpu")
    del block
    device.forget_peaks("cpu")
    after, _ = device.peaks("cpu")
    assert on_device == 0
    assert with_block - before == pytest.approx(200, abs=20)
    assert with_block - after == pytest.approx(200, abs=20)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_reports_how_well_it_is_used(store, tmp_path):
    training.main([
        *("--data", str(store.root), "--device", "cuda", "--budget", "smoke", "--members", "4", "--repeats", "1"),
        *("--epochs", "2", "--workers", "0", "--results", str(tmp_path)),
    ])  # fmt: skip
    (found,) = json.loads((tmp_path / "training_cuda.json").read_text()).values()
    assert set(found["accelerator"]["systems"]) == {"one after another", "stack of 4", "lightning"}
    for used in found["accelerator"]["systems"].values():
        assert 0 < used["share_of_matmul_rate"] < 1
        assert 0 <= used["share_of_time_the_gpu_waits"] < 1
    assert found["systems"]["stack of 4"]["device_peak_mb"] > found["systems"]["one after another"]["device_peak_mb"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_members_are_in_a_stack_what_they_are_alone(store):
    scene = scene_of(store, "cuda", n=3)
    together = systems.stack(scene, 0, 3)[1]
    for i, track in enumerate(together):
        (alone,) = systems.stack(scene, i, 1)[1]
        for a, b in zip(track.history, alone.history, strict=True):
            # Other kernels for other batch sizes: float32 rounding over 2 epochs of AdamW.
            assert a["train_loss"] == pytest.approx(b["train_loss"], rel=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_learns_in_bfloat16_what_it_learns_in_float32(store):
    brisk = vary(AST, {"model.dropout": 0.0, "optimisation.learning_rate": 3e-3})
    found = []
    for precision in ("float32", "bfloat16"):
        scene = systems.set_scene(brisk, store, 4, 1.0, "cuda", precision, 6)
        found.append([t.history[-1]["train_loss"] for t in systems.stack(scene, 0, 4)[1]])
    np.testing.assert_allclose(found[1], found[0], rtol=0.05)
