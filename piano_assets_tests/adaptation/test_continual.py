"""Learning in groups: Fisher information, elastic weight consolidation, replay, and what stays."""

import numpy as np
import pytest
import torch

from piano_assets.adaptation import continual
from piano_assets.adaptation.conditions import GROUPS, of_stage
from piano_assets.adaptation.continual import Consolidation, fisher_diagonal, in_sequence, quadratic, rehearsal
from piano_assets.adaptation.fitting import Settings
from piano_assets.adaptation.perceptron import Perceptron, perceptron
from piano_assets.models.layers import Linear
from piano_assets_tests.adaptation.world import one_fold

FIRST = list(next(iter(GROUPS.values())))


@pytest.fixture(scope="module")
def fold():
    return one_fold(support=0)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(continual, "STAGE", Settings(epochs=12))


def test_the_groups_deal_all_dimensions_once():
    assert sorted(i for group in GROUPS.values() for i in group) == list(range(19))
    assert [len(group) for group in GROUPS.values()] == [5, 6, 4, 4]


def test_the_fisher_information_of_a_linear_gaussian_model_is_the_second_moment_of_its_inputs():
    """X'X / n on the diagonal, for every output; 1 for a bias."""
    x = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 4)))
    layer = Linear(1, 4, 3).double()
    found = fisher_diagonal(_Plain(layer), x)
    want = torch.diagonal(x.T @ x / 50)
    torch.testing.assert_close(found["layer.weight"][0], want[:, None].expand(4, 3))
    torch.testing.assert_close(found["layer.bias"], torch.ones(1, 3, dtype=torch.float64))


class _Plain(torch.nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)


def test_the_fisher_information_of_a_network_agrees_with_gradients_clip_by_clip():
    model = perceptron(5, 2, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.head.weight.normal_(generator=torch.Generator().manual_seed(1))
    x = torch.randn(7, 5, generator=torch.Generator().manual_seed(2))
    found = fisher_diagonal(model, x, "encoder.")
    assert set(found) == {n for n, _ in model.named_parameters() if n.startswith("encoder.")}
    for name, parameter in model.encoder.named_parameters():
        want = sum(
            torch.autograd.grad(model(row[None, None])[0, 0, o], parameter)[0].square() for row in x for o in range(2)
        )
        torch.testing.assert_close(found[f"encoder.{name}"], want / 7, rtol=1e-4, atol=1e-7)


def test_the_penalty_by_hand():
    moving, at = {"w": torch.tensor([1.0, 5.0])}, {"w": torch.tensor([0.0, 2.0])}
    assert float(quadratic(moving, at, {"w": torch.tensor([4.0, 2.0])})) == pytest.approx(0.5 * (4 * 1 + 2 * 9))


def test_consolidation_of_no_strength_is_plain_fine_tuning(fold):
    plain, kept = in_sequence(fold)[1], in_sequence(fold, Consolidation(0.0))[1]
    assert list(plain) == [of_stage(n) for n in (1, 2, 3, 4)]
    for condition in plain:
        np.testing.assert_array_equal(plain[condition], kept[condition])


def test_strong_consolidation_keeps_the_first_group(fold):
    def lost(keeper):
        outcome = in_sequence(fold, keeper)[1]
        return np.square(outcome["clean"][:, FIRST] - outcome["stage:1"][:, FIRST]).mean()

    assert lost(Consolidation(1000.0)) < 0.3 * lost(None)


def test_every_group_adds_an_anchor_of_its_own(fold):
    keeper = Consolidation(1.0)
    in_sequence(fold, keeper)
    assert len(keeper.anchors) == 3
    firsts = [anchor[0]["encoder.expand.weight"] for anchor in keeper.anchors]
    assert not torch.equal(firsts[0], firsts[1])


def test_a_stage_predicts_the_groups_learnt_so_far_and_no_others(fold):
    outcome = in_sequence(fold)[1]
    for n, condition in enumerate(outcome, start=1):
        learnt = [i for group in list(GROUPS.values())[:n] for i in group]
        assert sorted(np.flatnonzero(np.isfinite(outcome[condition]).all(0))) == sorted(learnt)
        assert np.isnan(outcome[condition][:, [i for i in range(19) if i not in learnt]]).all()


def test_a_frozen_encoder_forgets_nothing_and_a_moving_one_does(fold):
    frozen, plain = continual.frozen(fold), continual.sequential(fold)
    np.testing.assert_array_equal(frozen["clean"][:, FIRST], frozen["stage:1"][:, FIRST])
    assert not np.allclose(plain["clean"][:, FIRST], plain["stage:1"][:, FIRST], atol=1e-3)
    np.testing.assert_array_equal(frozen["stage:1"][:, FIRST], plain["stage:1"][:, FIRST])


def test_replay_asks_about_a_tenth_of_the_clips_and_no_label_of_others(fold):
    learnt = continual.Learnt(perceptron(5, 19, torch.Generator().manual_seed(0)).encoder, {})
    first = next(iter(GROUPS))
    learnt.heads[first] = Linear(1, 64, len(FIRST), zero=True)
    extra, beside = rehearsal(learnt, fold)
    assert beside == (learnt.heads[first],)
    n = round(continual.MEMORY * len(fold.train))
    rows = fold.rng(f"memory {first}").permutation(fold.train)[:n]
    want = fold.y[rows][:, FIRST].square().mean()  # a head of zeros predicts 0
    assert float(extra(torch.zeros(1), 0.0).detach()) == pytest.approx(float(want), rel=1e-5)


def test_replay_keeps_more_of_the_first_group_than_fine_tuning(fold):
    want = fold.y.numpy()

    def error(outcome):
        return np.square(outcome - want[fold.valid][:, FIRST]).mean()

    plain, kept = (in_sequence(fold, keeper)[0].predict(fold, fold.valid) for keeper in (None, rehearsal))
    assert error(kept[:, FIRST]) < error(plain[:, FIRST])


def test_the_strength_is_the_one_with_the_smallest_validation_error(fold):
    strengths = (0.0, 1e6)
    outcomes = [in_sequence(fold, Consolidation(s)) for s in strengths]
    errors = [np.square(of.predict(fold, fold.valid) - fold.y[fold.valid].numpy()).mean() for of, _ in outcomes]
    chosen = continual.ewc(fold, strengths=strengths)
    np.testing.assert_array_equal(chosen["clean"], outcomes[int(np.argmin(errors))][1]["clean"])


def test_heads_share_the_encoder():
    learnt = continual.Learnt(perceptron(5, 19, torch.Generator().manual_seed(0)).encoder, {"touch": Linear(1, 64, 5)})
    model = learnt.model("touch")
    assert isinstance(model, Perceptron)
    assert model.encoder is learnt.encoder
