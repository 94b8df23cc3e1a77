"""Automated feature selection: the features that a forest leans on most."""

import numpy as np
from sklearn.ensemble import RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import StandardScaler

N_TREES, MIN_SAMPLES_LEAF, MAX_FEATURES = 100, 3, 0.2


def top_features(x: np.ndarray, y: np.ndarray, k: int, seed: int) -> np.ndarray:
    """The k features that a random forest finds most important, by the given rows alone.

    Importance is the mean decrease in impurity (Breiman 2001), all targets standardised so that each counts alike. It
    favours features with many distinct values and shares credit among correlated ones (Strobl et al. 2007): of twins,
    either may be kept, or both. Give the training clips of one fold: selection that saw test clips would leak.

    Undefined values are replaced by the feature's median. The forest's threads are joblib's (`parallel_config`), and
    the result does not depend on their number.

    Args:
        x: (n_clips, n_features), NaN where undefined.
        y: (n_clips, n_targets), finite.
    Returns:
        int64 (k,) column numbers, ascending; among equal importances the first columns.

    Raises:
        ValueError: k is not in 1..n_features.
    """
    if not 1 <= k <= x.shape[1]:
        raise ValueError(f"top_features: k={k} must lie in 1..{x.shape[1]}, the number of features")
    forest = RandomForestRegressor(
        N_TREES, min_samples_leaf=MIN_SAMPLES_LEAF, max_features=MAX_FEATURES, random_state=seed
    )
    imputed = SimpleImputer(strategy="median", keep_empty_features=True).fit_transform(x)
    # scikit-learn's trees see no differences below 1e-7: a feature in small units would be a constant to them.
    forest.fit(StandardScaler().fit_transform(imputed), StandardScaler().fit_transform(y))
    order = np.argsort(-forest.feature_importances_, kind="stable")
    return np.sort(order[:k])
