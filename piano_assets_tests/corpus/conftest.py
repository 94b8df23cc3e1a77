"""Fixtures shared by the tests of this room."""

import pytest

from piano_assets.corpus.loading import Loaded, load_performances


@pytest.fixture(scope="session")
def loaded_percepiano(percepiano_dir) -> Loaded:
    """The real corpus, read once."""
    return load_performances(percepiano_dir)
