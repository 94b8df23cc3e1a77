"""One contract for every regressor, and golden predictions that guard their code versions."""

import joblib
import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel

from piano_assets.models.tabular import REGRESSORS, RelativeKernelRidge, build, check_settings

FAST = {"random_forest": 20, "random_forest_founding": 10, "extra_trees": 20, "gradient_boosting": 20}


def settings_of(name: str) -> dict:
    return {"n_estimators": FAST[name]} if name in FAST else {}


def problem(n: int = 120, d: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Features with gaps, (n, d), and 19 targets that follow the first three."""
    rng = np.random.default_rng(7)
    x = rng.normal(size=(n, d))
    y = 0.5 + 0.1 * np.tanh(x[:, :3] @ rng.normal(size=(3, 19))) + 0.02 * rng.normal(size=(n, 19))
    x[rng.random((n, d)) < 0.05] = np.nan
    x[:, -1] = np.nan  # a feature that is never defined
    return x, y


@pytest.fixture(scope="module", params=REGRESSORS)
def fitted(request):
    x, y = problem()
    model = build(request.param, settings_of(request.param), 3).fit(x[:90], y[:90])
    return request.param, model, x, y


def test_it_learns_with_gaps(fitted):
    _, model, x, y = fitted
    pred = model.predict(x[90:])
    assert pred.shape == (30, 19)
    assert np.isfinite(pred).all()
    r = np.mean([np.corrcoef(p, t)[0, 1] for p, t in zip(pred.T, y[90:].T, strict=True)])
    # Every family reaches .6 or more here; chance has a standard deviation of .19 a dimension.
    assert r > 0.45


def test_same_seed_same_predictions_whatever_the_threads(fitted):
    name, model, x, y = fitted
    with joblib.parallel_config(backend="threading", n_jobs=3):
        again = build(name, settings_of(name), 3).fit(x[:90], y[:90])
    np.testing.assert_array_equal(again.predict(x[90:]), model.predict(x[90:]))


def test_another_seed_moves_only_what_is_random(fitted):
    name, model, x, y = fitted
    other = build(name, settings_of(name), 4).fit(x[:90], y[:90]).predict(x[90:])
    assert np.array_equal(other, model.predict(x[90:])) == (name in ("ridge", "kernel_ridge", "relevance_kernel_ridge"))


def test_test_clips_do_not_leak_into_preprocessing(fitted):
    _, model, x, _ = fitted
    alone = model.predict(x[90:91])
    # One clip at a time or all at once: BLAS may sum in another order, nothing more.
    np.testing.assert_allclose(alone, model.predict(x[90:])[:1], rtol=1e-9)


def test_scale_of_targets_is_only_a_scale(fitted):
    name, model, x, y = fitted
    # A power of two scales floats exactly, so that even ties between splits fall alike.
    scaled = build(name, settings_of(name), 3).fit(x[:90], 4 * y[:90]).predict(x[90:])
    np.testing.assert_allclose(scaled / 4, model.predict(x[90:]), rtol=1e-12)


def test_an_absurd_value_stays_on_the_scale():
    x, y = problem()
    wild = x[90:].copy()
    wild[0, 0] = 1e9
    for name in ("ridge", "kernel_ridge", "relevance_kernel_ridge"):
        pred = build(name, {}, 0).fit(x[:90], y[:90]).predict(wild)
        assert ((pred > 0) & (pred < 1)).all()


# Produced by this code; they guard `versions.CODE_VERSION`: when one changes on purpose, bump the family's version.
# (mean, first value) of predictions on `problem()`.
GOLDEN = {
    "ridge": (0.499726224, 0.482481530),
    "kernel_ridge": (0.502152436, 0.422083106),
    "relevance_kernel_ridge": (0.502725435, 0.430808740),
    "random_forest": (0.500789287, 0.448968706),
    "random_forest_founding": (0.502633966, 0.418963392),
    "extra_trees": (0.500997440, 0.467283305),
    "gradient_boosting": (0.499712539, 0.483261564),
}


def test_golden_predictions(fitted):
    name, model, x, _ = fitted
    pred = model.predict(x[90:])
    # Libraries and processors sum in different orders: 1e-6 of a rating scale, far below any change of method.
    np.testing.assert_allclose([pred.mean(), pred[0, 0]], GOLDEN[name], rtol=0, atol=1e-6)


def test_kernel_ridge_by_hand():
    x, y = problem()
    x = np.nan_to_num(x)
    model = RelativeKernelRidge(alpha=0.5, relative_gamma=2.0).fit(x[:90], y[:90])
    gram = rbf_kernel(x[:90], gamma=2.0 / 8)
    want = rbf_kernel(x[90:], x[:90], gamma=2.0 / 8) @ np.linalg.solve(gram + 0.5 * np.eye(90), y[:90])
    np.testing.assert_allclose(model.predict(x[90:]), want, rtol=1e-9)


def test_ridge_without_gaps_is_sklearns():
    x, y = problem()
    x = np.nan_to_num(x[:, :-1])
    mean, std = x[:90].mean(0), x[:90].std(0)
    scaled = (x - mean) / std
    want = Ridge(alpha=2.0).fit(scaled[:90], y[:90]).predict(scaled[90:])
    got = build("ridge", {"alpha": 2.0, "transform": "standard"}, 0).fit(x[:90], y[:90]).predict(x[90:])
    np.testing.assert_allclose(got, want, rtol=1e-9)


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("rigde", {}, "model.regressor='rigde' must be one of"),
        ("ridge", {"alhpa": 1.0}, "model.settings.alhpa=1.0: ridge has no such setting; known"),
        ("ridge", {"seed": 1}, "no such setting"),
        ("ridge", {"alpha": "big"}, "alpha='big' must be of type float"),
        ("ridge", {"alpha": -1.0}, "alpha=-1.0 must be > 0"),
        ("ridge", {"transform": "log"}, "transform='log' must be one of"),
        ("extra_trees", {"n_estimators": 10.5}, "n_estimators=10.5 must be of type int"),
        ("extra_trees", {"max_features": 1.5}, r"max_features=1.5 must lie in \(0, 1\]"),
    ],
)
def test_unknown_or_illegal_settings_are_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        build(name, settings, 0)


def test_defaults_are_legal():
    for name in REGRESSORS:
        check_settings(name, {})
