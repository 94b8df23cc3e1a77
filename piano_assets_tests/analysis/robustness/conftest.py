"""The corpus that sounds, and subjects fitted on it, made once for all tests of this room."""

import warnings

import pytest

from piano_assets.store.parts import Store
from piano_assets.training.fitted import Fitted, fitted
from piano_assets.training.run import run_trial
from piano_assets_tests.analysis.robustness.sounding import TRIALS, build_store


@pytest.fixture(scope="session")
def sounding(tmp_path_factory) -> Store:
    return build_store(tmp_path_factory.mktemp("sounding"))


@pytest.fixture(scope="session")
def subjects(sounding) -> dict[str, Fitted]:
    with warnings.catch_warnings():
        # Six clips have fewer ranks than the rank transform has steps; it then uses as many as there are.
        warnings.filterwarnings("ignore", message="n_quantiles")
        for config, trial in TRIALS.items():
            run_trial(trial, config, 0, sounding)
    return {config: fitted(sounding, config, trial) for config, trial in TRIALS.items()}
