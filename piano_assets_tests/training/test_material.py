"""What members hear and learn from, step by step, against crops, mixtures and moments made by hand in numpy.

Crops are longer than some clips, so that padding and masks are everywhere.
"""

import dataclasses

import numpy as np
import pytest
import torch

from piano_assets.catalogue.trial import BUDGETS, Trial, vary
from piano_assets.features.spectrogram_specs import SPECTROGRAMS
from piano_assets.training import loop
from piano_assets.training.augmentation import SLOTS
from piano_assets.training.data import TrialData, load
from piano_assets.training.losses import LOSSES
from piano_assets.training.material import (
    CROP,
    ERROR_FLOOR,
    N_UNIFORMS,
    PARTNER,
    PARTNER_CROP,
    PLACES,
    UNKNOWN_ERROR,
    VARIANT,
    Material,
)
from piano_assets.training.members import Group, Track, groups_of
from piano_assets.training.sound import bent_log_mel, samples_needed
from piano_assets_tests.training.tiny import AST, BENT, HYBRID, build_store, with_errors

FULL = dataclasses.replace(BUDGETS["full"], crop_s=2.0, epochs=2, patience=2)
CROP_FRAMES = 100
LONG = vary(AST, {"budget": "full", "optimisation.learning_rate": 3e-3})
BENDS = {"augmentation.time_stretch": BENT[0], "augmentation.pitch_shift": BENT[1]}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return build_store(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setitem(BUDGETS, "full", FULL)


def begun(store, *trials: Trial, folds: tuple[int, ...] = (0,)) -> tuple[TrialData, Material, list[Track]]:
    """A stack of the trials' members on the same folds."""
    data = with_errors(load(trials[0], store))
    groups = [g for i, t in enumerate(trials) for g in groups_of(t, str(i), 0, 0, data) if g.fold in folds]
    return data, Material(data, groups[0].trial, "cpu"), [Track.begin(g, g.own) for g in groups]


def slot(name: str) -> int:
    return PLACES + SLOTS.index(name)


def ends(data: TrialData, group: Group) -> tuple[np.ndarray, np.ndarray]:
    """Training clips that do not fill a crop, and those that do."""
    n = data.sequence.n_frames[group.train]
    return group.train[n < CROP_FRAMES], group.train[n >= CROP_FRAMES]


def crop_by_hand(data: TrialData, group: Group, clip: int, place: float, table=None) -> tuple[np.ndarray, np.ndarray]:
    """One standardised crop (n, w) and its mask, from the stored frames: zeros where the clip has ended."""
    table = table or data.sequence
    n = table.n_frames[clip]
    first = int(place * (max(n - CROP_FRAMES, 0) + 1))
    mean, std = frame_moments(data, group)
    x = np.zeros((CROP_FRAMES, table.values.shape[1]), np.float32)
    m = min(n, CROP_FRAMES)
    at = table.start[clip] + first
    x[:m] = (table.values[at : at + m].astype(np.float32) - mean) / std
    return x, np.arange(CROP_FRAMES) < n


def frame_moments(data: TrialData, group: Group) -> tuple[np.ndarray, np.ndarray]:
    seen = data.sequence
    frames = np.concatenate([seen.values[seen.start[c] :][: seen.n_frames[c]] for c in group.train]).astype(np.float64)
    return frames.mean(0).astype(np.float32), frames.std(0).astype(np.float32)


def batch_of(material: Material, tracks: list[Track], clip: np.ndarray, u: torch.Tensor, touched: np.ndarray):
    network = loop.begin(tracks, material)
    frames, mask, target = material.batch(
        network, tracks, material.labels(tracks), torch.from_numpy(clip), u, torch.from_numpy(touched)
    )
    return frames.numpy(), None if mask is None else mask.numpy(), target.numpy()


# Moments are summed in float64 here and in the package, in another order: they differ by a last bit of float32, of
# levels near -50 in units of 10.
CLOSE = {"rtol": 0, "atol": 5e-6}


@pytest.mark.parametrize(
    "changes",
    [
        {"augmentation.spec_augment": 1.0},
        {"augmentation.mixup": 0.5, "augmentation.cutmix": 0.5},
        {"augmentation.c_mixup": 1.0},
        BENDS | {"augmentation.rerender": True},
    ],
    ids=["masked", "mixed", "c_mixup", "rerendered"],
)
def test_an_untouched_version_is_the_plain_crop(store, changes):
    data, material, tracks = begun(store, vary(LONG, changes | {"augmentation.factor": 2}), LONG)
    group = tracks[0].group
    short, long = ends(data, group)
    clip = np.stack([np.r_[short[:3], long[:5]]] * 2)
    u = torch.rand(2, 8, N_UNIFORMS, generator=torch.Generator().manual_seed(3))
    u[..., VARIANT] = 0.9
    touched = np.stack([np.arange(8) % 2 == 0, np.ones(8, bool)])
    x, mask, target = batch_of(material, tracks, clip, u, touched)
    for i, b in np.ndindex(2, 8):
        want, real = crop_by_hand(data, group, clip[i, b], u[i, b, CROP].item())
        # The second member mixes and masks nothing; renderings are all members' own, as such arms have their own stack.
        plain = not touched[i, b] or (i == 1 and not material.variants)
        assert np.allclose(x[i, b], want, **CLOSE) == plain, (i, b)
        if plain:
            np.testing.assert_array_equal(mask[i, b], real)
            np.testing.assert_array_equal(target[i, b], data.targets[clip[i, b]].astype(np.float32))


def test_another_rendering_is_cut_from_its_own_frames(store):
    data, material, tracks = begun(store, vary(LONG, BENDS | {"augmentation.rerender": True}))
    short, long = ends(data, tracks[0].group)
    tables = [data.sequence, *data.variants]
    clip = np.array([[short[0], long[0], long[1], short[1], long[2], long[3], long[4]]])
    u = torch.full((1, 7, N_UNIFORMS), 0.999)
    u[..., VARIANT] = (torch.arange(7) + 0.5) / 7
    assert len(tables) == 7
    x, mask, _ = batch_of(material, tracks, clip, u, np.ones((1, 7), bool))
    for b, table in enumerate(tables):
        want, real = crop_by_hand(data, tracks[0].group, clip[0, b], 0.999, table)
        np.testing.assert_allclose(x[0, b], want, **CLOSE)
        np.testing.assert_array_equal(mask[0, b], real)


def test_an_untouched_version_is_the_unbent_sound(store):
    data, material, tracks = begun(store, vary(LONG, BENDS | {"augmentation.factor": 2}))
    group, sound, spec = tracks[0].group, data.sound, SPECTROGRAMS["log_mel_128"]
    short, long = ends(data, group)
    clip = np.r_[short[:2], long[:4]][None]
    u = torch.full((1, 6, N_UNIFORMS), 0.8)
    touched = np.array([[False, True, False, True, False, False]])
    x, mask, _ = batch_of(material, tracks, clip, u, touched)
    margin, rows = samples_needed(CROP_FRAMES, BENT[0], spec)
    mean, std = frame_moments(data, group)
    for b, c in enumerate(clip[0]):
        n = sound.n_frames[c]
        clean = np.zeros((margin + n + rows + margin, sound.values.shape[1]), np.float32)
        clean[margin : margin + n] = sound.values[sound.start[c] :][:n] / np.float32(32768)
        first = int(np.float32(0.8) * (max(n - CROP_FRAMES, 0) + 1))
        samples = torch.from_numpy(clean[first : first + rows].reshape(1, -1))
        one = torch.ones(1)
        frames = bent_log_mel(samples, one, 0 * one, CROP_FRAMES, margin, spec)[0].numpy()
        real = np.arange(CROP_FRAMES) < n - first
        want = np.where(real[:, None], (frames - mean) / std, 0)
        # Decibels of two float32 transforms of different batch sizes.
        assert np.allclose(x[0, b], want, rtol=0, atol=1e-3) == (not touched[0, b])
        if not touched[0, b]:
            np.testing.assert_array_equal(mask[0, b], real)


def test_mixtures_with_partners_that_end_sooner_or_later(store):
    mixed = vary(LONG, {"augmentation.mixup": 0.4, "augmentation.cutmix": 0.4})
    data, material, tracks = begun(store, mixed, vary(mixed, {"optimisation.label_smoothing": 0.5}))
    group = tracks[0].group
    short, long = ends(data, group)
    # mixup with a shorter and a longer partner, neither, CutMix with a shorter and a longer one, and one left untouched
    own = np.array([long[0], short[0], short[1], long[1], short[2], short[3]])
    other = np.array([short[1], long[2], long[3], short[4], long[4], long[5]])
    draw = [0.1, 0.1, 0.9, 0.5, 0.5, 0.1]
    u = torch.rand(1, 6, N_UNIFORMS, generator=torch.Generator().manual_seed(4))
    u[0, :, slot("mixture")] = torch.tensor(draw)
    # Beta(1/2, 1/2)'s quantile, sin^2(pi/4 (1 + u)), is 3/4 at a third; a box of 1/4 the area has half of each side.
    u[0, :, slot("weight")] = torch.tensor([1 / 3, 1 / 3, 1 / 3, 0.75, 0.75, 1 / 3])
    u[0, :, slot("box_time")], u[0, :, slot("box_band")] = 0.5, 0.5
    # Partners are counted on from a clip's own place among the training clips, itself left out.
    n, place = len(group.train), {c: i for i, c in enumerate(group.train)}
    steps = [(place[b] - place[a] - 1) % n for a, b in zip(own, other, strict=True)]
    u[0, :, PARTNER] = (torch.tensor(steps) + 0.5) / (n - 1)
    both = np.stack([own, own])
    touched = np.stack([np.arange(6) < 5] * 2)
    x, mask, target = batch_of(material, tracks, both, u.expand(2, -1, -1), touched)

    y = data.targets
    labels = [y, 0.5 * y + 0.5 * y[group.train].mean(0)]
    box = np.zeros((CROP_FRAMES, 128), bool)
    box[25:75, 32:96] = True
    for b in range(6):
        mine, real = crop_by_hand(data, group, own[b], u[0, b, CROP].item())
        theirs, real_theirs = crop_by_hand(data, group, other[b], u[0, b, PARTNER_CROP].item())
        if b in (2, 5):
            want, want_mask, weight = mine, real, 1.0
        else:
            want = np.where(box, theirs, mine) if b in (3, 4) else 0.75 * mine + 0.25 * theirs
            want_mask, weight = real | real_theirs, 0.75
        for i, learned in enumerate(labels):
            np.testing.assert_allclose(x[i, b], want, **CLOSE, err_msg=str(b))
            np.testing.assert_array_equal(mask[i, b], want_mask)
            label = weight * learned[own[b]] + (1 - weight) * learned[other[b]]
            np.testing.assert_allclose(target[i, b], label, rtol=0, atol=1e-6)
    assert mask[0, 0].sum() == CROP_FRAMES
    assert mask[0, 1].sum() == CROP_FRAMES, "a mixture ends with the longer of the two"


def fitted(store, *trials: Trial, folds: tuple[int, ...] = (0,)) -> list[tuple[list[dict], np.ndarray]]:
    """Curves and best states of the trials' members, trained as one stack."""
    _, material, tracks = begun(store, *trials, folds=folds)
    loop.fit(tracks, material)
    return [(t.history, t.best.numpy()) for t in tracks]


def test_padded_clips_train_in_a_stack_as_alone(store):
    arms = [
        LONG,
        vary(LONG, {"model.dropout": 0.4}),
        vary(LONG, {"augmentation.mixup": 0.4, "augmentation.cutmix": 0.3}),
        vary(LONG, {"augmentation.spec_augment": 0.7, "augmentation.factor": 3}),
        vary(LONG, {"optimisation.loss": "correlation"}),
    ]
    for arm, (curve, _) in zip(arms, fitted(store, *arms), strict=True):
        ((alone, _),) = fitted(store, arm)
        for name in ("train_loss", "valid_loss", "valid_r"):
            # A batched product sums in another order than a single one.
            np.testing.assert_allclose([r[name] for r in curve], [r[name] for r in alone], rtol=0, atol=1e-5)


def test_weight_decay_is_each_members_own(store):
    arms = [vary(LONG, {"optimisation.weight_decay": decay}) for decay in (0.0, 10.0)]
    (_, free), (_, pulled) = fitted(store, *arms)
    assert abs(free - pulled).max() > 0.05
    for arm, row in zip(arms, (free, pulled), strict=True):
        ((_, alone),) = fitted(store, arm)
        # AdamW divides gradients by their size, so that rounding of the least of them shows in the weights.
        np.testing.assert_allclose(row, alone, rtol=0, atol=1e-3)


@pytest.mark.parametrize("trial", [LONG, vary(HYBRID, {"budget": "full"})], ids=["ast", "hybrid"])
def test_a_padded_window_predicts_what_the_clip_alone_does(store, trial):
    data, material, tracks = begun(store, trial)
    network = loop.begin(tracks, material).eval()
    stream = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in network.parameters():  # its head starts at zero
            parameter += 0.3 * torch.randn(parameter.shape, generator=stream)
    features = material.features(network, tracks)
    rows = np.flatnonzero(data.sequence.n_frames < CROP_FRAMES)
    long = np.flatnonzero(data.sequence.n_frames > 2 * CROP_FRAMES)[:2]
    (got,) = loop.predict(network, material, features, [np.r_[rows, long]])
    assert len(rows) > 5
    table = data.sequence
    for i, clip in enumerate(np.r_[rows, long]):
        whole = torch.from_numpy(table.values[table.start[clip] :][: table.n_frames[clip]].astype(np.float32))[None]
        n = len(whole[0])
        # Three equally spaced windows cover a clip of more than two.
        starts = [0] if n < CROP_FRAMES else [0, round((n - CROP_FRAMES) / 2), n - CROP_FRAMES]
        heard = None if features is None else features[:, [clip]]
        with torch.no_grad():
            windows = [whole[:, at : at + CROP_FRAMES] for at in starts]
            pred = [network(network.standardise_frames(w[None], None), None, heard)[0, 0] for w in windows]
        np.testing.assert_allclose(got[i], torch.stack(pred).mean(0), rtol=0, atol=1e-5)


def test_the_loss_gets_the_errors_of_the_clips_it_judges(store, monkeypatch):
    seen = []

    def noting(pred, target, error):
        if target.dim() == 3:  # a training step, not a validation
            seen.append((target, error))
        return (pred - target).square().mean((-2, -1))

    monkeypatch.setitem(LOSSES, "rater_weighted", noting)
    data, material, tracks = begun(store, vary(LONG, {"optimisation.loss": "rater_weighted"}), folds=(0, 1))
    loop.fit(tracks, material)
    known = np.where(np.isnan(data.errors), UNKNOWN_ERROR, np.maximum(data.errors, ERROR_FLOOR)).astype(np.float32)
    clip_of = {row.astype(np.float32).tobytes(): i for i, row in enumerate(data.targets)}
    assert len(seen) == FULL.epochs * tracks[0].group.steps
    for target, error in seen:
        clips = np.array([[clip_of[row.tobytes()] for row in member] for member in target.numpy()])
        np.testing.assert_array_equal(error, known[clips])
        assert all(np.isin(clips[i], t.group.train).all() for i, t in enumerate(tracks))


def test_labels_move_towards_the_mean_of_training_clips(store):
    arms = [
        LONG,
        vary(LONG, {"optimisation.label_smoothing": 0.2}),
        vary(LONG, {"optimisation.spread_smoothing": True}),
    ]
    data, material, tracks = begun(store, *arms, folds=(0, 1))
    got = material.labels(tracks).numpy()
    errors = np.where(np.isnan(data.errors), UNKNOWN_ERROR, np.maximum(data.errors, ERROR_FLOOR))
    y = data.targets
    for labels, track in zip(got, tracks, strict=True):
        rows, how = track.group.train, track.optimisation
        mean, want = y[rows].mean(0), y
        if how.label_smoothing:
            want = 0.8 * y + 0.2 * mean
        elif how.spread_smoothing:
            variance = np.maximum(y[rows].var(0) - (errors[rows] ** 2).mean(0), 0.1 * y[rows].var(0))
            want = mean + (y - mean) * variance / (variance + errors**2)
        np.testing.assert_allclose(labels, want, rtol=0, atol=1e-6)


def test_moments_are_those_of_training_clips(store):
    data, material, tracks = begun(store, vary(HYBRID, {"budget": "full"}), folds=(0, 1))
    chosen = [np.array([0, 2, 5]), np.array([1, 2, 3])]
    tracks = [
        Track.begin(dataclasses.replace(t.group, columns=c), t.label) for t, c in zip(tracks, chosen, strict=True)
    ]
    network = loop.begin(tracks, material)
    for i, track in enumerate(tracks):
        rows, group = track.group.train, track.group
        mean, std = frame_moments(data, group)
        x = data.features[np.ix_(rows, group.columns)]
        for name, want in {
            "input_mean": mean,
            "input_std": std,
            "feature_mean": np.nanmean(x, 0),
            "feature_std": np.nanstd(x, 0),
            "target_mean": data.targets[rows].mean(0),
            "target_std": data.targets[rows].std(0),
        }.items():
            np.testing.assert_allclose(getattr(network, name)[i], want, rtol=1e-5, err_msg=name)
        # In every clip, seen or not; an undefined feature is the mean.
        z = np.nan_to_num((data.features[:, group.columns] - np.nanmean(x, 0)) / np.nanstd(x, 0)).clip(-5, 5)
        np.testing.assert_allclose(material.features(network, tracks)[i], z, rtol=0, atol=1e-5)


def test_versions_keep_the_reference_arms_order_and_their_own_masks(store):
    versions = vary(LONG, {"augmentation.spec_augment": 1.0, "augmentation.factor": 2})
    data, material, tracks = begun(store, LONG, versions)
    network, labels = loop.begin(tracks, material), material.labels(tracks)
    _, full = ends(data, tracks[0].group)
    masks: dict[int, list[np.ndarray]] = {}
    places: dict[int, list[float]] = {}
    for _ in range(4):
        epoch = material.epoch(tracks)
        assert torch.equal(epoch.clip[0], epoch.clip[1])
        assert torch.equal(epoch.uniforms[0, ..., CROP], epoch.uniforms[1, ..., CROP])
        for step in range(tracks[0].group.steps):
            clip, u, touched = (part[:, step] for part in (epoch.clip, epoch.uniforms, epoch.touched))
            x = material.batch(network, tracks, labels, clip, u, touched)[0][1]
            for b, one in enumerate(clip[1].tolist()):
                if touched[1, b] and one in full:
                    masks.setdefault(one, []).append((x[b] == 0).numpy())
                    places.setdefault(one, []).append(u[1, b, CROP].item())
    again = [one for one in masks if len(masks[one]) > 1]
    assert len(again) > 5
    for one in again:
        assert masks[one][0].any()
        assert all(np.array_equal(m, masks[one][0]) for m in masks[one])
        assert len(set(places[one])) > 1, "crops are drawn afresh"
    assert len({m[0].tobytes() for m in masks.values()}) == len(masks), "clips do not share their masks"
