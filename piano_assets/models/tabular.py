"""Tabular regressors: features of a clip -> its 19 ratings.

Each builder returns an unfitted scikit-learn pipeline with its preprocessing inside, so that nothing of the test clips
is seen before `predict`. Features are (n_clips, n_features) with NaN where a feature is undefined; targets are
(n_clips, 19), free of NaN, standardised inside so that every dimension counts alike. No builder takes a number of
threads: forests and boosters are fitted under `joblib.parallel_config`, and their results do not depend on it.

Defaults were chosen by mean r on inner validation clips (fitted on `train` alone, cluster split, repeat 0, note-level
features); no test fold was scored for it. Settings that may pay to search: `alpha`, `relative_gamma`,
`min_samples_leaf`, `max_features`, `num_leaves`, `colsample`.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import joblib
import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.decomposition import PCA
from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.multioutput import MultiOutputRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import QuantileTransformer, StandardScaler

from piano_assets.models.relevance import RelevanceKernelRidge
from piano_assets.models.selection import top_features

TRANSFORMS: dict[str, Callable[[], list[tuple[str, Any]]]] = {
    "standard": lambda: [("scale", StandardScaler())],
    # Ranks are bounded: one absurd value of one feature cannot take a linear prediction off the scale.
    "rank": lambda: [("rank", QuantileTransformer(n_quantiles=50, subsample=None)), ("scale", StandardScaler())],
}


CHOICES: dict[str, tuple[str, ...]] = {"transform": tuple(TRANSFORMS), "kernel": ("rbf", "laplacian")}
"""Settings that are names, and what they may be."""

SHARES = ("max_features", "colsample", "subsample")
"""Settings that are shares of features or clips."""


class RelativeKernelRidge(KernelRidge):
    """Kernel ridge with a kernel whose width follows the number of features: gamma = relative_gamma / d.

    On standardised features two clips lie at a squared distance of about 2 d (a city-block distance of about 1.1 d), so
    one value serves every feature set.
    """

    def __init__(self, alpha: float = 1.0, relative_gamma: float = 1.0, kernel: str = "rbf") -> None:
        super().__init__(alpha=alpha, kernel=kernel)
        self.relative_gamma = relative_gamma

    def fit(self, X: np.ndarray, y: np.ndarray, sample_weight: np.ndarray | None = None) -> "RelativeKernelRidge":
        self.gamma = self.relative_gamma / X.shape[1]
        # Chunks of the kernel matrix round differently: one thread, one result. It takes milliseconds.
        with joblib.parallel_config(backend="threading", n_jobs=1):
            return super().fit(X, y, sample_weight)


def ridge(seed: int, *, alpha: float = 1000.0, transform: str = "rank") -> Pipeline:
    """Linear regression with an L2 penalty (Hoerl & Kennard 1970). `alpha` is on the scale of n_clips."""
    return _pipeline(_dense(transform), Ridge(alpha=alpha))


def kernel_ridge(
    seed: int, *, alpha: float = 0.3, relative_gamma: float = 0.5, kernel: str = "laplacian", transform: str = "rank"
) -> Pipeline:
    """Ridge regression in the feature space of a Gaussian or Laplacian kernel (Murphy 2012, sec. 14.4.3)."""
    return _pipeline(_dense(transform), RelativeKernelRidge(alpha, relative_gamma, kernel))


def relevance_kernel_ridge(
    seed: int, *, alpha: float = 0.3, gamma: float = 1.0, power: float = 2.0, transform: str = "rank"
) -> Pipeline:
    """Kernel ridge with a Laplacian kernel for each rating, in which features count by how they go with it."""
    return _pipeline(_dense(transform), RelevanceKernelRidge(alpha, gamma, power))


def random_forest(
    seed: int, *, n_estimators: int = 200, max_features: float = 0.2, min_samples_leaf: int = 3, max_depth: int = 0
) -> Pipeline:
    """Random forest (Breiman 2001), all dimensions in each tree. `max_depth` 0 grows without a limit."""
    return _forest(RandomForestRegressor, seed, n_estimators, max_features, min_samples_leaf, max_depth)


def random_forest_founding(
    seed: int, *, n_estimators: int = 100, max_features: float = 1.0, min_samples_leaf: int = 1, max_depth: int = 10
) -> Pipeline:
    """The founding documents' forest: 100 trees of depth 10, everything else as scikit-learn has it."""
    return _forest(RandomForestRegressor, seed, n_estimators, max_features, min_samples_leaf, max_depth)


def extra_trees(
    seed: int, *, n_estimators: int = 200, max_features: float = 0.2, min_samples_leaf: int = 2, max_depth: int = 0
) -> Pipeline:
    """Extremely randomised trees (Geurts et al. 2006). `max_depth` 0 grows without a limit."""
    return _forest(ExtraTreesRegressor, seed, n_estimators, max_features, min_samples_leaf, max_depth)


def gradient_boosting(
    seed: int,
    *,
    n_estimators: int = 300,
    learning_rate: float = 0.04,
    num_leaves: int = 5,
    min_child_samples: int = 15,
    colsample: float = 0.1,
    subsample: float = 0.7,
    reg_lambda: float = 1.0,
) -> Pipeline:
    """LightGBM (Ke et al. 2017), one booster per dimension. It reads NaN as they are.

    One thread a booster: histogram sums then have one order, and 19 boosters are enough to fill the cores.
    """
    from lightgbm import LGBMRegressor

    booster = LGBMRegressor(
        n_estimators=n_estimators,
        learning_rate=learning_rate,
        num_leaves=num_leaves,
        min_child_samples=min_child_samples,
        colsample_bytree=colsample,
        subsample=subsample,
        subsample_freq=1,
        reg_lambda=reg_lambda,
        max_bin=63,
        random_state=seed,
        deterministic=True,
        force_row_wise=True,
        num_threads=1,
        verbose=-1,
    )
    return _pipeline([], MultiOutputRegressor(booster))


WEIGHTS = "regress__sample_weight"
"""The argument of a pipeline's `fit` by which clips count differently."""

REGRESSORS: dict[str, Callable[..., Pipeline]] = {
    "ridge": ridge,
    "kernel_ridge": kernel_ridge,
    "relevance_kernel_ridge": relevance_kernel_ridge,
    "random_forest": random_forest,
    "random_forest_founding": random_forest_founding,
    "extra_trees": extra_trees,
    "gradient_boosting": gradient_boosting,
}


def check_settings(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse a regressor or a setting that does not exist, or a value of the wrong type or below zero.

    Raises:
        ValueError: naming the rule and the value.
    """
    if name not in REGRESSORS:
        raise ValueError(f"model.regressor={name!r} must be one of {tuple(REGRESSORS)}")
    known = {p.name: p.default for p in inspect.signature(REGRESSORS[name]).parameters.values() if p.name != "seed"}
    for setting, value in settings.items():
        where = f"model.settings.{setting}={value!r}"
        if setting not in known:
            raise ValueError(f"{where}: {name} has no such setting; known: {tuple(known)}")
        default = known[setting]
        if isinstance(default, str):
            if value not in CHOICES[setting]:
                raise ValueError(f"{where} must be one of {CHOICES[setting]}")
        elif isinstance(value, bool) or not isinstance(value, int if isinstance(default, int) else (int, float)):
            raise ValueError(f"{where} must be of type {type(default).__name__}")
        elif value < 0 or (value == 0 and setting not in ("max_depth", "reg_lambda", "power")):
            raise ValueError(f"{where} must be > 0")
        elif setting in SHARES and value > 1:
            raise ValueError(f"{where} must lie in (0, 1]")


class TopFeatures(TransformerMixin, BaseEstimator):
    """Keep the k features that a forest finds most important among the clips it is fitted on."""

    def __init__(self, k: int, seed: int) -> None:
        self.k, self.seed = k, seed

    def fit(self, X: np.ndarray, y: np.ndarray) -> "TopFeatures":
        self.columns_ = top_features(X, y, self.k, self.seed)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        return X[:, self.columns_]


def build(name: str, settings: Mapping[str, Any], seed: int, top_k: int = 0, label_rank: int = 0) -> Pipeline:
    """An unfitted pipeline of a registered regressor; `settings` override its defaults.

    `top_k` first selects so many features, where it is not 0; `label_rank` has so many principal components of the
    labels learned.

    Raises:
        ValueError: an unknown regressor or setting, or an illegal value.
    """
    check_settings(name, settings)
    pipeline = REGRESSORS[name](seed, **settings)
    if label_rank:
        components = PCA(label_rank, svd_solver="full")
        pipeline.named_steps["regress"].transformer = make_pipeline(StandardScaler(), components, StandardScaler())
    return Pipeline([("select", TopFeatures(top_k, seed)), *pipeline.steps]) if top_k else pipeline


def _impute() -> tuple[str, Any]:
    # The indicator keeps "undefined" as information: a clip without chords has no asynchrony.
    return "impute", SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True)


def _dense(transform: str) -> list[tuple[str, Any]]:
    return [_impute(), *TRANSFORMS[transform]()]


def _forest(kind: type, seed: int, trees: int, max_features: float, leaf: int, depth: int) -> Pipeline:
    forest = kind(
        n_estimators=trees,
        # An int here would mean a count to scikit-learn; a share is meant.
        max_features=float(max_features),
        min_samples_leaf=leaf,
        max_depth=depth or None,
        random_state=seed,
    )
    return _pipeline([_impute()], forest)


def _pipeline(steps: list[tuple[str, Any]], regressor: Any) -> Pipeline:
    target = TransformedTargetRegressor(regressor, transformer=StandardScaler(), check_inverse=False)
    return Pipeline([*steps, ("regress", target)])
