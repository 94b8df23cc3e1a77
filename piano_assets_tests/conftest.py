"""Fixtures shared by all rooms."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def percepiano_dir() -> Path:
    """The real corpus: `PERCEPIANO_DIR`, else the folder beside the checkout; without either, skip."""
    beside = Path(__file__).parents[2] / "shared" / "percepiano"
    folder = Path(os.environ.get("PERCEPIANO_DIR", beside))
    if not (folder / "labels" / "total_2rounds.csv").is_file():
        pytest.skip(f"PercePiano is not at {folder}: set PERCEPIANO_DIR")
    return folder
