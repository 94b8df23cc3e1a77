"""Agreement metrics against scipy, scikit-learn, torchmetrics, hand numbers and invariances."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics as peer

from piano_assets.metrics import regression
from piano_assets.metrics.regression import FLAT_METRICS, METRICS

RNG = np.random.default_rng(7)
TARGET = RNG.normal(0.5, 0.1, (60, 4))
PRED = 0.6 * TARGET + RNG.normal(0.25, 0.08, (60, 4))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("pearson", lambda p, t: stats.pearsonr(p, t)[0]),
        ("spearman", lambda p, t: stats.spearmanr(p, t)[0]),
        ("mse", lambda p, t: peer.mean_squared_error(t, p)),
        ("mae", lambda p, t: peer.mean_absolute_error(t, p)),
        ("r2", lambda p, t: peer.r2_score(t, p)),
    ],
)
def test_agrees_with_scipy_and_sklearn(name, expected):
    want = [expected(p, t) for p, t in zip(PRED.T, TARGET.T, strict=True)]
    np.testing.assert_allclose(METRICS[name](PRED, TARGET), want, rtol=1e-10)


def test_spearman_ranks_ties_like_scipy():
    pred, target = np.round(PRED, 1), np.round(TARGET, 1)
    want = [stats.spearmanr(p, t)[0] for p, t in zip(pred.T, target.T, strict=True)]
    np.testing.assert_allclose(regression.spearman(pred, target), want, rtol=1e-10)


def test_ccc_by_hand():
    # x = 1 2 3, y = 2 2 4: means 2 and 8/3, variances 2/3 and 8/9, covariance 2/3 -> (4/3) / (2/3 + 8/9 + 4/9).
    got = regression.ccc(np.array([[1.0], [2], [3]]), np.array([[2.0], [2], [4]]))
    np.testing.assert_allclose(got, [(4 / 3) / 2], rtol=1e-12)


def test_ccc_approaches_torchmetrics():
    # torchmetrics divides variances by n - 1 and the covariance too, but not the squared gap of the means: the two
    # differ by at most gap^2 / (n (var + var + gap^2)) < 1/n.
    torch = pytest.importorskip("torch")
    from torchmetrics.functional import concordance_corrcoef

    want = concordance_corrcoef(torch.tensor(PRED), torch.tensor(TARGET)).numpy()
    np.testing.assert_allclose(regression.ccc(PRED, TARGET), want, atol=1 / len(PRED))


@pytest.mark.parametrize(
    ("name", "peer_name"),
    [
        ("pearson", "pearson_corrcoef"),
        ("spearman", "spearman_corrcoef"),
        ("mse", "mean_squared_error"),
        ("mae", "mean_absolute_error"),
        ("r2", "r2_score"),
    ],
)
def test_agrees_with_torchmetrics(name, peer_name):
    torch = pytest.importorskip("torch")
    import torchmetrics.functional.regression as torchmetrics

    pairs = zip(PRED.T, TARGET.T, strict=True)
    want = [getattr(torchmetrics, peer_name)(torch.tensor(p), torch.tensor(t)) for p, t in pairs]
    # torchmetrics ranks in float32 and takes some moments in one pass: rounding of 1e-7 at most.
    np.testing.assert_allclose(METRICS[name](PRED, TARGET), want, rtol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_a_missing_label_is_as_if_the_clip_were_absent(name):
    target = TARGET.copy()
    target[5] = np.nan
    target[9, 2] = np.nan
    got = METRICS[name](PRED, target)
    for d in range(4):
        kept = ~np.isnan(target[:, d])
        np.testing.assert_allclose(got[d], METRICS[name](PRED[kept], TARGET[kept])[d], rtol=1e-12)


@pytest.mark.parametrize("constant", [0.1, 0.7])
def test_constant_predictions(constant):
    # The mean of 60 times 0.1 is not exactly 0.1 in floating point: rounding must not pass for variation.
    pred = np.full_like(TARGET, constant)
    assert np.isnan(regression.pearson(pred, TARGET)).all()
    assert np.isnan(regression.spearman(pred, TARGET)).all()
    want = -((constant - TARGET.mean(0)) ** 2) / TARGET.var(0)
    np.testing.assert_allclose(regression.r2(pred, TARGET), want, rtol=1e-9)
    np.testing.assert_allclose(regression.ccc(pred, TARGET), 0, atol=1e-15)


def test_constant_labels_leave_r_and_r2_undefined():
    target = np.full_like(TARGET, 0.1)
    assert np.isnan(regression.pearson(PRED, target)).all()
    assert np.isnan(regression.r2(PRED, target)).all()
    assert np.isnan(regression.pearson_flat_z(PRED, target))


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_correlations_ignore_scale(name):
    np.testing.assert_allclose(METRICS[name](3 * PRED - 1, TARGET), METRICS[name](PRED, TARGET), rtol=1e-10)


@pytest.mark.parametrize("name", [*METRICS, *FLAT_METRICS])
def test_perfect_predictions(name):
    got = (METRICS | FLAT_METRICS)[name](TARGET, TARGET)
    np.testing.assert_allclose(got, 0.0 if name in ("mse", "mae") else 1.0, atol=1e-12)


def test_flat_correlations():
    want = stats.pearsonr(PRED.ravel(), TARGET.ravel())[0]
    np.testing.assert_allclose(regression.pearson_flat_raw(PRED, TARGET), want, rtol=1e-10)
    mean, sd = TARGET.mean(0), TARGET.std(0)
    want = stats.pearsonr(((PRED - mean) / sd).ravel(), ((TARGET - mean) / sd).ravel())[0]
    np.testing.assert_allclose(regression.pearson_flat_z(PRED, TARGET), want, rtol=1e-10)


def test_raw_flat_correlation_rewards_knowing_the_means_only():
    offsets = np.array([0.0, 1, 2, 3])
    target, pred = TARGET + offsets, RNG.normal(0.5, 0.1, TARGET.shape) + offsets
    assert regression.pearson_flat_raw(pred, target) > 0.95
    assert abs(regression.pearson_flat_z(pred, target)) < 0.25  # 240 pairs without relation: sd .065


def test_fold_mean_of_one_fold_is_pooled():
    np.testing.assert_allclose(
        regression.r2_fold_mean(PRED, TARGET, np.zeros(60, int)), regression.r2(PRED, TARGET), rtol=1e-12
    )


def test_fold_mean_by_sklearn():
    fold = np.arange(60) % 3
    want = np.mean(
        [peer.r2_score(TARGET[fold == k], PRED[fold == k], multioutput="raw_values") for k in range(3)], axis=0
    )
    np.testing.assert_allclose(regression.r2_fold_mean(PRED, TARGET, fold), want, rtol=1e-10)


@pytest.mark.parametrize("name", METRICS)
def test_refuses_what_it_cannot_do(name):
    with pytest.raises(ValueError, match="2 labelled clips"):
        METRICS[name](PRED[:1], TARGET[:1])
    with pytest.raises(ValueError, match="one shape"):
        METRICS[name](PRED[:, :2], TARGET)
    broken = PRED.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="1 values that are not finite"):
        METRICS[name](broken, TARGET)
