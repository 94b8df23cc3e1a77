"""The small champion of performances, ready to score."""

from pathlib import Path

import pytest

from piano_assets.ensembles.champion_files import champion_home
from piano_assets.scoring.score import Scorer, scorer_of


@pytest.fixture(scope="session")
def scorer(champion_root: Path) -> Scorer:
    return scorer_of(champion_home(champion_root, "performance") / "k1")
