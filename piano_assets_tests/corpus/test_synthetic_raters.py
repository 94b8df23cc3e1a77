import numpy as np
import pytest

from piano_assets.corpus.synthetic import answers, raters
from piano_assets.corpus.synthetic.raters import BIAS_SD, HIGHEST, NOISE_FACTORS, NOISE_SD


@pytest.mark.parametrize(("impression", "noise_sd"), [(4.0, 1.4), (1.3, 1.0), (6.7, 1.7), (2.5, 0.01)])
def test_moments_agree_with_a_million_answers(impression, noise_sd):
    """Standard errors: of the mean sd / 1000, of the variance at most 2 sd^2 / 1000 here; 5 of them are allowed."""
    noise = np.random.default_rng(1).standard_normal(1_000_000)
    answers = np.clip(np.rint(impression + noise_sd * noise), 1, 7)
    mean, variance = raters.moments(np.array(impression), noise_sd)
    assert mean == pytest.approx(answers.mean(), abs=5 * answers.std() / 1000)
    assert variance == pytest.approx(answers.var(), abs=10 * answers.var() / 1000 + 1e-9)


def test_a_steady_listener_in_the_middle_of_a_step_has_no_variance():
    mean, variance = raters.moments(np.array([3.2, 6.9]), 1e-3)
    np.testing.assert_allclose(mean, [3, 7], atol=1e-12)
    np.testing.assert_allclose(variance, 0, atol=1e-12)


def test_truth_is_what_a_large_panel_answers():
    """200,000 listeners with free normal biases: standard error of the mean / 7 is 1.6 / sqrt(200000) / 7 = 0.0005."""
    rng = np.random.default_rng(2)
    n = 200_000
    noise_sd = NOISE_SD * rng.uniform(*NOISE_FACTORS, n)
    for impression in (1.5, 4.0, 6.2):
        heard = impression + BIAS_SD * rng.standard_normal(n) + noise_sd * rng.standard_normal(n)
        want = np.clip(np.rint(heard), 1, 7).mean() / HIGHEST
        assert raters.truth(np.array(impression)) == pytest.approx(want, abs=0.0025)


def test_panels_have_the_declared_spread():
    """400 x 19 biases: standard errors 0.007 of the mean, 0.005 of the standard deviation; four allowed."""
    panel = raters.draw_panel(np.arange(400), 19, np.random.default_rng(0))
    assert panel.bias.mean() == pytest.approx(0, abs=0.03)
    assert panel.bias.std() == pytest.approx(BIAS_SD, abs=0.02)
    assert panel.noise_sd.mean() == pytest.approx(NOISE_SD)
    assert not np.allclose(panel.bias[:, 0], panel.bias[:, 1])


def noise_of(impression, clips, who, valid=None):
    n = len(clips)
    valid = np.ones((n, 1), dtype=bool) if valid is None else valid
    return raters.label_noise(impression, np.array(clips), np.array(who), np.zeros((n, 1)), np.full(n, 1.4), valid)


def test_label_variance_falls_with_the_number_of_raters():
    _, single = raters.moments(np.array([[4.0], [5.0]]), 1.4)
    _, got = noise_of(np.array([[4.0], [5.0]]), [0, 0, 0, 1], [1, 2, 3, 1])
    np.testing.assert_allclose(got * 49, single / [[3], [1]])


def test_one_rater_has_one_vote():
    """Rater 1 answers twice, rater 2 once: the mean is (x1 + x2) / 4 + x3 / 2, its variance v (1/16 + 1/16 + 1/4)."""
    _, single = raters.moments(np.array([[4.0]]), 1.4)
    _, got = noise_of(np.array([[4.0]]), [0, 0, 0], [1, 1, 2])
    np.testing.assert_allclose(got * 49, single * 3 / 8)


def test_missing_answers_do_not_count():
    valid = np.array([[True], [True], [False]])
    _, want = noise_of(np.array([[4.0]]), [0, 0], [1, 2])
    _, got = noise_of(np.array([[4.0]]), [0, 0, 0], [1, 2, 3], valid)
    np.testing.assert_allclose(got, want)


def test_reliability_agrees_with_simulated_labels():
    """Variance ratio over 4000 simulated clips; its standard error is about 0.02, 2.5 of them are allowed."""
    rng = np.random.default_rng(4)
    n, k = 4000, 5
    heard = 4 + rng.standard_normal((n, 1))
    panel = raters.draw_panel(np.arange(30), 1, rng)
    clips = np.repeat(np.arange(n), k)
    who = np.concatenate([rng.choice(30, k, replace=False) for _ in range(n)])
    answers = raters.answer(heard[clips], panel, who, rng)
    label = answers.reshape(n, k).mean(axis=1) / HIGHEST
    true = raters.truth(heard)
    valid = np.ones_like(answers, dtype=bool)
    error, variance = raters.label_noise(heard, clips, who, panel.bias[who], panel.noise_sd[who], valid)
    got = raters.reliability(true, error, variance)[0]
    assert got == pytest.approx(true.var() / label.var(), abs=0.05)
    assert got == pytest.approx(np.corrcoef(true[:, 0], label)[0, 1] ** 2, abs=0.05)
    assert 0.6 < got < 0.8


def test_reliability_within_groups_by_brute_force():
    """Groups of 5, 6 and 3 clips (too few); noise added in 20,000 draws; relative error about 1 / sqrt(20000 * 10)."""
    rng = np.random.default_rng(6)
    groups = np.repeat([0, 1, 2], [5, 6, 3])
    true = rng.standard_normal((14, 1)) + groups[:, None] * 10
    variance = rng.uniform(0.2, 0.6, (14, 1))
    noise = np.sqrt(variance[:, 0]) * rng.standard_normal((20_000, 14))
    squares = [((x - x.mean(axis=1, keepdims=True)) ** 2).sum(axis=1).mean() for x in (noise[:, :5], noise[:, 5:11])]
    signal = sum(((t - t.mean()) ** 2).sum() for t in (true[:5], true[5:11]))
    want = signal / (signal + sum(squares))
    got = raters.reliability(true, np.zeros_like(true), variance, groups)[0]
    assert got == pytest.approx(want, abs=0.01)


def test_reliability_without_a_large_enough_group_is_unknown():
    true = np.arange(6.0)[:, None]
    assert np.isnan(raters.reliability(true, true * 0, true * 0, np.repeat([0, 1], 3))).all()


def test_reliability_by_hand():
    """True values -1 and 1, biases +-0.5 across them, noise of variance 0.25: 1 / (1 + 0.25 + 0.25 * 3 / 4)."""
    true, error = np.array([[-1.0], [-1.0], [1.0], [1.0]]), np.array([[0.5], [-0.5], [0.5], [-0.5]])
    got = raters.reliability(true, error, np.full((4, 1), 0.25))
    np.testing.assert_allclose(got, 1 / (1 + 0.25 + 0.1875))


def test_only_answers_of_the_clean_rule_enter_the_declared_noise():
    """Duplicates, blanks, 0, 8 and 9 do not count; counted here by row ids, which duplicates share."""
    rng = np.random.default_rng(7)
    first_round = np.arange(12) < 6
    panels = [raters.draw_panel(np.arange(n) + start, 19, rng) for n, start in ((11, 201), (30, 1))]
    soiled = answers.collect(np.full((12, 19), 4.0), first_round, panels, ((5, 6), (9, 10)), rng)
    clips, who, bias, noise_sd, valid = soiled.for_noise()
    assert len(clips) == len(who) == len(bias) == len(noise_sd) == len(np.unique(soiled.rating_id)) < len(soiled.user)
    original = soiled.values[np.unique(soiled.rating_id, return_index=True)[1]]
    assert valid.sum() == np.isin(original, np.arange(1, 8)).sum() < original.size
