"""The network guesses what is hidden and sees nothing of it; a killed pretraining goes on as if nothing happened."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from piano_assets.catalogue.trial import Encoder
from piano_assets.features.note_events import note_events
from piano_assets.store.checkpoints import CheckpointError
from piano_assets.training.pretraining import loop, masks
from piano_assets.training.pretraining.answers import N_PARTS, VIEWS, answers, questions, stretches
from piano_assets.training.pretraining.loop import Recipe, quantile_bins, start, surprise, train, transposed
from piano_assets.training.pretraining.run import NothingToLearn, load_network, pretrain
from piano_assets.training.pretraining.windows import ATTRIBUTES, GROUP_OF, GROUPS, N_SCORE, SCORE, events, windows
from piano_assets_tests.training.pretraining.playing import performance

RECIPE = Recipe(
    encoder=Encoder(depth=1, dim=32, heads=2, head_dim=16, mlp_ratio=2.0, dropout=0.0),
    n_bins=12,
    epochs=10,
    batch_size=8,
    learning_rate=1e-2,
    transposition=0,
)
LENGTH = 64
WINDOWS = windows([performance(seed) for seed in range(20)], LENGTH)
VALID = windows([performance(seed) for seed in range(50, 53)], LENGTH)
VELOCITY = list(ATTRIBUTES).index("velocity")


@pytest.fixture(scope="module")
def trained():
    state = start(RECIPE, WINDOWS)
    train(RECIPE, state, WINDOWS, VALID)
    state.network.eval()
    return state


def test_bins_hold_equal_counts_where_there_are_no_ties():
    values = np.random.default_rng(0).normal(size=12_000)
    edges, centres = quantile_bins(values, 12)
    which = np.digitize(values, edges)
    assert np.bincount(which).tolist() == [1000] * 12
    np.testing.assert_allclose(centres, [values[which == k].mean() for k in range(12)])


@pytest.mark.parametrize("shared", [0.0, 127.0])
def test_a_value_that_most_notes_share_has_a_bin(shared):
    rng = np.random.default_rng(0)
    values = np.where(rng.random(5000) < 0.7, shared, rng.integers(1, 127, 5000))
    edges, centres = quantile_bins(values, 12)
    assert len(centres) == len(edges) + 1 < 12
    which = int(np.digitize(shared, edges))
    assert abs(centres[which] - shared) < 5
    assert (np.bincount(np.digitize(values, edges), minlength=len(centres)) > 0).all()


def test_a_constant_column_has_one_bin():
    edges, centres = quantile_bins(np.full(100, 3.0), 12)
    assert (len(edges), centres.tolist()) == (0, [3.0])


def test_the_networks_bins_are_numpys(trained):
    attributes = torch.from_numpy(VALID[..., N_SCORE:-1])
    found = trained.network.bins(attributes).numpy()
    for i, k in enumerate(trained.network.n_bins):
        edges = trained.network.edges[i, : k - 1].numpy()
        np.testing.assert_array_equal(found[..., i], np.digitize(attributes[..., i].numpy(), edges))


def test_a_transposed_score_is_that_of_the_transposed_performance():
    played = performance(3, 40)
    moved = dataclasses.replace(played, pitch=played.pitch + 5)
    score = torch.from_numpy(events(played)[None, :, :N_SCORE])
    found = transposed(score, torch.tensor([5]))[0].numpy()
    np.testing.assert_allclose(found, events(moved)[:, :N_SCORE], atol=2e-5)


def test_what_is_hidden_changes_nothing_that_the_network_says(trained):
    window = torch.from_numpy(VALID[:4])
    hidden = masks.draw(window[..., -1], len(GROUPS), torch.Generator().manual_seed(1))
    other = window.clone()
    unseen = hidden[..., list(GROUP_OF)]
    other[..., N_SCORE:-1] = torch.where(unseen, other[..., N_SCORE:-1] + 1000, other[..., N_SCORE:-1])
    with torch.no_grad():
        mine, theirs = (trained.network(w[..., :N_SCORE], w[..., N_SCORE:-1], hidden) for w in (window, other))
    torch.testing.assert_close(mine[0], theirs[0])
    for a, b in zip(mine[1], theirs[1], strict=True):
        torch.testing.assert_close(a, b)
    seen = window.clone()
    seen[..., N_SCORE:-1] = torch.where(unseen, seen[..., N_SCORE:-1], seen[..., N_SCORE:-1] + 1)
    with torch.no_grad():
        assert not torch.allclose(trained.network(seen[..., :N_SCORE], seen[..., N_SCORE:-1], hidden)[0], mine[0])


def test_masks_hide_whole_chords_or_whole_groups():
    chord = torch.from_numpy(WINDOWS[:200, :, -1])
    hidden = masks.draw(chord, len(GROUPS), torch.Generator().manual_seed(0))
    by_group = (hidden == hidden[:, :1]).all(1).all(1)
    assert 0.2 < by_group.float().mean() < 0.6
    assert hidden.flatten(1).any(1).float().mean() > 0.95
    for row, of_note in zip(chord[~by_group], hidden[~by_group], strict=True):
        assert (of_note == of_note[:, :1]).all()
        for c in row.unique():
            assert len(of_note[row == c].unique(dim=0)) == 1
    # Where stretches are hidden, all of a window may be seen; where groups are, one is always hidden.
    assert (hidden[by_group].any(1).sum(1) > 0).float().mean() > 0.9


def test_it_learns_the_rule_and_does_no_better_than_chance_allows(trained):
    """A fresh head gives every bin the same chance: ln(bins). Velocity follows pitch here, and asynchrony nothing."""
    window = torch.from_numpy(VALID)
    hidden = torch.ones(*window.shape[:2], len(GROUPS), dtype=torch.bool)
    fresh = start(RECIPE, WINDOWS).network.eval()
    with torch.no_grad():
        before, after = (surprise(n, window, hidden).mean((0, 1)) for n in (fresh, trained.network))
    torch.testing.assert_close(before, torch.tensor(fresh.n_bins).log())
    assert after[VELOCITY] < before[VELOCITY] - 0.7
    assert trained.rows[-1]["valid_nats"] < trained.rows[0]["valid_nats"]
    free = list(ATTRIBUTES).index("log_duration")  # drawn evenly: its entropy is that of its bins
    assert after[free] > before[free] - 0.15


def test_the_same_seed_gives_the_same_network_and_another_another(trained):
    again, other = start(RECIPE, WINDOWS), start(dataclasses.replace(RECIPE, seed=1), WINDOWS)
    train(RECIPE, again, WINDOWS, VALID)
    assert torch.equal(again.network.head.weight, trained.network.head.weight)
    assert not torch.equal(other.network.stem.embed.weight, start(RECIPE, WINDOWS).network.stem.embed.weight)


def test_the_learning_rate_warms_up_and_ends_at_zero():
    rates = [loop.rate(RECIPE, step, 200) for step in range(200)]
    assert rates[9] == max(rates) == RECIPE.learning_rate
    assert rates[0] == pytest.approx(RECIPE.learning_rate / 10)
    assert rates[-1] < RECIPE.learning_rate / 1000
    assert (np.diff(rates[10:]) < 0).all()


class Killed(RuntimeError):
    pass


def test_a_killed_pretraining_goes_on_as_if_nothing_happened(tmp_path, trained):
    music = lambda: {"train": [performance(s) for s in range(12)], "valid": [performance(s) for s in range(50, 53)]}  # noqa: E731
    short = dataclasses.replace(RECIPE, epochs=3)
    long_windows = len(windows(music()["train"])) // short.batch_size

    def killed(done, _):
        if done > 2 * long_windows:
            raise Killed

    with pytest.raises(Killed):
        pretrain(tmp_path / "a", tmp_path / "work", "key", short, music(), progress=killed)
    assert not (tmp_path / "a").exists()
    said: list[str] = []
    pretrain(tmp_path / "a", tmp_path / "work", "key", short, music(), say=said.append)
    assert said[0] == "goes on after 2 of 3 epochs"
    whole = pretrain(tmp_path / "b", tmp_path / "other work", "key", short, music())
    mine, record = load_network(tmp_path / "a", part_key="key")
    theirs, _ = load_network(tmp_path / "b")
    for (name, a), b in zip(mine.state_dict().items(), theirs.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    nats = [(row["epoch"], row["valid_nats"]) for row in record["history"]]
    assert nats == [(row["epoch"], row["valid_nats"]) for row in whole["history"]]


def test_a_checkpoint_is_the_network_and_refuses_another_key(tmp_path, trained):
    music = {"train": [performance(s) for s in range(8)], "valid": []}
    record = pretrain(
        tmp_path / "a", tmp_path / "work", "key", dataclasses.replace(RECIPE, epochs=1), music, corpus="x"
    )
    assert record["corpus"] == "x"
    assert record["history"][0]["valid_nats"] is None  # nothing was held out
    network, _ = load_network(tmp_path / "a", part_key="key")
    window = torch.from_numpy(windows(music["train"])[:2])
    hidden = torch.ones(*window.shape[:2], len(GROUPS), dtype=torch.bool)
    with torch.no_grad():
        assert math.isfinite(surprise(network, window, hidden).mean())
    with pytest.raises(CheckpointError, match="part_key is 'key', expected 'other'"):
        load_network(tmp_path / "a", part_key="other")


def test_too_little_music_is_an_error(tmp_path):
    with pytest.raises(NothingToLearn, match="at least 8 windows of notes are needed, and 1 were found"):
        pretrain(tmp_path / "a", tmp_path / "w", "key", RECIPE, {"train": [performance(0)], "valid": []})


def test_questions_hide_nothing_then_parts_then_groups_then_all():
    chord = torch.from_numpy(events(performance(0, 60))[:, -1])
    hidden = questions(chord)
    assert hidden.shape == (1 + N_PARTS + len(GROUPS) + 1, len(chord), len(GROUPS))
    assert not hidden[0].any()
    assert hidden[-1].all()
    assert (hidden[1 : 1 + N_PARTS].sum(0) == 1).all()  # every note is hidden in exactly one part
    for g in range(len(GROUPS)):
        assert hidden[1 + N_PARTS + g].all(0).tolist() == [i == g for i in range(len(GROUPS))]


def test_a_broken_rule_departs_from_what_is_expected_and_by_how_much(trained):
    """Planted: the velocity of one note is turned round; it is that note, and that attribute, that surprises."""
    plain = performance(77, 60)
    note = int(np.argmax(plain.pitch))
    velocity = plain.velocity.copy()
    velocity[note] = 30
    odd = dataclasses.replace(plain, velocity=velocity)
    before, after = (answers(trained.network, events(p)) for p in (plain, odd))
    for view in range(len(VIEWS)):
        assert after.surprise[view, :, VELOCITY].argmax() == note
        moved = after.departure[view, note, VELOCITY] - before.departure[view, note, VELOCITY]
        std = float(trained.network.std[VELOCITY])
        # Its own velocity is hidden while it is guessed, so that the guess is the same.
        assert moved == pytest.approx((30 - float(plain.velocity[note])) / std, abs=1e-4)
    score = VIEWS.index("score")
    np.testing.assert_allclose(after.departure[score][:, 1:], before.departure[score][:, 1:], atol=1e-5)


def test_departures_of_ordinary_playing_average_to_nothing(trained):
    found = [answers(trained.network, events(performance(seed, 150))) for seed in range(60, 66)]
    departure = np.concatenate([f.departure for f in found], axis=1)
    assert np.abs(departure.mean(1)).max() < 0.2


def test_a_long_performance_is_asked_in_stretches_of_equal_length(trained):
    rows = events(performance(5, 400))
    assert [len(s) for s in stretches(rows)] == [200, 200, 200]
    found = answers(trained.network, rows)
    assert found.states.shape == (600, RECIPE.encoder.dim)
    assert found.departure.shape == found.surprise.shape == (len(VIEWS), 600, len(ATTRIBUTES))
    assert np.isfinite(found.states).all()
    assert len(note_events(performance(5, 400))) == 600
    assert SCORE[0] == "pitch"
